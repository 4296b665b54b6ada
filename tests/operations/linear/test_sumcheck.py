import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.sumcheck.circuits import Kind, Staged, Value, shifted
from zkllm.engines.sumcheck.equations import Scope
from zkllm.engines.sumcheck.field import MODULUS
from zkllm.engines.sumcheck.multilinear import Dims
from zkllm.engines.sumcheck.plan import Plan
from zkllm.engines.sumcheck.tensors import Public, Tensor
from zkllm.errors import UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.linear.sumcheck import Equations

ROWS = [1, 3, 37, 64, 65]
LIMBS = [4, 16]


def linear_alone(
    model: ExactModel,
    rows: int,
    inner: Dims,
    outer: Dims,
    shift: int,
    limb: int = 8,
    x_is: Kind = "committed",
    y_is: Kind = "its own",
) -> Staged:
    random = np.random.default_rng(rows + shift)
    n, m = math.prod(inner), math.prod(outer)
    x = random.integers(-500, 501, (rows, *inner))
    weight, bias = random.integers(-128, 128, (n, m)), random.integers(-9000, 9001, m)
    stored = ExactModel.in_memory(model.specification, {"w": weight, "b": bias})
    accumulator = 500 * 128 * n + 9000 + (1 << shift)
    layer = Linear("w", "b", shift, accumulator, (accumulator >> shift) + 1)
    step = LinearStep("linear", ("x",), "y", layer, inner, outer)
    y = step.run([x], stored.integers)
    values = {"x": Value(x, 500, x_is), "y": Value(y, layer.output, y_is)}
    return Staged(step, stored, values, limb)


def require_rounded(staged: Staged) -> None:
    """The witness satisfies the equation in integers; `fill` gives what the reference computes."""
    witness, linear, weights = staged.circuit.witness(), staged.equations, staged.circuit.weights
    x, y = (staged.values[name].integers for name in ("x", "y"))
    flat = y.reshape(len(y), -1)
    rest = witness.integers(linear.rest.value).reshape(flat.shape)
    divisor = 1 << linear.layer.shift
    sums = x.reshape(len(x), -1) @ weights.integers("w") + weights.integers("b") + divisor // 2
    assert (flat * divisor + rest == sums).all()
    assert ((rest >= 0) & (rest < divisor)).all()


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("rows", ROWS)
def test_linear_layers_are_accepted(rows: int, committed: bool, tiny_model: ExactModel) -> None:
    linear_alone(tiny_model, rows, (12,), (32,), 5).circuit.accept(committed=committed)


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("shift", [0, 1, 9])
@pytest.mark.parametrize(
    ("inner", "outer"), [((1,), (1,)), ((12,), (2, 6)), ((3, 4), (32,)), ((37,), (1,))], ids=str
)
def test_linear_layers_of_any_shape_are_accepted(
    inner: Dims, outer: Dims, shift: int, limb: int, tiny_model: ExactModel
) -> None:
    staged = linear_alone(tiny_model, 3, inner, outer, shift, limb)
    require_rounded(staged)
    staged.circuit.accept()


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("part", ["x", "y", "remainder"])
def test_each_part_of_a_linear_layer_counts(
    part: str, committed: bool, tiny_model: ExactModel
) -> None:
    staged = linear_alone(tiny_model, 5, (12,), (7,), 5)
    number = staged.equations.rest.number if part == "remainder" else staged.number(part)
    for place in [(0, 0), (4, 6)]:
        staged.circuit.refuse("linear", shifted(number, place, 1), committed=committed)


@pytest.mark.parametrize("name", ["w", "b"])
def test_other_weights_are_refused(name: str, tiny_model: ExactModel) -> None:
    circuit = linear_alone(tiny_model, 5, (12,), (7,), 5).circuit
    tensors = {name: circuit.weights.integers(name).copy() for name in "wb"}
    tensors[name].reshape(-1)[3] += 1
    other = ExactModel.in_memory(circuit.weights.specification, tensors)
    replace(circuit, weights=other).refuse("linear", lambda _: None)


@pytest.mark.parametrize(
    ("accumulator", "largest", "shift"),
    [(MODULUS - 12, 1, 2), (1 << 40, 1 << 60, 4), (1 << 40, (1 << 60) - 2, 4)],
)
def test_a_linear_layer_that_could_wrap_is_refused(
    accumulator: int, largest: int, shift: int, tiny_model: ExactModel
) -> None:
    def make(accumulator: int, largest: int) -> None:
        zeros = np.zeros((3, 5), dtype=np.int64)
        values: dict[str, Tensor] = {"x": Public(zeros, 1), "y": Public(zeros[:, :4], largest)}
        layer = Linear("w", "b", shift, accumulator, 1)
        step = LinearStep("linear", ("x",), "y", layer, (5,), (4,))
        Equations(step, Scope(Plan(16), tiny_model, 3, values))

    make(1000, 1000)
    with pytest.raises(UnsupportedModel, match="linear could wrap"):
        make(accumulator, largest)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_linear_layer_is_the_references(data: st.DataObject, tiny_model: ExactModel) -> None:
    rows, inner, outer, shift = (data.draw(st.integers(1, n)) for n in (3, 7, 7, 20))
    limb = data.draw(st.integers(1, 16))
    require_rounded(linear_alone(tiny_model, rows, (inner,), (outer,), shift - 1, limb))

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.sumcheck.circuits import Spoil, Staged, Value, both, shifted
from zkllm.engines.sumcheck.equations import Scope
from zkllm.engines.sumcheck.plan import Plan
from zkllm.engines.sumcheck.tensors import Public
from zkllm.errors import UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.operations.norm.exact import Norm, NormStep, layer_norm, normalise
from zkllm.operations.norm.exact import prove as proven_norm
from zkllm.operations.norm.sumcheck import Equations
from zkllm.tensors import IntArray, magnitude

ROWS = [1, 3, 37, 64, 65]
LIMBS = [4, 16]


def norm_alone(
    model: ExactModel,
    x: IntArray,
    *,
    shift: int = 0,
    epsilon: int = 3,
    gain: int = 200,
    limb: int = 8,
) -> Staged:
    bound = max(1, magnitude(x))
    n = proven_norm("norm", bound, d=x.shape[1], shift=shift, epsilon=epsilon, gain=gain)
    step = NormStep("norm", ("x",), "y", n, x.shape[1])
    y = normalise(x, n).output
    values = {"x": Value(x, bound, "public"), "y": Value(y, n.output, "its own")}
    return Staged(step, model, values, limb)


def rows_of(count: int, width: int, bound: int = 1000) -> IntArray:
    """Random rows, and those at which a LayerNorm is at its limits."""
    x = np.random.default_rng(width).integers(-bound, bound + 1, (count, width))
    x[0] = bound
    if count > 2:
        x[1] = 0
        x[1, 0] = -bound
        x[2] = bound * (-1) ** np.arange(width)
    return x


SHIFTS = [0, 1, 7]
WIDTHS = [1, 12, 32]


def require_normalised(staged: Staged, x: IntArray) -> None:
    """The witness satisfies all equations in integers, and is what the reference computes."""
    witness, norm = staged.circuit.witness(), staged.equations
    c, rest, root, below, above, half, odd, output, low, high = (
        witness.integers(value)
        for value in (
            *(norm.centred.value, norm.rest.value, norm.root.value, norm.below.value),
            *(norm.above.value, norm.half.value, norm.odd.value, norm.output.value),
            *(norm.low.value, norm.high.value),
        )
    )
    n, width = norm.constants, x.shape[1]
    divisor = width << n.shift
    expected = layer_norm(x, shift=n.shift, epsilon=n.epsilon, gain=n.gain)
    assert (c == expected.centred).all()
    assert (root + 1 == expected.sigma).all()
    assert (output == expected.output).all()
    # (1) to (6), and the windows that make each of them a definition
    assert (width * x - x.sum(1, keepdims=True) + divisor // 2 == c * divisor + rest).all()
    assert ((rest >= 0) & (rest < divisor)).all()
    assert ((c * c).sum(1) + n.epsilon == root * root + below).all()
    assert (2 * root == below + above).all()
    assert (root + 1 == 2 * half + odd).all()
    assert (c * n.gain + half[:, None] == output * (root + 1)[:, None] + low).all()
    assert (low + high == root[:, None]).all()
    assert min(array.min() for array in (below, above, odd, low, high)) >= 0
    assert odd.max() <= 1
    assert root.tolist() == [math.isqrt(int(v)) for v in expected.variance]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_equations_of_a_norm_hold_in_integers(
    width: int, shift: int, tiny_model: ExactModel
) -> None:
    x = rows_of(37, width)
    require_normalised(norm_alone(tiny_model, x, shift=shift), x)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_equations_of_a_norm_hold_for_any_rows(
    data: st.DataObject, tiny_model: ExactModel
) -> None:
    rows, width, magnitude = (data.draw(st.integers(1, n)) for n in (3, 9, 22))
    entries = st.integers(-(1 << magnitude), 1 << magnitude)
    flat = data.draw(st.lists(entries, min_size=rows * width, max_size=rows * width))
    x = np.array(flat).reshape(rows, width)
    constants = {
        "shift": data.draw(st.integers(0, 12)),
        "epsilon": data.draw(st.integers(1, 1 << 30)),
        "gain": data.draw(st.integers(1, 1 << 12)),
        "limb": data.draw(st.integers(1, 16)),
    }
    require_normalised(norm_alone(tiny_model, x, **constants), x)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [12, 32])
def test_norms_are_accepted(rows: int, width: int, tiny_model: ExactModel) -> None:
    norm_alone(tiny_model, rows_of(rows, width)).circuit.accept()


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_norms_of_any_divisor_are_accepted(
    width: int, shift: int, limb: int, tiny_model: ExactModel
) -> None:
    norm_alone(tiny_model, rows_of(3, width, 1 << 20), shift=shift, limb=limb).circuit.accept()


@pytest.fixture(scope="module")
def norm(tiny_model: ExactModel) -> Staged:
    return norm_alone(tiny_model, rows_of(5, 12), shift=2)


NORM_SPOILS: list[tuple[str, Callable[[Any], Spoil]]] = [
    ("centred", lambda n: shifted(n.centred, (4, 7), 1)),
    ("centred", lambda n: shifted(n.rest.number, (4, 7), -1)),
    ("variance", lambda n: both(shifted(n.below, (4,), -1), shifted(n.above, (4,), 1))),
    ("variance", lambda n: both(shifted(n.root, (4,), 1), shifted(n.above, (4,), 2))),
    ("root", lambda n: shifted(n.above, (4,), -1)),
    ("sigma", lambda n: shifted(n.half, (4,), 1)),
    ("output", lambda n: both(shifted(n.low, (4, 7), -1), shifted(n.high, (4, 7), 1))),
    ("output remainder", lambda n: shifted(n.high, (4, 7), 1)),
]


@pytest.mark.parametrize(("label", "spoil"), NORM_SPOILS)
def test_each_equation_of_a_norm_is_checked(
    label: str, spoil: Callable[[Any], Spoil], norm: Staged
) -> None:
    norm.circuit.refuse(f"norm: {label}", spoil(norm.equations))


def test_another_output_is_refused(norm: Staged) -> None:
    norm.circuit.refuse("norm: output", shifted(norm.number("y"), (4, 7), 1))


def test_the_sum_of_squared_roots_is_shown(norm: Staged) -> None:
    norm.circuit.refuse_lie("norm: squared root", "norm: squared root")


def test_other_rows_are_refused(norm: Staged, tiny_model: ExactModel) -> None:
    x = rows_of(5, 12)
    x[3, 3] += 1
    other = norm_alone(tiny_model, x, shift=2)
    replace(norm.circuit, examine=other.equations.check).refuse("norm: centred", lambda _: None)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("c", {"bound": 1 << 60}),
        # the bound of c times the divisor is 2^63, its window twice as wide
        ("c", {"shift": 40, "centred": 1 << 23, "width": 1}),
        ("V", {"variance": 1 << 63}),
        ("output", {"centred": 1 << 22, "gain": 1 << 42}),
        # likewise with x̂ and σ
        ("output", {"variance": (1 << 61) - 1, "output": 1 << 32}),
    ],
)
def test_a_norm_that_could_wrap_is_refused(what: str, changes: dict[str, int]) -> None:
    n = proven_norm("norm", 1000, d=12, shift=0, epsilon=3, gain=200)
    declare(1000, 12, n)
    width, bound = changes.get("width", 12), changes.get("bound", 1000)
    changes = {name: n for name, n in changes.items() if name not in ("width", "bound")}
    with pytest.raises(UnsupportedModel, match=f"norm: {what} could wrap"):
        declare(bound, width, replace(n, **changes))


def declare(bound: int, width: int, n: Norm) -> None:
    scope = Scope(Plan(16), {}, 5, {"x": Public(np.zeros((5, width), np.int64), bound)})  # type: ignore[arg-type]
    Equations(NormStep("norm", ("x",), "y", n, width), scope)

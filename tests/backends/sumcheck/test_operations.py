import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.sumcheck.circuits import Alone, Spoil, both, put, shifted
from zkllm.backends.sumcheck.operations import (
    Gelu,
    Linear,
    Norm,
    Remainder,
    bits_of,
    require_no_wrap,
)
from zkllm.engines.sumcheck.field import MODULUS
from zkllm.engines.sumcheck.multilinear import Dims
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Number, Plan
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.operations.activation.exact import gelu as exact_gelu
from zkllm.operations.linear.exact import Linear as LinearNumbers
from zkllm.operations.linear.exact import linear as exact_linear
from zkllm.operations.norm.exact import layer_norm
from zkllm.operations.norm.exact import prove as proven_norm
from zkllm.tensors import IntArray, magnitude

ROWS = [1, 3, 37, 64, 65]
LIMBS = [4, 16]

# Nothing wraps


@pytest.mark.parametrize("magnitudes", [(MODULUS - 1,), (MODULUS - 3, 1, 1), (0,)])
def test_an_equation_whose_sides_differ_by_less_than_p_holds(magnitudes: tuple[int, ...]) -> None:
    require_no_wrap("x", *magnitudes)


@pytest.mark.parametrize("magnitudes", [(MODULUS,), (MODULUS - 1, 1), (1 << 63, 1 << 63)])
def test_an_equation_that_could_wrap_is_refused(magnitudes: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedModel, match=r"sumcheck: x could wrap: .* up to 2\^6[34]"):
        require_no_wrap("x", *magnitudes)


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 4, 255, 256, 2**40])
def test_a_window_holds_its_largest_number_and_is_no_wider(largest: int) -> None:
    assert largest < 1 << bits_of(largest)
    assert largest < 2 or largest >= 1 << (bits_of(largest) - 1)


# Remainders


DIVISORS = [1, 2, 3, 12, 16, 17, 255, 256, 12 << 7]


def remainder(model: ExactModel, divisor: int, values: IntArray, limb: int) -> Alone:
    plan = Plan(limb)
    rest = Remainder(plan, "rest", values.shape, divisor)
    # divisor 1 has no column, and a plan must have one
    plan.unsigned("other", (1,), 1)
    plan.seal()

    def fill(witness: Witness) -> None:
        witness.store_number(plan.numbers["other"], np.zeros(1, dtype=np.int64))
        rest.fill(witness, values)
        assert witness.integers(rest.value).tolist() == values.tolist()

    return Alone(
        plan, model, fill, lambda party: rest.check(party, party.point("at", values.shape))
    )


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("divisor", DIVISORS)
def test_every_remainder_below_the_divisor_is_accepted(
    divisor: int, limb: int, tiny_model: ExactModel
) -> None:
    remainder(tiny_model, divisor, np.arange(divisor), limb).accept()


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("divisor", DIVISORS[1:])
def test_no_other_remainder_has_a_witness(divisor: int, limb: int, tiny_model: ExactModel) -> None:
    for wrong in (-1, divisor):
        with pytest.raises(ConstraintViolation, match="rest"):
            remainder(tiny_model, divisor, np.array([0, wrong]), limb).witness()


def test_what_a_remainder_lacks_to_the_divisor_is_its_complement(tiny_model: ExactModel) -> None:
    circuit = remainder(tiny_model, 100, np.arange(7), 4)
    complement = circuit.plan.numbers["rest complement"]
    circuit.refuse("rest: below the divisor", shifted(complement, (3,), 1))
    circuit.refuse("rest: below the divisor", shifted(circuit.plan.numbers["rest"], (3,), -1))


# Norm


def norm_alone(
    model: ExactModel,
    x: IntArray,
    *,
    shift: int = 0,
    epsilon: int = 3,
    gain: int = 200,
    limb: int = 8,
) -> tuple[Alone, Norm]:
    bound = max(1, magnitude(x))
    n = proven_norm("norm", bound, d=x.shape[1], shift=shift, epsilon=epsilon, gain=gain)
    plan = Plan(limb)
    norm = Norm(plan, "norm", *x.shape, bound, n)
    plan.seal()
    circuit = Alone(
        plan, model, lambda witness: norm.fill(witness, x), lambda party: norm.check(party, x)
    )
    return circuit, norm


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


def require_normalised(circuit: Alone, norm: Norm, x: IntArray) -> None:
    """The witness satisfies all equations in integers, and is what the reference computes."""
    witness = circuit.witness()
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
    require_normalised(*norm_alone(tiny_model, x, shift=shift), x)


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
    require_normalised(*norm_alone(tiny_model, x, **constants), x)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [12, 32])
def test_norms_are_accepted(rows: int, width: int, tiny_model: ExactModel) -> None:
    norm_alone(tiny_model, rows_of(rows, width))[0].accept()


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_norms_of_any_divisor_are_accepted(
    width: int, shift: int, limb: int, tiny_model: ExactModel
) -> None:
    norm_alone(tiny_model, rows_of(3, width, 1 << 20), shift=shift, limb=limb)[0].accept()


@pytest.fixture(scope="module")
def norm(tiny_model: ExactModel) -> tuple[Alone, Norm]:
    return norm_alone(tiny_model, rows_of(5, 12), shift=2)


NORM_SPOILS: list[tuple[str, Callable[[Norm], Spoil]]] = [
    ("centred", lambda n: shifted(n.centred, (4, 7), 1)),
    ("centred", lambda n: shifted(n.rest.number, (4, 7), -1)),
    ("variance", lambda n: both(shifted(n.below, (4,), -1), shifted(n.above, (4,), 1))),
    ("variance", lambda n: both(shifted(n.root, (4,), 1), shifted(n.above, (4,), 2))),
    ("root", lambda n: shifted(n.above, (4,), -1)),
    ("sigma", lambda n: shifted(n.half, (4,), 1)),
    ("output", lambda n: shifted(n.output, (4, 7), 1)),
    ("output", lambda n: both(shifted(n.low, (4, 7), -1), shifted(n.high, (4, 7), 1))),
    ("output remainder", lambda n: shifted(n.high, (4, 7), 1)),
]


@pytest.mark.parametrize(("label", "spoil"), NORM_SPOILS)
def test_each_equation_of_a_norm_is_checked(
    label: str, spoil: Callable[[Norm], Spoil], norm: tuple[Alone, Norm]
) -> None:
    circuit, operation = norm
    circuit.refuse(f"norm: {label}", spoil(operation))


def test_the_sum_of_squared_roots_is_shown(norm: tuple[Alone, Norm]) -> None:
    norm[0].refuse_lie("norm: squared root", "norm: squared root")


def test_other_rows_are_refused(norm: tuple[Alone, Norm]) -> None:
    circuit, operation = norm
    x = rows_of(5, 12)
    x[3, 3] += 1
    other = replace(circuit, examine=lambda party: operation.check(party, x))
    other.refuse("norm: centred", lambda _: None)


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
    Norm(Plan(16), "norm", 5, 12, 1000, n)
    width, bound = changes.get("width", 12), changes.get("bound", 1000)
    changes = {name: n for name, n in changes.items() if name not in ("width", "bound")}
    with pytest.raises(UnsupportedModel, match=f"norm: {what} could wrap"):
        Norm(Plan(16), "norm", 5, width, bound, replace(n, **changes))


# Linear


def linear_alone(
    model: ExactModel, rows: int, inner: Dims, outer: Dims, shift: int, limb: int = 8
) -> tuple[Alone, Linear, Number, Number]:
    random = np.random.default_rng(rows + shift)
    n, m = math.prod(inner), math.prod(outer)
    x = random.integers(-500, 501, (rows, *inner))
    weight, bias = random.integers(-128, 128, (n, m)), random.integers(-9000, 9001, m)
    stored = ExactModel.in_memory(model.specification, {"w": weight, "b": bias})
    accumulator = 500 * 128 * n + 9000 + (1 << shift)
    layer = LinearNumbers("w", "b", shift, accumulator, (accumulator >> shift) + 1)
    plan = Plan(limb)
    number = plan.signed("x", x.shape, 500)
    y = plan.signed("y", (rows, *outer), layer.output)
    linear = Linear(plan, "linear", number.value, outer, layer, y.largest)
    plan.seal()

    def fill(witness: Witness) -> None:
        witness.store_number(number, x)
        found = linear.fill(witness, stored, x)
        expected = exact_linear(x.reshape(rows, n), weight, bias, shift=shift)
        assert (found == expected.reshape(rows, *outer)).all()
        rest = witness.integers(linear.rest.value).reshape(rows, m)
        half = (1 << shift) // 2
        assert (expected * (1 << shift) + rest == x.reshape(rows, n) @ weight + bias + half).all()
        witness.store_number(y, found)

    def examine(party: Party) -> None:
        point = party.point("point", linear.dims)
        linear.check(party, point, party.value(y.value, point))

    return Alone(plan, stored, fill, examine), linear, number, y


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("rows", ROWS)
def test_linear_layers_are_accepted(rows: int, committed: bool, tiny_model: ExactModel) -> None:
    linear_alone(tiny_model, rows, (12,), (32,), 5)[0].accept(committed=committed)


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("shift", [0, 1, 9])
@pytest.mark.parametrize(
    ("inner", "outer"), [((1,), (1,)), ((12,), (2, 6)), ((3, 4), (32,)), ((37,), (1,))], ids=str
)
def test_linear_layers_of_any_shape_are_accepted(
    inner: Dims, outer: Dims, shift: int, limb: int, tiny_model: ExactModel
) -> None:
    linear_alone(tiny_model, 3, inner, outer, shift, limb)[0].accept()


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("part", ["x", "y", "remainder"])
def test_each_part_of_a_linear_layer_counts(
    part: str, committed: bool, tiny_model: ExactModel
) -> None:
    circuit, linear, x, y = linear_alone(tiny_model, 5, (12,), (7,), 5)
    number = {"x": x, "y": y, "remainder": linear.rest.number}[part]
    assert number is not None
    for place in [(0, 0), (4, 6)]:
        circuit.refuse("linear", shifted(number, place, 1), committed=committed)


@pytest.mark.parametrize("name", ["w", "b"])
def test_other_weights_are_refused(name: str, tiny_model: ExactModel) -> None:
    circuit, *_ = linear_alone(tiny_model, 5, (12,), (7,), 5)
    tensors = {name: circuit.weights.tensor(name).copy() for name in "wb"}
    tensors[name].reshape(-1)[3] += 1
    other = ExactModel.in_memory(circuit.weights.specification, tensors)
    replace(circuit, weights=other).refuse("linear", lambda _: None)


@pytest.mark.parametrize(
    ("accumulator", "largest", "shift"),
    [(MODULUS - 12, 1, 2), (1 << 40, 1 << 60, 4), (1 << 40, (1 << 60) - 2, 4)],
)
def test_a_linear_layer_that_could_wrap_is_refused(
    accumulator: int, largest: int, shift: int
) -> None:
    def make(accumulator: int, largest: int) -> Linear:
        layer = LinearNumbers("w", "b", shift, accumulator, 1)
        plan = Plan(16)
        x = plan.column("x", (3, 5))
        return Linear(plan, "linear", x, (4,), layer, largest)

    make(1000, 1000)
    with pytest.raises(UnsupportedModel, match="linear could wrap"):
        make(accumulator, largest)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_linear_layer_is_the_references(data: st.DataObject, tiny_model: ExactModel) -> None:
    rows, inner, outer, shift = (data.draw(st.integers(1, n)) for n in (3, 7, 7, 20))
    limb = data.draw(st.integers(1, 16))
    # `fill` compares with the reference, and the equation in integers
    linear_alone(tiny_model, rows, (inner,), (outer,), shift - 1, limb)[0].witness()


# Gelu


GELU = np.array([0, 3, 5, 6, 5, 3, 1, 0])
RELU = np.array([0])


def gelu_alone(
    model: ExactModel, hidden: IntArray, table: IntArray, limb: int = 8
) -> tuple[Alone, Gelu]:
    plan = Plan(limb)
    gelu = Gelu(plan, "gelu", hidden.shape, max(1, magnitude(hidden)), table)
    plan.seal()

    def fill(witness: Witness) -> None:
        found = gelu.fill(witness, hidden)
        assert (found == exact_gelu(hidden, table)).all()
        assert (witness.integers(gelu.input) == hidden).all()
        assert (witness.integers(gelu.output) == found).all()
        assert magnitude(hidden) <= gelu.largest

    return Alone(plan, model, fill, gelu.check), gelu


@pytest.mark.parametrize("table", [GELU, RELU], ids=["gelu", "relu"])
@pytest.mark.parametrize("rows", ROWS)
def test_gelus_are_accepted(rows: int, table: IntArray, tiny_model: ExactModel) -> None:
    hidden = np.random.default_rng(rows).integers(-300, 301, (rows, 12))
    gelu_alone(tiny_model, hidden, table)[0].accept()


@pytest.mark.parametrize("table", [GELU, RELU], ids=["gelu", "relu"])
@pytest.mark.parametrize("limb", LIMBS)
def test_every_number_has_a_gelu(table: IntArray, limb: int, tiny_model: ExactModel) -> None:
    """All that are near the table, where it ends, and at both ends of the window."""
    hidden = np.array([*range(-9, 10), -(2**20), 2**20])[None]
    gelu_alone(tiny_model, hidden, table, limb)[0].accept()


@settings(max_examples=50, deadline=None)
@given(
    hidden=st.lists(st.integers(-(1 << 30), 1 << 30) | st.integers(-12, 12), min_size=1),
    limb=st.integers(1, 16),
)
def test_a_gelu_is_the_references(hidden: list[int], limb: int, tiny_model: ExactModel) -> None:
    # `fill` compares with the reference
    gelu_alone(tiny_model, np.array(hidden)[None], GELU, limb)[0].witness()


@pytest.fixture(scope="module")
def gelu(tiny_model: ExactModel) -> tuple[Alone, Gelu]:
    return gelu_alone(tiny_model, np.array([[5, -5, 0], [40, -40, 7]]), GELU)


def test_the_positive_part_is_the_positive_part(gelu: tuple[Alone, Gelu]) -> None:
    circuit, g = gelu
    for place, wrong in [((0, 0), 0), ((0, 1), 5), ((0, 2), 1), ((1, 0), 41), ((1, 1), -40)]:
        circuit.refuse("gelu", put(g.positive, place, wrong))
    circuit.refuse("gelu", put(g.sign, (0, 0), 1))
    circuit.refuse("gelu", put(g.sign, (0, 1), 0))


def test_a_sign_is_zero_or_one(gelu: tuple[Alone, Gelu]) -> None:
    """positive = (1 - sign)·magnitude holds for every sign."""
    circuit, g = gelu
    for sign in (2, -1):
        circuit.refuse(
            "gelu", both(put(g.sign, (0, 0), sign), put(g.positive, (0, 0), 5 - 5 * sign))
        )


def test_the_sign_of_zero_is_free(gelu: tuple[Alone, Gelu]) -> None:
    circuit, g = gelu
    replace(circuit, spoil=put(g.sign, (0, 2), 1)).accept()


def test_the_index_is_the_magnitude_up_to_the_end_of_the_table(gelu: tuple[Alone, Gelu]) -> None:
    """index + excess is the magnitude still, and the entry is that of the index."""
    circuit, g = gelu
    for place, index in [((0, 0), 5), ((0, 1), 5), ((1, 0), 7), ((1, 2), 7)]:
        circuit.refuse(
            "gelu",
            both(
                put(g.index, place, index - 1),
                put(g.entry, place, int(GELU[index - 1])),
                shifted(g.excess, place, 1),
            ),
        )


def test_an_entry_is_that_of_the_table(gelu: tuple[Alone, Gelu]) -> None:
    circuit, g = gelu
    with pytest.raises(ConstraintViolation, match=r"gelu: index: .* table gelu, got 5 at \[0, 0\]"):
        replace(circuit, spoil=put(g.entry, (0, 0), 4)).witness()

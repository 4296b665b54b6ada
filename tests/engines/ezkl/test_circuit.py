"""The building blocks of circuits, exhaustively on windows that are small enough for it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engines.ezkl.circuits import Compiled, Override, forge, small_recipe
from zkllm import integers as whole
from zkllm.engines.ezkl import readings, recipe
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import recipe_lookup, recipe_table
from zkllm.engines.ezkl.expressions import FIELD, integers
from zkllm.engines.ezkl.recipe import Window
from zkllm.errors import BackendError, ConstraintViolation, UnsupportedModel
from zkllm.tensors import IntArray, magnitude_type, tensor_digest

WINDOW = Window(6, 4)


def plus(by: int) -> Override:
    return lambda honest, _: honest + by


def no_exp(_: int) -> int:
    raise AssertionError


def violated(circuit: Circuit, inputs: dict[str, object], modulus: int | None = None) -> set[str]:
    """Names of what does not hold for these public inputs and hints."""
    values = readings.evaluate(
        circuit, lambda node, _: integers(inputs[node.detail]), no_exp, modulus
    )
    return set(readings.violations(circuit, values))


# The window


def test_window_fills_its_table() -> None:
    window = recipe.load("attention").window
    assert (window.low, window.high, window.size) == (-16135, 240, 16376)
    assert window.low == window.high - (2**14 - 9)
    assert window.low in window
    assert window.low - 1 not in window
    assert window.high + 1 not in window


@pytest.mark.parametrize("logrows", [6, 9, 14])
@pytest.mark.parametrize("high", [0, 10, 240])
def test_step_gives_exactly_the_remainders(logrows: int, high: int) -> None:
    window = Window(logrows, high)
    for divisor in range(1, 300):
        step = window.step(divisor)
        if step:
            held = [n for n in range(window.low, high + 1) if n % step == 0]
            assert len(held) == divisor
            assert held[0] == step * window.first_multiple(step)


def test_one_lookup_serves_the_shifts_of_the_recipe() -> None:
    window = recipe.load("attention").window
    assert [s for s in range(20) if window.step(1 << s)] == list(range(1, 11))


def test_limbs() -> None:
    size = WINDOW.size
    expected = {0: 1, size - 1: 1, size: 2, size**2 - 1: 2, size**2: 3}
    assert {limit: WINDOW.limbs(limit) for limit in expected} == expected


def test_exp_digest_of_the_recipe() -> None:
    chosen = recipe.load("attention")
    table = recipe_table(chosen)
    assert tensor_digest(table, magnitude_type(table)) == chosen.exp_digest


def test_unknown_recipe() -> None:
    with pytest.raises(BackendError, match=r"expected a recipe mlp\.toml, found none"):
        recipe.load("mlp")


# Division by a constant: one lookup, two lookups, digits


@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 7, 8, 16, 37, 55, 56, 64, 100, 3000])
def test_divide_has_one_quotient(divisor: int) -> None:
    """No other quotient satisfies it, with any choice of the hints that depend on the quotient."""
    numbers = range(-3 * divisor - 2, 3 * divisor + 3, max(1, divisor // 40))
    circuit = Circuit(WINDOW, 1)
    n = circuit.public_input("n", (len(numbers),), 10**6)
    q = circuit.public_input("q", (len(numbers),), 10**6)
    circuit.divide("d", lambda c: n * c, q, divisor)
    readings.check_no_wrap(circuit)
    right = whole.round_div(np.array(numbers), divisor)
    for off in (-2, -1, 0, 1, 2):
        public = {"n": np.array(numbers), "q": right + off}
        found = readings.violations(circuit, forge(circuit, public, no_exp, {}))
        assert (not found) == (off == 0), off


def test_remainder_equal_to_the_divisor() -> None:
    circuit = Circuit(WINDOW, 1)
    n, q = (circuit.public_input(name, (1,), 1000) for name in "nq")
    circuit.divide("d", lambda c: n * c, q, 4)
    assert violated(circuit, {"n": [6], "q": [2]}) == set()  # 6 + 2 = 2·4 + 0
    assert violated(circuit, {"n": [6], "q": [1]}) == {"d.remainder"}  # r = 4
    assert violated(circuit, {"n": [5], "q": [2]}) == {"d.remainder"}  # r = -1


def test_quotient_in_the_field() -> None:
    """q = (n + half - r)/d modulo the field for another r, where only the hint's range stops it."""
    circuit = Circuit(WINDOW, 1)
    n = circuit.public_input("n", (1,), 1000)
    circuit.quotient("q", lambda c: n * c, 4, 20)
    quotient = (7 - 1) * pow(4, -1, FIELD)  # r = 1 in place of 3
    hint = (quotient + 20 + WINDOW.low) % FIELD
    assert violated(circuit, {"n": [5], "q.0": [hint]}, FIELD) == {"q.0"}
    honest = 1 + 20 + WINDOW.low
    assert violated(circuit, {"n": [5], "q.0": [honest]}, FIELD) == set()


# Division by a variable


@pytest.mark.parametrize("window", [WINDOW, Window(9, 10)], ids=["digits", "single"])
def test_quotient_by_is_round_div(window: Window) -> None:
    """For even and odd divisors, from 1 on; every hint but the honest one is refused."""
    divisors = np.arange(1, 61)
    numerators = np.arange(-130, 131, 7)
    d, n = (a.ravel() for a in np.meshgrid(divisors, numerators))
    circuit = Circuit(window, 1)
    numerator = circuit.public_input("n", d.shape, 200)
    divisor = circuit.public_input("d", d.shape, 60)
    quotient = circuit.quotient_by("q", numerator, divisor, 60, 200)
    readings.check_no_wrap(circuit)
    public = {"n": n, "d": d}
    values = readings.honest(circuit, public, no_exp)
    assert (values[quotient] == whole.round_div(n, d)).all()
    for hint, wrong in (("q.0", "q.remainder"), ("q.half.0", "q.half")):
        for by in (-1, 1):
            forged = forge(circuit, public, no_exp, {hint: plus(by)})
            assert any(name.startswith(wrong) for name in readings.violations(circuit, forged))


def test_quotient_by_refuses_each_wrong_quotient() -> None:
    circuit = Circuit(Window(9, 10), 1)
    numerator = circuit.public_input("n", (1,), 200)
    divisor = circuit.public_input("d", (1,), 60)
    circuit.quotient_by("q", numerator, divisor, 60, 200)
    for d in range(1, 13):
        for n in range(-30, 31):
            for by in (-2, -1, 1, 2):
                public = {"n": np.array([n]), "d": np.array([d])}
                forged = forge(circuit, public, no_exp, {"q.0": plus(by)})
                expected = "q.remainder.low" if by > 0 else "q.remainder.high"
                assert expected in readings.violations(circuit, forged), (n, d, by)


@pytest.mark.parametrize("window", [WINDOW, Window(9, 10)], ids=["digits", "single"])
def test_bounds_from_both_sides(window: Window) -> None:
    for bound in (-70, 0, 70):
        circuit = Circuit(window, 1)
        x = circuit.public_input("x", (1,), 1000)
        circuit.at_least("low", x, bound, 100)
        circuit.at_most("high", x, bound + 100, 100)
        for value in (bound - 1, bound, bound + 100, bound + 101):
            forged = forge(circuit, {"x": np.array([value])}, no_exp, {})
            assert bool(readings.violations(circuit, forged)) == (not bound <= value <= bound + 100)


# The static check


def test_wrap_is_refused() -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (1,), 1 << 128)
    circuit.demand("square", x * x, 1)
    with pytest.raises(BackendError, match="square: its terms could reach"):
        readings.check_no_wrap(circuit)


def test_wrap_of_a_range_check_is_refused() -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (1,), 1 << 128)
    circuit.in_window("range", x * x)
    with pytest.raises(BackendError, match="range: its terms could reach"):
        readings.check_no_wrap(circuit)


def test_a_product_of_small_factors_may_wrap_if_it_must_be_zero() -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (40,), 1 << 20)
    circuit.demand("zero", x.product())
    readings.check_no_wrap(circuit)
    circuit.demand("one", x.product(), 1)
    with pytest.raises(BackendError, match="one: its terms could reach"):
        readings.check_no_wrap(circuit)


@pytest.mark.parametrize("bound", [1000, 10**6])
def test_magnitudes_hold(bound: int) -> None:
    """For hints anywhere in the window, no expression exceeds the magnitude it was given."""
    circuit = Circuit(Window(9, 10), 700)
    x = circuit.public_input("x", (3, 4), bound)
    hint = circuit.ranged("h", (3, 4), -bound, bound, lambda v: v[x])
    dot = circuit.einsum("ab,ab->a", x, hint)
    circuit.concat([dot, hint.sum(), (x - hint * 3).reshape(12).gather([0, 5]), x.product()])
    random = np.random.default_rng(0)
    window = circuit.window
    for _ in range(20):
        values = readings.evaluate(
            circuit,
            lambda node, _: integers(
                random.choice([-bound, bound], node.shape)
                if node in circuit.public
                else random.choice([window.low, window.high], node.shape)
            ),
            no_exp,
            None,
        )
        for node in circuit.expressions:
            assert max(abs(int(v)) for v in values[node].ravel()) <= node.magnitude


# Constants


@pytest.mark.parametrize("factor", [1, (1 << 40) + 1, (1 << 80) + (1 << 31) + 1])
def test_large_constants_are_added_in_parts(factor: int) -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (2,), 10)
    big = integers([123456789123 * factor, -987654321987 * factor])
    total = x + big
    parts = [node.detail for node in circuit.expressions if node.operation == "constant"]
    assert all(int(np.float32(v)) == v for part in parts for v in part.ravel().tolist())
    values = readings.honest(circuit, {"x": np.array([1, 2])}, no_exp)
    assert values[total].tolist() == [123456789123 * factor + 1, -987654321987 * factor + 2]


@pytest.mark.parametrize("value", [1 << 127, -(1 << 200) - 1, 1 << 2000])
def test_a_constant_that_no_float32_holds(value: int) -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (1,), 10)
    for use in (x.__add__, x.__sub__, x.__mul__):
        with pytest.raises(UnsupportedModel, match="must fit a float32 exactly"):
            use(value)


def test_a_factor_that_float32_rounds_is_refused() -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (1,), 10)
    with pytest.raises(UnsupportedModel, match="must fit a float32 exactly, got 16777217"):
        x * ((1 << 24) + 1)


def test_a_false_claim_is_named() -> None:
    circuit = Circuit(WINDOW, 1)
    n, q = (circuit.public_input(name, (2,), 1000) for name in "nq")
    circuit.divide("half", lambda c: n * c, q, 2)
    with pytest.raises(ConstraintViolation, match=r"half\.remainder\[1\]: expected -51 to 4"):
        readings.honest(circuit, {"n": np.array([2, 4]), "q": np.array([1, 3])}, no_exp)


# ezkl's own reading


def test_the_window_is_enforced_at_both_ends(tmp_path_factory: pytest.TempPathFactory) -> None:
    """This is what all rests on; an ezkl that places its tables in another way must fail here."""
    chosen = small_recipe()
    window = chosen.window
    circuit = Circuit(window, 256)
    circuit.public_input("x", (1,), 10)
    argument = circuit.hint("argument", (2,), lambda _: integers([0, 0]))
    circuit.demand("e", circuit.exp(argument), 256)
    compiled = Compiled.of(circuit, chosen, tmp_path_factory.mktemp("window"))
    for value, inside in (
        (window.low, True),
        (window.high, True),
        (window.low - 1, False),
        (window.high + 1, False),
        (pow(2, -1, FIELD), False),
    ):
        assert compiled.accepts([0, 0, value]) == inside, value


def test_every_operation_is_lowered(tmp_path_factory: pytest.TempPathFactory) -> None:
    """ezkl computes what `evaluate` says, for each operation and on labels of both kinds."""
    chosen = small_recipe()
    circuit = Circuit(chosen.window, 256)
    x = circuit.public_input("x", (2, 3), 1000)
    hint = circuit.hint("h", (2, 3), lambda v: -(abs(v[x]) % 7))
    exponential = circuit.exp(hint)
    circuit.demand("affine", (x * 5 + hint - 77) * hint - x)
    circuit.demand("mixed labels", exponential * x + hint - 9)
    circuit.demand("labels meet", exponential + 3 - hint)
    circuit.demand("moved", circuit.concat([x.gather([1, 0, 1]), exponential]).reshape(3, 5))
    circuit.demand("dot", circuit.einsum("ab,cb->ac", exponential, x))
    weights = circuit.constant(integers([[1, -2], [3, 4], [-5, 6]]))
    circuit.demand("matmul", circuit.einsum("ab,bc->ac", x, weights))
    circuit.demand("folds", exponential.sum() + hint.sum() * 1 + x.product())
    y = circuit.public_input("y", (8,), 1000)
    for _ in range(6):  # equal constants must not be merged
        circuit.demand("again", y * 5 + (-77))
    circuit.in_window("range", hint * 2)
    public = {"x": np.array([[4, -5, 6], [-7, 8, 12]]), "y": np.arange(8)}
    values = forge(circuit, public, recipe_lookup(chosen), {})
    compiled = Compiled.of(circuit, chosen, tmp_path_factory.mktemp("operations"))
    assert compiled.settings["required_range_checks"] == []
    assert compiled.settings["einsum_params"]["total_einsum_col_size"] == 0
    sides = [int(v) for e in circuit.equations for v in values[e.expression].ravel()]
    flat = readings.flat_inputs(circuit, values)
    assert compiled.outputs(flat) == [*_twice(public), 0, *sides]
    assert compiled.accepts(flat)


def _twice(public: dict[str, IntArray]) -> list[int]:
    return [2 * int(value) for tensor in public.values() for value in tensor.ravel()]


def test_a_constant_that_cannot_be_told_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    chosen = small_recipe()
    circuit = Circuit(chosen.window, 256)
    x = circuit.public_input("x", (1,), 10)
    for _ in range(2):
        circuit.demand("x", x + 3)
    with pytest.raises(BackendError, match="a constant is used too often with tensors of shape"):
        Compiled.of(circuit, chosen, tmp_path_factory.mktemp("constants"))

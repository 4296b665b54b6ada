"""The building blocks of circuits, exhaustively on windows that are small enough for it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engines.ezkl.circuits import Override, forge
from zkllm import integers as whole
from zkllm.engines.ezkl import readings
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.expressions import FIELD, integers
from zkllm.engines.ezkl.recipe import Window

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

"""What is read off a circuit: that no equation can wrap, how large values are, false claims."""

from __future__ import annotations

import numpy as np
import pytest

from zkllm.engines.ezkl import readings
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.expressions import integers
from zkllm.engines.ezkl.recipe import Window
from zkllm.errors import BackendError, ConstraintViolation

WINDOW = Window(6, 4)


def no_exp(_: int) -> int:
    raise AssertionError


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


def test_a_false_claim_is_named() -> None:
    circuit = Circuit(WINDOW, 1)
    n, q = (circuit.public_input(name, (2,), 1000) for name in "nq")
    circuit.divide("half", lambda c: n * c, q, 2)
    with pytest.raises(ConstraintViolation, match=r"half\.remainder\[1\]: expected -51 to 4"):
        readings.honest(circuit, {"n": np.array([2, 4]), "q": np.array([1, 3])}, no_exp)

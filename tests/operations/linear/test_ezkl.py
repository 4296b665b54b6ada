"""Linear layers alone in a circuit: in a hint, and against the boundaries of their unit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engines.ezkl.circuits import forge
from tests.operations.circuits import EXP, circuit_of, honest, steps_off
from zkllm.engines.ezkl import readings
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.errors import ConstraintViolation
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.unit import Rows, Unit
from zkllm.tensors import IntArray

RANDOM = np.random.default_rng(0)
TENSORS = {
    "a.weight": RANDOM.integers(-20, 21, (7, 6)),
    "a.bias": RANDOM.integers(-(2**9), 2**9, 6),
    "b.weight": RANDOM.integers(-20, 21, (6, 7)),
    "b.bias": RANDOM.integers(-9, 9, 7),
}


def unit_of(shift: int, *, residual: bool) -> Unit:
    """Seven channels to two by three heads and back."""
    first = Linear("a.weight", "a.bias", shift, 2**20, 2**20 >> shift)
    second = Linear("b.weight", "b.bias", shift, 2**28, 2**28 >> shift)
    steps = (
        LinearStep("a", ("x",), "apart", first, (7,), (2, 3)),
        LinearStep("b", ("apart",), "change", second, (2, 3), (7,)),
    )
    return Unit("unit", Rows(7, 500), Rows(7, 2**29), steps, residual=residual)


def run(shift: int, *, residual: bool) -> tuple[Circuit, IntArray, IntArray]:
    unit = unit_of(shift, residual=residual)
    circuit = circuit_of(unit, 4, TENSORS)
    x = RANDOM.integers(-500, 501, (4, 7))
    return circuit, x, honest(unit, circuit, x, TENSORS)


@pytest.mark.parametrize("shift", [0, 1, 9, 12])
@pytest.mark.parametrize("residual", [False, True])
def test_each_output_is_the_only_one(shift: int, residual: bool) -> None:
    """The last layer has no hint: its remainder follows from the boundaries."""
    circuit, x, output = run(shift, residual=residual)
    assert not any(hint.detail.startswith("b.0") for hint in circuit.hints)
    for by in (-1, 1):
        false = output.copy()
        false[2, 5] += by
        with pytest.raises(ConstraintViolation, match=r"b\.remainder"):
            readings.honest(circuit, {"x": x, "output": false}, EXP)


@pytest.mark.parametrize("shift", [0, 1, 9, 12])
def test_each_hint_is_the_only_one(shift: int) -> None:
    """Another quotient is refused by its own remainder, whatever becomes of later steps."""
    circuit, x, output = run(shift, residual=True)
    seen = set()
    for name, overrides in steps_off(circuit):
        values = forge(circuit, {"x": x, "output": output}, EXP, overrides)
        found = readings.violations(circuit, values)
        assert found, name
        if name.startswith("a."):
            seen.add(name)
            assert any(refusal.startswith("a") for refusal in found)
    assert "a.0" in seen

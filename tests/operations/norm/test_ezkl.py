"""LayerNorm alone in a circuit: the integers of the reference, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from tests.operations.circuits import EXP, circuit_of, honest, refusing, steps_off
from zkllm.engines.ezkl import readings
from zkllm.errors import ConstraintViolation
from zkllm.operations.norm.exact import Norm, NormStep
from zkllm.operations.unit import Rows, Unit

TOKENS, WIDTH = 3, 8


def unit_of(bound: int) -> Unit:
    shift, epsilon, gain = bound.bit_length() // 3, 5, 181
    centred = (2 * bound >> shift) + 1
    numbers = Norm(shift, epsilon, gain, centred, WIDTH * centred**2 + epsilon, gain + 2)
    step = NormStep("norm", ("x",), "normal", numbers, WIDTH)
    given = Rows(WIDTH, step.numbers.output)
    return Unit("alone", Rows(WIDTH, bound), given, (step,), writes="normal", residual=False)


@pytest.mark.parametrize("bound", [20, 3000, 10**6])
def test_honest_rows_satisfy_it(bound: int) -> None:
    unit = unit_of(bound)
    circuit = circuit_of(unit, TOKENS, {})
    x = np.random.default_rng(0).integers(-bound, bound + 1, (TOKENS, WIDTH))
    for rows in (x, np.zeros_like(x), np.full_like(x, bound), np.where(x < 0, -bound, bound)):
        honest(unit, circuit, rows, {})


@pytest.mark.parametrize("bound", [20, 3000, 10**6])
def test_each_hint_is_the_only_one(bound: int) -> None:
    unit = unit_of(bound)
    circuit = circuit_of(unit, TOKENS, {})
    x = np.random.default_rng(1).integers(-bound, bound + 1, (TOKENS, WIDTH))
    output = honest(unit, circuit, x, {})
    assert refusing(circuit, x, output, {}) == set()
    for name, overrides in steps_off(circuit):
        assert refusing(circuit, x, output, overrides), name


def test_another_output_is_refused() -> None:
    unit = unit_of(3000)
    circuit = circuit_of(unit, TOKENS, {})
    x = np.random.default_rng(2).integers(-3000, 3001, (TOKENS, WIDTH))
    output = honest(unit, circuit, x, {})
    output[1, 3] += 1
    with pytest.raises(ConstraintViolation, match=r"norm\[1, 3\]: expected 0, got -1"):
        readings.honest(circuit, {"x": x, "output": output}, EXP)

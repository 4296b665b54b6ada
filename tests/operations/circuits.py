"""An operation alone in a circuit, and provers who change one hint of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tests.engines.ezkl.circuits import Override, bump, forge
from zkllm.backends.ezkl import units
from zkllm.engines.ezkl import readings, recipe
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import recipe_lookup
from zkllm.operations.unit import Unit
from zkllm.tensors import IntArray

RECIPE = recipe.load("attention")
EXP = recipe_lookup(RECIPE)


def circuit_of(unit: Unit, tokens: int, tensors: Mapping[str, IntArray]) -> Circuit:
    return units.build(unit, tokens, RECIPE, tensors.__getitem__)


def honest(unit: Unit, circuit: Circuit, x: IntArray, tensors: Mapping[str, IntArray]) -> IntArray:
    """What the unit gives for `x` in numpy, which satisfies its circuit."""
    output = unit.run(x, tensors.__getitem__)
    readings.honest(circuit, {units.INPUT: x, units.OUTPUT: output}, EXP)
    return output


def refusing(
    circuit: Circuit, x: IntArray, output: IntArray, overrides: Mapping[str, Override]
) -> set[str]:
    """What refuses a prover who fits all later hints, and the output, to those it changed.

    The output is fitted where the last step is demanded as it stands, which is the last equation.
    """
    public = {units.INPUT: x, units.OUTPUT: output}
    last = circuit.equations[-1].expression
    excess = forge(circuit, public, EXP, overrides)[last].astype(np.int64)
    fitted = public | {units.OUTPUT: output + excess.reshape(output.shape)}
    return set(readings.violations(circuit, forge(circuit, fitted, EXP, overrides)))


def steps_off(circuit: Circuit, seed: int = 0) -> Iterator[tuple[str, dict[str, Override]]]:
    """Each hint, one more and one less at some place."""
    random = np.random.default_rng(seed)
    for hint in circuit.hints:
        for by in (-1, 1):
            place = tuple(int(random.integers(size)) for size in hint.shape)
            yield hint.detail, {hint.detail: bump(place, by)}

"""Witnesses: the inputs of a circuit's graph for a true claim, and whether they satisfy it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zkllm.backends.base import Claim
from zkllm.backends.ezkl.units import INPUT, OUTPUT
from zkllm.engines.ezkl import proofs, readings
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import recipe_lookup
from zkllm.engines.ezkl.process import Operations
from zkllm.engines.ezkl.recipe import Recipe
from zkllm.errors import BackendError
from zkllm.tensors import IntArray


def public(claim: Claim) -> dict[str, IntArray]:
    """The claim in the names of the circuit."""
    return {INPUT: claim.inputs, OUTPUT: claim.outputs}


def honest(circuit: Circuit, chosen: Recipe, claim: Claim) -> list[int]:
    """The inputs of the graph for a true claim; raises `ConstraintViolation` for another."""
    values = readings.honest(circuit, public(claim), recipe_lookup(chosen))
    return readings.flat_inputs(circuit, values)


def write(operations: Operations, values: Sequence[int], compiled: Path, folder: Path) -> Path:
    """Write `folder`/witness.json for these inputs; its path.

    Raises `BackendError` if it does not satisfy the circuit, of which a proof would never end.
    """
    data, witness = folder / "input.json", folder / "witness.json"
    data.write_text(proofs.input_json(values), encoding="ascii")
    operations.run("witness", data=data, compiled=compiled, output=witness)
    if not operations.run("mock", witness=witness, compiled=compiled):
        raise BackendError("the circuit refuses the witness of an honest run")
    return witness

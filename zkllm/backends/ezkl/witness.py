"""Witnesses: the inputs of a circuit's graph for a true claim, and whether they satisfy it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zkllm.backends.base import Claim
from zkllm.backends.ezkl import circuit as circuits
from zkllm.backends.ezkl import proofs
from zkllm.backends.ezkl.equations import Circuit
from zkllm.backends.ezkl.process import Operations
from zkllm.backends.ezkl.recipe import Recipe
from zkllm.errors import BackendError
from zkllm.exact.format1 import Attention
from zkllm.exact.model import ExactModel
from zkllm.tensors import IntArray


def public(claim: Claim) -> dict[str, IntArray]:
    """The claim in the names of the circuit."""
    return {"x": claim.inputs, "output": claim.outputs}


def honest(circuit: Circuit, chosen: Recipe, model: ExactModel, claim: Claim) -> list[int]:
    """The inputs of the graph for a true claim; raises `ConstraintViolation` for another."""
    unit = model.specification.units()[claim.unit]
    assert isinstance(unit, Attention)  # noqa: S101
    lookup = circuits.exp_lookup(model.tensor(unit.exp), chosen)
    return circuit.flat_inputs(circuit.honest(public(claim), lookup))


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

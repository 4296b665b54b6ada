"""Sections 13, 14 and 17: a whole proof, what it is worth, and whose bounds it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import log2

from tests.independent.bounds import check_integers, check_tables, prove_bounds
from tests.independent.conversation import Conversation
from tests.independent.field import ORDER, require, u64
from tests.independent.ledger import Columns, Committed, Held
from tests.independent.lookups import check_lookups
from tests.independent.opening import ROW, VECTOR, commit
from tests.independent.operations import Checking
from tests.independent.plan import cells, choose, layout, length
from tests.independent.tensors import blocks, flat
from tests.independent.transcript import digest
from tests.independent.units import Claim, check_boundaries, declare

VERSION = 1
LEAST_BITS = 100

WIDEST = 64
"""Bounds of wider models are not proven here: plain integers would take too long."""
PROVEN = "proven from the weights"
TOO_WIDE = f"the policy's author's word: the model is wider than {WIDEST}"
COMMITTED = "the policy's author's word: the weights are committed to"


@dataclass(frozen=True)
class Verdict:
    """The claim is believed."""

    bits: float
    """Of soundness."""
    bounds: str
    """Why the bounds of the specification are believed: PROVEN, or whose word was taken."""


def verify(
    specification: dict,
    tensors: Mapping[str, list],
    claim: Claim,
    root: bytes | None,
    proof: bytes,
) -> Verdict:
    """Raises `Refused` if `proof` does not show `claim`.

    `tensors` are the integers of all weights and tables of the model, as nested lists. With the
    `root` of a commitment to the unit's weights, only tables are read.
    """
    check_boundaries(specification, claim)
    integers = {name: flat(tensor) for name, tensor in tensors.items()}
    bounds = check_bounds(specification, integers, held=root is None)
    plan, unit = choose(lambda plan: declare(plan, specification, integers, claim))
    size, weights_size = (length(list(d.values())) for d in (plan.columns, plan.weights))
    numbers = VERSION, *VECTOR[:2], *ROW[:2], plan.limb, size, weights_size

    talk = Conversation(proof)
    for label, data in {
        "protocol": b"".join(map(u64, numbers)),
        "model": claim.model.encode(),
        "unit": claim.unit.encode(),
        "statement": claim.statement.encode(),
        "inputs": tensor_digest(claim.inputs).encode(),
        "outputs": tensor_digest(claim.outputs).encode(),
        "first row": u64(claim.first_row),
        "weights": root or b"",
    }.items():
        talk.transcript.absorb(label, data)
    held = root is None
    weights = Held(plan.weights, integers) if held else Committed(talk, plan.weights, root)
    commitment = talk.receive("commitment", 32) if plan.columns else b""
    columns = Columns(talk, plan.columns, commitment)
    unit.check(Checking(talk, columns, weights))
    if plan.columns:
        check_lookups(talk, columns, plan)
        columns.close()
    weights.close()
    talk.end()
    error = max(sum(talk.errors.values()), Fraction(1, ORDER))
    bits = log2(error.denominator) - log2(error.numerator)
    require(bits >= LEAST_BITS, "too little soundness")
    return Verdict(bits, bounds)


def check_bounds(specification: dict, integers: Mapping[str, list[int]], held: bool) -> str:
    """Section 17, as far as the integers are here; says why the bounds are believed."""
    check_integers(integers)
    check_tables(specification, integers)
    if not held:
        return COMMITTED
    if specification["architecture"]["width"] > WIDEST:
        return TOO_WIDE
    prove_bounds(specification, integers)
    return PROVEN


def commitment(specification: dict, tensors: Mapping[str, list], claim: Claim) -> bytes:
    """Section 12: the root of the weights of the claim's unit, which follows from the model."""
    integers = {name: flat(tensor) for name, tensor in tensors.items()}
    plan, _ = choose(lambda plan: declare(plan, specification, integers, claim))
    shapes = list(plan.weights.values())
    vector = [0] * length(shapes)
    for (name, dims), offsets in zip(plan.weights.items(), layout(shapes), strict=True):
        for block, offset in zip(blocks(dims), offsets, strict=True):
            vector[offset : offset + 2**block.bits] = cells(integers[name], dims, block)
    return commit(vector)


def tensor_digest(tensor: list) -> str:
    """Of a unit's input or output: rows, or token ids."""
    dims = [len(tensor)] if isinstance(tensor[0], int) else [len(tensor), len(tensor[0])]
    domain = b"zkllm/sumcheck/tensor/v1"
    data = b"".join(map(u64, dims))
    data += b"".join(n.to_bytes(8, "little", signed=True) for n in flat(tensor))
    hashed = digest(len(domain).to_bytes(2, "little") + domain + data)
    return f"sha256:{hashed.hex()}"

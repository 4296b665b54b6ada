"""What a unit will cost: its circuit is built and its proof rehearsed, from shapes alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zkllm.backends.base import Claim, Estimate
from zkllm.backends.sumcheck.units import smallest_circuit
from zkllm.bundle import MAX_EVIDENCE
from zkllm.digests import Digest
from zkllm.engines.sumcheck.commitment import levels_of
from zkllm.engines.sumcheck.field import ZERO, Ext
from zkllm.engines.sumcheck.multilinear import size
from zkllm.engines.sumcheck.plan import total
from zkllm.engines.sumcheck.protocol import Circuit, Context, require_bits, run_protocol
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.errors import UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.operations.unit import Ids
from zkllm.tensors import IntArray

# Fitted to units of GPT-2 small at T = 16 to 1024, held and committed (`benchmarks.sumcheck`).
_SECONDS_A_UNIT = 0.15
_SECONDS_A_CELL = 1.8e-7
_SECONDS_A_WEIGHT = {False: 1e-8, True: 1e-7}
"""By whether weights are committed to."""
_SECONDS_A_COMMITTED_WEIGHT = 7e-8
_BYTES_OF_A_PROCESS = 170 << 20
_BYTES_A_CELL = 80
_COPIES_OF_WEIGHTS = 2
"""In the types in which they are stored, and one more where they are committed to."""
_BYTES_A_COMMITTED_WEIGHT = 36
"""Four words of its encoding."""
_BYTES_A_COLUMN = 1 << 10
"""Of the matrix of committed weights: its combined row, and what opens that."""


class Rehearsal(Verifier):
    """A verifier that is told nothing and believes all: it counts bytes and adds up errors."""

    def __init__(self, circuit: Circuit, weights_root: bytes | None) -> None:
        super().__init__(circuit.plan, circuit.weights, weights_root, b"")
        self.bytes = 0

    def exchange_bytes(self, label: str, make: Callable[[], bytes], length: int) -> bytes:
        self.bytes += length
        _require_length(self.bytes)
        return bytes(length)

    def refuse(self, label: str) -> None:
        """Nothing holds here."""

    def held(self, make: Callable[[], Ext]) -> Ext:
        return ZERO

    def require_hashes(self, label: str, hold: Callable[[], bool]) -> None:
        """They would be of zeros."""


def rehearse(circuit: Circuit, *, committed: bool = False) -> tuple[int, float]:
    """The exact length in bytes of a proof, and its bits of soundness.

    Raises `UnsupportedModel` if these are too few, or the proof longer than any evidence may be.
    """
    root = bytes(32) if committed else None
    for cells in (circuit.plan.size(), total(circuit.plan.weights) if committed else 0):
        # Nothing of the size of such a vector is to be made for a proof that no bundle holds.
        if cells:
            _require_length(levels_of(cells)[0].opening_bytes)
    party = Rehearsal(circuit, root)
    run_protocol(party, None, None, circuit, Context((), root))
    return party.bytes, require_bits(party)


def _require_length(length: int) -> None:
    """Raises `UnsupportedModel` for a proof of more bytes than evidence may have."""
    limit = MAX_EVIDENCE["sumcheck"]
    if length > limit:
        raise UnsupportedModel(
            f"sumcheck: expected a proof of at most {limit} bytes, this one would have more",
            hint="fewer --tokens, or weights that are held",
        )


def circuit_of(specification: Specification, unit: str, tokens: int, generated: int = 1) -> Circuit:
    """A circuit of the right shapes for a run of `tokens` positions; its values mean nothing.

    Of these positions, `generated` say what the head has to show. Raises `UnsupportedModel` if an
    equation could wrap.
    """
    found = specification.units()[unit]
    rows = generated if isinstance(found.output, Ids) else tokens
    # One zero that is everywhere: shapes come from whoever wrote the specification.
    inputs, outputs = (
        np.broadcast_to(np.int64(0), (rows,) if isinstance(end, Ids) else (rows, end.width))
        for end in (found.input, found.output)
    )
    tables: dict[str, IntArray] = {}
    for step in found.steps:
        for name in step.tables():
            table = np.zeros(specification.tensors[name].shape, dtype=np.int64)
            table[0] = step.largest_entry(name)
            tables[name] = table
    model = ExactModel.in_memory(specification, tables)
    return smallest_circuit(found, model, Claim(unit, inputs, outputs, Digest("")))


def estimate(
    specification: Specification,
    unit: str,
    tokens: int,
    generated: int = 1,
    *,
    committed: bool = False,
) -> Estimate:
    """Predictions for two ordinary cores; the length of the evidence is exact.

    Memory may be predicted at up to twice what is needed, but not at less. Raises
    `UnsupportedModel` if a proof would have too little soundness.
    """
    circuit = circuit_of(specification, unit, tokens, generated)
    work = specification.units()[unit].work(tokens)
    cells = circuit.plan.cost()
    weights = sum(size(dims) for dims in circuit.plan.weights.values())
    proof, _ = rehearse(circuit, committed=committed)
    return Estimate(
        multiply_adds=work,
        rows=cells,
        evidence_bytes=proof,
        memory_bytes=_BYTES_OF_A_PROCESS
        + _BYTES_A_CELL * cells
        + _weight_bytes(specification, circuit, committed),
        setup_seconds=_SECONDS_A_COMMITTED_WEIGHT * weights if committed else 0,
        prove_seconds=_SECONDS_A_UNIT
        + _SECONDS_A_CELL * cells
        + _SECONDS_A_WEIGHT[committed] * weights,
        verify_seconds=0.05 + 0.2e-6 * proof + (0 if committed else 5e-9 * weights),
    )


def _weight_bytes(specification: Specification, circuit: Circuit, committed: bool) -> int:
    """What the weights of a unit take while it is proved."""
    weights = circuit.plan.weights
    stored = sum(specification.tensors[name].type.nbytes for name in weights)
    if not (committed and weights):
        return _COPIES_OF_WEIGHTS * stored
    count = total(weights)
    columns = levels_of(count)[0].columns
    encoded = _BYTES_A_COMMITTED_WEIGHT * count + _BYTES_A_COLUMN * columns
    return (_COPIES_OF_WEIGHTS + 1) * stored + encoded


def describe(
    specification: Specification, unit: str, tokens: int, generated: int, evidence: int
) -> str:
    """What evidence of so many bytes can be, in words: its weights and its bits of soundness."""
    circuit = circuit_of(specification, unit, tokens, generated)
    for mode in ("held", "committed"):
        length, bits = rehearse(circuit, committed=mode == "committed")
        if length == evidence:
            return f"{bits:.1f} bits of soundness, weights {mode}"
    return "not as long as a proof of this unit is"

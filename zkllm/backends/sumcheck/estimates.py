"""What a unit will cost: its circuit is built and its proof rehearsed, from shapes alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zkllm.backends.base import Claim, Estimate
from zkllm.backends.sumcheck.field import ZERO, Ext
from zkllm.backends.sumcheck.protocol import Context, require_bits, run_protocol
from zkllm.backends.sumcheck.shapes import Point, size
from zkllm.backends.sumcheck.units import Circuit, make_circuit
from zkllm.backends.sumcheck.verifier import Verifier
from zkllm.digests import Digest
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Attention, Embed, Head, Specification, multiply_adds
from zkllm.tensors import IntArray

_SECONDS_A_CELL = 1.0e-6
_SECONDS_A_MULTIPLY_ADD = 1.5e-9
_BYTES_A_CELL = 250
_BYTES_A_WEIGHT = 24
_BYTES_OF_A_PROCESS = 250 << 20
_START_SECONDS = 0.05


class Rehearsal(Verifier):
    """A verifier that is told nothing and believes all: it counts bytes and adds up errors."""

    def __init__(self, circuit: Circuit, weights_root: bytes | None) -> None:
        super().__init__(circuit.plan, circuit.model, weights_root, b"")
        self.bytes = 0

    def exchange_bytes(self, label: str, make: Callable[[], bytes], length: int) -> bytes:
        self.bytes += length
        return bytes(length)

    def require(self, label: str, holds: Callable[[], bool]) -> None:
        """Nothing holds here."""

    def weight(self, name: str, point: Point) -> Ext:
        return ZERO if self.weights_root is None else super().weight(name, point)


def rehearse(circuit: Circuit, *, committed: bool = False) -> tuple[int, float]:
    """The exact length in bytes of a proof, and its bits of soundness.

    Raises `UnsupportedModel` if these are too few.
    """
    root = bytes(32) if committed else None
    party = Rehearsal(circuit, root)
    run_protocol(party, None, None, circuit, Context((), root))
    return party.bytes, require_bits(party)


def circuit_of(specification: Specification, unit: str, tokens: int, generated: int = 1) -> Circuit:
    """A circuit of the right shapes for a run of `tokens` positions; its values mean nothing.

    Of these positions, `generated` say what the head has to show. Raises `UnsupportedModel` if an
    equation could wrap.
    """
    found = specification.units()[unit]
    width = specification.architecture.width
    tables: dict[str, IntArray] = {}
    inputs: IntArray = np.zeros((tokens, width), dtype=np.int64)
    outputs = inputs
    if isinstance(found, Embed):
        inputs = np.zeros(tokens, dtype=np.int64)
    elif isinstance(found, Head):
        inputs, outputs = inputs[:generated], np.zeros(generated, dtype=np.int64)
    elif isinstance(found, Attention):
        table = np.zeros(specification.tensors[found.exp].shape, dtype=np.int64)
        # the largest entry, from the bound on the sum of as many as there are positions
        table[0] = found.total // specification.architecture.context
        tables[found.exp] = table
    else:
        tables[found.gelu] = np.zeros(specification.tensors[found.gelu].shape, dtype=np.int64)
    model = ExactModel.in_memory(specification, tables)
    return make_circuit(model, Claim(unit, inputs, outputs, Digest("")))


def estimate(specification: Specification, unit: str, tokens: int) -> Estimate:
    """Predictions for two ordinary cores; the length of the evidence is exact."""
    circuit = circuit_of(specification, unit, tokens)
    work = multiply_adds(specification, unit, tokens)
    cells = circuit.plan.cost()
    weights = sum(size(dims) for dims in circuit.plan.weights.values())
    proof, _ = rehearse(circuit)
    return Estimate(
        multiply_adds=work,
        rows=cells,
        evidence_bytes=proof,
        memory_bytes=_BYTES_OF_A_PROCESS + _BYTES_A_CELL * cells + _BYTES_A_WEIGHT * weights,
        prove_seconds=_START_SECONDS
        + _SECONDS_A_CELL * cells
        + _SECONDS_A_MULTIPLY_ADD * (work + weights),
        verify_seconds=_START_SECONDS + 3e-9 * weights + 0.15e-6 * proof,
    )


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

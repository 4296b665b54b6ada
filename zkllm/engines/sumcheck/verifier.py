"""The verifier's side of the protocol: numpy and Python integers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zkllm.engines.sumcheck.field import CANONICAL_BYTES, ZERO, Ext
from zkllm.engines.sumcheck.multilinear import Dims
from zkllm.engines.sumcheck.party import (
    LinearForm,
    MakeTables,
    Monomial,
    Party,
    Weights,
    decode_elements,
)
from zkllm.engines.sumcheck.plan import Combination, Plan
from zkllm.errors import ProofRejected
from zkllm.tensors import IntArray


class Verifier(Party):
    """Reads a proof and refuses it where it does not hold; every refusal is `ProofRejected`."""

    def __init__(
        self, plan: Plan, weights: Weights, weights_root: bytes | None, proof: bytes
    ) -> None:
        super().__init__(plan, weights, weights_root)
        self._proof = proof
        self._position = 0

    def exchange(self, label: str, make: Callable[[], Sequence[Ext]], count: int) -> list[Ext]:
        return decode_elements(self.exchange_bytes(label, lambda: b"", CANONICAL_BYTES * count))

    def exchange_bytes(self, label: str, make: Callable[[], bytes], length: int) -> bytes:
        data = self._proof[self._position : self._position + length]
        if len(data) != length:
            raise ProofRejected(f"sumcheck: the proof ends at {label}")
        self._position += length
        self.transcript.absorb(label, data)
        return data

    def held(self, make: Callable[[], Ext]) -> Ext:
        return make()

    def require_equal(self, label: str, left: Ext, right: Ext) -> None:
        if left != right:
            self.refuse(label)

    def require_nonzero(self, label: str, value: Ext) -> None:
        if value == ZERO:
            self.refuse(label)

    def require_hashes(self, label: str, hold: Callable[[], bool]) -> None:
        if not hold():
            self.refuse(label)

    def refuse(self, label: str) -> None:
        """Raises `ProofRejected` for what was required under `label`."""
        raise ProofRejected(f"sumcheck: {label} does not hold")

    def evaluate(self, column: str, linear_form: LinearForm) -> Ext:
        raise NotImplementedError("the verifier reads values, it does not have columns")

    def integers(self, combination: Combination) -> IntArray:
        raise NotImplementedError("the verifier makes no tables")

    def begin(self, dims: Dims, tables: MakeTables, monomials: list[Monomial]) -> None:
        return None

    def fraction_tree(self, alpha: Ext, beta: Ext, gamma: Ext) -> None:
        return None

    def finish(self) -> None:
        """Refuse what was not read and what was not shown."""
        self.ledger.require_empty()
        self.weights_ledger.require_empty()
        if self._position != len(self._proof):
            rest = len(self._proof) - self._position
            raise ProofRejected(f"sumcheck: {rest} bytes follow the proof")

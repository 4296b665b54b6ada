"""The prover's side of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zkllm.engines.sumcheck.committed import CommittedVector
from zkllm.engines.sumcheck.field import ZERO, Ext
from zkllm.engines.sumcheck.multilinear import Dims
from zkllm.engines.sumcheck.party import (
    LinearForm,
    MakeTables,
    Monomial,
    Party,
    Weights,
    encode_elements,
)
from zkllm.engines.sumcheck.plan import Combination
from zkllm.engines.sumcheck.rounds import Fractions, ProductRounds
from zkllm.engines.sumcheck.witness import Witness
from zkllm.tensors import IntArray


class Prover(Party):
    """Makes a proof: what it sends is kept in `sent`."""

    def __init__(self, witness: Witness, weights: Weights, weights_root: bytes | None) -> None:
        super().__init__(witness.plan, weights, weights_root)
        self.witness = witness
        self.sent: list[bytes] = []
        self.committed: CommittedVector | None = None
        if witness.plan.columns:
            self.committed = CommittedVector(witness.committed(), witness.plan.layout())

    @property
    def proof(self) -> bytes:
        """Everything that was sent."""
        return b"".join(self.sent)

    def exchange(self, label: str, make: Callable[[], Sequence[Ext]], count: int) -> list[Ext]:
        elements = list(make())
        self._send(label, encode_elements(elements))
        return elements

    def exchange_bytes(self, label: str, make: Callable[[], bytes], length: int) -> bytes:
        data = make()
        self._send(label, data)
        return data

    def _send(self, label: str, data: bytes) -> None:
        self.transcript.absorb(label, data)
        self.sent.append(data)

    def held(self, make: Callable[[], Ext]) -> Ext:
        return ZERO  # what depends on it is only required, and here nothing is

    def require_equal(self, label: str, left: Ext, right: Ext) -> None:
        """Nothing: the proof is verified before it leaves the backend."""

    def require_nonzero(self, label: str, value: Ext) -> None:
        """Nothing."""

    def require_hashes(self, label: str, hold: Callable[[], bool]) -> None:
        """Nothing."""

    def evaluate(self, column: str, linear_form: LinearForm) -> Ext:
        assert self.committed is not None  # a unit without columns claims none  # noqa: S101
        return self.committed.evaluate(column, linear_form)

    def integers(self, combination: Combination) -> IntArray:
        return self.witness.integers(combination)

    def begin(self, dims: Dims, tables: MakeTables, monomials: list[Monomial]) -> ProductRounds:
        return ProductRounds(dims, tables(), monomials)

    def fraction_tree(self, alpha: Ext, beta: Ext, gamma: Ext) -> Fractions:
        return Fractions(self.witness, alpha, beta, gamma)

"""Single operations as whole proofs, with a witness that a test may spoil."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from zkllm.engines.sumcheck.field import Ext
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Combination, Number, Plan
from zkllm.engines.sumcheck.protocol import Circuit, Context, check_proof, make_proof, run_protocol
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.weights import commit_weights
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ProofRejected
from zkllm.exact.model import ExactModel

Spoil = Callable[[Witness], None]


@dataclass(frozen=True)
class Alone(Circuit):
    """One operation, sealed in a plan of its own."""

    plan: Plan
    weights: ExactModel
    fill: Callable[[Witness], object]
    examine: Callable[[Party], object]
    spoil: Spoil | None = field(default=None)

    def witness(self) -> Witness:
        witness = Witness(self.plan)
        self.fill(witness)
        if self.spoil is not None:
            self.spoil(witness)
        witness.count_lookups()
        return witness

    def check(self, party: Party) -> None:
        self.examine(party)

    def context(self, *, committed: bool = False) -> Context:
        root = commit_weights(self.plan, self.weights).root() if committed else None
        return Context((), root)

    def accept(self, *, committed: bool = False) -> None:
        """The honest proof holds."""
        context = self.context(committed=committed)
        assert check_proof(self, make_proof(self, context), context) > 100

    def refuse(self, label: str, spoil: Spoil, *, committed: bool = False) -> None:
        """With a spoiled witness every lookup holds, and yet the check `label` does not."""
        spoiled = replace(self, spoil=spoil)
        context = self.context(committed=committed)
        require_refused(label, self, make_proof(spoiled, context), context)

    def refuse_lie(self, said: str, label: str) -> None:
        """One more than the truth is sent under the label `said`: then `label` does not hold."""
        context, witness = self.context(), self.witness()

        class Liar(Prover):
            def exchange(
                self, label: str, make: Callable[[], Sequence[Ext]], count: int
            ) -> list[Ext]:
                lie = int(label == said)
                return super().exchange(label, lambda: [value + lie for value in make()], count)

        liar = Liar(witness, self.weights, None)
        run_protocol(liar, liar.committed, None, self, context)
        require_refused(label, self, liar.proof, context)


def require_refused(label: str, circuit: Circuit, proof: bytes, context: Context) -> None:
    with pytest.raises(ProofRejected, match=f"^sumcheck: {re.escape(label)} does not hold$"):
        check_proof(circuit, proof, context)


def shifted(number: Number, place: tuple[int, ...], by: int) -> Spoil:
    """One entry of a number is another, inside its window."""

    def spoil(witness: Witness) -> None:
        values = witness.integers(number.value)
        values[place] += by
        witness.store_number(number, values)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    def spoil(witness: Witness) -> None:
        for each in spoils:
            each(witness)

    return spoil


def put(column: Combination, place: tuple[int, ...], value: int) -> Spoil:
    """One entry of a single column is `value`."""

    def spoil(witness: Witness) -> None:
        values = witness.integers(column)
        values[place] = value
        witness.store(column, values)

    return spoil

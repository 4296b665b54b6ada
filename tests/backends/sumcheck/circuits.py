"""Single operations as whole proofs, with a witness that a test may spoil."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from zkllm.backends.sumcheck.party import Party
from zkllm.backends.sumcheck.plan import Plan
from zkllm.backends.sumcheck.protocol import Context, check_proof, make_proof
from zkllm.backends.sumcheck.prover import commit_weights
from zkllm.backends.sumcheck.units import Circuit
from zkllm.backends.sumcheck.witness import Witness
from zkllm.errors import ProofRejected
from zkllm.exact.model import ExactModel

Spoil = Callable[[Witness], None]


@dataclass(frozen=True)
class Alone(Circuit):
    """One operation, sealed in a plan of its own."""

    plan: Plan
    model: ExactModel
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
        root = commit_weights(self.plan, self.model).root() if committed else None
        return Context((), root)

    def accept(self, *, committed: bool = False) -> None:
        """The honest proof holds."""
        context = self.context(committed=committed)
        assert check_proof(self, make_proof(self, context), context) > 100

    def refuse(self, label: str, spoil: Spoil, *, committed: bool = False) -> None:
        """With a spoiled witness every lookup holds, and yet the check `label` does not."""
        spoiled = replace(self, spoil=spoil)
        context = self.context(committed=committed)
        with pytest.raises(ProofRejected, match=f"^sumcheck: {label} does not hold$"):
            check_proof(spoiled, make_proof(spoiled, context), context)

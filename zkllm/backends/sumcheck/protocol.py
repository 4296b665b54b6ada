"""A whole proof of one unit: statement, commitment, equations, lookups, opening, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zkllm.backends.sumcheck.commitment import BLOWUP, HASH, QUERIES
from zkllm.backends.sumcheck.lookups import check_lookups
from zkllm.backends.sumcheck.opening import show_claims
from zkllm.backends.sumcheck.party import Committed, Party
from zkllm.backends.sumcheck.plan import Plan
from zkllm.backends.sumcheck.verifier import Verifier
from zkllm.backends.sumcheck.witness import Witness

VERSION = 1


class Circuit(Protocol):
    """The equations of one unit for a number of rows."""

    plan: Plan

    def check(self, party: Party) -> None:
        """All equations that are not lookups; leaves claims in the ledger."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a proof is bound to, absorbed before anything else."""

    items: tuple[tuple[str, bytes], ...]

    def absorb(self, party: Party) -> None:
        parameters = (VERSION, BLOWUP, QUERIES, party.plan.limb, party.plan.size())
        data = b"".join(n.to_bytes(8, "little") for n in parameters)
        party.transcript.absorb("protocol", data)
        for label, item in self.items:
            party.transcript.absorb(label, item)


def make_proof(circuit: Circuit, witness: Witness, context: Context) -> bytes:
    """The proof of what `witness` satisfies; whether it does is for `check_proof` to say."""
    # Importing the prover compiles kernels; a verifier must not wait for that.
    from zkllm.backends.sumcheck.prover import Prover

    prover = Prover(witness)
    _run(prover, prover.committed, circuit, context)
    return prover.proof


def check_proof(circuit: Circuit, proof: bytes, context: Context) -> float:
    """The bits of soundness of an accepted proof; raises `ProofRejected` for any other."""
    verifier = Verifier(circuit.plan, proof)
    _run(verifier, None, circuit, context)
    verifier.finish()
    return verifier.soundness_bits()


def _run(party: Party, committed: Committed | None, circuit: Circuit, context: Context) -> None:
    context.absorb(party)
    root = party.exchange_bytes(
        "commitment", lambda: b"" if committed is None else committed.root(), HASH
    )
    circuit.check(party)
    check_lookups(party)
    show_claims(party, committed, root)

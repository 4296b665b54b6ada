"""A whole proof of one unit: statement, commitment, equations, lookups, openings, in this order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from zkllm.engines.sumcheck.commitment import HASH, ROW, VECTOR
from zkllm.engines.sumcheck.lookups import check_lookups
from zkllm.engines.sumcheck.opening import Vector, show_claims
from zkllm.engines.sumcheck.party import Opener, Party, Weights
from zkllm.engines.sumcheck.plan import Plan, total
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation, UnsupportedModel

VERSION = 1
MIN_BITS = 100
"""Soundness that every unit must have: the parameters are fixed, and larger units have less."""


class Circuit(ABC):
    """The equations of one unit for one claim: a plan of columns, their values, and the checks.

    `weights` need hold none where these are committed to; the unit's tables must be there.
    """

    plan: Plan
    weights: Weights

    @abstractmethod
    def witness(self) -> Witness:
        """All values; raises `ConstraintViolation` if the claim is not true."""

    @abstractmethod
    def check(self, party: Party) -> None:
        """All equations that are not lookups; leaves claims in the ledgers."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a proof is bound to, absorbed before anything else."""

    items: tuple[tuple[str, bytes], ...]
    weights_root: bytes | None
    """Root of the commitment to the unit's weights; none where the verifier holds the weights."""

    def absorb(self, party: Party) -> None:
        """Everything that a proof must not be moved away from."""
        plan = party.plan
        codes = (VECTOR.blowup, VECTOR.queries, ROW.blowup, ROW.queries)
        parameters = (VERSION, *codes, plan.limb, plan.size(), total(plan.weights))
        data = b"".join(n.to_bytes(8, "little") for n in parameters)
        party.transcript.absorb("protocol", data)
        for label, item in self.items:
            party.transcript.absorb(label, item)
        party.transcript.absorb("weights", self.weights_root or b"")


def make_proof(circuit: Circuit, context: Context) -> bytes:
    """The proof of the circuit's claim.

    Raises `ConstraintViolation` if the claim is not true; whether the proof holds is for
    `check_proof` to say.
    """
    # Importing the prover loads compiled kernels; a verifier must not wait for that.
    from zkllm.engines.sumcheck.prover import Prover
    from zkllm.engines.sumcheck.weights import commit_weights

    prover = Prover(circuit.witness(), circuit.weights, context.weights_root)
    weights = None
    if context.weights_root is not None:
        weights = commit_weights(circuit.plan, circuit.weights)
        if weights.root() != context.weights_root:
            raise ConstraintViolation(
                "the commitment is to other weights than the model's",
                hint="make it again with: zkllm setup MODEL --backend sumcheck --keys DIR",
            )
    run_protocol(prover, prover.committed, weights, circuit, context)
    require_bits(prover)
    return prover.proof


def check_proof(circuit: Circuit, proof: bytes, context: Context) -> float:
    """The bits of soundness of an accepted proof; raises `ProofRejected` for any other.

    Raises `UnsupportedModel` where not even an honest proof would have `MIN_BITS`.
    """
    verifier = Verifier(circuit.plan, circuit.weights, context.weights_root, proof)
    run_protocol(verifier, None, None, circuit, context)
    verifier.finish()
    return require_bits(verifier)


def require_bits(party: Party) -> float:
    """The bits of soundness of a whole run; raises `UnsupportedModel` if they are too few."""
    bits = party.soundness_bits()
    if bits < MIN_BITS:
        raise UnsupportedModel(
            f"sumcheck: expected at least {MIN_BITS} bits of soundness, this unit has {bits:.1f}",
            hint="fewer positions have more",
        )
    return bits


def run_protocol(
    party: Party,
    committed: Opener | None,
    weights: Opener | None,
    circuit: Circuit,
    context: Context,
) -> None:
    """All steps, for either party; the verifier has the values of neither commitment."""
    plan = party.plan
    context.absorb(party)
    root = b""
    if plan.columns:
        root = party.exchange_bytes(
            "commitment", lambda: b"" if committed is None else committed.root(), HASH
        )
    circuit.check(party)
    if plan.columns:
        check_lookups(party)
        vector = Vector("columns", plan.layout(), plan.size(), root)
        show_claims(party, party.ledger, vector, committed)
    if context.weights_root is not None:
        length = total(plan.weights)
        vector = Vector("weights", plan.weights_layout(), length, context.weights_root)
        show_claims(party, party.weights_ledger, vector, weights)

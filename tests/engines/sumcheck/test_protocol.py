from dataclasses import replace

import numpy as np
import pytest

from tests.engines.sumcheck.circuits import Alone
from zkllm.engines.sumcheck import protocol
from zkllm.engines.sumcheck.field import Ext
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Plan
from zkllm.engines.sumcheck.protocol import Context, check_proof, make_proof
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.transcript import Transcript
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ProofRejected, UnsupportedModel
from zkllm.exact.model import ExactModel

CONTEXT = Context((("model", b"m"), ("unit", b"")), bytes(range(32)))


def plan_of(limb: int = 4, cells: int = 6, weights: int = 5) -> Plan:
    plan = Plan(limb)
    plan.column("x", (cells,))
    plan.weight("w", (weights,))
    return plan


def challenge(model: ExactModel, plan: Plan, context: Context) -> Ext:
    """The first challenge after the context."""
    party = Verifier(plan, model, context.weights_root, b"")
    context.absorb(party)
    return party.transcript.challenge("next")


def test_the_context_is_absorbed_as_the_document_says(tiny_model: ExactModel) -> None:
    transcript = Transcript()
    parameters = [1, 4, 168, 16, 124, 4, 6, 5]
    transcript.absorb("protocol", b"".join(n.to_bytes(8, "little") for n in parameters))
    transcript.absorb("model", b"m")
    transcript.absorb("unit", b"")
    transcript.absorb("weights", bytes(range(32)))
    assert challenge(tiny_model, plan_of(), CONTEXT) == transcript.challenge("next")


def test_everything_in_the_context_changes_every_challenge(
    tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [plan_of(), plan_of(limb=5), plan_of(cells=7), plan_of(weights=6)]
    contexts = [
        replace(CONTEXT, items=(("model", b"m"), ("unit", b"n"))),
        replace(CONTEXT, items=(("model", b"n"), ("unit", b""))),
        replace(CONTEXT, items=(("unit", b""), ("model", b"m"))),
        replace(CONTEXT, items=(("model", b"m"), ("name", b""))),
        replace(CONTEXT, weights_root=bytes(32)),
        replace(CONTEXT, weights_root=None),
    ]
    found = [challenge(tiny_model, plan, CONTEXT) for plan in plans]
    found += [challenge(tiny_model, plan_of(), context) for context in contexts]
    monkeypatch.setattr(protocol, "VERSION", 2)
    found.append(challenge(tiny_model, plan_of(), CONTEXT))
    for name in ("VECTOR", "ROW"):
        code = getattr(protocol, name)
        for changed in (
            replace(code, blowup=2 * code.blowup),
            replace(code, queries=code.queries + 1),
        ):
            monkeypatch.setattr(protocol, name, changed)
            found.append(challenge(tiny_model, plan_of(), CONTEXT))
            monkeypatch.setattr(protocol, name, code)
    assert len(set(found)) == len(found)


# A whole proof


@pytest.fixture
def circuit(tiny_model: ExactModel) -> Alone:
    """Numbers, one of which is claimed at a point."""
    plan = Plan(4)
    number = plan.unsigned("x", (7,), 6)
    plan.seal()

    def fill(witness: Witness) -> None:
        witness.store_number(number, np.arange(7) * 9)

    def examine(party: Party) -> None:
        party.value(number.value, party.point("point", (7,)))

    return Alone(plan, tiny_model, fill, examine)


def test_columns_are_committed_to_before_anything_is_asked(circuit: Alone) -> None:
    context = circuit.context()
    proof = make_proof(circuit, context)
    committed = Prover(circuit.witness(), circuit.weights, None).committed
    assert committed is not None
    assert proof[:32] == committed.root()
    asked = []
    for root in (proof[:32], bytes(32)):
        verifier = Verifier(circuit.plan, circuit.weights, None, root + proof[32:])
        with pytest.raises(StopIteration):
            protocol.run_protocol(
                verifier, None, None, replace(circuit, examine=stop_at_point), context
            )
        asked.append(verifier.transcript.challenge("next"))
    assert asked[0] != asked[1]


def stop_at_point(_: Party) -> None:
    raise StopIteration


def test_a_proof_is_read_to_its_end(circuit: Alone) -> None:
    context = circuit.context()
    proof = make_proof(circuit, context)
    assert check_proof(circuit, proof, context) >= 100
    with pytest.raises(ProofRejected, match="1 bytes follow the proof"):
        check_proof(circuit, proof + b"\0", context)
    with pytest.raises(ProofRejected, match="the proof ends at"):
        check_proof(circuit, proof[:-1], context)


def test_a_claim_about_weights_that_are_not_opened_is_refused(circuit: Alone) -> None:
    """Both ledgers are asked whether they are empty at the end."""

    def examine(party: Party) -> None:
        circuit.examine(party)
        party.weights_ledger.open.extend(party.ledger.open)

    claiming = replace(circuit, examine=examine)
    context = claiming.context()
    with pytest.raises(ProofRejected, match="2 claims were never shown"):
        check_proof(claiming, make_proof(claiming, context), context)


def test_a_unit_with_too_few_bits_is_refused(
    circuit: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = circuit.context()
    proof = make_proof(circuit, context)
    monkeypatch.setattr(protocol, "MIN_BITS", 120)
    message = r"expected at least 120 bits of soundness, this unit has 11\d\.\d"
    with pytest.raises(UnsupportedModel, match=message):
        make_proof(circuit, context)
    with pytest.raises(UnsupportedModel, match=message):
        check_proof(circuit, proof, context)

import pytest

from zkllm.engines.sumcheck.field import ONE
from zkllm.engines.sumcheck.party import Opening
from zkllm.engines.sumcheck.plan import Combination, Plan
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.errors import ProofRejected
from zkllm.exact.model import ExactModel


def reading(model: ExactModel, proof: bytes) -> Verifier:
    return Verifier(Plan(8), model, None, proof)


def test_a_proof_is_read_from_its_beginning_to_its_end(tiny_model: ExactModel) -> None:
    verifier = reading(tiny_model, bytes([1, *[0] * 15]) + b"abc")
    assert verifier.exchange("element", list, 1) == [ONE]
    assert verifier.exchange_bytes("bytes", bytes, 3) == b"abc"
    verifier.finish()


@pytest.mark.parametrize("missing", [1, 16])
def test_a_proof_that_ends_early_is_refused(missing: int, tiny_model: ExactModel) -> None:
    with pytest.raises(ProofRejected, match="sumcheck: the proof ends at element"):
        reading(tiny_model, bytes(16 - missing)).exchange("element", list, 1)


@pytest.mark.parametrize("rest", [1, 5])
def test_bytes_that_follow_a_proof_are_refused(rest: int, tiny_model: ExactModel) -> None:
    verifier = reading(tiny_model, bytes(16 + rest))
    verifier.exchange("element", list, 1)
    with pytest.raises(ProofRejected, match=f"{rest} bytes follow the proof"):
        verifier.finish()


@pytest.mark.parametrize("ledger", ["ledger", "weights_ledger"])
def test_a_claim_that_was_never_shown_is_refused(ledger: str, tiny_model: ExactModel) -> None:
    verifier = reading(tiny_model, b"")
    getattr(verifier, ledger).enter(Opening("x", (), ONE))
    with pytest.raises(ProofRejected, match="1 claims were never shown"):
        verifier.finish()


def test_what_does_not_hold_is_refused(tiny_model: ExactModel) -> None:
    verifier = reading(tiny_model, b"")
    verifier.require("one", lambda: True)
    with pytest.raises(ProofRejected, match="sumcheck: one does not hold"):
        verifier.require("one", lambda: False)


def test_a_verifier_has_no_witness(tiny_model: ExactModel) -> None:
    verifier = reading(tiny_model, b"")
    with pytest.raises(NotImplementedError):
        verifier.evaluate("x", ())
    with pytest.raises(NotImplementedError):
        verifier.integers(Combination((1,), {}))

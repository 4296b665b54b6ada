from collections.abc import Callable

import pytest

from zkllm.engines.sumcheck.field import ONE, ZERO, Ext
from zkllm.engines.sumcheck.party import Owed
from zkllm.engines.sumcheck.plan import Combination, Plan
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.engines.sumcheck.witness import Witness
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
    getattr(verifier, ledger).enter(Owed("x", (), ONE))
    with pytest.raises(ProofRejected, match="1 claims were never shown"):
        verifier.finish()


def test_what_does_not_hold_is_refused(tiny_model: ExactModel) -> None:
    verifier = reading(tiny_model, b"")
    required: list[Callable[[bool], None]] = [
        lambda holds: verifier.require_equal("one", ONE, ONE if holds else ZERO),
        lambda holds: verifier.require_equal("one", Ext(1, 2), Ext(1, 2 if holds else 3)),
        lambda holds: verifier.require_nonzero("one", Ext(0, 5) if holds else ZERO),
        lambda holds: verifier.require_hashes("one", lambda: holds),
    ]
    for ask in required:
        ask(True)
        with pytest.raises(ProofRejected, match=r"^sumcheck: one does not hold$"):
            ask(False)


def test_what_both_sides_hold_is_made_by_the_verifier_alone(tiny_model: ExactModel) -> None:
    assert reading(tiny_model, b"").held(lambda: ONE) == ONE
    prover = Prover(Witness(Plan(8)), tiny_model, None)
    assert prover.held(lambda: pytest.fail("the prover made it")) == ZERO


def test_a_verifier_has_no_witness(tiny_model: ExactModel) -> None:
    verifier = reading(tiny_model, b"")
    with pytest.raises(NotImplementedError):
        verifier.evaluate("x", ())
    with pytest.raises(NotImplementedError):
        verifier.integers(Combination((1,), {}))

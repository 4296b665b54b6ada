"""Bundles whose every unit has a sumcheck proof, and what a forger may try with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.traces import seal, trace
from zkllm.backends.sumcheck.backend import SumcheckBackend
from zkllm.bundle import Bundle, Evidence
from zkllm.errors import ProofRejected, StatementMismatch
from zkllm.exact.model import ExactModel
from zkllm.keys import policy_for
from zkllm.policy import Policy
from zkllm.verdict import Request
from zkllm.verifying import claims, verify

PROMPT, NEW = "a cat", 3
Edit = Callable[[ExactModel, Bundle], Bundle]


def proved(model: ExactModel, run: Bundle) -> Bundle:
    """The run with a proof of every unit."""
    backend = SumcheckBackend()
    evidence = {
        claim.unit: Evidence("sumcheck", backend.prove(model, claim, None))
        for claim in claims(run, model.specification)
    }
    return run.with_evidence(evidence)


@pytest.fixture(scope="module")
def honest(tiny_model: ExactModel) -> Bundle:
    run = trace(tiny_model, PROMPT, NEW)
    return proved(tiny_model, replace(run, statement=replace(run.statement, nonce="one")))


@pytest.fixture(scope="module")
def policy(tiny_model: ExactModel) -> Policy:
    return policy_for(tiny_model, backends=["sumcheck"], freshness="required")


def check(
    model: ExactModel, bundle: Bundle, policy: Policy, nonce: str = "one"
) -> Mapping[str, object]:
    data = bundle.to_bytes(model.specification)
    return verify(data, policy, model=model, request=Request(nonce=nonce)).units


def test_an_honest_bundle_is_verified_and_fresh(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    assert list(check(tiny_model, honest, policy)) == list(tiny_model.specification.units())


def state(bundle: Bundle, **fields: Any) -> Bundle:
    return replace(bundle, statement=replace(bundle.statement, **fields))


def with_evidence_of(bundle: Bundle, **units: str) -> Bundle:
    evidence = dict(bundle.evidence)
    return bundle.with_evidence(evidence | {unit: evidence[other] for unit, other in units.items()})


def other_nonce(model: ExactModel, bundle: Bundle) -> Bundle:
    return state(bundle, nonce="two")


def cut_short(model: ExactModel, bundle: Bundle) -> Bundle:
    """The last token is left off, and so is the wish for it: boundaries stay."""
    from zkllm.tokenization import Tokenizer

    ids = bundle.statement.generated_ids[:-1]
    shorter = state(bundle, generated_ids=ids, max_new_tokens=len(ids))
    completion = Tokenizer(model).completion(shorter.statement.prompt_ids, ids)
    return seal(model, replace(shorter, completion=completion))


def another_last_token(model: ExactModel, bundle: Bundle) -> Bundle:
    from zkllm.tokenization import Tokenizer

    *kept, last = bundle.statement.generated_ids
    ids = (*kept, (last + 1) % 27)
    completion = Tokenizer(model).completion(bundle.statement.prompt_ids, ids)
    return seal(model, replace(state(bundle, generated_ids=ids), completion=completion))


def exchanged_blocks(model: ExactModel, bundle: Bundle) -> Bundle:
    return with_evidence_of(bundle, **{"mlp[0]": "mlp[1]", "mlp[1]": "mlp[0]"})


def repeated_block(model: ExactModel, bundle: Bundle) -> Bundle:
    return with_evidence_of(bundle, **{"attention[1]": "attention[0]"})


def boundary_off(model: ExactModel, bundle: Bundle) -> Bundle:
    rows = [boundary.copy() for boundary in bundle.boundaries]
    rows[2][1, 3] += 1
    return seal(model, replace(bundle, boundaries=tuple(rows)))


def positions_exchanged(model: ExactModel, bundle: Bundle) -> Bundle:
    rows = [boundary.copy() for boundary in bundle.boundaries]
    for boundary in rows:
        boundary[[0, 1]] = boundary[[1, 0]]
    return seal(model, replace(bundle, boundaries=tuple(rows)))


@pytest.mark.parametrize(
    "edit",
    [
        other_nonce,
        cut_short,
        another_last_token,
        exchanged_blocks,
        repeated_block,
        boundary_off,
        positions_exchanged,
    ],
)
def test_old_proofs_do_not_prove_another_statement(
    edit: Edit, tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    forged = edit(tiny_model, honest)
    with pytest.raises(ProofRejected):
        check(tiny_model, forged, policy, forged.statement.nonce)


def test_a_shorter_completion_is_another_run(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    """Whoever asked for three tokens and gets two sees that it was not the network that ended."""
    two = trace(tiny_model, PROMPT, NEW - 1)
    claimed = replace(two, statement=replace(two.statement, nonce="one"))
    shorter = proved(tiny_model, claimed)
    check(tiny_model, shorter, policy)
    data = shorter.to_bytes(tiny_model.specification)
    with pytest.raises(StatementMismatch, match="max_new_tokens: expected 3, got 2"):
        verify(data, policy, model=tiny_model, request=Request("one", PROMPT, NEW))
    lying = state(shorter, max_new_tokens=NEW)
    with pytest.raises(StatementMismatch, match="the completion was cut short"):
        check(tiny_model, lying, policy)

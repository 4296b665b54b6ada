"""What a nonce shows: evidence that absorbs it was made when it was known, all other may be older.

The attacks take a bundle that somebody else made for another nonce, or for none, write the nonce
into it that the verifier waits for, and make every digest fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import golden
from tests.commands import zkllm
from zkllm import bundle as container
from zkllm import output, reports
from zkllm.backends import get_backend
from zkllm.backends.base import Checked, Claim
from zkllm.backends.sumcheck import backend as sumcheck
from zkllm.bundle import BINDING, BackendName, Bundle, Evidence
from zkllm.engines.sumcheck.protocol import Context
from zkllm.errors import Error, InputError, PolicyViolation, ProofRejected, StatementMismatch
from zkllm.exact.model import ExactModel
from zkllm.keys import policy_for
from zkllm.policy import Freshness, Policy
from zkllm.proving import prove
from zkllm.verdict import Report, Request
from zkllm.verifying import claims, verify

V1 = Path(golden.__file__).parent / "v1"
KEYS = V1 / "keys"
UNITS = ["embed", "attention[0]", "mlp[0]", "attention[1]", "mlp[1]", "head"]
KINDS: Mapping[str, dict[str, BackendName]] = {
    "replay": {},
    "ezkl": {"attention[0]": "ezkl"},
    "ezkl and sumcheck": {"attention[0]": "ezkl", "mlp[1]": "sumcheck"},
    "replay and sumcheck": {"embed": "sumcheck"},
    "sumcheck": dict.fromkeys(UNITS, "sumcheck"),
}
"""By name of a bundle, the backends of its units; all others are replayed."""
BOUND = [name for name, units in KINDS.items() if "sumcheck" in units.values()]
UNBOUND = [name for name in KINDS if name not in BOUND]


@pytest.fixture(scope="module")
def model() -> ExactModel:
    return ExactModel.from_folder(V1 / "model")


def policy_of(name: str, model: ExactModel) -> Policy:
    """What the verifier demands of the bundle of that name."""
    units: dict[str, BackendName] = {**dict.fromkeys(UNITS, "replay"), **KINDS[name]}
    pins = Policy.from_file(V1 / "ezkl.toml").keys if "ezkl" in units.values() else {}
    return Policy(model=model.digest, units=units, keys=pins, insecure_srs=bool(pins))


def proved(name: str, model: ExactModel, nonce: str) -> Bundle:
    """An honest bundle for `nonce`; its proof by ezkl is one that has always been there."""
    run = with_nonce(container.load(V1 / "answer.trace", model.specification), nonce)
    old = container.load(V1 / "ezkl.bundle", model.specification).evidence
    evidence = {}
    for claim in claims(run, model.specification):
        backend = KINDS[name].get(claim.unit, "replay")
        data = old[claim.unit].data if backend == "ezkl" else made(backend, model, claim)
        evidence[claim.unit] = Evidence(backend, data)
    return run.with_evidence(evidence)


def made(backend: BackendName, model: ExactModel, claim: Claim) -> bytes:
    return get_backend(backend).prove(model, claim, None)


@pytest.fixture(scope="module")
def bundles(model: ExactModel) -> dict[str, Bundle]:
    return {name: proved(name, model, "one") for name in KINDS}


def with_nonce(bundle: Bundle, nonce: str) -> Bundle:
    """The edit of a third party: every digest is computed anew from what stands there."""
    return replace(bundle, statement=replace(bundle.statement, nonce=nonce))


def check(bundle: Bundle, policy: Policy, model: ExactModel, nonce: str | None) -> Report:
    data = bundle.to_bytes(model.specification)
    return verify(data, policy, model=model, keys=KEYS, request=Request(nonce=nonce))


def refuse(kind: type[Error], match: str, *arguments: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        check(*arguments)
    assert "\n" not in caught.value.message


# Edited nonces


@pytest.mark.parametrize("old", ["one", ""])
@pytest.mark.parametrize("name", UNBOUND)
def test_an_edited_nonce_that_nothing_binds(
    name: str, old: str, model: ExactModel, bundles: dict[str, Bundle]
) -> None:
    policy = policy_of(name, model)
    forged = with_nonce(with_nonce(bundles[name], old), "two")
    refuse(PolicyViolation, "nonce: no unit's evidence binds it", forged, policy, model, "two")
    # That guard was the only one: without it the nonce of anybody is believed.
    report = check(forged, replace(policy, freshness="unbound"), model, "two")
    assert not report.fresh
    assert report.unbound_units == tuple(UNITS)


@pytest.mark.parametrize("freshness", ["requested", "unbound"])
@pytest.mark.parametrize("name", BOUND)
def test_an_edited_nonce_that_a_unit_binds(
    name: str, freshness: Any, model: ExactModel, bundles: dict[str, Bundle]
) -> None:
    policy = replace(policy_of(name, model), freshness=freshness)
    assert check(bundles[name], policy, model, "one").fresh
    forged = with_nonce(bundles[name], "two")
    unit = next(unit for unit, backend in policy.units.items() if backend == "sumcheck")
    for nonce in ("two", None):
        refuse(ProofRejected, f"^{unit.split('[')[0]}.*does not hold", forged, policy, model, nonce)


@pytest.mark.parametrize("name", ["ezkl and sumcheck", "replay and sumcheck"])
def test_it_is_the_digest_of_the_statement_that_binds(
    name: str, model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it not absorbed, the edit would be believed, and be called fresh."""
    original = sumcheck.context_of

    def forgetful(model: ExactModel, claim: Claim, root: bytes | None) -> Context:
        return original(model, replace(claim, statement=model.digest), root)

    monkeypatch.setattr(sumcheck, "context_of", forgetful)
    forged = with_nonce(proved(name, model, "one"), "two")
    assert check(forged, policy_of(name, model), model, "two").fresh


def test_a_nonce_for_which_one_unit_alone_was_proved_again(
    model: ExactModel, bundles: dict[str, Bundle]
) -> None:
    """Whoever holds an old bundle has to make anew what binds the nonce: all of that, no more."""
    old, new = with_nonce(bundles["sumcheck"], "two"), proved("replay and sumcheck", model, "two")
    mixed = old.with_evidence(dict(old.evidence) | {"embed": new.evidence["embed"]})
    refuse(ProofRejected, r"^attention\[0\]", mixed, policy_of("sumcheck", model), model, "two")
    old = with_nonce(bundles["replay and sumcheck"], "two").with_evidence(new.evidence)
    assert check(old, policy_of("replay and sumcheck", model), model, "two").fresh


@pytest.mark.parametrize("name", ["replay", "sumcheck"])
def test_whatever_else_somebody_edits_is_true_or_refused(
    name: str, model: ExactModel, bundles: dict[str, Bundle]
) -> None:
    """Only a nonce can be believed and be false: a run that a stop id ended would have been the
    same, had more tokens been asked for. Who asked for fewer compares."""
    honest, policy = bundles[name], policy_of(name, model)
    assert honest.statement.stop_reason == "stop"
    more = replace(honest, statement=replace(honest.statement, max_new_tokens=9))
    if name == "sumcheck":
        refuse(ProofRejected, "does not hold", more, policy, model, None)
    else:
        assert check(more, policy, model, None).statement.max_new_tokens == 9
    with pytest.raises(StatementMismatch, match="max_new_tokens: expected 3, got 9"):
        verify(
            more.to_bytes(model.specification),
            policy,
            model=model,
            request=Request(max_new_tokens=3),
        )


# What counts as bound


@pytest.mark.parametrize("name", BOUND)
def test_one_unit_is_enough_and_the_others_are_named(
    name: str, model: ExactModel, bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(policy_of(name, model), freshness="required")
    report = check(bundles[name], policy, model, "one")
    assert report.fresh
    assert report.unbound_units == tuple(
        unit for unit, backend in policy.units.items() if backend != "sumcheck"
    )
    refuse(PolicyViolation, "requires freshness, and no nonce", bundles[name], policy, model, None)
    refuse(StatementMismatch, "expected 'two', got 'one'", bundles[name], policy, model, "two")
    # a unit that does not bind the nonce is none that does, whatever its backend is called
    original = sumcheck.SumcheckBackend.verify
    monkeypatch.setattr(
        sumcheck.SumcheckBackend,
        "verify",
        lambda *arguments: replace(original(*arguments), binds_nonce=False),
    )
    refuse(PolicyViolation, "no unit's evidence binds it", bundles[name], policy, model, "one")


def test_what_binds_is_what_a_policy_believes_to_bind(
    model: ExactModel, bundles: dict[str, Bundle]
) -> None:
    for name in ("ezkl and sumcheck", "replay"):
        report = check(bundles[name], policy_of(name, model), model, None)
        for unit, checked in report.units.items():
            assert checked.binds_nonce == (bundles[name].evidence[unit].backend in BINDING)


@pytest.mark.parametrize("name", KINDS)
def test_without_a_nonce_nothing_is_fresh(
    name: str, model: ExactModel, bundles: dict[str, Bundle]
) -> None:
    assert not check(bundles[name], policy_of(name, model), model, None).fresh


@pytest.mark.parametrize("nonce", ["", "two words", "n\x1b[2J", "ü", "n" * 257])
def test_a_nonce_that_no_bundle_can_repeat_is_the_verifiers_mistake(nonce: str) -> None:
    with pytest.raises(InputError, match="nonce: expected 1 to 256 printable ASCII characters"):
        Request(nonce=nonce)


def test_a_number_of_tokens_that_no_bundle_has_is_the_verifiers_mistake() -> None:
    with pytest.raises(InputError, match="max_new_tokens: expected 0 or more, got -1"):
        Request(max_new_tokens=-1)


@pytest.mark.parametrize("backend", ["replay", "ezkl"])
def test_freshness_that_no_bundle_could_show_is_an_error_of_the_policy(
    backend: BackendName, model: ExactModel
) -> None:
    with pytest.raises(InputError, match=f"by sumcheck, .*found only {backend}") as caught:
        Policy(model.digest, dict.fromkeys(UNITS, backend), freshness="required")
    assert 'freshness = "requested" or "unbound"' in caught.value.hint
    with pytest.raises(InputError, match="found only replay"):
        policy_for(model, backends=["replay"], freshness="required")


# What the user sees


def seen(report: Report, capsys: pytest.CaptureFixture[str]) -> str:
    output.report(report)
    return next(line for line in capsys.readouterr().out.splitlines() if "freshness" in line)


def test_the_report_names_the_units_that_do_not_bind_the_nonce(
    model: ExactModel, bundles: dict[str, Bundle], capsys: pytest.CaptureFixture[str]
) -> None:
    cases: list[tuple[str, str | None, Freshness, str]] = [
        ("replay", None, "requested", "not bound: no nonce was given"),
        ("replay", "one", "unbound", "not bound: the nonce was only compared, anybody may have"),
        ("sumcheck", "one", "required", "bound to the nonce"),
        (
            "ezkl and sumcheck",
            "one",
            "requested",
            "bound to the nonce by mlp[1]; evidence of embed, attention[0-1], mlp[0], head may be "
            "older",
        ),
    ]
    for name, nonce, freshness, words in cases:
        policy = replace(policy_of(name, model), freshness=freshness)
        report = check(bundles[name], policy, model, nonce)
        assert words in seen(report, capsys)
        found = reports.report_json(report, Path("b"))
        assert (found["fresh"], found["unbound_units"]) == (
            report.fresh,
            list(report.unbound_units),
        )


@pytest.mark.parametrize(
    ("options", "code", "err"),
    [
        (["--backend", "replay", "--require-fresh"], 4, "found only replay"),
        (["--backend", "replay", "--freshness", "required"], 4, "found only replay"),
        (["--require-fresh", "--freshness", "unbound"], 2, "contradicts"),
        (["--freshness", "fresh"], 2, "Invalid value"),
    ],
)
def test_policies_that_are_not_written(
    options: list[str], code: int, err: str, tmp_path: Path
) -> None:
    done = zkllm("policy", "init", V1 / "model", *options, "-o", tmp_path / "policy.toml")
    assert done.code == code
    assert err in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "freshness"),
    [
        ([], "requested"),
        (["--freshness", "unbound"], "unbound"),
        (["--freshness", "required"], "required"),
        (["--require-fresh"], "required"),
        (["--require-fresh", "--freshness", "required"], "required"),
    ],
)
def test_policies_that_are_written(options: list[str], freshness: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    done = zkllm("policy", "init", V1 / "model", "--backend", "sumcheck", *options, "-o", path)
    assert done.code == 0, done.err
    assert "format = 2" in path.read_text()
    assert Policy.from_file(path).freshness == freshness


def test_a_nonce_through_the_command_line(tmp_path: Path) -> None:
    """From `prove` to `verify`: replay repeats a nonce, and says that this shows nothing."""
    policy, path = tmp_path / "policy.toml", tmp_path / "bundle"
    prove = ["prove", V1 / "answer.trace", "--model", V1 / "model", "--nonce", "one", "-o", path]
    done = zkllm(*prove, "--backend", "replay")
    assert done.code == 0, done.err
    assert "no unit binds the nonce" in done.err
    verify = ["verify", path, "--policy", policy, "--model", V1 / "model"]
    zkllm("policy", "init", V1 / "model", "--backend", "replay", "-o", policy)
    done = zkllm(*verify, "--nonce", "one")
    assert done.code == 3
    assert "nonce: no unit's evidence binds it" in done.out
    assert 'freshness = "unbound"' in done.out
    assert zkllm(*verify).code == 0
    done = zkllm(*verify, "--nonce", "")
    assert done.code == 4
    assert "nonce: expected 1 to 256 printable ASCII characters" in done.err
    text = policy.read_text().replace('freshness = "requested"', 'freshness = "unbound"')
    policy.write_text(text)
    done = zkllm(*verify, "--nonce", "one")
    assert done.code == 0
    assert "not bound: the nonce was only compared" in done.out
    done = zkllm(*prove, "--backend", "sumcheck", "--unit", "head", "--force")
    assert "no unit binds the nonce" not in done.err
    policy.write_text(policy.read_text().replace('"head" = "replay"', '"head" = "sumcheck"'))
    done = zkllm(*verify, "--nonce", "one")
    assert "bound to the nonce by head; evidence of embed, attention[0-1]" in done.out


def test_the_prover_is_told_too(model: ExactModel, tmp_path: Path) -> None:
    report = prove(V1 / "answer.trace", model, "replay", tmp_path / "b", nonce="one")
    assert (report.request.nonce, report.fresh) == ("one", False)
    assert isinstance(report.units["head"], Checked)

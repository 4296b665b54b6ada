"""Verification refuses: one test for each row of the tamper matrix that concerns a bundle.

Every test mutates one thing of an honest bundle, makes all digests fit again where a forger could,
and matches class and message. The rows are those of `docs/tamper-matrix.md`.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.traces import fragment_trace, seal, trace
from zkllm.backends import get_backend
from zkllm.backends.base import INSECURE_ASSUMPTION, Checked
from zkllm.backends.replay import ReplayBackend
from zkllm.bundle import MAGIC, Bundle, Evidence
from zkllm.digests import Digest, canonical_json
from zkllm.errors import (
    DigestMismatch,
    Error,
    InputError,
    InvalidBundle,
    LimitExceeded,
    PolicyViolation,
    ProofRejected,
    StatementMismatch,
    UnsafePath,
    UnsupportedVersion,
    UntrustedMaterial,
    WrongMaterial,
)
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.keys import policy_for
from zkllm.material import Material
from zkllm.operations.precision import PRECISIONS
from zkllm.policy import Policy
from zkllm.statement import text_digest
from zkllm.tokenization import Tokenizer
from zkllm.verdict import Report, Request
from zkllm.verifying import verify, verify_with

PROMPT = "a cat"
NEW = 4


@pytest.fixture(scope="module")
def honest(tiny_model: ExactModel) -> Bundle:
    run = trace(tiny_model, PROMPT, NEW)
    units = tiny_model.specification.units()
    return run.with_evidence({unit: Evidence("replay", b"") for unit in units})


@pytest.fixture(scope="module")
def policy(tiny_model: ExactModel) -> Policy:
    return policy_for(tiny_model, backends=["replay"])


def refuse(
    kind: type[Error],
    match: str,
    bundle: Bundle | bytes,
    model: ExactModel,
    policy: Policy,
    **request: Any,
) -> None:
    data = bundle if isinstance(bundle, bytes) else bundle.to_bytes(model.specification)
    with pytest.raises(kind, match=match) as caught:
        verify(data, policy, model=model, request=Request(**request))
    assert "\n" not in caught.value.message
    assert caught.value.exit_code in (3, 4)


def change(bundle: Bundle, **fields: Any) -> Bundle:
    """`bundle` with other fields in its statement."""
    return replace(bundle, statement=replace(bundle.statement, **fields))


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack_from("<I", data, 8)[0]
    return json.loads(data[12 : 12 + length]), data[12 + length :]


def with_header(header: Any, body: bytes, version: int = 1) -> bytes:
    raw = header if isinstance(header, bytes) else canonical_json(header)
    return MAGIC + struct.pack("<HI", version, len(raw)) + raw + body


def test_an_honest_bundle_verifies(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    data = honest.to_bytes(tiny_model.specification)
    request = Request(prompt=PROMPT, max_new_tokens=NEW)
    report = verify(data, policy, model=tiny_model, request=request)
    assert report.statement == honest.statement
    assert report.verdict == "verified"
    assert {checked.words for checked in report.units.values()} == {"recomputed"}
    assert list(report.units) == list(tiny_model.specification.units())
    assert not report.fresh


def test_a_padded_run_verifies(tiny_model: ExactModel, policy: Policy) -> None:
    run = trace(tiny_model, PROMPT, NEW, pad_to=tiny_model.specification.architecture.context)
    units = dict.fromkeys(tiny_model.specification.units(), Evidence("replay", b""))
    report = verify(
        run.with_evidence(units).to_bytes(tiny_model.specification), policy, model=tiny_model
    )
    assert report.statement.positions == 12
    assert report.statement.generated_ids == trace(tiny_model, PROMPT, NEW).statement.generated_ids


# The bytes of the container


def test_m3_truncated(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    data = honest.to_bytes(tiny_model.specification)
    for length in (0, 5, 11, 12, 200, len(data) // 2, len(data) - 1):
        refuse(InvalidBundle, "expected", data[:length], tiny_model, policy)


def test_m4_trailing_bytes(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    data = honest.to_bytes(tiny_model.specification)
    refuse(InvalidBundle, "trailing bytes: expected", data + b"\0", tiny_model, policy)
    refuse(InvalidBundle, "trailing bytes", data + bytes(1 << 20), tiny_model, policy)


def test_m1_every_flipped_byte_is_refused(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    data = honest.to_bytes(tiny_model.specification)
    places = [*range(0, 1200, 7), *range(1200, len(data), 97)]
    for place in places:
        forged = bytearray(data)
        forged[place] ^= 1
        with pytest.raises((InputError, StatementMismatch, PolicyViolation, ProofRejected)):
            verify(bytes(forged), policy, model=tiny_model)


def test_unknown_version(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    forged = with_header(header, body, version=2)
    refuse(UnsupportedVersion, "version 1, got 2", forged, tiny_model, policy)


def test_oversized_header(tiny_model: ExactModel, policy: Policy) -> None:
    forged = MAGIC + struct.pack("<HI", 1, 1 << 31)
    refuse(LimitExceeded, "a header has at most", forged, tiny_model, policy)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda raw: raw.replace(b'{"kind"', b'{"kind":"bundle","kind"', 1), "duplicate key"),
        (lambda raw: raw.replace(b'"positions":8', b'"positions":8.0', 1), "integers only"),
        (lambda raw: raw.replace(b'"positions":8', b'"positions":NaN', 1), "integers only"),
        (lambda raw: raw.replace(b'"positions":8', b'"positions":true', 1), "expected int"),
        (lambda raw: raw.replace(b'"positions":8', b'"positions":"8"', 1), "expected int"),
        (lambda raw: raw.replace(b'"positions":8', b'"positions": 8', 1), "not canonical"),
        (lambda raw: raw.replace(b'"kind"', b'"extra":0,"kind"', 1), "fields"),
        (lambda raw: raw.replace(b'"nonce"', b'"note":"","nonce"', 1), "canonical|unknown field"),
        (lambda raw: raw[:-1], "strict JSON"),
        (lambda raw: b"[" * 100 + b"]" * 100, "nested deeper"),
        (lambda raw: raw.replace(b'"positions":8', b'"positions":' + b"8" * 50, 1), "50 digits"),
    ],
)
def test_m45_header_is_strict(
    edit: Callable[[bytes], bytes],
    match: str,
    tiny_model: ExactModel,
    honest: Bundle,
    policy: Policy,
) -> None:
    data = honest.to_bytes(tiny_model.specification)
    header, body = header_of(data)
    raw = canonical_json(header)
    assert edit(raw) != raw
    refuse(InvalidBundle, match, with_header(edit(raw), body), tiny_model, policy)


def test_m12_unknown_section(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    header["sections"].append({"name": "evidence/extra", "length": 0, "backend": "replay"})
    forged = with_header(header, body)
    refuse(InvalidBundle, "belongs to no unit", forged, tiny_model, policy)


def test_m46_evidence_out_of_order(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    header["sections"][-1], header["sections"][-2] = header["sections"][-2], header["sections"][-1]
    refuse(InvalidBundle, "unit order", with_header(header, body), tiny_model, policy)


def test_m47_evidence_twice(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    header["sections"].append(header["sections"][-1])
    refuse(InvalidBundle, "appears twice", with_header(header, body), tiny_model, policy)


def test_boundary_of_another_type(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    section = next(s for s in header["sections"] if s["name"] == "boundary[1]")
    section["tensor"]["shape"].reverse()
    refuse(InvalidBundle, "declared type or shape", with_header(header, body), tiny_model, policy)


def test_negative_or_huge_lengths(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    for length in (-1, 1 << 50):
        header["sections"][0]["length"] = length
        refuse(InvalidBundle, "number of bytes", with_header(header, body), tiny_model, policy)


def test_oversized_evidence(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    forged = honest.with_evidence(dict(honest.evidence) | {"head": Evidence("replay", b"x")})
    refuse(LimitExceeded, "at most 0 bytes", forged, tiny_model, policy)


def test_text_that_is_not_utf8(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    assert body.startswith(PROMPT.encode())
    forged = with_header(header, b"\xff" + body[1:])
    refuse(InvalidBundle, "not UTF-8", forged, tiny_model, policy)


def test_m68_files_that_are_no_bundles(
    tiny_model: ExactModel, policy: Policy, tmp_path: Path
) -> None:
    with pytest.raises(UnsafePath, match="regular file"):
        verify(tmp_path, policy, model=tiny_model)
    with pytest.raises(InputError, match="no such file"):
        verify(tmp_path / "none", policy, model=tiny_model)
    with pytest.raises(UnsafePath, match="regular file"):
        verify(Path("/dev/zero"), policy, model=tiny_model)
    (tmp_path / "empty").touch()
    with pytest.raises(InvalidBundle, match="expected a zkllm"):
        verify(tmp_path / "empty", policy, model=tiny_model)


# The statement


def test_m37_another_model(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    other = "sha256:" + "0" * 64
    refuse(StatementMismatch, "model: expected", change(honest, model=other), tiny_model, policy)


def test_m18_policy_for_another_model(tiny_model: ExactModel, honest: Bundle) -> None:
    other = Policy(
        model=Digest("sha256:" + "0" * 64), units=dict.fromkeys(honest.evidence, "replay")
    )
    refuse(WrongMaterial, "the policy names", honest, tiny_model, other)


def test_m13_completion_text(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    forged = seal(tiny_model, replace(honest, completion=honest.completion + "x"))
    refuse(StatementMismatch, "completion: the ids decode to", forged, tiny_model, policy)


def test_m41_prompt_text(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    forged = seal(tiny_model, replace(honest, prompt="a dog"))
    refuse(StatementMismatch, "prompt_ids: the tokenizer gives", forged, tiny_model, policy)


def test_m42_unicode_twin(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    forged = seal(tiny_model, replace(honest, prompt="a c\u200bat"))
    refuse(StatementMismatch, "cannot spell", forged, tiny_model, policy)


def test_a_prompt_far_longer_than_its_ids(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before it is encoded: a megabyte of text would cost the tokenizer a gigabyte."""
    monkeypatch.setattr(Tokenizer, "encode", lambda *_: pytest.fail("the prompt was encoded"))
    forged = seal(tiny_model, replace(honest, prompt="a" * (1 << 20)))
    refuse(StatementMismatch, "expected for 5 tokens, got 1048576", forged, tiny_model, policy)


def test_m41_text_without_its_digest(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    forged = replace(honest, completion=honest.completion[:-1] + "x")
    refuse(StatementMismatch, "text: the statement names", forged, tiny_model, policy)


def test_text_border_cannot_move(tiny_model: ExactModel, honest: Bundle) -> None:
    assert text_digest("ab", "c") != text_digest("a", "bc")


def test_m43_another_token(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    """Everything is recomputed for the forged token; only the arg-max can tell."""
    ids = honest.statement.generated_ids
    for place in range(len(ids)):
        other = (*ids[:place], (ids[place] + 1) % 28, *ids[place + 1 :])
        run = trace(tiny_model, PROMPT, NEW, generated=other)
        forged = run.with_evidence(honest.evidence)
        refuse(ProofRejected, "head: recomputed", forged, tiny_model, policy)


@pytest.mark.parametrize("bad", [29, -1, 1 << 62])
def test_m45_ids_outside_the_vocabulary(
    bad: int, tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    forged = change(honest, generated_ids=(bad, *honest.statement.generated_ids[1:]))
    refuse(StatementMismatch, "ids below 29", forged, tiny_model, policy)


def test_completion_cut_short(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    run = trace(tiny_model, PROMPT, NEW, generated=honest.statement.generated_ids[:2])
    forged = run.with_evidence(honest.evidence)
    refuse(StatementMismatch, "cut short", forged, tiny_model, policy)


def test_completion_cut_short_and_said_to_have_stopped(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    run = trace(tiny_model, PROMPT, NEW, generated=honest.statement.generated_ids[:2])
    forged = change(run.with_evidence(honest.evidence), stop_reason="stop")
    refuse(StatementMismatch, "cut short", forged, tiny_model, policy)


def test_other_stop_ids(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    last = honest.statement.generated_ids[-1]
    forged = change(honest, stop_ids=(last,), stop_reason="stop")
    refuse(StatementMismatch, "stop_ids", forged, tiny_model, policy)
    long = change(honest, stop_ids=tuple(range(100_000)))
    with pytest.raises(StatementMismatch) as caught:
        long.statement.check(tiny_model.specification)
    assert len(caught.value.message) < 250


def test_fewer_tokens_asked_for(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    run = trace(tiny_model, PROMPT, 2).with_evidence(honest.evidence)
    verify(run.to_bytes(tiny_model.specification), policy, model=tiny_model)
    refuse(
        StatementMismatch,
        "max_new_tokens: expected 4, got 2",
        run,
        tiny_model,
        policy,
        max_new_tokens=NEW,
    )


def test_goes_on_after_a_stop_id(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    ids = (28, *honest.statement.generated_ids[1:])
    forged = change(honest, generated_ids=ids)
    refuse(StatementMismatch, "goes on after stop id 28", forged, tiny_model, policy)


def test_wrong_stop_reason(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    forged = change(honest, stop_reason="stop")
    refuse(StatementMismatch, "stop_reason: expected length", forged, tiny_model, policy)


def test_more_tokens_than_asked_for(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    forged = change(honest, max_new_tokens=NEW - 1)
    refuse(StatementMismatch, "expected at most 3, got 4", forged, tiny_model, policy)


def test_m53_fewer_positions_than_tokens(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    rows = tuple(boundary[:-1] for boundary in honest.boundaries)
    forged = seal(tiny_model, replace(change(honest, positions=len(rows[0])), boundaries=rows))
    refuse(StatementMismatch, "positions: expected at least 8", forged, tiny_model, policy)


def test_more_positions_than_the_context(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    rows = tuple(np.concatenate([b, b]) for b in honest.boundaries)
    forged = seal(tiny_model, replace(change(honest, positions=len(rows[0])), boundaries=rows))
    refuse(StatementMismatch, "positions: expected 1 to 12", forged, tiny_model, policy)


def test_empty_completion(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    forged = change(honest, generated_ids=())
    refuse(StatementMismatch, "at least one token", forged, tiny_model, policy)


# Boundaries


@pytest.mark.parametrize("boundary", range(5))
@pytest.mark.parametrize("row", [0, 7])
def test_m50_one_unit_off(
    boundary: int, row: int, tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    boundaries = list(honest.boundaries)
    boundaries[boundary] = boundaries[boundary].copy()
    boundaries[boundary][row, 3] += 1
    forged = seal(tiny_model, replace(honest, boundaries=tuple(boundaries)))
    refuse(ProofRejected, "recomputed", forged, tiny_model, policy)


def test_m50_boundary_without_its_digest(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    boundaries = list(honest.boundaries)
    boundaries[2] = boundaries[2] + 1
    forged = replace(honest, boundaries=tuple(boundaries))
    refuse(StatementMismatch, r"boundary\[2\]: the statement names", forged, tiny_model, policy)


def test_m17_outside_its_bound(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    bound = tiny_model.specification.boundary_bounds()[1]
    boundaries = list(honest.boundaries)
    boundaries[1] = boundaries[1].copy()
    boundaries[1][2, 3] = bound + 1
    forged = seal(tiny_model, replace(honest, boundaries=tuple(boundaries)))
    refuse(StatementMismatch, rf"at most {bound} in magnitude", forged, tiny_model, policy)


def test_m54_units_of_two_runs(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    other = trace(tiny_model, "a dog", NEW)
    boundaries = honest.boundaries[:3] + other.boundaries[3:]
    forged = seal(tiny_model, replace(honest, boundaries=boundaries))
    refuse(ProofRejected, r"attention\[1\]: recomputed", forged, tiny_model, policy)


def test_m55_positions_shifted(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    rows = tuple(np.roll(boundary, 1, axis=0) for boundary in honest.boundaries)
    forged = seal(tiny_model, replace(honest, boundaries=rows))
    refuse(ProofRejected, "embed: recomputed", forged, tiny_model, policy)


def test_other_padding(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    """Padding rows are computed from the specification's pad id, whatever the prover filled in."""
    run = trace(tiny_model, PROMPT, NEW, pad_to=10).with_evidence(honest.evidence)
    rows = tuple(np.concatenate([b[:8], b[7:8], b[7:8]]) for b in run.boundaries)
    forged = seal(tiny_model, replace(run, boundaries=rows))
    refuse(ProofRejected, "embed: recomputed", forged, tiny_model, policy)


# Units and policy


@pytest.mark.parametrize("unit", ["embed", "attention[0]", "mlp[1]", "head"])
def test_m48_unit_without_evidence(
    unit: str, tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    evidence = {name: e for name, e in honest.evidence.items() if name != unit}
    refuse(
        PolicyViolation,
        "the bundle has nothing",
        honest.with_evidence(evidence),
        tiny_model,
        policy,
    )


def test_empty_bundle(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    refuse(PolicyViolation, "has nothing", honest.with_evidence({}), tiny_model, policy)


def test_another_backend_than_demanded(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    demanding = replace(policy, units=dict(policy.units) | {"attention[0]": "sumcheck"})
    refuse(PolicyViolation, "demands sumcheck, got replay", honest, tiny_model, demanding)


@pytest.mark.parametrize("unit", ["embed", "mlp[0]", "head"])
def test_one_unit_by_another_backend(
    unit: str, tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    """Neither is the other's equal: one proves, the other may need the verifier's work."""
    other = dict(honest.evidence) | {unit: Evidence("sumcheck", b"")}
    forged = honest.with_evidence(other)
    refuse(PolicyViolation, "demands replay, got sumcheck", forged, tiny_model, policy)
    demanding = replace(policy, units=dict(policy.units) | {unit: "sumcheck"})
    refuse(PolicyViolation, "demands sumcheck, got replay", honest, tiny_model, demanding)
    refuse(ProofRejected, f"{re.escape(unit)}: .*the proof ends", forged, tiny_model, demanding)


def test_policy_that_leaves_a_unit_out(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    lax = replace(policy, units={k: v for k, v in policy.units.items() if k != "mlp[0]"})
    refuse(WrongMaterial, r"mlp\[0\] is not in the policy", honest, tiny_model, lax)


def test_policy_that_names_a_unit_too_many(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    odd = replace(policy, units=dict(policy.units) | {"mlp[9]": "replay"})
    refuse(WrongMaterial, r"mlp\[9\] is no unit of the model", honest, tiny_model, odd)


def test_version_that_the_policy_does_not_allow(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    strict = replace(policy, bundle_versions=(2,))
    refuse(WrongMaterial, r"versions \[2\], this release knows 1", honest, tiny_model, strict)


def test_m56_nonce(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    refuse(StatementMismatch, "nonce: expected 'n1'", honest, tiny_model, policy, nonce="n1")
    other = change(honest, nonce="n2")
    refuse(StatementMismatch, "got 'n2'", other, tiny_model, policy, nonce="n1")


def test_nonce_with_control_characters(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    refuse(InvalidBundle, "nonce", change(honest, nonce="a\x1b[2J"), tiny_model, policy)
    refuse(InvalidBundle, "nonce", change(honest, nonce="a" * 257), tiny_model, policy)


def test_answer_to_another_prompt(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    refuse(
        StatementMismatch, "prompt: expected 'a dog'", honest, tiny_model, policy, prompt="a dog"
    )


def test_trace_is_no_bundle(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    header["kind"] = "trace"
    forged = with_header(header, body)
    refuse(InvalidBundle, "a trace with 6 pieces", forged, tiny_model, policy)


# The verifier's own material


def copy_model(model: ExactModel, folder: Path) -> Path:
    assert model.folder is not None
    for path in model.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_m34_edited_weights(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, tmp_path: Path
) -> None:
    folder = copy_model(tiny_model, tmp_path)
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    refuse(WrongMaterial, "tensor .*: expected", honest, ExactModel.from_folder(folder), policy)


def test_wrong_tokenizer(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, tmp_path: Path
) -> None:
    folder = copy_model(tiny_model, tmp_path)
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"A"'))
    refuse(WrongMaterial, "tokenizer.json", honest, ExactModel.from_folder(folder), policy)


def test_m36_another_model_of_the_same_shape(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, make_checkpoint: Any, tmp_path: Path
) -> None:
    """The forger runs, and would prove, a model that the policy does not name."""
    from zkllm.checkpoints import Checkpoint

    checkpoint = Checkpoint.from_folder(make_checkpoint(seed=5))
    specification, tensors = build(checkpoint, PRECISIONS["wide"])
    other = save(specification, tensors, checkpoint.tokenizer, tmp_path)
    forged = trace(other, PROMPT, NEW).with_evidence(honest.evidence)
    refuse(StatementMismatch, "model: expected", forged, tiny_model, policy)
    refuse(WrongMaterial, "the policy names", forged, other, policy)


def test_ezkl_without_pinned_keys(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, tmp_path: Path
) -> None:
    unit = "attention[0]"
    evidence = dict(honest.evidence) | {unit: Evidence("ezkl", b"x" * 2000)}
    demanding = replace(policy, units=dict(policy.units) | {unit: "ezkl"})
    data = honest.with_evidence(evidence).to_bytes(tiny_model.specification)
    with pytest.raises(WrongMaterial, match=r"no ezkl proof can give: .* EXP table"):
        verify(data, demanding, model=tiny_model, keys=tmp_path)


# Fragments


@pytest.fixture(scope="module")
def fragment(tiny_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> ExactModel:
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"], (1, 2))
    return save(specification, tensors, None, tmp_path_factory.mktemp("fragment"))


def test_fragment(fragment: ExactModel, tiny_model: ExactModel, honest: Bundle) -> None:
    policy = policy_for(fragment, backends=["replay"])
    run = fragment_trace(fragment, honest.boundaries[2])
    bundle = run.with_evidence(dict.fromkeys(policy.units, Evidence("replay", b"")))
    report = verify(bundle.to_bytes(fragment.specification), policy, model=fragment)
    assert report.statement.kind == "fragment"
    assert np.array_equal(run.boundaries[-1], honest.boundaries[4])
    for name, asked in {"prompt": PROMPT, "max_new_tokens": 1, "nonce": "n1"}.items():
        refuse(StatementMismatch, f"{name}: expected", bundle, fragment, policy, **{name: asked})
    text = change(bundle, generated_ids=(1,))
    refuse(StatementMismatch, "a fragment has no tokens", text, fragment, policy)
    data = bundle.to_bytes(fragment.specification)
    refuse(StatementMismatch, "model: expected", data, tiny_model, policy_for(tiny_model))


def test_a_fragment_is_no_text(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    forged = change(honest, kind="fragment")
    refuse(StatementMismatch, "kind: expected text", forged, tiny_model, policy)


# Workers, and what only a mistake in the verifier itself could let through


class Helpers:
    """Workers in this process; `lost` are the units of which no answer comes back."""

    def __init__(self, digest: str, *lost: str) -> None:
        self.digest, self.lost, self.asked = digest, lost, list[str]()

    def each(self, function: Callable[..., Any], given: dict[str, tuple[Any, ...]]) -> Any:
        self.asked = list(given)
        return {
            unit: Checked("recomputed", binds_nonce=True) for unit in given if unit not in self.lost
        }


def verify_by(helpers: Helpers, bundle: Bundle, model: ExactModel, policy: Policy) -> Report:
    material = Material.gather(policy, model, None)
    workers: Any = helpers
    return verify_with(material, bundle.to_bytes(model.specification), workers=workers)


@pytest.mark.parametrize("parallel", [True, False])
def test_workers_get_what_can_be_checked_side_by_side(
    parallel: bool,
    tiny_model: ExactModel,
    honest: Bundle,
    policy: Policy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ReplayBackend, "parallel", parallel)
    helpers = Helpers(tiny_model.digest)
    report = verify_by(helpers, honest, tiny_model, policy)
    assert list(report.units) == list(tiny_model.specification.units())
    assert helpers.asked == (list(report.units) if parallel else [])


def test_workers_of_another_model(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    other = Helpers("sha256:" + "0" * 64)
    with pytest.raises(DigestMismatch, match=r"model: expected sha256:.*, the workers have sha25"):
        verify_by(other, honest, tiny_model, policy)
    assert not other.asked


def test_a_unit_whose_answer_is_lost(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplayBackend, "parallel", True)
    with pytest.raises(PolicyViolation, match="not every unit of the model was checked"):
        verify_by(Helpers(tiny_model.digest, "mlp[0]"), honest, tiny_model, policy)


def test_a_development_srs_that_the_policy_does_not_allow(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever backend says that its keys are a development's."""
    checked = Checked("recomputed", assumptions=(INSECURE_ASSUMPTION,))
    monkeypatch.setattr(ReplayBackend, "verify", lambda *_: checked)
    refuse(
        UntrustedMaterial,
        "embed: the policy pins a development SRS without allowing it",
        honest,
        tiny_model,
        policy,
    )
    allowed = replace(policy, insecure_srs=True)
    report = verify(honest.to_bytes(tiny_model.specification), allowed, model=tiny_model)
    assert "insecure" in report.verdict


def test_a_tokenizer_that_has_no_text_for_the_completion(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> str:
        raise InputError("the tokenizer's decoder has no text")

    monkeypatch.setattr(Tokenizer, "completion", none)
    match = "completion: the tokenizer's decoder has no text"
    refuse(StatementMismatch, match, honest, tiny_model, policy)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"nonce": ""}, "nonce: expected 1 to 256 printable ASCII characters, got ''"),
        ({"nonce": "é"}, "nonce: expected 1 to 256 printable ASCII characters, got 'é'"),
        ({"nonce": "n" * 257}, "nonce: expected 1 to 256 printable"),
        ({"nonce": 1}, "nonce: expected str, got int"),
        ({"prompt": b"a"}, "prompt: expected str, got bytes"),
        ({"max_new_tokens": -1}, "max_new_tokens: expected 0 or more, got -1"),
        ({"max_new_tokens": True}, "max_new_tokens: expected int, got bool"),
    ],
)
def test_what_nobody_can_ask(asked: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Request(**asked)


def test_freshness_that_is_demanded_and_not_asked_for(
    tiny_model: ExactModel, honest: Bundle
) -> None:
    fresh = policy_for(tiny_model, backends=["sumcheck"], freshness="required")
    match = "the policy requires freshness, and no nonce was given"
    refuse(PolicyViolation, match, honest, tiny_model, fresh)


def test_a_nonce_that_no_unit_binds(tiny_model: ExactModel, honest: Bundle, policy: Policy) -> None:
    match = "nonce: no unit's evidence binds it"
    refuse(PolicyViolation, match, change(honest, nonce="one"), tiny_model, policy, nonce="one")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"text": None}, "statement.text: expected a digest, got none"),
        ({"boundaries": ()}, "statement.boundaries: expected 5, got 0"),
    ],
)
def test_a_statement_that_leaves_something_out(
    fields: dict[str, Any], match: str, tiny_model: ExactModel, honest: Bundle
) -> None:
    with pytest.raises(StatementMismatch, match=match):
        change(honest, **fields).statement.check(tiny_model.specification)


def test_a_backend_of_another_name() -> None:
    name: Any = "magic"
    with pytest.raises(InputError, match=r"backend: expected one of .*, got 'magic'"):
        get_backend(name)


# What the verifier loads


def test_verifying_loads_nothing_heavy() -> None:
    code = (
        "import sys, zkllm.verifying, zkllm.cli.verify, zkllm.backends.replay\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numba', 'ezkl'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_zkllm_loads_nothing() -> None:
    code = "import sys, zkllm\nsys.exit('numpy loaded' if 'numpy' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tokenizer_refuses_unknown_characters(tiny_model: ExactModel) -> None:
    with pytest.raises(InputError, match="cannot spell"):
        Tokenizer(tiny_model).encode("a€")
    with pytest.raises(InputError, match="empty"):
        Tokenizer(tiny_model).encode("")


def test_the_soundness_of_a_report_is_that_of_its_weakest_unit(
    honest: Bundle, policy: Policy, tiny_model: ExactModel
) -> None:
    report = verify(honest.to_bytes(tiny_model.specification), policy, model=tiny_model)
    assert report.soundness_bits is None
    units = {
        "embed": Checked("proved", details={"soundness_bits": 120.5}),
        "head": Checked("proved", details={"soundness_bits": 101.5}),
        "mlp[0]": Checked("recomputed"),
    }
    assert replace(report, units=units).soundness_bits == 101.5

"""Proving: own proofs are verified, interrupted work goes on, nothing is half-written."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.traces import seal, trace
from zkllm import bundle
from zkllm.backends import replay
from zkllm.backends.base import Claim
from zkllm.bundle import Bundle
from zkllm.errors import BackendError, ConstraintViolation, InputError, StatementMismatch
from zkllm.exact.model import ExactModel
from zkllm.keys import policy_for
from zkllm.planning import assign
from zkllm.proving import prove
from zkllm.verifying import verify


@pytest.fixture(scope="module")
def run(tiny_model: ExactModel) -> Bundle:
    return trace(tiny_model, "a cat", 3)


def test_bundle_verifies(tiny_model: ExactModel, run: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b"
    report = prove(run, tiny_model, "replay", path)
    assert verify(path, policy_for(tiny_model, backends=["replay"]), model=tiny_model) == report
    assert list(tmp_path.iterdir()) == [path]


def test_existing_bundle_is_kept(tiny_model: ExactModel, run: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        prove(run, tiny_model, "replay", path)
    assert path.read_bytes() == b"mine"
    prove(run, tiny_model, "replay", path, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_in_the_place_of_a_bundle_costs_no_proof(
    tiny_model: ExactModel, run: Bundle, tmp_path: Path, force: bool
) -> None:
    units: list[str] = []
    with pytest.raises(InputError, match="expected a file, found a folder"):
        prove(
            run,
            tiny_model,
            "replay",
            tmp_path,
            force=force,
            advance=lambda unit, *_: units.append(unit),
        )
    assert units == []
    assert list(tmp_path.iterdir()) == []


def test_trace_that_is_no_run(tiny_model: ExactModel, run: Bundle, tmp_path: Path) -> None:
    rows = list(run.boundaries)
    rows[2] = rows[2].copy()
    rows[2][0, 0] += 1
    wrong = seal(tiny_model, replace(run, boundaries=tuple(rows)))
    with pytest.raises(ConstraintViolation, match=r"mlp\[0\]: recomputed .* the claim says"):
        prove(wrong, tiny_model, "replay", tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"prompt": "a dog"}, "prompt_ids: the tokenizer gives"),
        ({"completion": "no"}, "completion: the ids decode to"),
        ({"boundaries": ()}, r"boundary\[0\]: expected at most"),
    ],
)
def test_a_trace_that_cannot_be_one_costs_no_proof(
    fields: dict[str, Any],
    match: str,
    tiny_model: ExactModel,
    run: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay.ReplayBackend, "prove", lambda *_: pytest.fail("was proved"))
    if "boundaries" in fields:
        bound = tiny_model.specification.input
        fields = {"boundaries": (run.boundaries[0] * 0 + bound + 1, *run.boundaries[1:])}
    with pytest.raises(StatementMismatch, match=match):
        prove(seal(tiny_model, replace(run, **fields)), tiny_model, "replay", tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_work_goes_on(
    tiny_model: ExactModel, run: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved: list[str] = []
    original = replay.ReplayBackend.prove

    def interrupted(self: Any, model: ExactModel, claim: Claim, *rest: Any) -> bytes:
        if claim.unit == "mlp[1]" and len(proved) < 5:
            raise KeyboardInterrupt
        proved.append(claim.unit)
        return original(self, model, claim, *rest)

    monkeypatch.setattr(replay.ReplayBackend, "prove", interrupted)
    path = tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        prove(run, tiny_model, "replay", path)
    assert not path.exists()
    assert proved == ["embed", "attention[0]", "mlp[0]", "attention[1]"]
    proved.append("-")
    skipped: list[str] = []
    prove(
        run,
        tiny_model,
        "replay",
        path,
        advance=lambda unit, _backend, done: skipped.append(unit) if done else None,
    )
    assert proved[5:] == ["mlp[1]", "head"]
    assert skipped == proved[:4]
    assert list(tmp_path.iterdir()) == [path]


def test_another_run_does_not_pick_up_leftovers(
    tiny_model: ExactModel, run: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved: list[str] = []
    original = replay.ReplayBackend.prove

    def recorded(self: Any, model: ExactModel, claim: Claim, *rest: Any) -> bytes:
        proved.append(claim.unit)
        if len(proved) == 3:
            raise KeyboardInterrupt
        return original(self, model, claim, *rest)

    monkeypatch.setattr(replay.ReplayBackend, "prove", recorded)
    with pytest.raises(KeyboardInterrupt):
        prove(run, tiny_model, "replay", tmp_path / "b")
    prove(run, tiny_model, "replay", tmp_path / "b", nonce="other")
    assert len(proved) == 3 + len(tiny_model.specification.units())


def test_evidence_that_does_not_verify_is_dropped(
    tiny_model: ExactModel, run: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay.ReplayBackend, "prove", lambda *_: b"rubbish")
    monkeypatch.setattr(bundle, "MAX_EVIDENCE", dict(bundle.MAX_EVIDENCE) | {"replay": 100})
    with pytest.raises(BackendError, match="does not verify"):
        prove(run, tiny_model, "replay", tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [b"", b"stale", bytes(4000)])
def test_a_part_that_somebody_planted(
    part: bytes, tiny_model: ExactModel, run: Bundle, tmp_path: Path
) -> None:
    """It is taken for what an interrupted try left, but no bundle is made of it."""
    path, seen = tmp_path / "b", []

    def interrupt(unit: str, *_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prove(run, tiny_model, "sumcheck", path, advance=interrupt)
    (store,) = tmp_path.iterdir()
    (store / "mlp.0").write_bytes(part)
    with pytest.raises(BackendError, match=r"does not verify: mlp\[0\]"):
        prove(run, tiny_model, "sumcheck", path, advance=lambda *done: seen.append(done))
    assert ("mlp[0]", "sumcheck", True) in seen
    assert list(tmp_path.iterdir()) == []
    prove(run, tiny_model, "sumcheck", path)
    assert list(tmp_path.iterdir()) == [path]


def terabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("plant", "match"),
    [
        (Path.mkdir, "expected a regular file"),
        (os.mkfifo, "expected a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a regular file"),
        (terabyte, "at most 16777216 bytes"),
    ],
)
def test_a_part_that_cannot_be_read(
    plant: Any, match: str, tiny_model: ExactModel, run: Bundle, tmp_path: Path
) -> None:
    """No try could go on, so it is said what is in the way."""
    interrupt = RuntimeError("interrupted")

    def advance(*_: object) -> None:
        raise interrupt

    with pytest.raises(RuntimeError, match="interrupted"):
        prove(run, tiny_model, "replay", tmp_path / "b", advance=advance)
    (store,) = tmp_path.iterdir()
    plant(store / "mlp.0")
    with pytest.raises(InputError, match=match) as caught:
        prove(run, tiny_model, "replay", tmp_path / "b")
    assert f"delete {store}" in caught.value.hint


def test_disk_full(
    tiny_model: ExactModel, run: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackendError, match="the disk is full"):
        prove(run, tiny_model, "replay", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_assignment(tiny_model: ExactModel) -> None:
    spec = tiny_model.specification
    with pytest.raises(InputError, match=r"expected one of embed, attention\[0\].*got 'mlp'"):
        assign(spec, "replay", ["mlp"])
    assert set(assign(spec, "replay").values()) == {"replay"}


def test_bad_nonce(tiny_model: ExactModel, run: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nonce"):
        prove(run, tiny_model, "replay", tmp_path / "b", nonce="two words")


def test_what_is_proved_by_default_is_what_a_policy_demands_by_default(
    tiny_model: ExactModel, run: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "b"
    report = prove(run, tiny_model, output=path)
    assert {checked.words.split(",")[0] for checked in report.units.values()} == {
        "proved (sumcheck"
    }
    assert verify(path, policy_for(tiny_model), model=tiny_model) == report
    with pytest.raises(InputError, match="output: expected a path for the bundle, got none"):
        prove(run, tiny_model)

"""Processes beside each other: the same results, the same errors, and none is left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

from tests.traces import fragment_trace, trace
from zkllm import bundle as container
from zkllm import evidence, planning, proving, workers
from zkllm.backends.base import Claim
from zkllm.bundle import BackendName, Bundle, Evidence
from zkllm.digests import Digest
from zkllm.errors import (
    BackendError,
    ConstraintViolation,
    DigestMismatch,
    Error,
    InputError,
    ProofRejected,
)
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.keys import policy_for
from zkllm.operations.precision import PRECISIONS
from zkllm.proving import prove
from zkllm.verifying import verify
from zkllm.workers import Workers

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pair(tiny_model: ExactModel) -> Iterator[Workers]:
    with Workers(tiny_model, 2) as two:
        yield two


@pytest.fixture(scope="module")
def run(tiny_model: ExactModel) -> Bundle:
    return trace(tiny_model, "a cat", 3)


@pytest.fixture(scope="module")
def alone(tiny_model: ExactModel, run: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bundle that one process makes."""
    path = tmp_path_factory.mktemp("alone") / "bundle"
    prove(run, tiny_model, "sumcheck", path, jobs=1)
    return path.read_bytes()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes cost nothing, so that even these small units are worth them."""
    monkeypatch.setattr(planning, "START_SECONDS", 0.0)
    monkeypatch.setattr(planning, "usable_cores", lambda: 2)


# What the workers do


def answer(model: ExactModel, value: int) -> tuple[Digest, int]:
    return model.digest, value


def fail(_: ExactModel, error: Error) -> NoReturn:
    raise error


def surroundings(_: ExactModel) -> tuple[bool, str | None]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return signal.SIGINT in blocked, os.environ.get("OMP_NUM_THREADS")


def die(_: ExactModel) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prove_all_but_one(
    model: ExactModel, claim: Claim, name: BackendName, keys: Path | None
) -> bytes:
    if claim.unit == "mlp[1]":
        time.sleep(600)
    return evidence._prove_one(model, claim, name, keys)


# Results and errors


def test_every_task_has_its_result(pair: Workers, tiny_model: ExactModel) -> None:
    tasks = {str(i): (i,) for i in range(7)}
    assert dict(pair.each(answer, tasks)) == {str(i): (tiny_model.digest, i) for i in range(7)}
    assert list(pair.each(answer, {})) == []


@pytest.mark.parametrize("kind", [ConstraintViolation, ProofRejected, BackendError])
def test_an_error_arrives_as_it_was_raised(kind: type[Error], pair: Workers) -> None:
    with pytest.raises(Error) as caught:
        list(pair.each(fail, {"a": (kind("expected one, got two", "try this"),)}))
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.hint) == ("expected one, got two", "try this")
    assert [value for _, (_, value) in pair.each(answer, {"b": (1,)})] == [1]


def test_only_the_workers_are_deaf_to_control_c(
    tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers, "usable_cores", lambda: 6)
    with Workers(tiny_model, 2) as two:
        assert dict(two.each(surroundings, {"a": ()})) == {"a": (True, "3")}
    assert surroundings(tiny_model) == (False, None)


def test_a_process_that_dies_or_finds_another_model(tiny_model: ExactModel, tmp_path: Path) -> None:
    assert tiny_model.folder is not None
    folder = shutil.copytree(tiny_model.folder, tmp_path / "model")
    good = (folder / "spec.json").read_bytes()
    with Workers(ExactModel.from_folder(folder), 1) as one:
        (folder / "spec.json").write_bytes(good.replace(b'"pad_id":28', b'"pad_id":27'))
        with pytest.raises(DigestMismatch, match=r"model: expected sha256:\w+, .* now holds"):
            list(one.each(answer, {"a": (1,)}))
        (folder / "spec.json").write_bytes(good)
        assert dict(one.each(answer, {"a": (1,)})) == {"a": (tiny_model.digest, 1)}
        for work in (die, surroundings):
            with pytest.raises(BackendError, match="a process died at its work"):
                list(one.each(work, {"a": ()}))


# Proving and verifying


def test_two_processes_make_the_bundle_of_one(
    pair: Workers,
    tiny_model: ExactModel,
    run: Bundle,
    alone: bytes,
    tmp_path: Path,
    eager: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []

    def take(_: ExactModel, jobs: int) -> contextlib.nullcontext[Workers]:
        started.append(jobs)
        return contextlib.nullcontext(pair)

    monkeypatch.setattr(proving, "Workers", take)
    prove(run, tiny_model, "sumcheck", tmp_path / "b", jobs=None)
    assert started == [2]
    assert (tmp_path / "b").read_bytes() == alone
    prove(run, tiny_model, "sumcheck", tmp_path / "b", jobs=1, force=True)
    assert started == [2]


def test_two_processes_refuse_what_one_refuses(
    pair: Workers, tiny_model: ExactModel, alone: bytes
) -> None:
    policy = policy_for(tiny_model, backends=["sumcheck"])
    assert verify(alone, policy, model=tiny_model, workers=pair) == verify(
        alone, policy, model=tiny_model
    )
    honest = Bundle.from_bytes(alone, tiny_model.specification)
    units = tiny_model.specification.units()
    swapped = dict(honest.evidence) | {"mlp[0]": honest.evidence["mlp[1]"]}
    missing = dict(honest.evidence) | {"head": Evidence("sumcheck", b"")}
    for unit, spoiled in (("mlp[0]", swapped), ("head", missing)):
        assert unit in units
        forged = honest.with_evidence(spoiled).to_bytes(tiny_model.specification)
        messages = []
        for helpers in (None, pair):
            with pytest.raises(ProofRejected) as caught:
                verify(forged, policy, model=tiny_model, workers=helpers)
            messages.append(caught.value.message)
        assert messages[0].startswith(f"{unit}: ")
        assert messages[1] == messages[0]


def test_workers_of_another_model_verify_nothing(
    pair: Workers, tiny_model: ExactModel, alone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_for(tiny_model, backends=["sumcheck"])
    monkeypatch.setattr(pair, "digest", "sha256:" + "0" * 64)
    with pytest.raises(DigestMismatch, match="the workers have sha256:0000"):
        verify(alone, policy, model=tiny_model, workers=pair)


def test_a_model_in_memory_is_proved_by_one_process(
    tiny_checkpoint: Any,
    run: Bundle,
    tmp_path: Path,
    eager: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"], (1, 2))
    model = ExactModel.in_memory(specification, tensors)
    with pytest.raises(InputError, match="no folder that other processes could read"):
        Workers(model, 2)
    monkeypatch.setattr(proving, "Workers", lambda *_: pytest.fail("processes were started"))
    fragment = fragment_trace(model, run.boundaries[2])
    report = prove(fragment, model, "sumcheck", tmp_path / "b", jobs=2)
    assert set(report.units) == {"attention[1]", "mlp[1]"}


# Interruption

COMMAND = """\
from tests import test_workers
from zkllm import evidence, planning
from zkllm.cli import main

planning.START_SECONDS = 0.0
evidence._prove_one = test_workers.prove_all_but_one
main()
"""


def lines_until(stream: IO[str], done: Sequence[str]) -> None:
    """Read until every unit of `done` was reported."""
    missing = {f"{unit}: sumcheck" for unit in done}
    while missing:
        line = stream.readline()
        assert line, f"ended before {missing}"
        missing.discard(line.strip())


def alive(process: str) -> bool:
    """Whether it runs; what has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, signal.SIGKILL],
    ids=["interrupted", "terminated", "killed"],
)
def test_whatever_ends_the_command_ends_its_processes(
    number: signal.Signals, tiny_model: ExactModel, run: Bundle, alone: bytes, tmp_path: Path
) -> None:
    """Control-C reaches all processes, a kill only the first; both leave work to go on with."""
    assert tiny_model.folder is not None
    container.save(run, tiny_model.specification, tmp_path / "trace")
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "bundle"
    options: list[str | Path] = [
        "--model",
        tiny_model.folder,
        "--backend",
        "sumcheck",
        "--jobs",
        "2",
        "-o",
        path,
    ]
    done = [unit for unit in tiny_model.specification.units() if unit != "mlp[1]"]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "prove", tmp_path / "trace", *options],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as command:
        assert command.stderr is not None
        try:
            lines_until(command.stderr, done)
            children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
            assert sum(map(alive, children)) >= 2
            send = os.kill if number is signal.SIGKILL else os.killpg
            send(command.pid, number)
            command.wait(20)
            deadline = time.monotonic() + 20
            while any(map(alive, children)) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not any(map(alive, children))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
        rest = command.stderr.read()
    assert "Traceback" not in rest
    if number is not signal.SIGKILL:
        assert "resource_tracker" not in rest
        assert command.returncode == 128 + number
        assert "interrupted: nothing half-written was left" in rest
    (store,) = folder.iterdir()
    assert len(list(store.iterdir())) == len(done)
    kept: list[str] = []
    prove(
        run,
        tiny_model,
        "sumcheck",
        path,
        advance=lambda unit, _, before: kept.append(unit) if before else None,
    )
    assert sorted(kept) == sorted(done)
    assert path.read_bytes() == alone
    assert list(folder.iterdir()) == [path]

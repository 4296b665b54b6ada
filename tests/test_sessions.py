"""A session opens a model once, serves many runs and threads, and is refused once it is closed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import zkllm
from tests.traces import fragment_trace, trace
from zkllm import executing
from zkllm.bundle import Bundle
from zkllm.checkpoints import Checkpoint
from zkllm.errors import BackendError, DigestMismatch, InputError, UnsupportedModel
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.operations.precision import PRECISIONS
from zkllm.running import run_fragment
from zkllm.sessions import Session
from zkllm.tokenization import Tokenizer

PROMPTS = ("a cat", "the dog", "no", "a cat")


@pytest.fixture(scope="module")
def fragment(
    tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ExactModel, Any]:
    """One block of the tiny model, and rows for it."""
    folder = tmp_path_factory.mktemp("fragment")
    model = save(*build(tiny_checkpoint, PRECISIONS["wide"], blocks=(1, 2)), None, folder)
    bound = model.specification.input
    width = model.specification.architecture.width
    return model, np.random.default_rng(5).integers(-bound, bound + 1, (4, width))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many tensors were hashed, ONNX sessions opened and tokenizers read since."""
    counts = {"tensors": 0, "sessions": 0, "tokenizers": 0}

    def count(holder: Any, name: str, what: str) -> None:
        real: Callable[..., Any] = getattr(holder, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counts[what] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(holder, name, counting)

    count(ExactModel, "_checked", "tensors")
    count(onnxruntime, "InferenceSession", "sessions")
    count(Tokenizer, "_open", "tokenizers")
    return counts


def same(left: Bundle, right: Bundle, model: ExactModel) -> bool:
    return left.to_bytes(model.specification) == right.to_bytes(model.specification)


def test_many_prompts_open_a_model_once(tiny_model: ExactModel, opened: dict[str, int]) -> None:
    with zkllm.Session(str(tiny_model.folder), device="cpu") as session:
        before = dict(opened)
        runs = [session.run(prompt, 3) for prompt in PROMPTS]
        assert opened == before
        assert before["sessions"] == len(tiny_model.specification.units())
        assert before["tensors"] == len(tiny_model.specification.tensors)
        assert before["tokenizers"] == 1
        assert session.device == "cpu"
        assert session.model.digest == tiny_model.digest
    for prompt, found in zip(PROMPTS, runs, strict=True):
        assert same(found, zkllm.run(tiny_model, prompt, 3, device="cpu"), tiny_model)
        assert same(found, trace(tiny_model, prompt, 3), tiny_model)
    assert opened["sessions"] == (1 + len(PROMPTS)) * before["sessions"]


def test_padding_is_that_of_run(tiny_model: ExactModel) -> None:
    with Session(tiny_model, device="cpu") as session:
        padded = session.run("a cat", 2, pad_to=10)
    assert padded.statement.positions == 10
    assert same(padded, trace(tiny_model, "a cat", 2, pad_to=10), tiny_model)


def test_rows_of_a_fragment(fragment: tuple[ExactModel, Any], opened: dict[str, int]) -> None:
    model, rows = fragment
    with Session(model, device="cpu") as session:
        first, second = session.run_rows(rows), session.run_rows(rows[:2], pad_to=4)
        assert opened["sessions"] == len(model.specification.units())
        with pytest.raises(UnsupportedModel, match="a fragment has no tokenizer"):
            session.run("a cat", 3)
    assert same(first, fragment_trace(model, rows), model)
    assert same(first, run_fragment(model, rows, device="cpu"), model)
    assert second.statement.positions == 4
    assert opened["tokenizers"] == 0


def test_rows_that_are_none(tiny_model: ExactModel, fragment: tuple[ExactModel, Any]) -> None:
    rows: Any = [[1, 2]]
    with pytest.raises(InputError, match="hidden states: expected ndarray, got list"):
        run_fragment(fragment[0], rows)
    with pytest.raises(InputError, match="this is a text model"):
        run_fragment(tiny_model, fragment[1])


# When it opens


def test_a_prompt_is_refused_before_anything_is_opened(
    tiny_model: ExactModel, opened: dict[str, int]
) -> None:
    context = tiny_model.specification.architecture.context
    refused = {
        ("€", 1): "the tokenizer cannot spell the prompt",
        ("a", context + 1): f"at most {context} positions expected, got {context + 1}",
        ("a", 0): "max_new_tokens: expected at least 1, got 0",
        ("a" * (1 << 20), 1): "characters expected",
    }
    session = Session(tiny_model, device="cpu")
    for (prompt, count), words in refused.items():
        with pytest.raises(InputError, match=words):
            zkllm.run(tiny_model, prompt, count, device="cpu")
        with pytest.raises(InputError, match=words):
            session.run(prompt, count)
    assert opened["sessions"] == opened["tensors"] == 0
    # and a session goes on after a refusal
    assert same(session.run("a cat", 3), trace(tiny_model, "a cat", 3), tiny_model)


def test_a_block_opens_when_it_is_entered(
    tiny_model: ExactModel, opened: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendError, match="device cuda"), Session(tiny_model, device="cuda"):
        pytest.fail("was entered")
    with Session(tiny_model, device="cpu"):
        assert opened["sessions"] == len(tiny_model.specification.units())


def test_another_tokenizer_is_refused_at_once(tiny_model: ExactModel, tmp_path: Path) -> None:
    for name in ("spec.json", "weights.safetensors"):
        (tmp_path / name).write_bytes(((tiny_model.folder or tmp_path) / name).read_bytes())
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(DigestMismatch, match=r"tokenizer\.json: expected"):
        Session(tmp_path)


def test_what_is_told(tiny_model: ExactModel) -> None:
    """The device once, not for each run."""
    notes: list[str] = []
    with Session(tiny_model, note=notes.append) as session:
        for prompt in PROMPTS:
            session.run(prompt, 1)
    assert notes == ["device: cpu, because CUDA is not available"]


# When it is closed


def test_nothing_runs_once_it_is_closed(
    tiny_model: ExactModel, fragment: tuple[ExactModel, Any], opened: dict[str, int]
) -> None:
    never = Session(fragment[0], device="cpu")
    never.close()
    with Session(tiny_model, device="cpu") as session:
        session.run("a cat", 1)
    session.close()  # twice is once
    before = dict(opened)
    loose: Any = session
    for call in (
        lambda: session.run("a cat", 1),
        lambda: loose.run(7, 1),
        lambda: session.device,
        session.__enter__,
        lambda: never.run_rows(fragment[1]),
    ):
        with pytest.raises(InputError, match="session: expected an open one, this one is closed"):
            call()
    assert opened == before


def test_closing_frees_what_was_opened(
    tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Any]] = []
    real = onnxruntime.InferenceSession

    def tracked(*arguments: Any, **options: Any) -> Any:
        session = real(*arguments, **options)
        alive.append(weakref.ref(session))
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", tracked)
    session = Session(tiny_model, device="cpu")
    session.run("a cat", 1)
    alive += [weakref.ref(array) for array in session._opened()._weights.values()]
    gc.collect()
    assert all(each() is not None for each in alive)
    session.close()
    gc.collect()
    assert not any(each() is not None for each in alive)


def test_a_block_that_fails_is_closed(tiny_model: ExactModel) -> None:
    session = Session(tiny_model, device="cpu")
    with pytest.raises(ZeroDivisionError), session:
        _ = 1 / 0
    with pytest.raises(InputError, match="this one is closed"):
        session.run("a cat", 1)


# Threads


def test_threads_share_a_session(tiny_model: ExactModel, opened: dict[str, int]) -> None:
    """They all come at once, before it is open; each gets the answer to its own prompt."""
    together = threading.Barrier(len(PROMPTS))
    session = Session(tiny_model, device="cpu")

    def ask(prompt: str) -> list[Bundle]:
        together.wait()
        return [session.run(prompt, count) for count in (1, 4, 2)]

    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        found = list(pool.map(ask, PROMPTS))
    assert opened["sessions"] == len(tiny_model.specification.units())
    for prompt, runs in zip(PROMPTS, found, strict=True):
        for count, run in zip((1, 4, 2), runs, strict=True):
            assert same(run, trace(tiny_model, prompt, count), tiny_model)


def test_a_run_that_has_begun_ends_though_the_session_is_closed(
    tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, closed = threading.Event(), threading.Event()
    real = executing.Executor.run_unit

    def waiting(self: Any, *arguments: Any) -> Any:
        begun.set()
        assert closed.wait(60)
        return real(self, *arguments)

    session = Session(tiny_model, device="cpu").__enter__()
    monkeypatch.setattr(executing.Executor, "run_unit", waiting)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(session.run, "a cat", 3)
        assert begun.wait(60)
        session.close()
        gc.collect()
        closed.set()
        assert same(run.result(), trace(tiny_model, "a cat", 3), tiny_model)
    assert session._executor is None

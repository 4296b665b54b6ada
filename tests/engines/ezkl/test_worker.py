"""The child in which ezkl runs, in this process: a stand-in for ezkl says what it was asked."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zkllm.engines.ezkl import worker


class Panic(BaseException):
    """What a crash in Rust arrives as."""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`stand_in(verify=function)`: ezkl has these functions, and no others."""

    def put(**functions: Any) -> None:
        monkeypatch.setattr(worker, "_ezkl", lambda: SimpleNamespace(**functions))

    return put


def raising(failure: BaseException) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise failure

    return function


def serve(operation: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `main` answers; it leaves the file descriptors and the life of this process alone."""
    request = {"operation": operation, "arguments": arguments, "address_space": 1, "parent": 2}
    confined: list[tuple[int, int]] = []
    answer = io.StringIO()

    def end(code: int) -> None:
        raise SystemExit(code)

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
        patched.setattr(worker, "_confine", lambda *limits: confined.append(limits))
        patched.setattr(os, "dup", lambda _: -1)
        patched.setattr(os, "fdopen", lambda *_, **__: answer)
        patched.setattr(os, "dup2", lambda *_: None)
        patched.setattr(os, "_exit", end)
        with pytest.raises(SystemExit) as ended:
            worker.main()
    assert ended.value.code == 0
    assert confined == [(1, 2)]
    return json.loads(answer.getvalue())


def test_an_answer_has_the_value_and_the_memory(
    stand_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(__version__="23.0.5")
    answer = serve("version", {}, monkeypatch)
    assert answer["value"] == "23.0.5"
    assert answer["peak"] >= 0
    assert "error" not in answer


@pytest.mark.parametrize(
    ("operation", "failure", "error"),
    [
        ("gen_srs", Panic("index out of bounds"), ("Panic", "index out of bounds")),
        ("gen_srs", RuntimeError("é\n"), ("RuntimeError", "é\n")),
        ("gen_srs", SystemExit(0), ("SystemExit", "0")),
        ("magic", ValueError(), ("KeyError", "'magic'")),
    ],
)
def test_whatever_is_raised_is_an_answer(
    operation: str,
    failure: BaseException,
    error: tuple[str, str],
    stand_in: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in(gen_srs=raising(failure))
    answer = serve(operation, {"path": "srs", "logrows": 4}, monkeypatch)
    assert (answer["error"], answer["message"]) == error
    assert "value" not in answer


FILES = {
    "settings": ("model", "?settings"),
    "compile": ("model", "?compiled", "settings"),
    "setup": ("compiled", "?vk", "?pk", "srs", "witness"),
    "witness": ("data", "compiled", "?output", "vk", "srs"),
    "mock": ("witness", "compiled"),
    "prove": ("witness", "compiled", "pk", "?proof", "srs"),
    "verify": ("proof", "settings", "vk", "srs"),
}
"""Arguments of every operation on files; those with a question mark it writes."""


@pytest.mark.parametrize(
    ("operation", "missing"),
    [(name, file) for name, files in FILES.items() for file in files if file[0] != "?"],
)
def test_a_file_that_is_missing_is_no_verdict(
    operation: str, missing: str, stand_in: Callable[..., None], tmp_path: Path
) -> None:
    """ezkl itself speaks of a missing file as of a bad proof."""
    stand_in()
    arguments: list[Any] = [str(tmp_path / file.strip("?")) for file in FILES[operation]]
    for file in FILES[operation]:
        if file not in (missing, f"?{file.strip('?')}"):
            (tmp_path / file).touch()
    if operation == "settings":
        arguments.append({})
    with pytest.raises(FileNotFoundError, match=f"{missing}: no such file"):
        worker.OPERATIONS[operation](*arguments)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Four files that are there, whatever an operation calls them."""
    paths = [tmp_path / name for name in "abcd"]
    for path in paths:
        path.touch()
    return [str(path) for path in paths]


@pytest.mark.parametrize("said", [None, 1, "true", False])
def test_only_true_is_verified(
    said: object, files: list[str], stand_in: Callable[..., None]
) -> None:
    stand_in(verify=lambda *_, **__: said, mock=lambda *_: said)
    assert worker.OPERATIONS["verify"](*files) is False
    assert worker.OPERATIONS["mock"](*files[:2]) is False
    stand_in(verify=lambda *_, **__: True, mock=lambda *_: True)
    assert worker.OPERATIONS["verify"](*files) is True
    assert worker.OPERATIONS["mock"](*files[:2]) is True


def test_what_ezkl_refuses_is_refused_and_a_crash_is_none(
    files: list[str], stand_in: Callable[..., None]
) -> None:
    refusal = RuntimeError("[halo2] verification failed")
    stand_in(verify=raising(refusal), mock=raising(refusal))
    assert worker.OPERATIONS["verify"](*files) is False
    assert worker.OPERATIONS["mock"](*files[:2]) is False
    stand_in(verify=raising(Panic()), mock=raising(RuntimeError("out of rows")))
    with pytest.raises(Panic):
        worker.OPERATIONS["verify"](*files)
    with pytest.raises(RuntimeError, match="out of rows"):
        worker.OPERATIONS["mock"](*files[:2])


def test_freivalds_check_cannot_be_asked_for(
    files: list[str], stand_in: Callable[..., None]
) -> None:
    stand_in()
    with pytest.raises(ValueError, match="disable_freivalds: expected true, got False"):
        worker.OPERATIONS["settings"](files[0], files[1], {"disable_freivalds": False})


@pytest.mark.parametrize("status", ["Name:\tx\n", "VmHWM:\t   12 kB\n"])
def test_the_memory_is_what_the_system_says(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "status").write_text(status)
    monkeypatch.setattr(worker, "Path", lambda _: tmp_path / "status")
    assert worker.peak_bytes() == (12 * 1024 if "VmHWM" in status else 0)
    (tmp_path / "status").unlink()
    assert worker.peak_bytes() == 0

"""The package from Python: what stands at the top, and one line for what cannot be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zkllm
from tests.traces import trace
from zkllm.errors import InputError
from zkllm.exact.model import ExactModel


def test_every_public_name_is_there() -> None:
    for name in zkllm.__all__:
        assert getattr(zkllm, name) is not None
        assert name in dir(zkllm)
    assert sorted(zkllm._HOMES) == sorted(set(zkllm.__all__) - {"__version__"})
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = zkllm.magic


def test_importing_loads_nothing_of_weight() -> None:
    code = "import sys, zkllm; print([m for m in ('click', 'numpy', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_paths_may_be_text(demo_model: ExactModel, tmp_path: Path) -> None:
    folder, bundle = str(demo_model.folder), str(tmp_path / "answer.bundle")
    run = trace(demo_model, "12+34=", 3)
    zkllm.prove(run, folder, "replay", bundle)
    policy = zkllm.policy_for(folder, backends="replay")
    (tmp_path / "policy.toml").write_text(policy.to_toml())
    for demanded in (policy, str(tmp_path / "policy.toml"), tmp_path / "policy.toml"):
        report = zkllm.verify(bundle, demanded, model=folder, keys=str(tmp_path))
        assert report.completion == run.completion
    data = Path(bundle).read_bytes()
    assert zkllm.verify(data, policy, model=demo_model).verdict == "verified"


def arguments(model: ExactModel, folder: Path) -> dict[str, tuple[Any, str]]:
    """Calls with one argument of a wrong type, and how its refusal begins."""
    run = trace(model, "12+34=", 3)
    policy = zkllm.policy_for(model, backends="replay")
    new = folder / "new"
    loose: Any = zkllm  # no call below is one that its types allow
    return {
        "a model": (lambda: loose.run(7, "12+34=", 3), "model: expected a path, got int"),
        "a prompt": (lambda: loose.run(model, b"12", 3), "prompt: expected str, got bytes"),
        "a count": (lambda: loose.run(model, "1", "3"), "max_new_tokens: expected int, got str"),
        "a truth": (lambda: loose.run(model, "1", True), "max_new_tokens: expected int, got bool"),
        "a device": (
            lambda: loose.run(model, "1", 1, device="gpu"),
            "device: expected one of auto, cpu, cuda, got 'gpu'",
        ),
        "threads": (lambda: loose.Session(model, threads="2"), "threads: expected int, got str"),
        "less than none": (lambda: loose.Session(model, threads=-1), "threads: expected 0 or more"),
        "padding": (lambda: loose.run(model, "1", 1, pad_to="8"), "pad: expected int, got str"),
        "a trace": (lambda: loose.prove(7, model, "replay", new), "trace: expected a path"),
        "an output": (lambda: loose.prove(run, model, "replay", 7), "output: expected a path"),
        "no output": (lambda: loose.prove(run, model, "replay"), "output: expected a path"),
        "a backend": (lambda: loose.prove(run, model, "magic", new), "backend: expected one of"),
        "keys": (lambda: loose.prove(run, model, "replay", new, keys=7), "keys: expected a path"),
        "a nonce": (lambda: loose.prove(run, model, "replay", new, nonce=7), "nonce: expected str"),
        "a bundle": (lambda: loose.verify(None, policy, model=model), "bundle: expected a path"),
        "a policy": (lambda: loose.verify(b"", 7, model=model), "policy: expected a path, got int"),
        "bytes": (lambda: loose.verify(b"", b"x", model=model), "policy: expected a path, got by"),
        "a request": (lambda: loose.Request(prompt=7), "prompt: expected str, got int"),
        "a folder": (lambda: loose.export("demo", 7), "folder: expected a path, got int"),
        "key folders": (lambda: loose.setup(model, "sumcheck", 7), "keys: expected a path"),
        "setup": (lambda: loose.setup(model, "magic", new), "backend: expected one of replay"),
    }


CALLS = [
    "a model",
    "a prompt",
    "a count",
    "a truth",
    "a device",
    "threads",
    "less than none",
    "padding",
    "a trace",
    "an output",
    "no output",
    "a backend",
    "keys",
    "a nonce",
    "a bundle",
    "a policy",
    "bytes",
    "a request",
    "a folder",
    "key folders",
    "setup",
]


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_type_is_one_line(demo_model: ExactModel, tmp_path: Path, name: str) -> None:
    calls = arguments(demo_model, tmp_path)
    assert list(calls) == CALLS
    call, begins = calls[name]
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.message.startswith(begins)
    assert "\n" not in caught.value.message
    assert not list(tmp_path.iterdir())

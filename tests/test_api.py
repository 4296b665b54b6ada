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


def test_every_public_name_is_there():
    for name in zkllm.__all__:
        assert getattr(zkllm, name) is not None
        assert name in dir(zkllm)
    assert sorted(zkllm._HOMES) == sorted(set(zkllm.__all__) - {"__version__"})
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = zkllm.magic


def test_importing_loads_nothing_of_weight():
    code = "import sys, zkllm; print([m for m in ('click', 'numpy', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_paths_may_be_text(demo_model: ExactModel, tmp_path: Path):
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
    return {
        "a model": (lambda: zkllm.run(7, "12+34=", 3), "model: expected a path, got int"),
        "a prompt": (lambda: zkllm.run(model, b"12", 3), "prompt: expected str, got bytes"),
        "a count": (lambda: zkllm.run(model, "1", "3"), "max_new_tokens: expected int, got str"),
        "a truth": (lambda: zkllm.run(model, "1", True), "max_new_tokens: expected int, got bool"),
        "a device": (
            lambda: zkllm.run(model, "1", 1, device="gpu"),
            "device: expected one of auto, cpu, cuda, got 'gpu'",
        ),
        "threads": (lambda: zkllm.Session(model, threads="2"), "threads: expected int, got str"),
        "less than none": (lambda: zkllm.Session(model, threads=-1), "threads: expected 0 or more"),
        "padding": (lambda: zkllm.run(model, "1", 1, pad_to="8"), "pad: expected int, got str"),
        "a trace": (lambda: zkllm.prove(7, model, "replay", new), "trace: expected a path"),
        "an output": (lambda: zkllm.prove(run, model, "replay", 7), "output: expected a path"),
        "no output": (lambda: zkllm.prove(run, model, "replay"), "output: expected a path"),
        "a backend": (lambda: zkllm.prove(run, model, "magic", new), "backend: expected one of"),
        "keys": (lambda: zkllm.prove(run, model, "replay", new, keys=7), "keys: expected a path"),
        "a nonce": (lambda: zkllm.prove(run, model, "replay", new, nonce=7), "nonce: expected str"),
        "a bundle": (lambda: zkllm.verify(None, policy, model=model), "bundle: expected a path"),
        "a policy": (lambda: zkllm.verify(b"", 7, model=model), "policy: expected a path, got int"),
        "bytes": (lambda: zkllm.verify(b"", b"x", model=model), "policy: expected a path, got by"),
        "a request": (lambda: zkllm.Request(prompt=7), "prompt: expected str, got int"),
        "a folder": (lambda: zkllm.export("demo", 7), "folder: expected a path, got int"),
        "key folders": (lambda: zkllm.setup(model, "sumcheck", 7), "keys: expected a path"),
        "setup": (lambda: zkllm.setup(model, "magic", new), "backend: expected one of replay"),
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
def test_a_wrong_type_is_one_line(demo_model: ExactModel, tmp_path: Path, name: str):
    calls = arguments(demo_model, tmp_path)
    assert list(calls) == CALLS
    call, begins = calls[name]
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.message.startswith(begins)
    assert "\n" not in caught.value.message
    assert not list(tmp_path.iterdir())

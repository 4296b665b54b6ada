"""The doctor tells what is there, what is missing, and what cannot work."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import pytest

from tests.commands import zkllm
from zkllm import extras
from zkllm.diagnosing import diagnose
from zkllm.engines.onnx import runtime


def test_what_is_installed_is_found_and_fits() -> None:
    found = diagnose()
    named = {package.name: package for package in found.packages}
    assert {"click", "numpy", "packaging", "rich", "threadpoolctl", "tokenizers"} == {
        n for n in named if not named[n].extra
    }
    assert set(extras.EXTRAS) <= set(named)
    for name, extra in extras.EXTRAS.items():
        assert named[name].extra == extra
    assert named["ezkl"].required == "==23.0.5"
    assert named["ezkl"].version == "23.0.5"
    assert "CPUExecutionProvider" in found.providers
    assert found.cores >= 1
    assert found.memory_bytes > 1 << 20
    assert not found.problems


def without(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Other versions than the installed ones; None for a package that is not there."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in versions:
            found = versions[name]
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_missing_extra_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, ezkl=None)
    done = zkllm("doctor")
    assert done.code == 0
    assert "not installed: it comes with the extra 'ezkl'" in done.out
    assert "nothing is wrong" in done.out


def test_another_version_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, ezkl="22.0.0")
    done = zkllm("doctor")
    assert done.code == 5
    assert "problem: ezkl: expected ==23.0.5, got 22.0.0" in done.out
    assert "nothing is wrong" not in done.out


def test_a_runtime_that_does_not_load_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Any:
        raise ImportError("libcudart.so.12: cannot open\nshared object file")

    monkeypatch.setattr(runtime, "providers", fails)
    done = zkllm("doctor", "--json")
    assert done.code == 5
    found = json.loads(done.out)
    assert found["providers"] == []
    assert found["problems"] == [
        "onnxruntime: cannot be imported: libcudart.so.12: cannot open shared object file"
    ]


def test_files_that_were_never_installed_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert diagnose().problems == ("zkllm: expected an installed package, found its files alone",)


def test_json_has_a_format() -> None:
    done = zkllm("doctor", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["format"] == 1
    assert {package["name"] for package in found["packages"]} >= {"click", "onnx"}

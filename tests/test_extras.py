"""What the base install leaves out is missed in one line, before any work."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import zkllm
from tests.traces import trace
from zkllm import extras
from zkllm.errors import BackendError
from zkllm.exact.model import ExactModel
from zkllm.proving import prove

ROOT = Path(__file__).resolve().parents[1]
Without = Callable[..., None]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Without:
    """`without("numba")`: from then on that package is not installed."""
    real = importlib.util.find_spec

    def hide(*packages: str) -> None:
        def find(name: str, package: str | None = None) -> Any:
            return None if name in packages else real(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find)

    return hide


def test_every_package_comes_with_its_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package, extra in extras.EXTRAS.items():
        brought = " ".join(project["optional-dependencies"][extra])
        assert package in brought
        assert package not in " ".join(project["dependencies"])


def test_what_is_there_is_not_missed(without: Without) -> None:
    without("numba")
    extras.require_packages("onnx", "onnxruntime")
    with pytest.raises(BackendError, match="expected the package numba, found none") as caught:
        extras.require_packages("onnx", "numba")
    assert "'prove'" in caught.value.message
    assert "'.[prove]'" in caught.value.hint


def test_no_hint_installs_by_name() -> None:
    """Nobody owns the name `zkllm` in a public registry, so no text may send anyone there."""
    texts = [*ROOT.glob("zkllm/**/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]
    texts += [*ROOT.glob(".github/**/*.yml"), *ROOT.glob("examples/**/*")]
    for path in texts:
        if path.is_file():
            assert "install zkllm" not in path.read_text(encoding="utf-8"), path
            assert "install 'zkllm" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("onnx", "export demo -o {new}"),
        ("safetensors", "export demo -o {new}"),
        ("safetensors", "export demo --check {model}"),
        ("onnxruntime", "run {model} -p 12+34= -n 3 -o {new}"),
        ("numba", "setup {model} --backend sumcheck --keys {new}"),
        ("ezkl", "setup {model} --backend ezkl --keys {new}"),
    ],
)
def test_a_command_says_what_it_misses(
    without: Without, demo_model: ExactModel, tmp_path: Path, package: str, command: str
) -> None:
    without(package)
    new = tmp_path / "new"
    words = [word.format(model=demo_model.folder, new=new) for word in command.split()]
    done = zkllm(*words)
    assert done.code == 5
    assert f"expected the package {package}, found none" in done.err
    assert "Traceback" not in done.err
    assert not new.exists()


def test_run_needs_no_more_than_its_extra(demo_model: ExactModel) -> None:
    """What is in no extra that `run` names cannot be imported here, and is not missed."""
    others = [package for package, extra in extras.EXTRAS.items() if extra != "run"]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({[*others, 'llvmlite', 'transformers']}))\n"
        "from zkllm.cli import main\n"
        "main()"
    )
    command = ["run", str(demo_model.folder), "-p", "12+34=", "-n", "3", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "46" in done.stdout


def test_a_prover_misses_its_packages_before_it_begins(
    without: Without, demo_model: ExactModel, tmp_path: Path
) -> None:
    run = trace(demo_model, "12+34=", 3)
    without("ezkl", "numba")
    with pytest.raises(BackendError, match="the package numba"):
        prove(run, demo_model, "sumcheck", tmp_path / "none")
    assert not list(tmp_path.iterdir())
    prove(run, demo_model, "replay", tmp_path / "bundle")

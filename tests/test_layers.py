"""Who imports whom: a layer imports from lower layers only, and the verifier from few packages."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "zkllm"

LAYERS: list[set[str]] = [
    {
        "errors",
        "extras",
        "digests",
        "tensors",
        "records",
        "files",
        "data",
        "wording",
        "progress",
        "sizes",
        "threads",
    },
    {"integers", "decimals"},
    {"engines"},
    {"operations"},
    {"architectures"},
    {
        "exact",
        "checkpoints",
        "statement",
        "bundle",
        "policy",
        "hidden",
        "tokenization",
        "vetting",
        "workers",
    },
    {"backends"},
    {"material", "verdict"},
    {"verifying"},
    {
        "evidence",
        "executing",
        "fidelity",
        "exporting",
        "running",
        "sessions",
        "proving",
        "planning",
        "keys",
        "inspecting",
        "diagnosing",
    },
    {"demonstrating", "reports"},
    {"output"},
    {"cli", "__main__"},
]
"""Lowest first. `verifying` stands alone: it must not need what makes models and proofs."""

HEAVY = {"torch", "onnx", "onnxruntime", "numba", "llvmlite", "ezkl"}
ALLOWED_HEAVY = {
    "engines/ezkl/lowering.py": {"onnx"},
    "engines/ezkl/worker.py": {"ezkl"},
    "engines/onnx/builder.py": {"onnx"},
    "engines/onnx/files.py": {"onnx"},
    "engines/onnx/runtime.py": {"onnxruntime"},
    "engines/sumcheck/kernels.py": {"numba", "llvmlite"},
}
"""Where a heavy package may be named; everybody else goes through these."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> set[str]:
    """Dotted names of all imports in `path`, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(part: str) -> int:
    found = [i for i, layer in enumerate(LAYERS) if part in layer]
    assert found, f"zkllm.{part} is in no layer: say in tests/test_layers.py where it belongs"
    return found[0]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "zkllm" and len(parts) > 1 and (PACKAGE / parts[1]).with_suffix("").name:
            target = parts[1]
            if not (PACKAGE / target).is_dir() and not (PACKAGE / f"{target}.py").is_file():
                continue  # a name of the package itself, such as __version__
            assert layer_of(target) <= layer_of(own), f"{own} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_where_they_belong(path: Path) -> None:
    heavy = {name.split(".")[0] for name in imported(path)} & HEAVY
    assert heavy <= ALLOWED_HEAVY.get(str(path.relative_to(PACKAGE)), set())


def test_rich_is_the_console_s_alone() -> None:
    for path in modules():
        rich = {name for name in imported(path) if name.split(".")[0] == "rich"}
        assert not rich or path.parent == PACKAGE / "output", path


def test_every_module_is_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("*.py")}
    assert found <= listed

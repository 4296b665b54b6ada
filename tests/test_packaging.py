"""What is built: an sdist that holds the whole checkout, a wheel that holds the whole package."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (".ci", ".github", "benchmarks", "circuits", "docs", "examples", "models", "tests")
FILES = (
    ".pre-commit-hooks.yaml",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "cli.py",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-800:] + done.stderr[-800:]
    return folder


def files(folder: Path) -> set[str]:
    """What stands under `folder`, by its place in the checkout."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if path.suffix not in (".pyc", ".pyo")}


def test_the_sdist_is_the_checkout(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = set(FILES) | files(ROOT / "zkllm")
    expected |= {name for folder in FOLDERS for name in files(ROOT / folder)}
    assert not expected - names


def test_the_wheel_is_the_package(built: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        text = archive.read(metadata).decode()
    assert not files(ROOT / "zkllm") - names
    for folder, place in (("circuits", "circuits"), ("models/demo", "demo")):
        for file in (ROOT / folder).iterdir():
            assert f"zkllm/_data/{place}/{file.name}" in names
    assert not [name for name in names if name.startswith(("tests/", "models/", "benchmarks/"))]
    for version in ("3.11", "3.12", "3.13"):
        assert f"Classifier: Programming Language :: Python :: {version}\n" in text

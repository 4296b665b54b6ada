"""Tests are typed as the package is, but for a list in pyproject.toml that can only shrink."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MYPY = tomllib.loads(TEXT)["tool"]["mypy"]
UNTYPED = [entry for entry in MYPY["overrides"] if "ignore_errors" in entry]
LISTED: list[str] = UNTYPED[0]["module"]


def file_of(module: str) -> str:
    return module.replace(".", "/") + ".py"


def test_every_module_of_the_tests_is_checked() -> None:
    """A new module is typed: only those of the list are passed over, and by no other way."""
    assert "tests" in MYPY["files"]
    assert MYPY["strict"] is True
    assert "exclude" not in MYPY
    assert len(UNTYPED) == 1
    for path in (ROOT / "tests").rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line.startswith("# mypy:")], path


@pytest.mark.parametrize("module", LISTED)
def test_only_modules_that_are_there_are_listed(module: str) -> None:
    assert module.startswith("tests.")
    assert (ROOT / file_of(module)).is_file(), f"{module} is gone: take it from the list"


def test_every_listed_module_has_something_to_type(tmp_path: Path) -> None:
    """What would pass stands in the list no longer."""
    config = tmp_path / "pyproject.toml"
    assert TEXT.count("ignore_errors = true") == 1
    config.write_text(TEXT.replace("ignore_errors = true", "ignore_errors = false"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if LISTED else 0), done.stderr
    wrong = {line.partition(":")[0] for line in done.stdout.splitlines() if ": error: " in line}
    assert wrong == set(map(file_of, LISTED)), "take what passes from the list"

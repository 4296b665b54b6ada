"""Bundles of every format that ever shipped keep verifying, and their forgeries keep failing."""

from __future__ import annotations

from pathlib import Path

import pytest

from zkllm import bundle as container
from zkllm.bundle import VERSION
from zkllm.errors import VerificationError
from zkllm.exact.model import ExactModel
from zkllm.verifying import Request, verify

GOLDEN = Path(__file__).resolve().parent
FORMATS = sorted(path for path in GOLDEN.iterdir() if path.name.startswith("v"))


def test_every_format_has_golden_bundles() -> None:
    assert [path.name for path in FORMATS] == [f"v{n}" for n in range(1, VERSION + 1)]


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["replay", "ezkl"])
def test_golden(folder: Path, name: str) -> None:
    arguments = {"policy": folder / f"{name}.toml", "model": folder / "model"}
    request = Request(prompt="12+34=", max_new_tokens=3)
    keys = folder / "keys" if name == "ezkl" else None
    report = verify(folder / f"{name}.bundle", keys=keys, request=request, **arguments)
    assert report.completion == "46\n"
    if name == "ezkl":
        assert report.units["attention[0]"].words.startswith("proved (ezkl)")
        assert report.verdict == "verified (insecure development SRS)"
    with pytest.raises(VerificationError):
        verify(folder / f"{name}.forged", keys=keys, request=request, **arguments)


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_golden_bytes_are_what_this_release_writes(folder: Path) -> None:
    specification = ExactModel.from_folder(folder / "model").specification
    for path in (folder / "answer.trace", folder / "replay.bundle", folder / "ezkl.bundle"):
        data = path.read_bytes()
        assert container.Bundle.from_bytes(data, specification).to_bytes(specification) == data


def test_golden_files_are_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 1 << 20

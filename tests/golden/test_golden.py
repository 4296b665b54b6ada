"""Bundles of every format that ever shipped keep verifying, and their forgeries keep failing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.golden.make import KINDS
from zkllm import bundle as container
from zkllm.backends.sumcheck.backend import SumcheckBackend
from zkllm.bundle import VERSION
from zkllm.demonstrating import forge
from zkllm.errors import VerificationError
from zkllm.exact.model import ExactModel
from zkllm.verdict import Request
from zkllm.verifying import claims, verify

GOLDEN = Path(__file__).resolve().parent
FORMATS = sorted(path for path in GOLDEN.iterdir() if path.name.startswith("v"))


def test_every_format_has_golden_bundles() -> None:
    assert [path.name for path in FORMATS] == [f"v{n}" for n in range(1, VERSION + 1)]


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", KINDS)
def test_golden(folder: Path, name: str) -> None:
    backend, units, keyed = KINDS[name]
    arguments: dict[str, Any] = {
        "policy": folder / f"{name}.toml",
        "model": folder / "model",
        "keys": folder / "keys" if keyed else None,
        "request": Request(prompt="12+34=", max_new_tokens=3),
    }
    bundle = folder / f"{name}.bundle"
    report = verify(bundle, **arguments)
    assert report.completion == "46\n"
    for unit, checked in report.units.items():
        proved = unit in units or not units
        assert checked.words.startswith(
            f"proved ({backend}" if proved and backend != "replay" else "recomputed"
        )
    insecure = backend == "ezkl"
    assert report.verdict == ("verified (insecure development SRS)" if insecure else "verified")
    model = ExactModel.from_folder(folder / "model")
    forged = forge(container.load(bundle, model.specification), model)
    with pytest.raises(VerificationError):
        verify(forged.to_bytes(model.specification), **arguments)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("v*/*.forged")), ids=lambda path: path.name)
def test_forged_bundles_keep_failing(path: Path) -> None:
    folder = path.parent
    keys = folder / "keys" if KINDS[path.stem][2] else None
    with pytest.raises(VerificationError):
        verify(path, path.with_suffix(".toml"), model=folder / "model", keys=keys)


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_golden_bytes_are_what_this_release_writes(folder: Path) -> None:
    specification = ExactModel.from_folder(folder / "model").specification
    for path in [folder / "answer.trace", *folder.glob("*.bundle")]:
        data = path.read_bytes()
        assert container.Bundle.from_bytes(data, specification).to_bytes(specification) == data


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["sumcheck", "committed"])
def test_proofs_are_what_this_release_makes(folder: Path, name: str) -> None:
    """Byte for byte: a prover's choices follow from the claim alone."""
    model = ExactModel.from_folder(folder / "model")
    bundle = container.load(folder / f"{name}.bundle", model.specification)
    _, units, keyed = KINDS[name]
    proved = [claim for claim in claims(bundle, model.specification) if claim.unit in units]
    assert len(proved) == len(units)
    for claim in proved:
        made = SumcheckBackend().prove(model, claim, folder / "keys" if keyed else None)
        assert made == bundle.evidence[claim.unit].data, claim.unit


def test_golden_files_are_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 1 << 20

"""This checkout beside another one of the project: the same runs in turn, and their ratios.

Figures are compared in one run, since other work on a machine moves all of them. Bundles and
commitments have to be the same, byte for byte: speed is no reason for another proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.measuring import Cost, console, fresh, gibibytes, median, table
from benchmarks.proofs import Figures, measure
from benchmarks.synthetic import GPT2_SMALL, block_config, exact_model, random_run
from zkllm.bundle import Bundle
from zkllm.exact.model import ExactModel
from zkllm.running import run

POSITIONS = 64
CASES = ("block", "held", "committed")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that both checkouts did."""

    name: str
    other: Cost
    this: Cost


def compare(other: Path, work: Path, cases: tuple[str, ...], repeat: int) -> None:
    """Measure and print; raises `ClickException` where the checkouts make different bytes."""
    if not (other / "benchmarks" / "prove.py").is_file():
        raise click.ClickException(f"{other}: expected a checkout of zkllm, found none")
    sides = {"other": other.absolute(), "this": Path(__file__).resolve().parents[1]}
    lines = []
    for case in cases:
        model, trace = _block(work) if case == "block" else _whole(work)
        name = "a block, held" if case == "block" else f"whole, {case}"
        keys: dict[str, Path] = {}
        if case == "committed":
            keys = {side: work / f"keys-{side}" for side in sides}
            made = {side: _setup(model, keys[side], sides[side]) for side in sides}
            lines.append(Line(f"{name}: setup", **made))
            _require_same(*(_files(folder) for folder in keys.values()))
        found: dict[str, list[Figures]] = {side: [] for side in sides}
        # what is compiled is compiled in a round before
        for counts in (*[False] * (case == "block"), *[True] * repeat):
            for side, checkout in sides.items():
                figures = measure(
                    model.folder or work,
                    trace,
                    work / side,
                    keys=keys.get(side),
                    jobs=1,
                    checkout=checkout,
                )
                found[side] += [figures] * counts
        proved = {side: median([one.prove for one in all_]) for side, all_ in found.items()}
        verified = {side: median([one.verify for one in all_]) for side, all_ in found.items()}
        lines += [Line(f"{name}: prove", **proved), Line(f"{name}: verify", **verified)]
        _require_same(*((work / side / "run.bundle").read_bytes() for side in sides))
    _show(lines)


def _block(work: Path) -> tuple[ExactModel, Bundle]:
    model = exact_model(block_config(GPT2_SMALL["n_embd"]), work / "block", blocks=(0, 1))
    return model, random_run(model, POSITIONS)


def _whole(work: Path) -> tuple[ExactModel, Bundle]:
    # a completion that ends early would be less work
    config = GPT2_SMALL | {"eos_token_id": None}
    folder = work / "whole"
    model = ExactModel.from_folder(folder) if folder.is_dir() else exact_model(config, folder)
    ids = np.random.default_rng(0).integers(0, config["vocab_size"], POSITIONS)
    return model, run(model, " ".join(f"w{i}" for i in ids), 1, device="cpu")


def _setup(model: ExactModel, keys: Path, checkout: Path) -> Cost:
    options = ("--backend", "sumcheck", "--keys", keys)
    return fresh("zkllm", "setup", model.folder, *options, checkout=checkout)


def _files(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def _require_same(other: object, this: object) -> None:
    """Of what was compared nothing would be comparable."""
    if other != this:
        raise click.ClickException("expected the same bytes of both checkouts, got different ones")


def _show(lines: list[Line]) -> None:
    told = table("", "core-s", "other", "ratio", "memory", "other", "ratio")
    for line in lines:
        this, other = line.this, line.other
        told.add_row(
            line.name,
            f"{this.core_seconds:.1f}",
            f"{other.core_seconds:.1f}",
            f"{this.core_seconds / other.core_seconds:.2f}",
            gibibytes(this.peak_bytes),
            gibibytes(other.peak_bytes),
            f"{this.peak_bytes / other.peak_bytes:.2f}",
        )
    console.print("\nGPT-2 small, T = 64, processes from start to end; the bytes are the same")
    console.print(told)

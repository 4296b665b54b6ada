"""A GPT-2-small block proved by sumcheck beside attention units that ezkl can prove here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import console, table
from benchmarks.proofs import Figures, measure
from benchmarks.synthetic import block_config, exact_model, random_run
from zkllm.bundle import BackendName
from zkllm.exact.model import ExactModel
from zkllm.exporting import export
from zkllm.keys import setup
from zkllm.planning import assign
from zkllm.wording import bytes_text

UNIT = "attention[0]"
BACKENDS: tuple[BackendName, ...] = ("sumcheck", "ezkl")
EZKL_POSITIONS = 16
"""The most that ezkl's circuits have."""
EZKL_WIDTH = 64
"""The widest attention that ezkl proves on such a machine."""


@dataclass(frozen=True, slots=True)
class Side:
    """One proof, and how many multiply-adds it is about."""

    name: str
    backend: BackendName
    work: int
    figures: Figures

    @property
    def core_microseconds(self) -> float:
        """Per multiply-add."""
        return 1e6 * self.figures.prove.core_seconds / self.work

    @property
    def bytes(self) -> float:
        """Of the proof, per multiply-add."""
        return self.figures.evidence_bytes / self.work


def compare(work: Path, repeat: int) -> None:
    """Measure and print; the last is the largest unit that ezkl proves."""
    block = exact_model(block_config(768), work / "block", blocks=(0, 1))
    demo = ExactModel.from_folder(export("demo", work / "demo", blocks=(0, 1)).folder)
    config = block_config(EZKL_WIDTH) | {"n_positions": EZKL_POSITIONS}
    wide = exact_model(config, work / "wide", blocks=(0, 1), preset="ezkl")
    units = [("demo attention", demo, 8), ("demo attention", demo, EZKL_POSITIONS)]
    units.append((f"attention, d = {EZKL_WIDTH}", wide, EZKL_POSITIONS))
    sides = [prove("GPT-2 small block", block, 64, "sumcheck", work, repeat)]
    for name, model, positions in units:
        console.print(f"[dim]{name}, T = {positions}: setup and proofs[/]")
        sides += [
            prove(name, model, positions, backend, work, repeat, [UNIT]) for backend in BACKENDS
        ]
    show(sides)


def prove(
    name: str,
    model: ExactModel,
    positions: int,
    backend: BackendName,
    work: Path,
    repeat: int,
    units: Sequence[str] = (),
) -> Side:
    """One proof of these units, or of all, of a run on random rows."""
    specification = model.specification
    assignment = assign(specification, backend, units)
    folder = work / f"{backend}-{specification.architecture.width}-{positions}"
    keys = None
    if backend == "ezkl":
        keys = folder / "keys"
        setup(model, "ezkl", keys, tokens=positions)
    trace = random_run(model, positions)
    figures = measure(
        model.folder or work, trace, folder, assignment=assignment, keys=keys, repeat=repeat
    )
    proved = [unit for unit, chosen in assignment.items() if chosen == backend]
    macs = sum(specification.units()[unit].work(positions) for unit in proved)
    return Side(f"{name}, T = {positions}", backend, macs, figures)


def show(sides: Sequence[Side]) -> None:
    """Every side, and the ratio of ezkl's largest unit to the block."""
    told = table("", "by", "MMACs", "prove", "proofs", "µs/MAC", "B/MAC")
    for side in sides:
        f = side.figures
        told.add_row(
            side.name,
            side.backend,
            f"{side.work / 1e6:,.3g}",
            f"{f.prove.seconds:.1f} s",
            bytes_text(f.evidence_bytes),
            f"{side.core_microseconds:.3g}",
            f"{side.bytes:.2g}",
        )
    block, largest = sides[0], sides[-1]
    told.add_row(
        "the last / the first",
        *[""] * 4,
        f"{largest.core_microseconds / block.core_microseconds:,.0f}",
        f"{largest.bytes / block.bytes:,.1f}",
    )
    console.print(
        "\nMAC: multiply-add. µs: core-microseconds. Proving: with the start of Python, no setup."
    )
    console.print(
        "A proof by ezkl hides the weights and all inner values, one by sumcheck nothing."
    )
    console.print(told)

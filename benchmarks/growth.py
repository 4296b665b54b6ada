"""How the time of proving one block grows: over positions, and over the width of the model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import console, gibibytes, table
from benchmarks.proofs import Figures, measure
from benchmarks.synthetic import block_config, exact_model, random_run
from zkllm.exact.model import ExactModel
from zkllm.planning import Costs, plan
from zkllm.threads import usable_cores
from zkllm.wording import bytes_text

PLOT = Path(__file__).resolve().parents[1] / "docs" / "sumcheck-growth.svg"
WIDTH, POSITIONS = 768, 64
OVER_POSITIONS = (16, 32, 64, 128, 256, 512, 1024)
OVER_WIDTHS = (384, 768, 1024, 1280, 1600)


@dataclass(frozen=True, slots=True)
class Point:
    """One block and what proving it took, in one process."""

    width: int
    positions: int
    cells: int
    multiply_adds: int
    figures: Figures

    @property
    def seconds(self) -> float:
        return statistics.median(self.figures.call_seconds)


def grow(work: Path, repeat: int) -> list[Point]:
    """Measure and print; what does not fit the memory of this machine is left out."""
    models: dict[int, ExactModel] = {}
    sizes = dict.fromkeys((WIDTH, positions) for positions in OVER_POSITIONS)
    sizes |= dict.fromkeys((width, POSITIONS) for width in OVER_WIDTHS)
    points = []
    for width, positions in sizes:
        if width not in models:
            folder = work / f"model{width}"
            models[width] = exact_model(block_config(width), folder, blocks=(0, 1))
        planned = plan(models[width].specification, "sumcheck", positions, jobs=1)
        if planned.problem:
            console.print(f"d = {width}, T = {positions}: {planned.problem}")
            continue
        console.print(f"[dim]d = {width}, T = {positions}[/]")
        points.append(_point(models[width], planned, work, repeat))
    _show(points)
    return points


def _point(model: ExactModel, planned: Costs, work: Path, repeat: int) -> Point:
    trace = random_run(model, planned.tokens)
    estimates = planned.estimates.values()
    return Point(
        width=model.specification.architecture.width,
        positions=planned.tokens,
        cells=sum(estimate.rows for estimate in estimates),
        multiply_adds=sum(estimate.multiply_adds for estimate in estimates),
        figures=measure(model.folder or work, trace, work / "run", jobs=1, repeat=repeat),
    )


def _show(points: Sequence[Point]) -> None:
    told = table("d", "T", "cells", "multiply-adds", "prove", "µs/cell", "evidence", "memory")
    for point in points:
        told.add_row(
            str(point.width),
            str(point.positions),
            f"{point.cells:,}",
            f"{point.multiply_adds:,}",
            f"{point.seconds:.2f} s",
            f"{1e6 * point.seconds / point.cells:.3f}",
            bytes_text(point.figures.evidence_bytes),
            gibibytes(point.figures.prove.peak_bytes),
        )
    console.print("\none block of GPT-2's form, proved in one process, weights held")
    console.print(told)


def draw(points: Sequence[Point]) -> None:
    """Seconds over cells, both logarithmic, beside a line of slope 1; written to `PLOT`."""
    import matplotlib as mpl

    mpl.use("svg")
    # without salt and date, the same figures give the same file
    mpl.rcParams["svg.hashsalt"] = "zkllm"
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    figure, axes = pyplot.subplots(figsize=(7, 4.4), layout="constrained")
    cells = sorted(point.cells for point in points)
    ends = cells[0], cells[-1]
    # that of all together: what small blocks cost besides their cells then shows
    rate = sum(point.seconds for point in points) / sum(cells)
    axes.plot(
        ends,
        [rate * end for end in ends],
        "--",
        color="0.6",
        label=f"slope 1: {1e6 * rate:.2g} µs a cell",
        zorder=1,
    )
    over_positions = [point for point in points if point.width == WIDTH]
    over_width = [point for point in points if point.positions == POSITIONS]
    for found, mark, colour, name in (
        (over_positions, "o", "#1f5fa8", "T = {} to {} at d = " + str(WIDTH)),
        (over_width, "s", "#c2571a", "d = {} to {} at T = " + str(POSITIONS)),
    ):
        grown = [point.positions if found is over_positions else point.width for point in found]
        places = [(point.cells, point.seconds) for point in found]
        label = name.format(min(grown), max(grown))
        axes.plot(
            *zip(*places, strict=True), mark, color=colour, label=label, markersize=6, zorder=4
        )
        shift: dict[str, Any] = {"xytext": (7, -11)}
        if found is over_width:
            shift = {"xytext": (-5, 5), "ha": "right"}
        for number, place in zip(grown, places, strict=True):
            axes.annotate(
                str(number),
                place,
                textcoords="offset points",
                color=colour,
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3},
                zorder=3,
                **shift,
            )
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("cells that are committed to or looked up")
    axes.set_ylabel("seconds to a verified bundle")
    axes.set_title(f"Proving one block by sumcheck, on {usable_cores()} cores", loc="left")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g} s")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g} M")
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PLOT, metadata={"Date": None})
    console.print(f"plot: {PLOT.name}")

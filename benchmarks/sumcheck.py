"""What proofs by sumcheck cost, beside what they must and what they should cost.

    python -m benchmarks.sumcheck block     one GPT-2-small block at T = 64, in both weight modes
    python -m benchmarks.sumcheck demo      the demo model, all units
    python -m benchmarks.sumcheck beside    a block beside ezkl's largest attention unit here
    python -m benchmarks.sumcheck whole     all of GPT-2 small, 1 and 32 generated tokens (minutes)
    python -m benchmarks.sumcheck growth    over T and width, plotted in docs/ (minutes)

Weights are random with the statistics of trained GPT-2. Proving is measured in a fresh process from
reading the trace to a bundle on disk that was verified (`benchmarks.once`); verifying is the wall
clock of `zkllm verify`, started cold. `--repeat N` prints medians.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import core_seconds, machine, medians, python, timed
from benchmarks.synthetic import GPT2_SMALL, exact_model
from zkllm import bundle as container
from zkllm.backends import get_backend
from zkllm.backends.sumcheck.estimates import circuit_of
from zkllm.bundle import Bundle
from zkllm.demonstrating import NEW_TOKENS, PROMPT
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification, multiply_adds
from zkllm.exporting import export
from zkllm.files import unit_file_name
from zkllm.keys import policy_for, setup
from zkllm.output import bytes_text
from zkllm.running import run, run_fragment
from zkllm.verifying import claims

POSITIONS = 64
BLOCK = GPT2_SMALL | {"n_layer": 1, "vocab_size": 64}
EZKL_UNIT = GPT2_SMALL | {
    **{"n_embd": 64, "n_head": 1, "n_layer": 1, "n_positions": 16},
    **{"vocab_size": 29, "eos_token_id": 28},
}
"""ezkl proves attention up to this width and 16 positions: see `EZKL_MAX_WIDTH` and circuits/."""
HEAD_SIZE = 64
PLOT = Path(__file__).resolve().parents[1] / "docs" / "sumcheck-growth.svg"

console = Console(highlight=False)


@dataclass(frozen=True)
class Goal:
    """What a measurement must keep to, and what it aims at; 0 where nothing was said."""

    prove: tuple[float, float]
    verify: tuple[float, float] = (0, 0)
    proof: tuple[float, float] = (0, 0)
    memory: tuple[float, float] = (0, 0)


HELD = Goal((5, 1.5), (1.5, 0.7), (3e6, 0.5e6), (4 << 30, 2 << 30))
COMMITTED = Goal((8, 2.5), (1.5, 0.7), (5e6, 1e6), (6 << 30, 3 << 30))
WHOLE = {1: Goal((90, 20), memory=(12 << 30, 0)), 32: Goal((120, 30), memory=(12 << 30, 0))}
DEMO = Goal((3, 1))


@contextmanager
def workplace() -> Iterator[Path]:
    """An empty folder, after the machine was named and kernels were compiled."""
    from zkllm.backends.sumcheck import kernels

    console.print(machine())
    kernels.prepare(console.print)
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def block_trace(model: ExactModel, positions: int) -> Bundle:
    """A run of a fragment on random rows."""
    width = model.specification.architecture.width
    rows = np.random.default_rng(0).integers(-(1 << 14), 1 << 14, (positions, width))
    return run_fragment(model, rows, device="cpu")


def measured(trace: Bundle, work: Path, repeat: int, keys: Path | None = None) -> dict[str, Any]:
    """Prove and verify `trace` of the model in `work`/model: medians of `repeat` runs."""
    folder, path, bundle, policy = (
        work / name for name in ("model", "run.trace", "run.bundle", "policy.toml")
    )
    container.save(trace, ExactModel.from_folder(folder).specification, path)
    policy.write_text(policy_for(folder, keys, backends=["sumcheck"]).to_toml())
    places = [folder, bundle, *([] if keys is None else [keys])]
    command: list[Path | str] = [sys.executable, "-m", "zkllm", "verify", bundle]
    command += ["--policy", policy, "--model", folder]
    command += [] if keys is None else ["--keys", keys]

    def once() -> dict[str, Any]:
        wall, figures = timed(lambda: python("benchmarks.once", path, *places))
        verify, done = timed(lambda: subprocess.run(command, capture_output=True, check=False))
        if done.returncode:
            sys.exit(done.stderr.decode())
        return figures | {"process_seconds": wall, "verify_seconds": verify}

    return medians(once() for _ in range(repeat))


def show(rows: Mapping[str, tuple[dict[str, Any], Goal]]) -> None:
    """A row of figures each, and beneath it what it must keep to and aims at."""
    table = Table(box=None, header_style="dim")
    table.add_column("", no_wrap=True)
    for name in ("prove", "process", "verify", "proof", "bundle", "memory", "bits"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, (f, goal) in rows.items():
        table.add_row(
            name,
            f"{f['prove_seconds']:.2f} s",
            f"{f['process_seconds']:.2f} s",
            f"{f['verify_seconds']:.2f} s",
            bytes_text(f["proof_bytes"]),
            bytes_text(f["bundle_bytes"]),
            bytes_text(f["memory_bytes"]),
            f"{f['soundness_bits']:.1f}",
        )
        for index, word in enumerate(("must", "aim")):
            prove, verify, proof, memory = (
                limits[index] for limits in (goal.prove, goal.verify, goal.proof, goal.memory)
            )
            table.add_row(
                f"  {word}",
                f"{prove:g} s",
                "",
                f"{verify:g} s" if verify else "",
                bytes_text(proof) if proof else "",
                "",
                bytes_text(memory) if memory else "",
                style="dim",
            )
    console.print(table)


repeat_option = click.option("--repeat", default=1, show_default=True, help="Print medians.")


@click.group(help=__doc__)
def main() -> None:
    """What proofs by sumcheck cost."""


@main.command()
@repeat_option
def block(repeat: int) -> None:
    """One GPT-2-small block, attention and MLP, at T = 64."""
    with workplace() as work:
        model = exact_model(BLOCK, work / "model", blocks=(0, 1))
        trace = block_trace(model, POSITIONS)
        held = measured(trace, work, repeat)
        seconds, _ = timed(lambda: setup(model, "sumcheck", work / "keys"))
        committed = measured(trace, work, repeat, work / "keys")
        console.print(f"GPT-2-small block, T = {POSITIONS}; commitments made in {seconds:.1f} s")
        show({"weights held": (held, HELD), "weights committed": (committed, COMMITTED)})


@main.command()
@repeat_option
def demo(repeat: int) -> None:
    """The demo model, all units."""
    with workplace() as work:
        export("demo", work / "model")
        model = ExactModel.from_folder(work / "model")
        trace = run(model, PROMPT, NEW_TOKENS, device="cpu")
        figures = measured(trace, work, repeat)
        console.print(f"the demo model, {len(model.specification.units())} units")
        show({"weights held": (figures, DEMO)})


@main.command()
@repeat_option
@click.option("--committed", is_flag=True, help="Commit to the weights as well.")
def whole(repeat: int, committed: bool) -> None:
    """All of GPT-2 small at T = 64, with 1 and with 32 generated tokens."""
    with workplace() as work:
        seconds, model = timed(lambda: exact_model(GPT2_SMALL, work / "model"))
        console.print(f"exact model made and compiled in {seconds:.0f} s")
        keys = None
        if committed:
            keys = work / "keys"
            seconds, _ = timed(lambda: setup(model, "sumcheck", work / "keys"))
            console.print(f"commitments made in {seconds:.0f} s")
        rows = {}
        for generated, goal in WHOLE.items():
            words = np.random.default_rng(0).integers(0, 50256, POSITIONS + 1 - generated)
            prompt = " ".join(f"w{word}" for word in words)
            trace = run(work / "model", prompt, generated, device="cpu")
            name = f"{len(trace.statement.generated_ids)} generated"
            rows[name] = (measured(trace, work, repeat, keys), goal)
        console.print(f"GPT-2 small, T = {POSITIONS}, {len(model.specification.units())} units")
        show(rows)


def cells_of(specification: Specification, positions: int) -> int:
    """Committed and looked-up cells of all units."""
    units = specification.units()
    return sum(circuit_of(specification, unit, positions).plan.cost() for unit in units)


def work_of(specification: Specification, positions: int) -> int:
    """Multiply-adds of all units."""
    return sum(multiply_adds(specification, unit, positions) for unit in specification.units())


@main.command()
@repeat_option
@click.option("--most", default=1024, show_default=True, help="Positions at most.")
def growth(repeat: int, most: int) -> None:
    """One block over T at width 768, and over the width at T = 64."""
    series: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    table = Table(box=None, header_style="dim")
    columns = ("width", "T", "multiply-adds", "cells", "prove", "s / Mcell", "proof", "memory")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    runs = [(768, 1 << k) for k in range(4, 11) if 1 << k <= most]
    runs += [(width, POSITIONS) for width in (384, 768, 1024, 1280, 1600)]
    with workplace() as work:
        for width, positions in runs:
            config = BLOCK | {"n_embd": width, "n_head": width // HEAD_SIZE}
            folder = work / f"{width}-{positions}"
            model = exact_model(config, folder / "model", blocks=(0, 1))
            cells = cells_of(model.specification, positions)
            figures = measured(block_trace(model, positions), folder, repeat)
            table.add_row(
                str(width),
                str(positions),
                f"{work_of(model.specification, positions):,}",
                f"{cells:,}",
                f"{figures['prove_seconds']:.2f} s",
                f"{1e6 * figures['prove_seconds'] / cells:.2f}",
                bytes_text(figures["proof_bytes"]),
                bytes_text(figures["memory_bytes"]),
            )
            name = "T = 16 to 1024, width 768" if width == 768 else "width 384 to 1600, T = 64"
            series.setdefault(name, []).append((cells, figures))
            console.print(f"[dim]width {width}, T = {positions}: done[/]")
    console.print(table)
    plot(series)


def plot(series: Mapping[str, list[tuple[int, dict[str, Any]]]]) -> None:
    """Seconds over cells, both logarithmic, beside a line of slope 1."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "zkllm"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    points = [(cells, f["prove_seconds"]) for found in series.values() for cells, f in found]
    first, last = min(points), max(points)
    ends = (first[0], last[0])
    slope = last[1] / last[0]
    axes.plot(ends, [slope * end for end in ends], "--", color="0.6", label="linear in cells")
    for (name, found), mark in zip(series.items(), "os", strict=False):
        seconds = [f["prove_seconds"] for _, f in found]
        axes.plot([cells for cells, _ in found], seconds, mark, label=name, markersize=6)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("cells committed to and looked up")
    axes.set_ylabel("seconds to a verified bundle")
    axes.set_title("Proving one GPT-2 block by sumcheck", loc="left")
    axes.grid(visible=True, which="major", color="0.9")
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(PLOT, metadata={"Date": None})
    console.print(f"plot in {PLOT.name}")


@main.command()
@repeat_option
def beside(repeat: int) -> None:
    """Core-seconds and bytes per multiply-add, beside ezkl's largest attention unit here."""
    with workplace() as work:
        model = exact_model(BLOCK, work / "model", blocks=(0, 1))
        own = measured(block_trace(model, POSITIONS), work, repeat)
        own |= {"work": work_of(model.specification, POSITIONS)}
        other = exact_model(EZKL_UNIT, work / "small", blocks=(0, 1), preset="ezkl")
        ezkl = ezkl_attention(other, EZKL_UNIT["n_positions"], work / "keys")
    table = Table(box=None, header_style="dim")
    for column in (
        "",
        "multiply-adds",
        "prove",
        "core-seconds",
        "proof",
        "core-s / M",
        "bytes / M",
    ):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    rows = {"a block of GPT-2 small, sumcheck": own, "attention, width 64, T = 16, ezkl": ezkl}
    for name, f in rows.items():
        table.add_row(
            name,
            f"{f['work']:,}",
            f"{f['prove_seconds']:.1f} s",
            f"{f['core_seconds']:.1f}",
            bytes_text(f["proof_bytes"]),
            f"{1e6 * f['core_seconds'] / f['work']:.4f}",
            f"{1e6 * f['proof_bytes'] / f['work']:,.0f}",
        )
    ratios = (
        (f"{ezkl[key] / ezkl['work'] / (own[key] / own['work']):,.0f}")
        for key in ("core_seconds", "proof_bytes")
    )
    table.add_row("ezkl / sumcheck, per multiply-add", "", "", "", "", *ratios)
    console.print("ezkl's proof hides weights and inner values, sumcheck's hides nothing")
    console.print(table)


def ezkl_attention(model: ExactModel, positions: int, keys: Path) -> dict[str, Any]:
    """The attention unit of `model` with ezkl: setup is not counted."""
    backend = get_backend("ezkl")
    claim = next(iter(claims(block_trace(model, positions), model.specification)))
    console.print(f"[dim]ezkl: keys of {claim.unit}[/]")
    pin = backend.setup(model, claim.unit, positions, keys)
    before = core_seconds()
    seconds, evidence = timed(lambda: backend.prove(model, claim, keys))
    spent = core_seconds() - before
    checked = backend.verify(claim, evidence, model, pin, keys)
    size = (keys / unit_file_name(claim.unit) / "pk.key").stat().st_size
    console.print(f"[dim]ezkl: proving key of {bytes_text(size)}[/]")
    return {
        "work": multiply_adds(model.specification, claim.unit, positions),
        "prove_seconds": seconds,
        "core_seconds": spent,
        "proof_bytes": checked.details["proof_bytes"],
    }


if __name__ == "__main__":
    main()

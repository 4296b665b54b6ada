"""What proofs by sumcheck cost, beside what they must and what they should cost.

\b
    python -m benchmarks.sumcheck block     one GPT-2-small block, in both weight modes
    python -m benchmarks.sumcheck demo      the demo model, all units
    python -m benchmarks.sumcheck beside    the block beside attention units proved by ezkl
    python -m benchmarks.sumcheck whole     all of GPT-2 small (minutes, 12 GiB)
    python -m benchmarks.sumcheck growth    over T and width, plotted in docs/ (minutes)
    python -m benchmarks.sumcheck against DIR   beside another checkout of zkllm (10 minutes)
    python -m benchmarks.sumcheck soundness bits of every unit of GPT-2 small (a minute, 2.5 GiB)

Without arguments: the first three. Weights are random with the statistics of trained GPT-2.
`prove` is the call of `zkllm.proving.prove` in a fresh process, from reading the trace to a bundle
on disk that was verified, with kernels that were compiled before; `process` is the whole process,
`memory` its peak with all that it starts (`benchmarks.measuring`). `verify` is the wall clock of
`zkllm verify`, started cold. `evidence` are the bytes of all proofs, without the boundaries.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.against import CASES, compare
from benchmarks.measuring import console, gibibytes, machine, table, timed
from benchmarks.proofs import Figures, measure
from benchmarks.synthetic import GPT2_SMALL, block_config, exact_model, random_run
from zkllm.demonstrating import NEW_TOKENS, PROMPT
from zkllm.exporting import export
from zkllm.keys import setup
from zkllm.running import run
from zkllm.wording import bytes_text

POSITIONS = 64
WIDTH = GPT2_SMALL["n_embd"]


@dataclass(frozen=True, slots=True)
class Goal:
    """Seconds and bytes; 0 where nothing is demanded."""

    prove: float
    verify: float = 0
    evidence: float = 0
    gibibytes: float = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, with what it must keep to and what it aims at."""

    name: str
    figures: Figures
    must: Goal
    aim: Goal


@contextmanager
def workplace() -> Iterator[Path]:
    """An empty folder, once the kernels are compiled."""
    from zkllm.engines.sumcheck import kernels

    kernels.prepare(console.print)
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def spread(seconds: Sequence[float]) -> str:
    """The time of one run, or the least and the most of several."""
    low, high = min(seconds), max(seconds)
    return f"{low:.2f} s" if len(seconds) == 1 else f"{low:.2f} - {high:.2f} s"


def show(title: str, rows: list[Row]) -> None:
    """Figures, and beneath them what they must keep to and aim at."""
    told = table("", "prove", "process", "verify", "evidence", "boundaries", "memory")
    for row in rows:
        f = row.figures
        told.add_row(
            row.name,
            spread(f.call_seconds),
            f"{f.prove.seconds:.2f} s",
            spread(f.verify_seconds),
            bytes_text(f.evidence_bytes),
            bytes_text(f.boundary_bytes),
            gibibytes(f.prove.peak_bytes),
        )
        for word, goal in (("must", row.must), ("aim", row.aim)):
            told.add_row(
                word,
                f"{goal.prove:g} s",
                "",
                f"{goal.verify:g} s" if goal.verify else "",
                bytes_text(goal.evidence) if goal.evidence else "",
                "",
                f"{goal.gibibytes:g} GiB" if goal.gibibytes else "",
                style="dim",
            )
    console.print(f"\n{title}")
    console.print(told)


repeat_option = click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Tell ranges of times.",
)


@click.group(help=__doc__, invoke_without_command=True)
@click.pass_context
def main(ctx: click.Context) -> None:
    console.print(machine())
    if ctx.invoked_subcommand is None:
        for command in (block, demo, beside):
            ctx.invoke(command)


@main.command()
@repeat_option
def block(repeat: int) -> None:
    """One block of GPT-2 small, attention and MLP."""
    with workplace() as work:
        model, keys = work / "model", work / "keys"
        trace = random_run(exact_model(block_config(WIDTH), model, blocks=(0, 1)), POSITIONS)
        held = measure(model, trace, work, repeat=repeat)
        seconds, _ = timed(lambda: setup(model, "sumcheck", keys))
        committed = measure(model, trace, work, keys=keys, repeat=repeat)
    rows = [
        Row("weights held", held, Goal(5, 1.5, 3e6, 4), Goal(1.5, 0.7, 0.5e6, 2)),
        Row("weights committed", committed, Goal(8, 1.5, 5e6, 6), Goal(2.5, 0.7, 1e6, 3)),
    ]
    show(f"a block of GPT-2 small, T = {POSITIONS}; commitments made in {seconds:.1f} s", rows)


@main.command()
@repeat_option
def demo(repeat: int) -> None:
    """The demo model, all units."""
    with workplace() as work:
        exported = export("demo", work / "model")
        trace = run(exported.folder, PROMPT, NEW_TOKENS, device="cpu")
        figures = measure(exported.folder, trace, work, repeat=repeat)
    title = f"the demo model, {len(exported.units)} units, T = {trace.statement.positions}"
    show(title, [Row("weights held", figures, Goal(3), Goal(1))])


@main.command()
@repeat_option
@click.option("--committed", is_flag=True, help="Commit to the weights.")
def whole(repeat: int, committed: bool) -> None:
    """All of GPT-2 small, with 1 and with 32 generated tokens."""
    goals = {1: (Goal(90, gibibytes=12), Goal(20)), 32: (Goal(120, gibibytes=12), Goal(30))}
    # a completion that ends early would be less work
    config = GPT2_SMALL | {"eos_token_id": None}
    title = f"GPT-2 small, {GPT2_SMALL['n_layer']} blocks, T = {POSITIONS}"
    with workplace() as work:
        model = exact_model(config, work / "model").folder or work
        keys = work / "keys" if committed else None
        if keys is not None:
            seconds, _ = timed(lambda: setup(model, "sumcheck", keys))
            title += f"; commitments made in {seconds:.0f} s"
        rows = []
        for generated, (must, aim) in goals.items():
            ids = np.random.default_rng(0).integers(0, config["vocab_size"], POSITIONS)
            prompt = " ".join(f"w{i}" for i in ids[: POSITIONS + 1 - generated])
            trace = run(model, prompt, generated, device="cpu")
            figures = measure(model, trace, work, keys=keys, repeat=repeat)
            rows.append(Row(f"{generated} generated", figures, must, aim))
    show(title, rows)


@main.command()
@repeat_option
@click.option("--width", default=64, show_default=True, help="Of ezkl's largest unit.")
def beside(repeat: int, width: int) -> None:
    """Core-seconds and bytes per multiply-add, beside attention units proved by ezkl."""
    from benchmarks.beside import compare

    with workplace() as work:
        compare(work, repeat)


@main.command()
@repeat_option
def growth(repeat: int) -> None:
    """One block at T = 16 to 1024, and at width 384 to 1600."""
    from benchmarks.growth import draw, grow

    with workplace() as work:
        draw(grow(work, repeat))


@main.command()
@click.argument("checkout", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--only", type=click.Choice(CASES), multiple=True, help="Of the three cases.")
@repeat_option
def against(checkout: Path, only: tuple[str, ...], repeat: int) -> None:
    """GPT-2 small and one block of it, beside what another checkout takes; the same bytes."""
    with workplace() as work:
        compare(checkout, work, only or CASES, repeat)


@main.command()
def soundness() -> None:
    """Bits of soundness of all units of GPT-2 small; nothing is proved for it."""
    from benchmarks.soundness import tell

    tell((POSITIONS, GPT2_SMALL["n_positions"]))


if __name__ == "__main__":
    main()

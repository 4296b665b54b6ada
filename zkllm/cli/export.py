"""`zkllm export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zkllm import output
from zkllm.cli import options
from zkllm.files import as_text, read_limited
from zkllm.wording import bytes_text, unit_ranges

if TYPE_CHECKING:
    from zkllm.exporting import Export


@click.command("export")
@click.argument("checkpoint")
@click.option("-o", "--output", "folder", type=options.PATH, metavar="DIR", help="Where to.")
@click.option(
    "--blocks",
    type=options.BlockRange(),
    help="Only blocks i to j-1, as a fragment from hidden states to hidden states.",
)
@click.option(
    "--preset",
    type=click.Choice(["wide", "ezkl"]),
    help="Precision: wide for fidelity (default), ezkl for what ezkl is to prove.",
)
@click.option("--text", type=options.PATH, help="Text for the fidelity report.")
@click.option(
    "--check",
    type=options.PATH,
    metavar="DIR",
    help="Export nothing: derive the model again and compare it with DIR.",
)
@options.force
@options.as_json
def command(
    checkpoint: str,
    folder: Path | None,
    blocks: tuple[int, int] | None,
    preset: str | None,
    text: Path | None,
    check: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make an exact model from CHECKPOINT, a folder with a GPT-2.

    The layouts of Hugging Face, nanoGPT and minGPT are read; docs/checkpoints.md lists the files.
    `demo` names the bundled checkpoint. The exact model is integers only: every machine that runs
    it gets the same bits, and its digest is its name.

    \b
      zkllm export demo -o model
      zkllm export gpt2/ -o block5 --blocks 5:6
      zkllm export demo --check model
    """
    from zkllm import exporting

    if (folder is None) == (check is None):
        raise click.UsageError("give either --output DIR or --check DIR")
    if check is not None:
        with output.spinner("deriving the model again"):
            digest = exporting.check(check, checkpoint)
        if as_json:
            output.emit_json({"model": digest, "same": True})
        else:
            output.paragraph(output.out, "[green]same model[/] ", digest)
        return
    given = None if text is None else as_text(read_limited(text, exporting.MAX_TEXT), text)
    with output.spinner("exporting") as progress:
        result = exporting.export(
            checkpoint,
            folder or Path(),
            preset=preset,
            blocks=blocks,
            text=given,
            force=force,
            progress=progress,
        )
    if as_json:
        output.emit_json(result.to_json())
    else:
        _show(result)


def _show(result: Export) -> None:
    from zkllm.exporting import GOAL_AGREEMENT, GOAL_PERPLEXITY

    f = result.fidelity
    rows: list[tuple[str, str]] = []
    rows.append(("model", result.digest))
    rows.append(("units", unit_ranges(result.units)))
    rows.append(("preset", f"{result.preset}; residual stream within {result.residual_bits} bits"))
    rows.append(("on disk", bytes_text(result.size)))
    rows.append(("compared on", f"{f.positions} positions of {f.text}"))
    if f.agreement is not None:
        rows.append(("same token", f"{f.agreement:.2%} of positions (goal {GOAL_AGREEMENT:.0%})"))
        rows.append(("KL", f"{f.divergence:.2e} nats per token"))
        rows.append(
            ("perplexity", f"{f.perplexity_ratio:.4f} of float32's (goal {GOAL_PERPLEXITY})")
        )
    rows.append(("relative error", f"{f.relative_error:.2e} of the last hidden states"))
    if result.shortfall:
        rows.append(("below the goal", result.shortfall))
    rows += [("note", note) for note in result.notes]
    output.out.print(f"[bold]exact model[/] in {output.shown(result.folder)}")
    output.facts(rows)

"""`zkllm demo`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.markup import escape

from zkllm import output
from zkllm.cli import options
from zkllm.errors import BackendError, VerificationError
from zkllm.extras import missing
from zkllm.verifying import Report


@click.command("demo")
@click.option("-p", "--prompt", help="Another sum; two-digit numbers.  [default: 12+34=]")
@click.option("-o", "--output", "folder", type=options.PATH, metavar="DIR", help="Keep all files.")
@options.force
def command(prompt: str | None, folder: Path | None, force: bool) -> None:
    """Export the bundled model, run it, prove and verify the run, and refuse a forgery.

    The model adds two-digit numbers. Where ezkl is installed its attention is proved in zero
    knowledge of the inner values and weights, over an insecure development SRS made on the spot.
    Every other unit is proved by sumcheck, which hides nothing.
    """
    from zkllm import demonstrating

    if not demonstrating.has_ezkl():
        output.err.print("[yellow]ezkl is not installed:[/] sumcheck proves attention too")
        output.err.print(escape(f"hint: {missing('ezkl').hint}"), style="cyan")
    refused = False
    with tempfile.TemporaryDirectory(prefix="zkllm-demo-") as temporary:
        target = folder or Path(temporary)
        with output.spinner("exporting") as progress:
            for event in demonstrating.demonstrate(
                target,
                prompt=prompt or demonstrating.PROMPT,
                force=force or folder is None,
                progress=progress,
            ):
                if isinstance(event, Report):
                    output.report(event)
                elif isinstance(event, VerificationError):
                    refused = True
                    output.out.print(f"[bold red]refused[/] {output.shown(event.message)}")
                else:
                    result = output.shown(event.result)
                    output.out.print(f"{event.title:<7} [dim]{event.seconds:6.1f} s[/]  {result}")
    if not refused:
        raise BackendError("the forged bundle was not refused: do not trust this installation")
    if folder is not None:
        output.err.print(f"everything is in {output.shown(folder)}", style="dim")

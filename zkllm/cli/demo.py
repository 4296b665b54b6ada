"""`zkllm demo`."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zkllm import output
from zkllm.cli import options
from zkllm.errors import BackendError, VerificationError
from zkllm.extras import missing
from zkllm.verdict import Report

if TYPE_CHECKING:
    from zkllm.demonstrating import Step


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

    ezkl = demonstrating.has_ezkl()
    if not ezkl:
        output.note("ezkl is not installed: sumcheck proves attention too")
        output.hint(missing("ezkl").hint)
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
                _show(event)
                refused = isinstance(event, VerificationError)
    if not refused:
        raise BackendError("the forged bundle was not refused: do not trust this installation")
    output.paragraph(
        output.out,
        "\n[bold green]as it should be:[/] ",
        "the forged bundle was changed on purpose, every digest was made to fit, and only the "
        "proofs could tell",
    )
    _show_next(folder, ezkl=ezkl)


def _show(event: Step | Report | VerificationError) -> None:
    if isinstance(event, Report):
        output.report(event, Path("answer.bundle"))
    elif isinstance(event, VerificationError):
        output.failure(event, Path("forged.bundle"))
    else:
        head = f"{event.title:<6} [dim]{event.seconds:5.1f} s[/]  "
        output.paragraph(output.out, head, event.result, 16)


def _show_next(folder: Path | None, *, ezkl: bool) -> None:
    """What to type now."""
    where = folder or Path("demo")
    commands = ["zkllm demo -o demo"] if folder is None else []
    model = shlex.quote(str(where / "model"))
    bundle = shlex.quote(str(where / "answer.bundle"))
    policy = shlex.quote(str(where / "policy.toml"))
    keys = f" --keys {shlex.quote(str(where / 'keys'))}" if ezkl else ""
    commands.append(f"zkllm inspect {bundle} --model {model}")
    commands.append(f"zkllm verify {bundle} --policy {policy} --model {model}{keys}")
    kept = "keep the files, and try" if folder is None else f"everything is in {folder}, try"
    output.paragraph(output.out, "", f"next: {kept}")
    for each in commands:
        output.command(each)
    output.paragraph(output.out, "", "every step on its own: zkllm --help")

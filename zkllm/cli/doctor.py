"""`zkllm doctor`."""

from __future__ import annotations

import click

from zkllm import output
from zkllm.cli import options
from zkllm.diagnosing import Diagnosis
from zkllm.wording import bytes_text


@click.command("doctor")
@options.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what this installation and this machine bring, and what is wrong with them.

    Exit code 5 if something that is installed cannot work.
    """
    from zkllm.diagnosing import diagnose

    found = diagnose()
    if as_json:
        output.emit_json(found.to_json())
    else:
        _show(found)
    ctx.exit(5 if found.problems else 0)


def _show(found: Diagnosis) -> None:
    rows = [
        ("zkllm", found.zkllm),
        ("python", found.python),
        ("machine", f"{found.machine}, {found.cores} cores"),
        ("memory", f"{bytes_text(found.memory_bytes)} available"),
    ]
    for package in found.packages:
        absent = f"not installed: it comes with the extra {package.extra!r}"
        rows.append((package.name, package.version or absent))
    if found.providers:
        rows.append(("devices", ", ".join(found.providers)))
    if found.kernels is not None:
        state = "compiled" if found.compiled else "not compiled yet: the first proof will, in 10 s"
        rows.append(("kernels", f"{state}, in {found.kernels}"))
    output.facts(rows)
    for problem in found.problems:
        output.paragraph(output.out, "[bold red]problem:[/] ", problem)
    if not found.problems:
        output.out.print("[bold green]nothing is wrong[/]")

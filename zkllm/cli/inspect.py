"""`zkllm inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zkllm import output
from zkllm.cli import options
from zkllm.wording import one_line, quoted


@click.command("inspect")
@click.argument("file", type=options.PATH)
@click.option(
    "--model",
    type=options.PATH,
    metavar="DIR",
    help="The exact model of a bundle, to tell the soundness of its proofs, or of hidden states, "
    "to tell their digest.",
)
@click.option("--pad", type=int, metavar="T", help="Hidden states of a run that was filled up.")
@options.as_json
def command(file: Path, model: Path | None, pad: int | None, as_json: bool) -> None:
    """Show FILE: a trace, a bundle, a policy, a commitment, or an exact model's folder.

    Inspecting is not verifying: nothing that is shown has been checked. Of hidden states, a .npy
    file, it tells the digest that a verified fragment with this input shows as `input`.

    \b
      zkllm inspect answer.bundle --model model
      zkllm inspect rows.npy --model block
    """
    from zkllm.inspecting import inspect

    facts = inspect(file, model, pad)
    said = "this is what the file says, nothing was checked"
    output.paragraph(output.err, "[yellow]not verified:[/] ", said)
    if as_json:
        output.emit_json(facts)
        return
    texts = {name: quoted(facts[name]) for name in ("prompt", "completion") if name in facts}
    output.facts([(name, _text(value)) for name, value in (facts | texts).items()])


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return one_line(str(value))

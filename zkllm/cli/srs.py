"""`zkllm srs`."""

from __future__ import annotations

from pathlib import Path

import click

from zkllm import output
from zkllm.cli import options


@click.group("srs")
def command() -> None:
    """The structured reference string: public parameters that ezkl's proofs rest on."""


@command.command("import", short_help="take a file of the ceremony into the folder of keys")
@click.argument("file", type=options.PATH)
@click.option(
    "--keys", type=options.PATH, default="keys", show_default=True, metavar="DIR", help="Where to."
)
def import_(file: Path, keys: Path) -> None:
    """Take FILE, a file of the perpetual powers of tau ceremony, into the folder of keys.

    It is recognised by its public digest and refused otherwise. Keys made afterwards need no
    trust in whoever ran setup.

    \b
      zkllm srs import kzg14.srs --keys keys
    """
    from zkllm.engines.ezkl.srs import import_srs

    with output.spinner("hashing"):
        target = import_srs(file, keys / "srs")
    output.out.print(f"public SRS in {output.shown(target)}")

"""`zkllm setup`."""

from __future__ import annotations

from pathlib import Path

import click

from zkllm import output
from zkllm.backends import get_backend
from zkllm.bundle import BackendName
from zkllm.cli import options


@click.command("setup")
@click.argument("model", type=options.PATH)
@options.backend
@options.units("Others get no keys.")
@click.option("--tokens", type=int, metavar="T", help="ezkl: positions of a run.  [default: 8]")
@click.option(
    "--keys", type=options.PATH, default="keys", show_default=True, metavar="DIR", help="Where to."
)
@click.option("--audit", is_flag=True, help="ezkl: rebuild the constraints from the keys.")
@options.as_json
def command(
    model: Path,
    backend: BackendName,
    units: tuple[str, ...],
    tokens: int | None,
    keys: Path,
    audit: bool,
    as_json: bool,
) -> None:
    """Make what a policy pins of each unit of MODEL, and print its digests.

    ezkl: the keys of a circuit for runs of T positions. Without the parameters of a public
    ceremony (zkllm srs import) an insecure development SRS is made: whoever has it can forge
    proofs.

    sumcheck: a commitment to the unit's weights, for runs of any length; it rests on a hash
    function alone. A verifier who pins it needs no weights. It hides nothing.

    Keys that are there are made again, and refused if they are not of MODEL.

    \b
      zkllm setup model --keys commitments
      zkllm setup model --backend ezkl --tokens 8 --keys keys --audit
    """
    chosen = get_backend(backend)
    if audit and not chosen.audits:
        raise click.UsageError(f"--audit reads keys of ezkl; {backend} has none")
    if tokens is not None and not chosen.fixed_length:
        raise click.UsageError(f"--tokens is for ezkl; {backend} commits for any length")
    from zkllm import keys as keyring

    with output.spinner("making keys") as progress:
        pins = keyring.setup(
            model,
            backend,
            keys,
            tokens=8 if tokens is None else tokens,
            units=units,
            audit=audit,
            progress=progress,
        )
    reports = {unit: pin.audit for unit, pin in pins.items() if audit}
    if as_json:
        output.emit_json(
            {
                "audit": reports,
                "keys": {unit: pin.digests for unit, pin in pins.items()},
            }
        )
        return
    rows = output.table("unit", "artefact", "digest")
    for unit, pin in pins.items():
        for name, digest in pin.digests.items():
            rows.add_row(unit, name, digest)
    output.show(rows)
    for unit, line in reports.items():
        output.paragraph(output.out, "[green]audit[/] ", f"{unit}: {line}")

"""`zkllm setup`."""

from __future__ import annotations

from pathlib import Path

import click

from zkllm import output
from zkllm.bundle import BackendName
from zkllm.cli import options


@click.command("setup")
@click.argument("model", type=options.PATH)
@options.backend
@options.units
@click.option("--tokens", type=int, default=8, show_default=True, help="T, fixed by the circuit.")
@click.option(
    "--keys", type=options.PATH, default="keys", show_default=True, metavar="DIR", help="Where to."
)
@click.option("--audit", is_flag=True, help="Rebuild the constraints from the keys and compare.")
@options.as_json
def command(
    model: Path,
    backend: BackendName,
    units: tuple[str, ...],
    tokens: int,
    keys: Path,
    audit: bool,
    as_json: bool,
) -> None:
    """Make the keys of MODEL for runs of a fixed number of positions; keys that are there stay.

    Prints the digests that a policy pins. Without the parameters of a public ceremony (zkllm srs
    import) an insecure development SRS is made: whoever has it can forge proofs.

    \b
      zkllm setup model --backend ezkl --tokens 8 --keys keys --audit
    """
    from zkllm import keys as keyring

    with output.spinner("making keys") as progress:
        pins = keyring.setup(
            model,
            backend,
            keys,
            tokens=tokens,
            units=units,
            progress=progress,
        )
        reports = keyring.audit(model, keys, list(pins), progress=progress) if audit else {}
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
        output.out.print(f"[green]audit[/] {output.shown(unit)}: {output.shown(line)}")

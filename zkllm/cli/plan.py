"""`zkllm plan`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from zkllm import output
from zkllm.bundle import BackendName
from zkllm.cli import options


@click.command("plan")
@click.argument("model", type=options.PATH)
@click.option("--tokens", type=int, default=8, show_default=True, help="T, positions of a run.")
@options.backends
@options.units
@options.as_json
def command(
    model: Path,
    tokens: int,
    backends: tuple[BackendName, ...],
    units: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what setup, prove and verify will cost, before anything is spent.

    Ends with exit code 5, and the number, where the work will not fit this machine's memory.

    \b
      zkllm plan model --tokens 8 --backend ezkl
    """
    from zkllm import planning
    from zkllm.exact.model import ExactModel

    specification = ExactModel.from_folder(model).specification
    result = planning.plan(specification, backends, tokens, units)
    if as_json:
        output.emit_json(asdict(result) | {"problem": result.problem})
    else:
        rows = output.table(
            "unit",
            "backend",
            "MACs",
            "rows",
            "k",
            "keys",
            "evidence",
            "memory",
            "setup",
            "prove",
            right=("MACs", "rows", "k", "keys", "evidence", "memory", "setup", "prove"),
        )
        for unit, e in result.estimates.items():
            rows.add_row(
                unit,
                result.backends[unit],
                f"{e.multiply_adds:,}",
                f"{e.rows:,}" if e.rows else "-",
                str(e.logrows or "-"),
                output.bytes_text(e.key_bytes) if e.key_bytes else "-",
                output.bytes_text(e.evidence_bytes),
                output.bytes_text(e.memory_bytes),
                f"{e.setup_seconds:.0f} s" if e.setup_seconds else "-",
                f"{e.prove_seconds:.0f} s" if e.prove_seconds else "-",
            )
        output.show(rows)
        output.out.print(
            f"boundaries {output.bytes_text(result.boundary_bytes)}; peak memory about "
            f"{output.bytes_text(result.memory_bytes)} of "
            f"{output.bytes_text(result.memory_available)} available"
        )
    result.require_fit()

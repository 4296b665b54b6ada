"""`zkllm plan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from zkllm import output
from zkllm.backends.base import Estimate
from zkllm.bundle import BackendName
from zkllm.cli import options
from zkllm.planning import Costs, plan
from zkllm.wording import bytes_text, seconds_text


@click.command("plan")
@click.argument("model", type=options.PATH)
@click.option("--tokens", type=int, default=8, show_default=True, help="T, positions of a run.")
@options.backends
@options.units("Others are replayed.")
@click.option(
    "-n", "--new-tokens", type=int, default=1, show_default=True, help="How many are generated."
)
@click.option("--with-keys", is_flag=True, help="sumcheck: as under commitments to the weights.")
@options.jobs
@options.as_json
def command(
    model: Path,
    tokens: int,
    new_tokens: int,
    with_keys: bool,
    backends: tuple[BackendName, ...],
    units: tuple[str, ...],
    jobs: int | None,
    as_json: bool,
) -> None:
    """Say what setup, prove and verify will cost, before anything is spent.

    Ends with exit code 5, and the number, where the work will not fit this machine's memory.

    \b
      zkllm plan model --tokens 16
      zkllm plan model --tokens 8 --backend ezkl --backend sumcheck
    """
    from zkllm.exact.model import ExactModel

    specification = ExactModel.from_folder(model).specification
    result = plan(
        specification, backends, tokens, units, generated=new_tokens, keys=with_keys, jobs=jobs
    )
    if as_json:
        facts = {"memory_bytes": result.memory_bytes, "problem": result.problem}
        output.emit_json(asdict(result) | facts)
    else:
        _show(result)
    result.require_fit()


def _show(result: Costs) -> None:
    columns: dict[str, Callable[[Estimate], str]] = {
        "MACs": lambda e: f"{e.multiply_adds:,}",
        "rows": lambda e: f"{e.rows:,}" if e.rows else "-",
        "k": lambda e: str(e.logrows or "-"),
        "keys": lambda e: bytes_text(e.key_bytes) if e.key_bytes else "-",
        "evidence": lambda e: bytes_text(e.evidence_bytes),
        "memory": lambda e: bytes_text(e.memory_bytes),
        "setup": lambda e: seconds_text(e.setup_seconds),
        "prove": lambda e: seconds_text(e.prove_seconds),
        "verify": lambda e: seconds_text(e.verify_seconds),
    }
    estimates = result.estimates.values()
    told = {name: text for name, text in columns.items() if any(text(e) != "-" for e in estimates)}
    spare = ("k", "rows", "MACs", "evidence", "setup", "keys", "verify", "memory")
    rows = output.table("unit", "backend", *told, right=tuple(told), drop=spare)
    for unit, estimate in result.estimates.items():
        rows.add_row(unit, result.backends[unit], *(text(estimate) for text in told.values()))
    output.show(rows)
    beside = f" with {result.jobs} units at once" if result.jobs > 1 else ""
    output.paragraph(
        output.out,
        "",
        f"boundaries {bytes_text(result.boundary_bytes)}; peak memory about "
        f"{bytes_text(result.memory_bytes)}{beside} of "
        f"{bytes_text(result.memory_available)} available",
    )

"""`zkllm prove`."""

from __future__ import annotations

from pathlib import Path

import click

from zkllm import output, reports
from zkllm.bundle import BackendName
from zkllm.cli import options
from zkllm.wording import bytes_text, unit_ranges


@click.command("prove")
@click.argument("trace", type=options.PATH)
@options.model
@options.backends
@options.units("Others are replayed.")
@options.keys
@options.jobs
@click.option("--nonce", default="", help="Repeat the client's nonce in the statement.")
@click.option("-o", "--output", "bundle", type=options.PATH, required=True, metavar="BUNDLE")
@options.force
@options.as_json
def command(
    trace: Path,
    model: Path,
    backends: tuple[BackendName, ...],
    units: tuple[str, ...],
    keys: Path | None,
    jobs: int | None,
    nonce: str,
    bundle: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Turn TRACE into a bundle that convinces others; it is verified before it is written.

    May be interrupted: the same command goes on with the units that are missing. With --keys,
    sumcheck proves under the commitments to the weights that are there; without, the verifier
    needs the weights.

    \b
      zkllm prove answer.trace --model model -o answer.bundle
      zkllm prove answer.trace --model model --keys commitments -o committed.bundle
    """
    from zkllm import planning, proving
    from zkllm.exact.model import ExactModel

    exact = ExactModel.from_folder(model)
    assignment = planning.assign(exact.specification, backends, units, keys=keys)
    with output.unit_progress(len(assignment)) as bar:
        report = proving.prove(
            trace,
            exact,
            assignment,
            bundle,
            keys=keys,
            nonce=nonce,
            force=force,
            jobs=jobs,
            progress=bar.tell,
            advance=bar.advance,
        )
    if nonce and not report.fresh:
        output.note("no unit binds the nonce, so a verifier who gives it refuses the bundle")
    held = [unit for unit, c in report.units.items() if c.details.get("weights") == "held"]
    if keys is not None and held:
        names = unit_ranges(held)
        output.note(f"no commitment to the weights of {names} is in {keys}: a verifier needs them")
    if as_json:
        output.emit_json(reports.report_json(report, bundle))
    else:
        output.out.print(f"bundle of {bytes_text(report.size)} in {output.shown(bundle)}")
        for group in reports.worst_first(report.units):
            output.paragraph(output.out, "", str(group))

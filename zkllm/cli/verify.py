"""`zkllm verify`."""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from zkllm import output, reports
from zkllm.bundle import largest_size
from zkllm.cli import options
from zkllm.errors import Error
from zkllm.files import read_stream, write_atomically
from zkllm.material import Material
from zkllm.reports import Outcome
from zkllm.verdict import Report, Request
from zkllm.verifying import verify_with


@click.command("verify")
@click.argument("bundles", nargs=-1, required=True, type=options.PATH)
@click.option("--policy", type=options.PATH, required=True, help="What you demand (yours!).")
@options.model
@options.keys
@click.option("--nonce", help="The nonce that the bundle must repeat and bind.")
@click.option("-p", "--prompt", help="The prompt that the bundle must answer.")
@options.prompt_file("The prompt that the bundle must answer, as it stands in FILE.")
@click.option("-n", "--new-tokens", type=int, help="How many tokens were asked for.")
@click.option("--junit", type=options.PATH, metavar="FILE", help="Write a JUnit report too.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    bundles: tuple[Path, ...],
    policy: Path,
    model: Path,
    keys: Path | None,
    nonce: str | None,
    prompt: str | None,
    prompt_file: Path | None,
    new_tokens: int | None,
    junit: Path | None,
    as_json: bool,
) -> None:
    """Check BUNDLES under a policy. Exit code 0 only if every one of them is verified.

    Policy, model and keys are the verifier's: they are read once, and what is wrong with them is
    an error of its own. Nothing that a bundle says about itself is believed before its evidence
    is checked. The report names, weakest first, how each unit was checked. - is standard input.

    \b
      zkllm verify answer.bundle --policy policy.toml --model model
      zkllm verify *.bundle --policy policy.toml --model model --junit report.xml
    """
    asked = [*map(str, bundles), prompt, str(prompt_file)].count(options.STDIN)
    if asked > 1:
        raise click.UsageError("standard input can be read once: give - once")
    request = Request(nonce, options.read_prompt(prompt, prompt_file), new_tokens)
    material = Material.gather(policy, model, keys)
    began = datetime.datetime.now(datetime.UTC)
    outcomes: list[Outcome] = []
    troubles: list[Error | OSError] = []
    for path in bundles:
        outcomes.append(_judge(path, material, request))
        if not as_json:
            with _noting(troubles):
                _show(outcomes[-1])
    if as_json:
        with _noting(troubles):
            output.emit_json(reports.outcomes_json(outcomes))
    if junit is not None:
        with _noting(troubles), write_atomically(junit) as file:
            file.write(reports.junit(outcomes, began))
    code = reports.exit_code(outcomes)
    if troubles and code == 0:
        raise troubles[0]
    if troubles:
        output.trouble(troubles[0])
    ctx.exit(code)


@contextlib.contextmanager
def _noting(troubles: list[Error | OSError]) -> Iterator[None]:
    """Go on where a report cannot be written: no verdict must be lost with it."""
    try:
        yield
    except (Error, OSError) as trouble:
        troubles.append(trouble)


def _judge(path: Path, material: Material, request: Request) -> Outcome:
    with output.spinner(f"verifying {path}") as progress:

        def check() -> Report:
            bundle = _standard_input(material) if str(path) == options.STDIN else path
            return verify_with(material, bundle, request=request, progress=progress)

        return reports.judge(path, check)


def _standard_input(material: Material) -> bytes:
    """A bundle, no longer than any can be that the policy allows."""
    limit = largest_size(material.model.specification, material.policy.units)
    return read_stream(sys.stdin.buffer, "standard input", limit)


def _show(outcome: Outcome) -> None:
    if isinstance(outcome.result, Error):
        output.failure(outcome.result, outcome.path)
    else:
        output.report(outcome.result, outcome.path)

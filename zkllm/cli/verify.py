"""`zkllm verify`."""

from __future__ import annotations

from pathlib import Path

import click

from zkllm import output
from zkllm.cli import options
from zkllm.errors import Error, VerificationError
from zkllm.files import write_atomically
from zkllm.verifying import Report, Request, verify


@click.command("verify")
@click.argument("bundles", nargs=-1, required=True, type=options.PATH)
@click.option("--policy", type=options.PATH, required=True, help="What you demand (yours!).")
@options.model
@options.keys
@click.option("--nonce", help="The nonce that the bundle must repeat and bind.")
@click.option("--prompt", help="The prompt that the bundle must answer.")
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
    new_tokens: int | None,
    junit: Path | None,
    as_json: bool,
) -> None:
    """Check BUNDLES under a policy. Exit code 0 only if every one of them is verified.

    Policy, model and keys are the verifier's; nothing that a bundle says about itself is believed
    before its evidence is checked. The report names, weakest first, how each unit was checked.

    \b
      zkllm verify answer.bundle --policy policy.toml --model model
      zkllm verify *.bundle --policy policy.toml --model model --junit report.xml
    """
    request = Request(nonce, prompt, new_tokens)
    results: list[tuple[Path, Report | Error]] = []
    for path in bundles:
        try:
            with output.spinner(f"verifying {path}") as progress:
                report = verify(
                    path, policy, model=model, keys=keys, request=request, progress=progress
                )
            results.append((path, report))
        except Error as failure:
            results.append((path, failure))
        if not as_json:
            _show(*results[-1])
    if as_json:
        output.emit_json({"bundles": [_json(*result) for result in results]})
    if junit is not None:
        with write_atomically(junit) as file:
            file.write(output.junit(results).encode())
    ctx.exit(_exit_code([result for _, result in results]))


def _show(path: Path, result: Report | Error) -> None:
    if isinstance(result, Error):
        output.out.print(f"[bold red]{output.verdict_of(result)}[/]  [dim]{output.shown(path)}[/]")
        output.error(result)
    else:
        output.report(result, path)


def _json(path: Path, result: Report | Error) -> dict[str, object]:
    if isinstance(result, Error):
        return output.failure_json(result, path)
    return output.report_json(result, path)


def _exit_code(results: list[Report | Error]) -> int:
    """A refusal outweighs every other failure; else the first failure decides."""
    failures = [result for result in results if isinstance(result, Error)]
    refusals = [failure for failure in failures if isinstance(failure, VerificationError)]
    return (refusals or failures)[0].exit_code if failures else 0

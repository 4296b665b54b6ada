"""One call of `zkllm.proving.prove` in a process of its own, as a user's script makes it.

    python -m benchmarks.prove MODEL TRACE BUNDLE ASSIGNMENT [--keys DIR] [--jobs N]

ASSIGNMENT names the backend of every unit, in JSON. Prints the seconds of the call.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from benchmarks.measuring import timed
from zkllm.bundle import BackendName
from zkllm.cli import options
from zkllm.proving import prove


@click.command()
@click.argument("model", type=options.PATH)
@click.argument("trace", type=options.PATH)
@click.argument("bundle", type=options.PATH)
@click.argument("assignment", type=json.loads)
@options.keys
@options.jobs
def main(
    model: Path,
    trace: Path,
    bundle: Path,
    assignment: dict[str, BackendName],
    keys: Path | None,
    jobs: int | None,
) -> None:
    """Prove and print the seconds."""
    call = partial(prove, trace, model, assignment, bundle, keys=keys, force=True, jobs=jobs)
    seconds, _ = timed(call)
    print(seconds)


if __name__ == "__main__":
    main()

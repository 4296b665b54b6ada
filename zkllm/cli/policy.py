"""`zkllm policy`."""

from __future__ import annotations

from pathlib import Path

import click

from zkllm import output
from zkllm.backends import AVAILABLE
from zkllm.bundle import BackendName
from zkllm.cli import options
from zkllm.errors import InputError
from zkllm.files import write_atomically
from zkllm.policy import FRESHNESS, Freshness


@click.group("policy")
def command() -> None:
    """Write down what a verifier demands. A policy never comes from the prover."""


@command.command("init")
@click.argument("model", type=options.PATH)
@click.option(
    "--backend",
    "backends",
    type=click.Choice(AVAILABLE),
    multiple=True,
    help="Demand it of every unit that it can prove; may be repeated, the first that can wins; "
    "the rest is replayed.  [default: the one whose keys are there, else replay]",
)
@options.keys
@click.option("-o", "--output", "file", type=options.PATH, help="Write here, not to stdout.")
@click.option(
    "--allow-insecure-srs",
    is_flag=True,
    help="Accept keys over a development SRS, whose maker can forge proofs.",
)
@click.option(
    "--freshness",
    type=click.Choice(FRESHNESS),
    help="required: a nonce must be given and be bound; requested: one that is given must be "
    "bound; unbound: it is only compared.  [default: requested]",
)
@click.option("--require-fresh", is_flag=True, help="The same as --freshness required.")
@options.force
def init(
    model: Path,
    backends: tuple[BackendName, ...],
    keys: Path | None,
    file: Path | None,
    allow_insecure_srs: bool,
    freshness: Freshness | None,
    require_fresh: bool,
    force: bool,
) -> None:
    """A policy for MODEL and, if given, its keys; every digest is recomputed from the files.

    sumcheck is demanded under the commitments that are in the folder of keys; where there is
    none, the verifier needs the weights of MODEL.

    \b
      zkllm policy init model --backend sumcheck --require-fresh -o policy.toml
      zkllm policy init model --keys keys --allow-insecure-srs -o policy.toml
    """
    from zkllm.keys import policy_for

    if require_fresh and freshness not in (None, "required"):
        raise click.UsageError(f"--require-fresh contradicts --freshness {freshness}")
    policy = policy_for(
        model,
        keys,
        backends=backends,
        insecure_srs=allow_insecure_srs,
        freshness="required" if require_fresh else freshness or "requested",
    )
    if file is None:
        output.out.print(policy.to_toml(), end="", markup=False)
        return
    if file.exists() and not force:
        raise InputError(f"{file}: exists", hint="pass --force to overwrite")
    with write_atomically(file) as handle:
        handle.write(policy.to_toml().encode())
    output.err.print(f"policy in {output.shown(file)}", style="dim")

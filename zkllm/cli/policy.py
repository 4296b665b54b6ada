"""`zkllm policy`."""

from __future__ import annotations

import itertools
from pathlib import Path

import click

from zkllm import output
from zkllm.backends import get_backend
from zkllm.bundle import BACKENDS, BINDING, BackendName
from zkllm.cli import options
from zkllm.files import refuse_overwriting, write_atomically
from zkllm.policy import FRESHNESS, INSECURE_SRS, Freshness, Policy
from zkllm.wording import unit_ranges


@click.group("policy")
def command() -> None:
    """Write down what a verifier demands. A policy never comes from the prover."""


@command.command("init", short_help="write a policy for a model and its keys")
@click.argument("model", type=options.PATH)
@click.option(
    "--backend",
    "backends",
    type=click.Choice(BACKENDS),
    multiple=True,
    help="Demand it of every unit that it can prove; may be repeated, the first that can wins; "
    "what ezkl alone cannot prove is replayed.  [default: the one whose keys are there, else "
    "sumcheck]",
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
    """A policy for MODEL and, if given, its keys, which are made again before they are pinned.

    For keys of ezkl that takes the SRS, in DIR/srs, and some seconds a unit. sumcheck is demanded
    under the commitments that are in DIR; where there is none, the verifier needs the weights of
    MODEL.

    \b
      zkllm policy init model -o policy.toml
      zkllm policy init model --require-fresh --keys commitments -o policy.toml
      zkllm policy init model --keys keys --allow-insecure-srs -o policy.toml
    """
    from zkllm.keys import policy_for

    if require_fresh and freshness not in (None, "required"):
        raise click.UsageError(f"--require-fresh contradicts --freshness {freshness}")
    if file is not None:
        refuse_overwriting(file, force=force)
    with output.spinner("writing a policy") as progress:
        policy = policy_for(
            model,
            keys,
            backends=backends,
            insecure_srs=allow_insecure_srs,
            freshness="required" if require_fresh else freshness or "requested",
            progress=progress,
        )
    demands = _demands(policy)
    if file is None:
        output.out.print(policy.to_toml(), end="", markup=False)
        for name, value in demands:
            output.note(f"{name}: {value}")
        return
    with write_atomically(file) as handle:
        handle.write(policy.to_toml().encode())
    output.facts(demands)
    output.note(f"policy in {file}")


def _demands(policy: Policy) -> list[tuple[str, str]]:
    """What a verifier will demand and need, units that are to be checked alike together.

    Backends stand in the order of `BACKENDS`, the weakest first.
    """
    groups: dict[str, list[str]] = {}
    for way in itertools.product(BACKENDS, (False, True)):
        for unit, backend in policy.units.items():
            if way == (backend, unit in policy.keys):
                words = get_backend(backend).demand(pinned=unit in policy.keys)
                groups.setdefault(words, []).append(unit)
    rows = [("model", str(policy.model))]
    rows += [(unit_ranges(units), words) for words, units in groups.items()]
    rows.append(("freshness", f"{policy.freshness}: {_freshness(policy)}"))
    if policy.insecure_srs:
        rows.append(("srs", f"{INSECURE_SRS}: whoever made it can forge every proof of ezkl"))
    return rows


def _freshness(policy: Policy) -> str:
    """What happens to a nonce."""
    binding = [unit for unit, backend in policy.units.items() if backend in BINDING]
    every = len(binding) == len(policy.units)
    bound = f"{'every unit' if every else unit_ranges(binding)} can bind it"
    if policy.freshness == "required":
        return f"verify needs a nonce; {bound}"
    if policy.freshness == "unbound":
        return "a nonce that is given is only compared"
    if not binding:
        return "no unit binds a nonce, so a bundle is refused where one is given"
    return f"a nonce that is given must be bound; {bound}"

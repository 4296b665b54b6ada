"""Proofs as users make and check them: files on disk, and fresh processes that are measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.measuring import Cost, fresh, median
from zkllm import bundle as container
from zkllm.backends import get_backend
from zkllm.bundle import BackendName, Bundle, boundary_types
from zkllm.exact.model import ExactModel
from zkllm.policy import Policy


@dataclass(frozen=True, slots=True)
class Figures:
    """What proving and verifying a run took."""

    call_seconds: tuple[float, ...]
    """Of `proving.prove` alone, run by run: from reading the trace to the verified bundle."""
    verify_seconds: tuple[float, ...]
    """Of `zkllm verify`, run by run."""
    prove: Cost
    """Of the process around it."""
    verify: Cost
    """Of `zkllm verify`, with the start of Python."""
    evidence_bytes: int
    boundary_bytes: int


def measure(
    model: Path,
    trace: Bundle,
    folder: Path,
    *,
    assignment: Mapping[str, BackendName] | None = None,
    keys: Path | None = None,
    jobs: int | None = None,
    repeat: int = 1,
    checkout: Path | None = None,
) -> Figures:
    """Prove `trace` and verify the bundle under a policy; files are made in `folder`.

    Every unit is proved by sumcheck if nothing else is said. Costs are medians of `repeat` runs, of
    this `checkout` of the project or of another one.
    """
    exact = ExactModel.from_folder(model)
    specification = exact.specification
    units = assignment or dict.fromkeys(specification.units(), "sumcheck")
    run, bundle, policy = (folder / name for name in ("run.trace", "run.bundle", "policy.toml"))
    folder.mkdir(parents=True, exist_ok=True)
    container.save(trace, specification, run)
    policy.write_text(_policy(exact, units, keys).to_toml(), encoding="utf-8")
    options = [] if keys is None else ["--keys", keys]
    many = [] if jobs is None else ["--jobs", jobs]
    prove = partial(fresh, "benchmarks.prove", checkout=checkout)
    verify = partial(fresh, "zkllm", "verify", checkout=checkout)
    proving, verifying = [], []
    for _ in range(repeat):
        told = json.dumps(dict(units))
        proving.append(prove(model, run, bundle, told, *options, *many))
        demands = ("--policy", policy, "--model", model, *options)
        verifying.append(verify(bundle, *demands))
    made = container.load(bundle, specification)
    positions = trace.statement.positions
    return Figures(
        call_seconds=tuple(float(cost.output) for cost in proving),
        verify_seconds=tuple(cost.seconds for cost in verifying),
        prove=median(proving),
        verify=median(verifying),
        evidence_bytes=sum(len(evidence.data) for evidence in made.evidence.values()),
        boundary_bytes=sum(kind.nbytes for kind in boundary_types(specification, positions)),
    )


def _policy(model: ExactModel, units: Mapping[str, BackendName], keys: Path | None) -> Policy:
    """What a verifier that made the keys itself demands."""
    pins = {
        unit: get_backend(name).pin(model, unit, keys).digests
        for unit, name in units.items()
        if name != "replay"
    }
    return Policy(
        model=model.digest,
        units=units,
        keys={unit: pin for unit, pin in pins.items() if pin},
        insecure_srs="ezkl" in units.values(),
    )

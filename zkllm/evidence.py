"""Evidence for claims: by which backends, at what cost, in this process or in several.

Nothing here knows where evidence goes: whoever answers over a wire makes it as `prove` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from zkllm.backends import get_backend
from zkllm.backends.base import Claim, Pin
from zkllm.bundle import BackendName, Evidence
from zkllm.errors import InputError
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.extras import require_packages
from zkllm.operations.unit import Ids
from zkllm.planning import Costs, plan
from zkllm.progress import Progress, silent
from zkllm.records import word
from zkllm.workers import Workers


def check_assignment(specification: Specification, assignment: Mapping[str, BackendName]) -> None:
    """See that every unit has a backend, and each backend the packages that it proves with.

    Raises `InputError` for a unit too many or too few and for a backend that there is not,
    `BackendError` for a package that is missing.
    """
    units = specification.units()
    for unit in [*units, *assignment]:
        if unit not in assignment or unit not in units:
            state = "is no unit of the model" if unit in assignment else "has no backend"
            raise InputError(f"assignment: {word(str(unit))} {state}")
    for backend in sorted(map(get_backend, assignment.values()), key=lambda b: b.name):
        require_packages(*backend.prover_packages)


def pin_keys(
    model: ExactModel, assignment: Mapping[str, BackendName], keys: Path | None
) -> dict[str, Pin]:
    """What a verifier would pin of the keys under which each unit is proved.

    Raises `InputError` if `keys` has none of them, lacks one that a backend needs, or has one of
    another model.
    """
    pins = {unit: get_backend(name).pin(model, unit, keys) for unit, name in assignment.items()}
    if keys is not None and not any(pin.digests for pin in pins.values()):
        # A proof without them is another proof, which a policy that pins them refuses.
        raise InputError(
            f"{keys}: expected keys of a unit that is proved, found none",
            hint=f"make them with: zkllm setup MODEL --keys {keys}; "
            "without --keys, the verifier needs the weights",
        )
    return pins


def expected_costs(
    model: ExactModel,
    claims: Sequence[Claim],
    assignment: Mapping[str, BackendName],
    pins: Mapping[str, Pin],
    jobs: int | None,
) -> Costs | None:
    """The costs of those of `claims` that may be proved beside each other, in `jobs` processes.

    None if there are none. Raises `BackendError` if they will not fit this machine.
    """
    units = {c.unit: assignment[c.unit] for c in claims if _parallel(assignment, c)}
    if not units:
        return None
    listed = model.specification.units()
    generated = [len(c.outputs) for c in claims if isinstance(listed[c.unit].output, Ids)]
    costs = plan(
        model.specification,
        units,
        max(len(claim.inputs) for claim in claims),
        generated=max(generated, default=1),
        keys=any(pins[unit].digests for unit in units),
        jobs=1 if model.folder is None else jobs,
    )
    costs.require_fit()
    return costs


def make_evidence(
    model: ExactModel,
    claims: Iterable[Claim],
    assignment: Mapping[str, BackendName],
    *,
    keys: Path | None = None,
    workers: Workers | None = None,
    progress: Progress = silent,
) -> Iterator[tuple[str, Evidence]]:
    """Units and the evidence for their claims, as each is finished.

    `assignment` says which backend proves which unit. `workers` prove those that may be proved
    beside each other, and come to them in the order of `claims`. Raises what the backends raise:
    `ConstraintViolation` for a claim that is not true, `BackendError` if one fails.
    """
    shared: dict[str, tuple[Claim, BackendName, Path | None]] = {}
    for claim in claims:
        unit, name = claim.unit, assignment[claim.unit]
        if workers is not None and _parallel(assignment, claim):
            shared[unit] = (claim, name, keys)
            continue
        backend = get_backend(name)
        progress(unit if backend.recomputes else f"{unit}: proving ({name})")
        yield unit, Evidence(name, backend.prove(model, claim, keys, progress))
    if workers is not None:
        progress(f"proving {len(shared)} units in {workers.jobs} processes")
        for unit, data in workers.each(_prove_one, shared):
            yield unit, Evidence(assignment[unit], data)


def _parallel(assignment: Mapping[str, BackendName], claim: Claim) -> bool:
    """Whether the unit of `claim` may be proved beside others."""
    return get_backend(assignment[claim.unit]).parallel


def _prove_one(model: ExactModel, claim: Claim, name: BackendName, keys: Path | None) -> bytes:
    """What a worker does."""
    return get_backend(name).prove(model, claim, keys)

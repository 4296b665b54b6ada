"""What a proof will cost in time, memory and bytes, before anything is spent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zkllm.backends import DEFAULT, FALLBACK, get_backend, with_keys
from zkllm.backends.base import Estimate
from zkllm.bundle import BackendName, boundary_types
from zkllm.errors import BackendError, InputError
from zkllm.exact.specification import Specification
from zkllm.files import unit_file_name
from zkllm.threads import usable_cores
from zkllm.workers import START_SECONDS


@dataclass(frozen=True, slots=True)
class Costs:
    """What proving a run will cost, unit by unit."""

    tokens: int
    backends: dict[str, BackendName]
    estimates: dict[str, Estimate]
    boundary_bytes: int
    memory_available: int
    """Bytes of memory that this machine has to give; 0 if it does not say."""
    jobs: int = 1
    """How many processes prove units of `parallel` backends beside each other."""

    @property
    def memory_bytes(self) -> int:
        """Peak over all units; those that are proved beside each other count together."""
        largest = max(estimate.memory_bytes for estimate in self.estimates.values())
        return max(largest, _together(_parallel(self.backends, self.estimates), self.jobs))

    @property
    def problem(self) -> str:
        """Why the work will not fit this machine; empty if it will."""
        for unit, estimate in self.estimates.items():
            if 0 < self.memory_available < estimate.memory_bytes:
                return (
                    f"{unit}: about {estimate.memory_bytes} bytes of memory needed, "
                    f"{self.memory_available} available"
                )
        return ""

    def require_fit(self) -> None:
        """Raises `BackendError` with the number if the work will not fit."""
        if self.problem:
            raise BackendError(self.problem, hint="fewer --tokens or --unit, or more memory")


def assign(
    specification: Specification,
    backends: BackendName | Sequence[BackendName] = (),
    units: Sequence[str] = (),
    *,
    keys: Path | None = None,
) -> dict[str, BackendName]:
    """Which backend proves which unit: the first of `backends` that can.

    Without `backends`, it is sumcheck, or ezkl where only keys of ezkl are in `keys`. What ezkl
    alone cannot prove is replayed. With `units`, only these are proved and all others replayed.
    Raises `InputError` for a unit that the model does not have or that must be proved and cannot.
    """
    names = list(specification.units())
    assignment: dict[str, BackendName] = dict.fromkeys(names, FALLBACK)
    for unit in units:
        if unit not in names:
            raise InputError(f"unit: expected one of {', '.join(names)}, got {unit!r}")
    proved = 0
    for unit in units or names:
        able = first_able(specification, unit, preferred(unit, backends, keys), must=bool(units))
        if able is not None:
            assignment[unit] = able
            proved += 1
    if not proved:
        raise InputError(
            f"{', '.join([backends] if isinstance(backends, str) else backends)} can prove no unit "
            "of this model",
            hint="ezkl needs a model that was exported with --preset ezkl",
        )
    return assignment


def preferred(
    unit: str, backends: BackendName | Sequence[BackendName], keys: Path | None
) -> Sequence[BackendName]:
    """The backends that may prove `unit`, the best first, where `backends` does not say it.

    Raises `InputError` if the folder of the unit's keys holds those of no backend.
    """
    if backends:
        return [backends] if isinstance(backends, str) else backends
    found: list[BackendName] = []
    if keys is not None:
        folder = keys / unit_file_name(unit)
        keyed = with_keys()
        found = [backend.name for backend in keyed if (folder / backend.mark).is_file()]
        if not found and os.path.lexists(folder):  # a link that leads nowhere is a mistake too
            marks = " or ".join(backend.mark for backend in keyed)
            raise InputError(f"{folder}: expected {marks}, found neither")
    return found or [DEFAULT]


def first_able(
    specification: Specification,
    unit: str,
    backends: Sequence[BackendName],
    *,
    must: bool = False,
) -> BackendName | None:
    """The first of `backends` that can prove `unit`, or None.

    Raises `InputError` if none can though it `must` be proved, or though one of them is the
    default: that a verifier is to recompute a unit has to be asked for.
    """
    reasons: dict[BackendName, str] = {}
    for name in backends:
        reasons[name] = get_backend(name).unsupported(specification, unit)
        if not reasons[name]:
            return name
    if must or DEFAULT in reasons:
        name = DEFAULT if DEFAULT in reasons else next(iter(reasons))
        raise InputError(
            f"unit: {name} cannot prove {unit}: {reasons[name]}",
            hint="with --backend replay, given last, the verifier recomputes it",
        )
    return None


def plan(
    specification: Specification,
    backends: Mapping[str, BackendName] | BackendName | Sequence[BackendName],
    tokens: int,
    units: Sequence[str] = (),
    *,
    generated: int = 1,
    keys: bool = False,
    jobs: int | None = None,
) -> Costs:
    """The costs of a run of `tokens` positions; raises `InputError` for an impossible length.

    `backends` are those that `assign` chooses from, or by unit what it chose. `generated` of the
    positions give a token; `keys` says whether keys are made or used. At most `jobs`
    processes work at once (by default as many as there are cores): fewer where memory is short,
    one where starting more would cost more than it saves.
    """
    context = specification.architecture.context
    if not 1 <= tokens <= context:
        raise InputError(f"tokens: expected 1 to {context}, got {tokens}")
    if not 1 <= generated <= tokens:
        raise InputError(f"new tokens: expected 1 to {tokens}, got {generated}")
    if isinstance(backends, Mapping):
        assignment = dict(backends)
    else:
        assignment = assign(specification, backends, units)
    estimates = {
        unit: get_backend(name).estimate(
            specification, unit, tokens, generated=generated, keys=keys
        )
        for unit, name in assignment.items()
    }
    available = memory_available()
    return Costs(
        tokens=tokens,
        backends=assignment,
        estimates=estimates,
        boundary_bytes=sum(kind.nbytes for kind in boundary_types(specification, tokens)),
        memory_available=available,
        jobs=_jobs(_parallel(assignment, estimates), jobs or usable_cores(), available),
    )


def _parallel(
    assignment: Mapping[str, BackendName], estimates: Mapping[str, Estimate]
) -> list[Estimate]:
    """The estimates of the units that may be proved beside each other."""
    return [estimates[unit] for unit, name in assignment.items() if get_backend(name).parallel]


def _together(estimates: Sequence[Estimate], jobs: int) -> int:
    """The memory of the `jobs` largest units."""
    return sum(sorted((e.memory_bytes for e in estimates), reverse=True)[:jobs])


def _jobs(estimates: Sequence[Estimate], limit: int, available: int) -> int:
    """How many processes pay: as many as there are units, cores and memory for, or one."""
    jobs = max(1, min(limit, len(estimates)))
    while jobs > 1 and 0 < available < _together(estimates, jobs):
        jobs -= 1
    seconds = sum(estimate.prove_seconds for estimate in estimates)
    return jobs if seconds * (1 - 1 / jobs) > START_SECONDS else 1


def memory_available() -> int:
    """Bytes that a new process can use without swapping; 0 where the system does not say."""
    limits = [_cgroup_room(), _proc_available()]
    known = [limit for limit in limits if limit is not None]
    if known:
        return min(known)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def _proc_available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _cgroup_room() -> int | None:
    """What is left under the memory limit of a container."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used)

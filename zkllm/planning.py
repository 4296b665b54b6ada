"""What a proof will cost in time, memory and bytes, before anything is spent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zkllm.backends import get_backend
from zkllm.backends.base import Estimate
from zkllm.bundle import BackendName, boundary_types
from zkllm.errors import BackendError, InputError
from zkllm.exact.specification import Specification
from zkllm.proving import assign


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of proving a run, unit by unit."""

    tokens: int
    backends: dict[str, BackendName]
    estimates: dict[str, Estimate]
    boundary_bytes: int
    memory_available: int
    """Bytes of memory that this machine has to give; 0 if it does not say."""

    @property
    def memory_bytes(self) -> int:
        """Peak over all units: they are proved one after another."""
        return max(estimate.memory_bytes for estimate in self.estimates.values())

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


def plan(
    specification: Specification,
    backends: BackendName | Sequence[BackendName],
    tokens: int,
    units: Sequence[str] = (),
) -> Plan:
    """The plan for a run of `tokens` positions; raises `InputError` for an impossible length."""
    context = specification.architecture.context
    if not 1 <= tokens <= context:
        raise InputError(f"tokens: expected 1 to {context}, got {tokens}")
    assignment = assign(specification, backends, units)
    return Plan(
        tokens=tokens,
        backends=assignment,
        estimates={
            unit: get_backend(name).estimate(specification, unit, tokens)
            for unit, name in assignment.items()
        },
        boundary_bytes=sum(kind.nbytes for kind in boundary_types(specification, tokens)),
        memory_available=memory_available(),
    )


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

"""Backends: one way each to make and check the evidence of a unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zkllm.errors import InputError

if TYPE_CHECKING:
    from zkllm.backends.base import Backend
    from zkllm.bundle import BackendName


AVAILABLE: tuple[BackendName, ...] = ("replay", "ezkl", "sumcheck")
"""The backends of this release."""

DEFAULT: BackendName = "sumcheck"
"""Proves what nobody asked another backend for: it can prove every unit."""

MARKS: Mapping[BackendName, str] = {"sumcheck": "commitment.json", "ezkl": "vk.key"}
"""The file that shows whose keys a unit's folder holds."""

PARALLEL: frozenset[BackendName] = frozenset({"sumcheck"})
"""Backends whose units are worth a process each: ezkl takes all cores for one unit by itself."""


def get_backend(name: BackendName) -> Backend:
    """The backend `name`, imported when asked for: most runs need one of them only.

    Raises `InputError` for a name that is none of `AVAILABLE`.
    """
    if name == "replay":
        from zkllm.backends.replay import ReplayBackend

        return ReplayBackend()
    if name == "ezkl":
        from zkllm.backends.ezkl.backend import EzklBackend

        return EzklBackend()
    if name == "sumcheck":
        from zkllm.backends.sumcheck.backend import SumcheckBackend

        return SumcheckBackend()
    raise InputError(f"backend: expected one of {', '.join(AVAILABLE)}, got {name!r:.40}")

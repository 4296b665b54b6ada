"""Backends: one way each to make and check the evidence of a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkllm.errors import BackendError

if TYPE_CHECKING:
    from zkllm.backends.base import Backend
    from zkllm.bundle import BackendName


AVAILABLE: tuple[BackendName, ...] = ("replay", "ezkl")
"""The backends of this release."""


def get_backend(name: BackendName) -> Backend:
    """The backend `name`, imported when asked for: most runs need one of them only."""
    if name == "replay":
        from zkllm.backends.replay import ReplayBackend

        return ReplayBackend()
    if name == "ezkl":
        from zkllm.backends.ezkl.backend import EzklBackend

        return EzklBackend()
    raise BackendError(f"the backend {name} is not part of this release")

"""Backends: one way each to make and check the evidence of a unit."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zkllm.bundle import BACKENDS, BackendName
from zkllm.errors import InputError

if TYPE_CHECKING:
    from zkllm.backends.base import Backend

_HOMES: Mapping[BackendName, tuple[str, str]] = {
    "replay": ("replay", "ReplayBackend"),
    "ezkl": ("ezkl.backend", "EzklBackend"),
    "sumcheck": ("sumcheck.backend", "SumcheckBackend"),
}
"""The one list of backends: module and class of each."""

DEFAULT: BackendName = "sumcheck"
"""Proves what nobody asked another backend for: it can prove every unit."""

FALLBACK: BackendName = "replay"
"""Takes what is not to be proved, or not by the backends that were asked for."""


def get_backend(name: BackendName) -> Backend:
    """The backend `name`, imported when asked for: most runs need one of them only.

    Raises `InputError` for a name that is none of `BACKENDS`.
    """
    if name not in BACKENDS:
        raise InputError(f"backend: expected one of {', '.join(BACKENDS)}, got {name!r:.40}")
    module, kind = _HOMES[name]
    backend: Backend = getattr(importlib.import_module(f"zkllm.backends.{module}"), kind)()
    return backend


def with_keys() -> list[Backend]:
    """The backends that have keys, the default first."""
    backends = map(get_backend, sorted(BACKENDS, key=lambda name: name != DEFAULT))
    return [backend for backend in backends if backend.mark]

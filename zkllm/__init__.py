"""zkllm: run GPT models on exact integers, prove what was computed, verify it in one command."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zkllm.errors import Error, VerificationError
    from zkllm.exact.model import ExactModel
    from zkllm.exporting import export
    from zkllm.keys import policy_for, setup
    from zkllm.policy import Policy
    from zkllm.proving import prove
    from zkllm.running import run
    from zkllm.sessions import Session
    from zkllm.verdict import Report, Request
    from zkllm.verifying import verify

__version__ = "0.1.0"
__all__ = [
    "Error",
    "ExactModel",
    "Policy",
    "Report",
    "Request",
    "Session",
    "VerificationError",
    "__version__",
    "export",
    "policy_for",
    "prove",
    "run",
    "setup",
    "verify",
]

_HOMES = {
    "Error": "zkllm.errors",
    "ExactModel": "zkllm.exact.model",
    "Policy": "zkllm.policy",
    "Report": "zkllm.verdict",
    "Request": "zkllm.verdict",
    "Session": "zkllm.sessions",
    "VerificationError": "zkllm.errors",
    "export": "zkllm.exporting",
    "policy_for": "zkllm.keys",
    "prove": "zkllm.proving",
    "run": "zkllm.running",
    "setup": "zkllm.keys",
    "verify": "zkllm.verifying",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import zkllm` itself is instant."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zkllm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

"""zkllm: run GPT models on exact integers, prove what was computed, verify it in one command."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zkllm.exporting import export
    from zkllm.proving import prove
    from zkllm.running import run
    from zkllm.verifying import verify

__version__ = "0.1.0"
__all__ = ["__version__", "export", "prove", "run", "verify"]

_HOMES = {
    "export": "zkllm.exporting",
    "prove": "zkllm.proving",
    "run": "zkllm.running",
    "verify": "zkllm.verifying",
}


def __getattr__(name: str) -> Any:
    """Import a public function when it is first used: `import zkllm` itself is instant."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zkllm' has no attribute {name!r}")

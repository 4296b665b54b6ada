"""The console of the command line. Whoever reads JSON waits for no rich: it is imported at need."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zkllm.output.plain import begin, emit_json, may_be_terminal, say
from zkllm.output.working import note, spinner, unit_progress

if TYPE_CHECKING:
    from zkllm.output.console import (
        command,
        err,
        error,
        facts,
        failure,
        hint,
        out,
        paragraph,
        report,
        show,
        shown,
        table,
        text,
        trouble,
    )
    from zkllm.output.layout import Rows

__all__ = [
    "Rows",
    "begin",
    "command",
    "emit_json",
    "err",
    "error",
    "facts",
    "failure",
    "hint",
    "load",
    "may_be_terminal",
    "note",
    "out",
    "paragraph",
    "report",
    "say",
    "show",
    "shown",
    "spinner",
    "table",
    "text",
    "trouble",
    "unit_progress",
]


def load() -> None:
    """Import rich now: whatever an interruption tears apart while it is imported says so itself."""
    from zkllm.output import console, moving  # noqa: F401


def __getattr__(name: str) -> Any:
    """What is not imported above is drawn by rich."""
    if name in __all__:
        return getattr(importlib.import_module("zkllm.output.console"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

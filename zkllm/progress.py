"""How long work says what it is doing: a line of text at a time; the library never prints."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Receives one line of what is going on."""


def silent(_: str) -> None:
    """The progress that tells nobody."""

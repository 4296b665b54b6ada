"""What needs no console: how much is said, values for programs on stdout."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, TextIO

from zkllm.reports import json_text

Detail = Literal["quiet", "normal", "verbose"]
"""How much is said beside the results: nothing but errors, the usual, or every step as a line."""


class Moving(contextlib.AbstractContextManager[Any], Protocol):
    """What is drawn on a terminal again and again, as long as a block runs."""

    @property
    def is_started(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


_detail: Detail = "normal"
_told = False
"""Whether a value was emitted already."""
_moving: Moving | None = None


def begin() -> None:
    """Forget what an earlier command of this process, as in the tests, chose and told."""
    global _detail, _told
    _detail, _told = "normal", False


def say(detail: Detail) -> None:
    """Say so much from now on."""
    global _detail
    _detail = detail


def says(detail: Detail) -> bool:
    """Whether so much is said, neither more nor less."""
    return _detail == detail


def emit_json(value: Mapping[str, Any], *, unless_told: bool = False) -> None:
    """`value` on stdout, as `reports.json_text` writes it.

    `unless_told` leaves it out where something was emitted before: one command, one value.
    """
    global _told
    if unless_told and _told:
        return
    _told = True
    write(json_text(value))


def write(data: str) -> None:
    """`data` on stdout, if there is one; a full disk shows before the exit code."""
    with standing_still():
        if sys.stdout is not None:
            sys.stdout.write(data)
            sys.stdout.flush()


def may_be_terminal() -> bool:
    """Whether somebody may look at stderr: rich, which has to be asked, knows better."""
    if {"FORCE_COLOR", "TTY_COMPATIBLE"} & set(os.environ):
        return True
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


def abandon(stream: TextIO) -> None:
    """Give up what `stream` does not take: Python would try again at its end, and exit with 120."""
    if isinstance(stream, io.TextIOWrapper):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def standing_still() -> Iterator[None]:
    """Take away what moves while the block writes: both would stand on the same line."""
    if _moving is None or not _moving.is_started:
        yield
        return
    _moving.stop()
    try:
        yield
    finally:
        _moving.start()


@contextlib.contextmanager
def moves(drawn: Moving) -> Iterator[None]:
    """Draw `drawn` while the block runs, and have it stand aside for what stays."""
    global _moving
    _moving = drawn
    try:
        with drawn:
            yield
    finally:
        _moving = None

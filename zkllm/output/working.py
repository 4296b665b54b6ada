"""What is going on while a command works; rich is imported only where a line can be drawn again."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zkllm.backends import get_backend
from zkllm.bundle import BackendName
from zkllm.output import plain
from zkllm.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class _Lines:
    """Progress as plain lines, one in five seconds at most: quick work stays silent.

    Every line is told to those who asked for it.
    """

    def __init__(self) -> None:
        self._time = time.monotonic()

    def tell(self, line: str) -> None:
        now = time.monotonic()
        if plain.says("verbose") or now > self._time + 5:
            self._time = now
            _note(line)


def _note(line: str) -> None:
    from zkllm.output import console

    console.note(line)


def _can_draw() -> bool:
    """Whether a line can be drawn again and again, and should be."""
    if not plain.says("normal") or not _may_be_terminal():
        return False
    from zkllm.output import moving

    return moving.can_draw()


def _may_be_terminal() -> bool:
    """Whether rich has to be asked if stderr is a terminal."""
    if {"FORCE_COLOR", "TTY_COMPATIBLE"} & set(os.environ):
        return True
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


@contextlib.contextmanager
def spinner(first: str) -> Iterator[Progress]:
    """Show what is going on while the block runs; plain lines where nothing can be drawn."""
    if not _can_draw():
        yield _Lines().tell
        return
    from zkllm.output import moving

    turning = moving.Turning(first)
    with plain.moves(turning.live()):
        yield turning.tell


@dataclass(slots=True)
class UnitProgress:
    """A bar over the units of a proof, with a line for what is going on."""

    bar: Bar
    task: Any

    def tell(self, line: str) -> None:
        """Show `line` beside the bar."""
        from zkllm.output import console

        if plain.says("verbose"):
            console.note(line)
        self.bar.update(self.task, description=console.shown(line))

    def advance(self, unit: str, backend: BackendName, done: bool) -> None:
        """One unit is finished; `done` if an earlier try had done it."""
        self.bar.advance(self.task)
        if get_backend(backend).recomputes:
            return
        if done:
            _note(f"{unit}: taken from an interrupted try")
        elif not _can_draw():
            _note(f"{unit}: {backend}")


@contextlib.contextmanager
def unit_progress(units: int) -> Iterator[UnitProgress]:
    """A `UnitProgress` for so many units."""
    from zkllm.output import moving

    draws = _can_draw()
    bar = moving.make_bar(disable=not draws)
    with plain.moves(bar.live) if draws else contextlib.nullcontext():
        yield UnitProgress(bar, bar.add_task("proving", total=units))

"""What is told while a command works; rich is imported only where somebody may look."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zkllm.backends import get_backend
from zkllm.bundle import BackendName
from zkllm.output import plain
from zkllm.progress import Progress
from zkllm.wording import harmless

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


def note(line: str) -> None:
    """One line on stderr that is neither a result nor an error."""
    if plain.says("quiet"):
        return
    if plain.may_be_terminal():
        from zkllm.output import console

        console.paragraph(console.err, "  ", line, 4, style="dim")
    elif sys.stderr is not None:
        # if nobody takes it, that must not become the verdict
        try:
            sys.stderr.write(f"  {harmless(line)}\n")
            sys.stderr.flush()
        except OSError:
            plain.abandon(sys.stderr)


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
            note(line)


def _can_draw() -> bool:
    """Whether a line can be drawn again and again, and should be."""
    if not plain.says("normal") or not plain.may_be_terminal():
        return False
    from zkllm.output import moving

    return moving.can_draw()


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

    bar: Bar | None
    """None where nothing can be drawn."""
    task: Any

    def tell(self, line: str) -> None:
        """Show `line` beside the bar."""
        if plain.says("verbose"):
            note(line)
        if self.bar is not None:
            from zkllm.output import console

            self.bar.update(self.task, description=console.shown(line))

    def advance(self, unit: str, backend: BackendName, done: bool) -> None:
        """One unit is finished; `done` if an earlier try had done it."""
        if self.bar is not None:
            self.bar.advance(self.task)
        if get_backend(backend).recomputes:
            return
        if done:
            note(f"{unit}: taken from an interrupted try")
        elif self.bar is None:
            note(f"{unit}: {backend}")


@contextlib.contextmanager
def unit_progress(units: int) -> Iterator[UnitProgress]:
    """A `UnitProgress` for so many units."""
    if not _can_draw():
        yield UnitProgress(None, None)
        return
    from zkllm.output import moving

    bar = moving.make_bar()
    with plain.moves(bar.live):
        yield UnitProgress(bar, bar.add_task("proving", total=units))

"""Signals that end a command: all of them end it in one way, with whatever is open cleaned up."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Control-C, what supervisors send, and the end of a terminal."""

INTERRUPTED = "interrupted: nothing half-written was left; the same command goes on\n"


class Interrupted(BaseException):
    """A signal asks the command to end: whatever is open is cleaned up on the way out.

    It is no `KeyboardInterrupt`, which other packages take for a wish of their own.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


_loading = True
"""Whether modules are still being loaded, and nothing else has begun."""
_deferring = False
_came: int | None = None
"""The signal that has to wait."""


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Let signals that end a command end it in one way; what was ignored stays ignored."""
    before = {
        number: signal.getsignal(number)
        for number in (getattr(signal, name) for name in _ENDING if hasattr(signal, name))
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }
    with contextlib.suppress(ValueError):  # in another thread than the first
        for number in before:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _end:
                signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """The first signal ends the command; more of them must not disturb it while it cleans up."""
    global _came
    if _loading:
        # Nothing is open yet, and an import that is torn apart tells so in its own way.
        os.write(2, INTERRUPTED.encode())
        os._exit(128 + number)
    if _deferring:
        _came = number
        return
    for name in _ENDING:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    raise Interrupted(number)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """A signal that comes in this block, which imports at last, ends the command after it.

    Something may be open or printed, and what is raised while a module is imported can be lost.
    """
    global _deferring, _came
    _deferring = True
    try:
        yield
    finally:
        _deferring = False
    if _came is not None:
        number, _came = _came, None
        _end(number, None)


def loaded() -> None:
    """From now on something may be open that has to be cleaned up."""
    global _loading
    _loading = False

"""Work on arrays, cut over threads of our own; those of the BLAS library stay out of it.

A BLAS library gives threads to every large product. Ours are a few rows high and as wide as a
weight: there such threads mostly wait for each other, and waiting they take whole cores. Pieces
that nobody waits for, each multiplied by one thread, take a third of the time. What comes out
depends on the number of threads nowhere: all sums are exact.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController  # which looks at all libraries that are loaded

T = TypeVar("T")

_PIECES = 4
"""Pieces of large work for each thread."""
_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """How many cores this process may use: those of its affinity and of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = _CPU_LIMIT.read_text().split()
        return max(1, min(cores or 1, int(quota) // int(period)))
    except (OSError, ValueError):  # there is no container, or it says `max`
        return cores or 1


@functools.cache
def count() -> int:
    """How many threads work: as many as `NUMBA_NUM_THREADS` says, or as there are cores."""
    wanted = os.environ.get("NUMBA_NUM_THREADS", "")
    return max(1, int(wanted)) if wanted.isdecimal() else usable_cores()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, count() - 1))


def in_pieces(size: int, grain: int, work: Callable[[int, int], T]) -> list[T]:
    """`work(start, stop)` on pieces of range(size), each of `grain` or more, in threads.

    There are more pieces than threads, which take one after the other: a core that others use as
    well delays little.
    """
    threads = count()
    pieces = min(_PIECES * threads, size // max(1, grain))
    if threads == 1 or pieces <= 1:
        return [work(0, size)]
    results: dict[int, T] = {}
    waiting = iter(range(pieces))

    def take() -> None:
        for i in waiting:
            results[i] = work(size * i // pieces, size * (i + 1) // pieces)

    helpers = [_pool().submit(take) for _ in range(threads - 1)]
    take()
    for helper in helpers:
        if not helper.cancel():
            helper.result()
    return [results[i] for i in range(pieces)]


class _Alone:
    """Limits the BLAS library to one thread from the first who asks for it to the last.

    The limit is the whole process's. Whoever ended it too early, or remembered the limit of another
    as what was there before, would leave a host with one thread for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking = 0
        self._ended = contextlib.ExitStack()

    @functools.cached_property
    def _controller(self) -> ThreadpoolController:
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._asking:
                limit = self._controller.limit(limits=1, user_api="blas")
                self._ended.callback(limit.restore_original_limits)
            self._asking += 1
        try:
            yield
        finally:
            with self._lock:
                self._asking -= 1
                if not self._asking:
                    self._ended.close()


_alone = _Alone()


def blas_alone() -> contextlib.AbstractContextManager[None]:
    """A block in which a product of numpy uses the thread that asks for it, and no other."""
    return _alone()


def _begin_again() -> None:
    """A forked child has none of its parent's threads, and none of them will end a limit."""
    global _alone
    _pool.cache_clear()
    _alone = _Alone()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)

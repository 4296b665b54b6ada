"""Processes that work on the units of one model beside each other.

They are started afresh (`spawn`), read the model from its folder by its digest, and end with the
process that started them, however that one ends. A script that lets zkllm start processes needs
Python's usual `if __name__ == "__main__":`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from zkllm.digests import Digest
from zkllm.errors import BackendError, DigestMismatch, InputError
from zkllm.exact.model import ExactModel
from zkllm.threads import usable_cores

T = TypeVar("T")

START_SECONDS = 2.0
"""What starting the processes costs, until each has imported what it needs."""

_THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Workers:
    """So many processes for one model; a context manager.

    A block that fails, or is interrupted, ends all of them at once. Raises `InputError` for a
    model that lies in no folder.
    """

    def __init__(self, model: ExactModel, jobs: int) -> None:
        if model.folder is None:
            raise InputError("this model has no folder that other processes could read")
        context = multiprocessing.get_context("spawn")
        # Nothing is ever sent: a worker ends when the other end of this pipe is closed, which
        # happens also when this process is killed.
        self._life, self._end = context.Pipe(duplex=False)
        self.jobs = jobs
        self.digest = model.digest
        self._threads = max(1, usable_cores() // jobs)
        self._executor = ProcessPoolExecutor(
            jobs, context, _begin, (model.folder.absolute(), model.digest, self._life)
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._end.close()
        self._executor.shutdown(cancel_futures=True)
        self._end.close()
        self._life.close()

    def each(
        self, work: Callable[..., T], tasks: Mapping[str, tuple[Any, ...]]
    ) -> Iterator[tuple[str, T]]:
        """Names and results of `work(model, *arguments)` for all tasks, in the order they end.

        The first error ends the iteration; `BackendError` if a process died.
        """
        try:
            with _quiet_children(self._threads):
                futures = {
                    self._executor.submit(_call, work, arguments): name
                    for name, arguments in tasks.items()
                }
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as err:
            raise BackendError(
                "a process died at its work", hint="most likely out of memory: fewer --jobs"
            ) from err


@contextlib.contextmanager
def _quiet_children(threads: int) -> Iterator[None]:
    """Processes started in this block use so many threads, and no signal tells them to end.

    Both are inherited: libraries read the numbers of threads when they are imported, and a
    worker that is interrupted while it imports would print its traceback. They end with the
    process that started them, which decides how.
    """
    missing = [name for name in _THREADS if name not in os.environ]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    os.environ.update(dict.fromkeys(missing, str(threads)))
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What follows runs in the workers.

_source: tuple[Path, Digest] | None = None
_model: ExactModel | None = None


def _begin(folder: Path, digest: Digest, life: Connection) -> None:
    global _source
    _source = (folder, digest)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()


def _end_with(life: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        life.recv_bytes()
    os._exit(1)


def _call(work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    model = _opened()
    try:
        return work(model, *arguments)
    finally:
        model.forget()


def _opened() -> ExactModel:
    """The model of this process, read once; raises `DigestMismatch` if its folder has changed."""
    global _model
    assert _source is not None  # noqa: S101
    if _model is None:
        folder, digest = _source
        model = ExactModel.from_folder(folder)
        if model.digest != digest:
            raise DigestMismatch(f"model: expected {digest}, {folder} now holds {model.digest}")
        _model = model
    return _model

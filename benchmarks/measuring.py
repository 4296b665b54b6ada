"""What benchmarks do alike: the machine in words, clocks, tables, processes seen from outside.

A process is measured whole: its wall-clock time from start to end, the user and system time of it
and of all that it started, and its peak memory, for which every process that is alive counts with
the most that it ever had resident. That is a little too much, never too little: peaks need not
coincide, and pages that processes share are counted in each.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table

from zkllm.engines.ezkl.worker import peak_bytes
from zkllm.threads import usable_cores

T = TypeVar("T")

console = Console(highlight=False, width=100)

_LOOK = 0.05
"""Seconds between two looks at the memory of processes."""


def machine() -> str:
    """What the figures were measured on."""
    return (
        f"{platform.machine()}, {usable_cores()} cores, Python {platform.python_version()}, "
        f"{platform.system()}"
    )


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds and result of `call`."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def table(*columns: str) -> Table:
    """A table that is Markdown as well; all columns but the first are aligned to the right."""
    result = Table(box=box.MARKDOWN, header_style="dim")
    for index, column in enumerate(columns):
        result.add_column(column, justify="right" if index else "left", no_wrap=True)
    return result


def gibibytes(count: float) -> str:
    """Memory as limits are given."""
    return f"{count / (1 << 30):.2f} GiB"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took, with all that it started."""

    seconds: float
    """Wall clock."""
    core_seconds: float
    """User and system time."""
    peak_bytes: int
    output: str
    """What it wrote to stdout."""


def fresh(module: str, *arguments: object, checkout: Path | None = None) -> Cost:
    """The cost of `python -m module arguments`; raises `CalledProcessError` if it fails.

    The module is that of this checkout of the project, or of another one.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=checkout)
    watcher = _Watcher(process.pid)
    assert process.stdout is not None  # noqa: S101
    with process.stdout as stdout:
        output = stdout.read()
    # unlike `process.wait`, this tells what the process used
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = watcher.finish()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak, output)


def answer(module: str, *arguments: object) -> dict[str, Any]:
    """The JSON on the last line of what `python -m module arguments` writes."""
    result: dict[str, Any] = json.loads(fresh(module, *arguments).output.splitlines()[-1])
    return result


class _Watcher:
    """Looks at the memory of a process and of all its descendants until it is told to finish."""

    def __init__(self, root: int) -> None:
        self._root, self._peak = root, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finish(self) -> int:
        """The most bytes that all processes together had."""
        self._over.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            alive = _descendants(self._root)
            self._peak = max(self._peak, sum(peak_bytes(process) for process in alive))


def _descendants(root: int) -> list[int]:
    """`root` and all processes below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        children.setdefault(_parent(entry), []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def _parent(entry: Path) -> int:
    """The parent of a process; 0 if the process has just ended."""
    try:
        # the name, in brackets, may hold anything
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def median(costs: Sequence[Cost]) -> Cost:
    """Median times and the largest peak of several runs of the same."""
    return Cost(
        statistics.median(cost.seconds for cost in costs),
        statistics.median(cost.core_seconds for cost in costs),
        max(cost.peak_bytes for cost in costs),
        costs[-1].output,
    )

"""What benchmarks do alike: the machine in words, seconds, and figures of other processes."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def machine() -> str:
    """What the figures were taken on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds and result of `call`."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def core_seconds() -> float:
    """User and system time of this process and of all that have ended beneath it."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def python(module: str, *arguments: object) -> dict[str, Any]:
    """Run a module in a process of its own, and read the JSON on its last line."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def medians(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The median of each number over several runs; of anything else, the last."""
    found = list(runs)
    return {
        name: statistics.median(run[name] for run in found)
        if isinstance(value, int | float)
        else value
        for name, value in found[-1].items()
    }

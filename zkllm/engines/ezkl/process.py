"""`call`: one ezkl operation in a subprocess that cannot hang, swell or outlive its caller."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkllm.engines.ezkl.worker import peak_bytes
from zkllm.errors import BackendError
from zkllm.extras import missing
from zkllm.progress import Progress, silent

COMMAND = (sys.executable, "-m", "zkllm.engines.ezkl.worker")
"""What is run."""

_POLL = 0.02
"""Seconds between two looks at the child."""
_REPORT = 10.0
"""Seconds between two lines of progress."""
_ANSWER_BYTES = 1 << 16
"""No answer is longer: operations write files and return a word."""
_LOG_BYTES = 4096
"""How much of the end of the child's log is read for its last line."""
_BUFFER_BYTES = 1 << 20
"""ezkl's file buffer; its own default is 8 kB."""
_OVERHEAD_BYTES = (4 << 30) + (os.cpu_count() or 1) * (1 << 28)
"""Address space beyond `memory`: mapped libraries, and stack and allocator arena of each thread."""
_PASSED = ("LD_LIBRARY_PATH", "RAYON_NUM_THREADS")
"""The only variables of the caller that reach the child."""


@dataclass(frozen=True, slots=True)
class Result:
    """What an operation returned and what it took."""

    value: Any
    """None for operations that write files, `bool` for `mock` and `verify`, `str` for `version`."""
    peak_bytes: int
    """Largest resident size of the child, in bytes."""
    seconds: float
    """Wall-clock time, with the start of the child."""


def call(
    operation: str,
    arguments: Mapping[str, Any],
    *,
    seconds: float,
    memory: int,
    progress: Progress = silent,
) -> Result:
    """Run one operation of `worker.OPERATIONS` with its keyword `arguments`; files are `Path`s.

    At most `seconds` of wall-clock time and `memory` bytes of resident memory are granted. The
    child leads its own process group, has a scrubbed environment and a private home that is
    removed afterwards, and is killed with all it started whenever this function is left. A proof
    that ezkl refuses is the value False. Raises `BackendError` for everything else that goes
    wrong: an error or a panic inside ezkl, a limit, a signal, an answer that is none.
    """
    start = time.monotonic()
    progress(f"ezkl {operation}")
    try:
        answer, peak = _run(operation, arguments, seconds, memory, progress)
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        raise BackendError(f"ezkl {operation} could not be run: {reason}") from err
    if "error" in answer:
        if answer["error"] == "ModuleNotFoundError":
            raise missing("ezkl")
        message = " ".join(answer["message"].split())[:300]
        raise BackendError(f"ezkl {operation} failed: {answer['error']}: {message}")
    return Result(answer["value"], max(peak, answer["peak"]), time.monotonic() - start)


@dataclass(frozen=True, slots=True)
class Operations:
    """Several operations under the same limits, which are those of `call`."""

    seconds: float
    memory: int
    progress: Progress = silent

    def run(self, operation: str, **arguments: Any) -> Any:
        """The value of one operation; raises `BackendError` as `call` does."""
        return call(
            operation,
            arguments,
            seconds=self.seconds,
            memory=self.memory,
            progress=self.progress,
        ).value


def _run(
    operation: str,
    arguments: Mapping[str, Any],
    seconds: float,
    memory: int,
    progress: Progress,
) -> tuple[dict[str, Any], int]:
    """Start the worker, wait for its end and read its answer; with its peak as seen from here."""
    with tempfile.TemporaryDirectory(prefix="zkllm-ezkl-") as name:
        folder = Path(name)
        request = {
            "operation": operation,
            "arguments": dict(arguments),
            "address_space": memory + _OVERHEAD_BYTES,
            "parent": os.getpid(),
        }
        (folder / "request").write_text(json.dumps(request, default=_absolute))
        # Files instead of pipes: a child that prints without end blocks nobody.
        with (
            (folder / "request").open("rb") as stdin,
            (folder / "answer").open("wb") as stdout,
            (folder / "log").open("wb") as stderr,
        ):
            process = subprocess.Popen(
                COMMAND,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                # Python looks for modules in the current folder first: not in the caller's.
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,
            )
            try:
                peak = _watch(process, operation, seconds, memory, progress)
            finally:
                _kill_group(process)
        if process.returncode != 0:
            raise _died(operation, process.returncode, memory, _last_line(folder / "log"))
        return _parse(operation, folder / "answer"), peak


def _absolute(path: os.PathLike[str]) -> str:
    # The child runs in a folder of its own.
    return str(Path(path).absolute())


def _environment(folder: Path) -> dict[str, str]:
    """The child's whole environment: where to import from, and homes that nobody else writes."""
    # SAFETY: ezkl takes tables and formats of keys from its home and its variables; a caller's
    # environment must not decide what is proved.
    package = str(Path(__file__).resolve().parents[3])
    # The search path is handed over whole: with another HOME, user-installed packages are lost.
    search = [package, *(entry for entry in sys.path if entry and entry != package)]
    return {
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "EZKL_REPO_PATH": str(folder),
        "EZKL_BUF_CAPACITY": str(_BUFFER_BYTES),
    } | {name: os.environ[name] for name in _PASSED if name in os.environ}


def _watch(
    process: subprocess.Popen[bytes],
    operation: str,
    seconds: float,
    memory: int,
    progress: Progress,
) -> int:
    """Wait for the end of `process`; its peak in bytes. Raises `BackendError` at a limit."""
    start = time.monotonic()
    reported = start
    peak = 0
    while process.poll() is None:
        now = time.monotonic()
        peak = max(peak, peak_bytes(process.pid))
        if peak > memory:
            raise BackendError(
                f"ezkl {operation} was stopped: at most {memory} bytes of memory allowed, "
                f"got {peak}",
                hint="raise the memory limit, or choose a smaller circuit",
            )
        if now - start > seconds:
            raise BackendError(
                f"ezkl {operation} was stopped: at most {seconds:g} seconds allowed",
                hint="raise the time limit; a witness outside a lookup table may never end",
            )
        if now - reported > _REPORT:
            reported = now
            progress(f"ezkl {operation}: {now - start:.0f} s, {peak >> 20} MiB")
        time.sleep(_POLL)
    return peak


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _died(operation: str, status: int, memory: int, log: str) -> BackendError:
    """The error for a child that ended without an answer."""
    tail = f": {log}" if log else ""
    if status >= 0:
        return BackendError(f"ezkl {operation} ended with status {status}{tail}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = ""
    if -status == signal.SIGKILL or "memory allocation" in log:
        hint = f"most likely out of memory; {memory} bytes were allowed"
    return BackendError(f"ezkl {operation} was killed by {name}{tail}", hint=hint)


def _parse(operation: str, path: Path) -> dict[str, Any]:
    """The answer in `path`, or `BackendError`."""
    with path.open("rb") as file:
        data = file.read(_ANSWER_BYTES)
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    kinds: dict[str, type] = {"value": object, "peak": int}
    if isinstance(answer, dict) and "error" in answer:
        kinds = {"error": str, "message": str, "peak": int}
    if (
        not isinstance(answer, dict)
        or set(answer) != set(kinds)
        or not all(isinstance(answer[key], kind) for key, kind in kinds.items())
    ):
        raise BackendError(
            f"ezkl {operation} gave no answer: expected one JSON object, got {data[:60]!r}"
        )
    return answer


def _last_line(path: Path) -> str:
    """The last line that the child wrote to its log, without control characters."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "".join(c if c.isprintable() else " " for c in lines[-1])[:300] if lines else ""

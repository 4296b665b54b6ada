"""The child process in which ezkl runs: one JSON request on stdin, one JSON result on stdout.

ezkl holds the interpreter lock while it works, panics through exceptions that `except Exception`
does not see, and can hang for ever; here none of that reaches the caller. `process.call` starts
this module, limits it and reads its answer. It is not meant to be run by hand.

The request is `{"operation", "arguments", "address_space", "parent"}`. The answer is one object:
`{"value", "peak"}`, or `{"error", "message", "peak"}` for anything that was raised.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of `<linux/prctl.h>`."""


def _ezkl() -> Any:
    """The module, imported under the limits; its type stubs describe an older version."""
    import ezkl

    return ezkl


def _gen_srs(path: str, logrows: int) -> None:
    _ezkl().gen_srs(path, logrows)


def _settings(model: str, settings: str, run_args: dict[str, Any]) -> None:
    _need(model)
    # SAFETY: ezkl's Freivalds check, its default, does not tie a product to what uses it.
    chosen = {"disable_freivalds": True, **run_args}
    if chosen["disable_freivalds"] is not True:
        raise ValueError(f"disable_freivalds: expected true, got {chosen['disable_freivalds']}")
    # ezkl counts rows on several threads, each from where it believes the others to be: now and
    # then that gives a few rows more or less, and other settings. One thread always counts alike.
    os.environ["RAYON_NUM_THREADS"] = "1"
    options = _ezkl().PyRunArgs()
    for name, value in chosen.items():
        setattr(options, name, _tuples(value))
    _ezkl().gen_settings(model, settings, options)


def _compile(model: str, compiled: str, settings: str) -> None:
    _need(model, settings)
    _ezkl().compile_circuit(model, compiled, settings)


def _setup(compiled: str, vk: str, pk: str, srs: str, witness: str | None = None) -> None:
    _need(compiled, srs, witness)
    _ezkl().setup(compiled, vk, pk, srs_path=srs, witness_path=witness)


def _witness(
    data: str, compiled: str, output: str, vk: str | None = None, srs: str | None = None
) -> None:
    _need(data, compiled, vk, srs)
    _ezkl().gen_witness(data, compiled, output, vk_path=vk, srs_path=srs)


def _mock(witness: str, compiled: str) -> bool:
    _need(witness, compiled)
    try:
        return _ezkl().mock(witness, compiled) is True
    except RuntimeError as err:
        if "verification failed" in str(err):
            return False
        raise


def _prove(witness: str, compiled: str, pk: str, proof: str, srs: str) -> None:
    _need(witness, compiled, pk, srs)
    _ezkl().prove(witness, compiled, pk, proof_path=proof, srs_path=srs)


def _verify(proof: str, settings: str, vk: str, srs: str, reduced_srs: bool = False) -> bool:
    _need(proof, settings, vk, srs)
    try:
        return _ezkl().verify(proof, settings, vk, srs_path=srs, reduced_srs=reduced_srs) is True
    except RuntimeError:
        # ezkl refuses a proof with this error; a settings file, vk or SRS that it cannot read
        # gives the same one, and then too nothing is verified.
        return False


def _version() -> str:
    return str(_ezkl().__version__)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "gen_srs": _gen_srs,
    "settings": _settings,
    "compile": _compile,
    "setup": _setup,
    "witness": _witness,
    "mock": _mock,
    "prove": _prove,
    "verify": _verify,
    "version": _version,
}
"""What may be asked for; every file is named by its absolute path."""


def _need(*paths: str | None) -> None:
    # ezkl reports a missing file as it reports a bad proof; the two must not look alike.
    for path in paths:
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def peak_bytes(process: int | str = "self") -> int:
    """The largest resident size that the process has had; 0 where it cannot be known.

    Not `ru_maxrss`: that one also counts what the parent held when it forked.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _confine(address_space: int, parent: int) -> None:
    """Limit this process, and tie its life to that of `parent`, before ezkl is loaded."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = address_space if hard == resource.RLIM_INFINITY else min(address_space, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        # A parent that is killed outright cannot kill its children.
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def main() -> None:
    """Serve one request and end the process."""
    request = json.load(sys.stdin)
    _confine(request["address_space"], request["parent"])
    # ezkl and its libraries may print; only the answer goes to the real standard output.
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    result: dict[str, Any]
    try:
        result = {"value": OPERATIONS[request["operation"]](**request["arguments"])}
    except BaseException as err:
        # SAFETY: a Rust panic arrives as a BaseException that is not an Exception.
        result = {"error": type(err).__name__, "message": str(err)}
    json.dump(result | {"peak": peak_bytes()}, answer)
    answer.flush()
    # Rust worker threads that hang must not keep a finished process alive.
    os._exit(0)


if __name__ == "__main__":
    main()

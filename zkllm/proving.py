"""From a trace to a bundle: one evidence per unit, each verified before anything is written."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zkllm import bundle as container
from zkllm.backends import get_backend
from zkllm.backends.base import Pin, Progress, silent
from zkllm.bundle import BackendName, Bundle, Evidence
from zkllm.errors import BackendError, InputError, VerificationError
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.files import read_limited, unit_file_name, write_atomically
from zkllm.policy import Policy
from zkllm.statement import MAX_NONCE, is_nonce
from zkllm.verifying import Report, claims, verify

Advance = Callable[[str, BackendName, bool], None]
"""Called when a unit is done: its name, its backend, and whether an earlier try had done it."""


def assign(
    specification: Specification,
    backends: BackendName | Sequence[BackendName],
    units: Sequence[str] = (),
) -> dict[str, BackendName]:
    """Which backend proves which unit: the first of `backends` that can, else `replay`.

    With `units`, only these are proved and all others replayed. Raises `InputError` for a unit
    that the model does not have or that none of the backends can prove.
    """
    names = list(specification.units())
    preferred = [backends] if isinstance(backends, str) else list(backends)
    assignment: dict[str, BackendName] = dict.fromkeys(names, "replay")
    for unit in units:
        if unit not in names:
            raise InputError(f"unit: expected one of {', '.join(names)}, got {unit!r}")
    proved = 0
    for unit in units or names:
        reasons = {name: get_backend(name).unsupported(specification, unit) for name in preferred}
        able = [name for name, reason in reasons.items() if not reason]
        if able:
            assignment[unit] = able[0]
            proved += 1
        elif units:
            name, reason = next(iter(reasons.items()))
            raise InputError(f"unit: {name} cannot prove {unit}: {reason}")
    if not proved:
        raise InputError(
            f"{', '.join(preferred)} can prove no unit of this model",
            hint="ezkl needs a model that was exported with --preset ezkl",
        )
    return assignment


def prove(
    trace: Path | Bundle,
    model: ExactModel | Path,
    assignment: Mapping[str, BackendName] | BackendName | Sequence[BackendName],
    output: Path,
    *,
    keys: Path | None = None,
    nonce: str = "",
    force: bool = False,
    progress: Progress = silent,
    advance: Advance | None = None,
) -> Report:
    """Prove every unit of `trace` and write the bundle to `output`, once it verifies.

    Finished units are kept beside `output` until then, so that the same call after an
    interruption goes on where it stopped. Raises `ConstraintViolation` if the trace is not a run
    of the model, `BackendError` if a backend fails.
    """
    if isinstance(model, Path):
        model = ExactModel.from_folder(model)
    specification = model.specification
    if not isinstance(assignment, Mapping):
        assignment = assign(specification, assignment)
    if not is_nonce(nonce):
        raise InputError(f"nonce: expected at most {MAX_NONCE} printable ASCII characters")
    if output.exists() and not force:
        raise InputError(f"{output}: exists", hint="pass --force to overwrite")
    if isinstance(trace, Path):
        trace = container.load(trace, specification)
    run = replace(trace, statement=replace(trace.statement, nonce=nonce), evidence={})
    pins = {
        unit: get_backend(name).pin(model, unit, keys)
        for unit, name in assignment.items()
        if name != "replay"
    }
    policy = _own_policy(model, assignment, pins)
    store = _Store(output, run, policy)
    evidence: dict[str, Evidence] = {}
    for claim in claims(run, specification):
        name = assignment[claim.unit]
        backend = get_backend(name)
        data = store.get(claim.unit)
        done = data is not None
        if data is None:
            progress(f"{claim.unit}: proving ({name})" if name != "replay" else f"{claim.unit}")
            data = backend.prove(model, claim, keys, progress)
            store.put(claim.unit, data)
        evidence[claim.unit] = Evidence(name, data)
        if advance is not None:
            advance(claim.unit, name, done)
    finished = run.with_evidence(evidence)
    progress("verifying the bundle before it is written")
    try:
        report = verify(finished.to_bytes(specification), policy, model=model, keys=keys)
    except (VerificationError, InputError) as err:
        store.clear()
        raise BackendError(
            f"the bundle just made does not verify: {err.message}",
            hint="nothing was written; the next try starts afresh",
        ) from err
    container.save(finished, specification, output)
    store.clear()
    return report


def _own_policy(
    model: ExactModel, assignment: Mapping[str, BackendName], pins: Mapping[str, Pin]
) -> Policy:
    """What the prover itself expects of its bundle: the keys that it has just used."""
    return Policy(
        model=model.digest,
        units=assignment,
        keys={unit: pin.digests for unit, pin in pins.items()},
        insecure_srs=True,
    )


class _Store:
    """Evidence of finished units, beside the bundle that is being made.

    A folder belongs to one statement, one choice of backends and one set of keys: its name says
    which, so that another run never picks up evidence that is not its own.
    """

    def __init__(self, output: Path, run: Bundle, policy: Policy) -> None:
        key = (run.statement.digest + policy.to_toml()).encode()
        self._folder = output.parent / f".{output.name}.{hashlib.sha256(key).hexdigest()[:16]}"

    def get(self, unit: str) -> bytes | None:
        path = self._folder / unit_file_name(unit)
        return read_limited(path, max(container.MAX_EVIDENCE.values())) if path.exists() else None

    def put(self, unit: str, data: bytes) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as err:
            raise BackendError(f"{self._folder.parent}: cannot be written: {err.strerror}") from err
        with write_atomically(self._folder / unit_file_name(unit)) as file:
            file.write(data)

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

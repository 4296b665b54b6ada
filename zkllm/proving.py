"""From a trace to a bundle: one evidence per unit, each verified before anything is written."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zkllm import bundle as container
from zkllm.backends import get_backend
from zkllm.backends.base import Claim, Pin
from zkllm.bundle import BackendName, Bundle, Evidence
from zkllm.errors import BackendError, InputError, VerificationError
from zkllm.exact.model import ExactModel
from zkllm.extras import require_packages
from zkllm.files import (
    AnyPath,
    as_path,
    is_special,
    key_folder,
    read_limited,
    refuse_overwriting,
    unit_file_name,
    write_atomically,
)
from zkllm.planning import Costs, assign, plan
from zkllm.policy import Policy
from zkllm.progress import Progress, silent
from zkllm.records import expect
from zkllm.statement import MAX_NONCE, is_nonce
from zkllm.tokenization import Tokenizer
from zkllm.verdict import Report, Request
from zkllm.verifying import check_run, claims, verify
from zkllm.workers import Workers

Advance = Callable[[str, BackendName, bool], None]
"""Called when a unit is done: its name, its backend, and whether an earlier try had done it."""


def prove(
    trace: AnyPath | Bundle,
    model: ExactModel | AnyPath,
    assignment: Mapping[str, BackendName] | BackendName | Sequence[BackendName] = (),
    output: AnyPath | None = None,
    *,
    keys: AnyPath | None = None,
    nonce: str = "",
    force: bool = False,
    jobs: int | None = 1,
    progress: Progress = silent,
    advance: Advance | None = None,
) -> Report:
    """Prove every unit of `trace` and write the bundle to `output`, once it verifies.

    `assignment` says which backend proves which unit, or which backends may, the best first;
    without it, `planning.assign` does. Finished units are kept beside `output` until then, so that
    the same call after an interruption goes on where it stopped. With `jobs` over 1, or None for as
    many as there are cores, so many processes prove units beside each other where that pays (see
    `workers`). Raises `InputError` if `keys` has none of a unit that is proved, or some of another
    model, `StatementMismatch` or `ConstraintViolation` if the trace is not a run of the model,
    `BackendError` if a backend fails or the work will not fit this machine.
    """
    keys = None if keys is None else key_folder(keys)
    if output is None:
        raise InputError("output: expected a path for the bundle, got none")
    output = as_path(output, "output")
    model = ExactModel.open(model)
    specification = model.specification
    if not isinstance(assignment, Mapping):
        assignment = assign(specification, assignment, keys=keys)
    for name in sorted(set(assignment.values())):
        require_packages(*get_backend(name).prover_packages)
    if not is_nonce(expect(str, nonce, "nonce")):
        raise InputError(f"nonce: expected at most {MAX_NONCE} printable ASCII characters")
    refuse_overwriting(output, force=force)
    if not isinstance(trace, Bundle):
        trace = container.load(as_path(trace, "trace"), specification)
    run = replace(trace, statement=replace(trace.statement, nonce=nonce), evidence={})
    check_run(run, model, Tokenizer(model) if specification.kind == "text" else None)
    pins = {
        unit: get_backend(name).pin(model, unit, keys)
        for unit, name in assignment.items()
        if name != "replay"
    }
    if keys is not None and not any(pin.digests for pin in pins.values()):
        # A proof without them is another proof, which a policy that pins them refuses.
        raise InputError(
            f"{keys}: expected keys of a unit that is proved, found none",
            hint=f"make them with: zkllm setup MODEL --keys {keys}; "
            "without --keys, the verifier needs the weights",
        )
    policy = _own_policy(model, assignment, pins)
    store = _Store(output, run, policy)
    evidence: dict[str, Evidence] = {}

    def keep(unit: str, data: bytes, *, done: bool) -> None:
        if not done:
            store.put(unit, data)
        evidence[unit] = Evidence(assignment[unit], data)
        if advance is not None:
            advance(unit, assignment[unit], done)

    missing: list[Claim] = []
    for claim in claims(run, specification):
        data = store.get(claim.unit)
        if data is None:
            missing.append(claim)
        else:
            keep(claim.unit, data, done=True)
    planned = _plan(model, assignment, pins, missing, jobs)
    with contextlib.ExitStack() as stack:
        workers = None
        if planned is not None and planned.jobs > 1:
            workers = stack.enter_context(Workers(model, planned.jobs))
            # What takes longest begins first, so that no process has to wait for it at the end.
            seconds = {unit: e.prove_seconds for unit, e in planned.estimates.items()}
            missing.sort(key=lambda claim: -seconds.get(claim.unit, 0))
        try:
            for unit, data in _prove_all(model, assignment, missing, keys, workers, progress):
                keep(unit, data, done=False)
        except InputError:  # of a wrong trace, or under wrong keys, no proof is of use
            store.clear()
            raise
        finished = run.with_evidence(evidence)
        progress("verifying the bundle before it is written")
        data = finished.to_bytes(specification)
        try:
            request = Request(nonce=nonce or None)
            report = verify(data, policy, model=model, keys=keys, request=request, workers=workers)
        except (VerificationError, InputError) as err:
            store.clear()
            raise BackendError(
                f"the bundle just made does not verify: {err.message}",
                hint="nothing was written; the next try starts afresh",
            ) from err
    container.save(finished, specification, output)
    store.clear()
    return report


def _plan(
    model: ExactModel,
    assignment: Mapping[str, BackendName],
    pins: Mapping[str, Pin],
    missing: Sequence[Claim],
    jobs: int | None,
) -> Costs | None:
    """The plan for what is missing of the units that may be proved beside each other.

    None if nothing is. Raises `BackendError` if they will not fit this machine.
    """
    units = {
        c.unit: assignment[c.unit] for c in missing if get_backend(assignment[c.unit]).parallel
    }
    if not units:
        return None
    heads = [len(claim.outputs) for claim in missing if claim.unit == "head"]
    planned = plan(
        model.specification,
        units,
        max(len(claim.inputs) for claim in missing),
        generated=max(heads, default=1),
        keys=any(pins[unit].digests for unit in units),
        jobs=1 if model.folder is None else jobs,
    )
    planned.require_fit()
    return planned


def _prove_all(
    model: ExactModel,
    assignment: Mapping[str, BackendName],
    missing: Sequence[Claim],
    keys: Path | None,
    workers: Workers | None,
    progress: Progress,
) -> Iterator[tuple[str, bytes]]:
    """Units and their evidence as they are finished."""
    shared: dict[str, tuple[Claim, BackendName, Path | None]] = {}
    for claim in missing:
        name = assignment[claim.unit]
        if workers is not None and get_backend(name).parallel:
            shared[claim.unit] = (claim, name, keys)
            continue
        progress(f"{claim.unit}: proving ({name})" if name != "replay" else f"{claim.unit}")
        yield claim.unit, get_backend(name).prove(model, claim, keys, progress)
    if workers is not None:
        progress(f"proving {len(shared)} units in {workers.jobs} processes")
        yield from workers.each(_prove_one, shared)


def _prove_one(model: ExactModel, claim: Claim, name: BackendName, keys: Path | None) -> bytes:
    """What a worker does."""
    return get_backend(name).prove(model, claim, keys)


def _own_policy(
    model: ExactModel, assignment: Mapping[str, BackendName], pins: Mapping[str, Pin]
) -> Policy:
    """What the prover itself expects of its bundle: the keys that it has just used."""
    return Policy(
        model=model.digest,
        units=assignment,
        keys={unit: pin.digests for unit, pin in pins.items() if pin.digests},
        insecure_srs=True,
        freshness="unbound",
    )


class _Store:
    """Evidence of finished units, beside the bundle that is being made.

    A folder belongs to one statement, one choice of backends and one set of keys: its name says
    which, so that another run never picks up evidence that is not its own. Nothing is kept beside
    a device or a pipe.
    """

    def __init__(self, output: Path, run: Bundle, policy: Policy) -> None:
        key = (run.statement.digest + policy.to_toml()).encode()
        name = f".{output.name[:100]}.{hashlib.sha256(key).hexdigest()[:16]}"
        self._folder = None if is_special(output) else output.parent / name

    def get(self, unit: str) -> bytes | None:
        if self._folder is None:
            return None
        path = self._folder / unit_file_name(unit)
        if not path.exists():
            return None
        try:
            return read_limited(path, max(container.MAX_EVIDENCE.values()))
        except InputError as err:
            hint = f"delete {self._folder}: it holds what an interrupted try had proved"
            raise type(err)(err.message, hint) from err

    def put(self, unit: str, data: bytes) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise BackendError(f"{self._folder}: cannot be written: {reason}") from err
        with write_atomically(self._folder / unit_file_name(unit)) as file:
            file.write(data)

    def clear(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

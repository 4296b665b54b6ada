"""From a trace to a bundle on disk: kept unit by unit, verified before anything is written."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zkllm import bundle as container
from zkllm.backends.base import Claim, Pin
from zkllm.bundle import BackendName, Bundle, Evidence
from zkllm.errors import BackendError, InputError, VerificationError
from zkllm.evidence import check_assignment, expected_costs, make_evidence, pin_keys
from zkllm.exact.model import ExactModel
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
from zkllm.material import Material
from zkllm.planning import assign
from zkllm.policy import Policy
from zkllm.progress import Progress, silent
from zkllm.records import expect
from zkllm.statement import MAX_NONCE, is_nonce
from zkllm.tokenization import Tokenizer
from zkllm.verdict import Report, Request
from zkllm.verifying import check_run, claims, verify_with
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
    check_assignment(specification, assignment)
    if not is_nonce(expect(str, nonce, "nonce")):
        raise InputError(f"nonce: expected at most {MAX_NONCE} printable ASCII characters")
    refuse_overwriting(output, force=force)
    if not isinstance(trace, Bundle):
        trace = container.load(as_path(trace, "trace"), specification)
    run = replace(trace, statement=replace(trace.statement, nonce=nonce), evidence={})
    tokenizer = Tokenizer(model) if specification.kind == "text" else None
    check_run(run, model, tokenizer)
    pins = pin_keys(model, assignment, keys)
    material = Material(_own_policy(model, assignment, pins), model, keys, tokenizer)
    store = _Store(output, run, material.policy)
    evidence: dict[str, Evidence] = {}

    def keep(unit: str, found: Evidence, *, done: bool) -> None:
        if not done:
            store.put(unit, found.data)
        evidence[unit] = found
        if advance is not None:
            advance(unit, found.backend, done)

    missing: list[Claim] = []
    for claim in claims(run, specification):
        data = store.get(claim.unit)
        if data is None:
            missing.append(claim)
        else:
            keep(claim.unit, Evidence(assignment[claim.unit], data), done=True)
    costs = expected_costs(model, missing, assignment, pins, jobs)
    with contextlib.ExitStack() as stack:
        workers = None
        if costs is not None and costs.jobs > 1:
            workers = stack.enter_context(Workers(model, costs.jobs))
            # What takes longest begins first, so that no process has to wait for it at the end.
            seconds = {unit: e.prove_seconds for unit, e in costs.estimates.items()}
            missing.sort(key=lambda claim: -seconds.get(claim.unit, 0))
        try:
            for unit, made in make_evidence(
                model, missing, assignment, keys=keys, workers=workers, progress=progress
            ):
                keep(unit, made, done=False)
        except InputError:  # of a wrong trace, or under wrong keys, no proof is of use
            store.clear()
            raise
        finished = run.with_evidence(evidence)
        progress("verifying the bundle before it is written")
        data = finished.to_bytes(specification)
        try:
            material.check_units()
            request = Request(nonce=nonce or None)
            report = verify_with(material, data, request=request, workers=workers)
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

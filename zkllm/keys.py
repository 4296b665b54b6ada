"""Keys: made by the verifier or its publisher, pinned by a policy, never carried by a bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zkllm.backends import MARKS, get_backend
from zkllm.backends.base import Pin
from zkllm.bundle import BackendName
from zkllm.digests import Digest
from zkllm.errors import InputError
from zkllm.exact.check import check_bounds
from zkllm.exact.meaning import check_meaning
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.extras import require_packages
from zkllm.files import AnyPath, as_path, unit_file_name
from zkllm.planning import assign, first_able, plan, preferred
from zkllm.policy import Freshness, Policy
from zkllm.progress import Progress, silent
from zkllm.tokenization import Tokenizer
from zkllm.vetting import check_round_trip

if TYPE_CHECKING:
    from zkllm.backends.ezkl.backend import EzklBackend


def setup(
    model: ExactModel | AnyPath,
    backend: BackendName,
    keys: AnyPath,
    *,
    tokens: int = 8,
    units: Sequence[str] = (),
    audit: bool = False,
    progress: Progress = silent,
) -> dict[str, Pin]:
    """Make the keys of every unit that `backend` proves, and return what a policy pins.

    For ezkl these are the keys of circuits for runs of `tokens` positions, and `audit` rebuilds
    their constraints; for sumcheck they are commitments to the units' weights, which serve runs of
    any length. Keys that are there must be the ones that are made: they are never believed. Raises
    `InputError` if they are not, `BackendError`, before anything is spent, if the work will not fit
    this machine, and `UntrustedMaterial` if a circuit does not enforce the equations of its unit.
    """
    model, keys = ExactModel.open(model), as_path(keys, "keys")
    if backend == "replay":
        raise InputError("replay: has no keys to make", hint="setup serves ezkl and sumcheck")
    if audit and backend != "ezkl":
        raise InputError(f"{backend}: has no keys to audit", hint="an audit reads keys of ezkl")
    _require_folder(keys)
    require_packages(*get_backend(backend).prover_packages)
    positions = tokens if backend == "ezkl" else 1
    planned = plan(model.specification, backend, positions, units, keys=True, jobs=1)
    planned.require_fit()
    progress("proving the bounds of the model again")
    _vouch(model)
    made = {}
    for unit, name in planned.backends.items():
        if name != backend:
            continue
        if audit:
            made[unit] = _ezkl().setup(model, unit, positions, keys, progress, audit=True)
        else:
            made[unit] = get_backend(name).setup(model, unit, positions, keys, progress)
        model.forget()
    return made


def policy_for(
    model: ExactModel | AnyPath,
    keys: AnyPath | None = None,
    *,
    backends: BackendName | Sequence[BackendName] = (),
    insecure_srs: bool = False,
    freshness: Freshness = "requested",
    made: Mapping[str, Pin] | None = None,
    progress: Progress = silent,
) -> Policy:
    """A policy for `model` that demands of each unit the first of `backends` that can prove it.

    Without `backends`, it demands the backend whose keys are in `keys`, and sumcheck elsewhere.
    ezkl proves units whose keys are in `keys`; sumcheck proves every unit, under the commitment to
    its weights that is in `keys`, or under the weights themselves where there is none. All keys are
    made again from the model, those of ezkl over the SRS that is in `keys`, and compared byte for
    byte; weights and tokenizer are checked, and the bounds of the specification are proven from the
    weights again. `made` is what `setup` returned to this process: keys that still have those
    digests are not made once more. Raises `InputError` if `keys` holds no key of this model, or not
    those that `backends` ask for, or lacks what it takes to make them again; `DigestMismatch` for
    keys of other weights; and `UntrustedMaterial` for a bound that the weights do not prove.
    """
    model, keys = ExactModel.open(model), None if keys is None else as_path(keys, "keys")
    backends = [backends] if isinstance(backends, str) else backends
    if keys is not None:
        _require_folder(keys)
    _vouch(model)
    units: dict[str, BackendName] = {}
    pins: dict[str, dict[str, Digest]] = {}
    for unit in model.specification.units():
        units[unit] = _backend_for(model.specification, unit, keys, backends)
        pin = _trusted_pin(units[unit], model, unit, keys, (made or {}).get(unit), progress)
        model.forget()
        if pin.digests:
            pins[unit] = dict(pin.digests)
    lacking = "ezkl" in backends and "ezkl" not in units.values()
    if lacking and "ezkl" in assign(model.specification, backends).values():
        raise InputError(
            f"{'--keys' if keys is None else keys}: expected keys of ezkl, found none",
            hint="make them with: zkllm setup MODEL --backend ezkl --keys DIR",
        )
    if keys is not None and not pins:
        raise InputError(
            f"{keys}: expected keys of this model, found none of "
            f"{' or '.join(sorted(set(units.values())))}",
            hint="make them with: zkllm setup MODEL --backend sumcheck (or ezkl) --keys DIR",
        )
    return Policy(
        model=model.digest,
        units=units,
        keys=pins,
        insecure_srs=insecure_srs,
        freshness=freshness,
    )


def _vouch(model: ExactModel) -> None:
    """Find out before `model` is pinned what would be in the way of running and verifying it.

    Raises `UntrustedMaterial` for a number that does not follow from others, `InputError` for
    weights or a tokenizer that every later command would refuse.
    """
    check_bounds(model)
    check_meaning(model)
    if model.specification.kind == "text":
        check_round_trip(Tokenizer(model))


def _require_folder(keys: Path) -> None:
    """Raises `InputError` if a file is where a folder of keys is to be."""
    if os.path.lexists(keys) and not keys.is_dir():
        raise InputError(f"{keys}: expected a folder of keys, found a file")


def _trusted_pin(
    name: BackendName,
    model: ExactModel,
    unit: str,
    keys: Path | None,
    made: Pin | None,
    progress: Progress,
) -> Pin:
    """What a policy pins of keys that are the model's beyond doubt."""
    backend = get_backend(name)
    # A folder of keys may come from the prover: to pin keys of other weights is to believe those.
    if made is not None and backend.pin(model, unit, keys).digests == made.digests:
        return made
    return backend.pin(model, unit, keys, recompute=True, progress=progress)


def _backend_for(
    specification: Specification,
    unit: str,
    keys: Path | None,
    backends: Sequence[BackendName],
) -> BackendName:
    """What a policy demands of `unit`."""
    folder = None if keys is None else keys / unit_file_name(unit)
    has_ezkl = folder is not None and (folder / MARKS["ezkl"]).is_file()
    able = [name for name in preferred(unit, backends, keys) if name != "ezkl" or has_ezkl]
    return first_able(specification, unit, able) or "replay"


def audit(
    model: ExactModel | AnyPath, keys: AnyPath, units: Sequence[str], *, progress: Progress = silent
) -> dict[str, str]:
    """Make the keys of each unit again and rebuild the constraints of its circuit from them.

    One line of findings each. Raises `DigestMismatch` for keys of anything but the model,
    `UntrustedMaterial` if a circuit does not enforce the equations of its unit.
    """
    model, keys = ExactModel.open(model), as_path(keys, "keys")
    return {unit: _ezkl().audit(model, unit, keys, progress) for unit in units}


def _ezkl() -> EzklBackend:
    from zkllm.backends.ezkl.backend import EzklBackend

    return EzklBackend()

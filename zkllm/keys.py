"""Keys: made by the verifier or its publisher, pinned by a policy, never carried by a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zkllm.backends import FALLBACK, get_backend, with_keys
from zkllm.backends.base import Pin
from zkllm.bundle import BackendName
from zkllm.digests import Digest
from zkllm.errors import InputError
from zkllm.exact.check import check_bounds
from zkllm.exact.meaning import check_meaning
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.extras import require_packages
from zkllm.files import AnyPath, as_path, key_folder, unit_file_name
from zkllm.planning import assign, first_able, plan, preferred
from zkllm.policy import Freshness, Policy
from zkllm.progress import Progress, silent
from zkllm.tokenization import Tokenizer
from zkllm.vetting import check_round_trip


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
    model, chosen = ExactModel.open(model), get_backend(backend)
    keys = as_path(keys, "keys")
    if not chosen.mark:
        serves = " and ".join(sorted(each.name for each in with_keys()))
        raise InputError(f"{backend}: has no keys to make", hint=f"setup serves {serves}")
    if audit and not chosen.audits:
        audited = " and ".join(each.name for each in with_keys() if each.audits)
        raise InputError(
            f"{backend}: has no keys to audit", hint=f"an audit reads keys of {audited}"
        )
    keys = key_folder(keys, new=True)
    require_packages(*chosen.prover_packages)
    positions = tokens if chosen.fixed_length else 1
    planned = plan(model.specification, backend, positions, units, keys=True, jobs=1)
    planned.require_fit()
    progress("proving the bounds of the model again")
    _vouch(model)
    made = {}
    for unit, name in planned.backends.items():
        if name == backend:
            made[unit] = chosen.setup(model, unit, positions, keys, progress, audit=audit)
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
    model = ExactModel.open(model)
    keys = None if keys is None else key_folder(keys, new=True)
    backends = [backends] if isinstance(backends, str) else backends
    _vouch(model)
    units: dict[str, BackendName] = {}
    pins: dict[str, dict[str, Digest]] = {}
    for unit in model.specification.units():
        units[unit] = _backend_for(model.specification, unit, keys, backends)
        pin = _trusted_pin(units[unit], model, unit, keys, (made or {}).get(unit), progress)
        model.forget()
        if pin.digests:
            pins[unit] = dict(pin.digests)
    for name in backends:
        lacking = get_backend(name).needs_keys and name not in units.values()
        if lacking and name in assign(model.specification, backends).values():
            raise InputError(
                f"{'--keys' if keys is None else keys}: expected keys of {name}, found none",
                hint=f"make them with: zkllm setup MODEL --backend {name} --keys DIR",
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
    able = [name for name in preferred(unit, backends, keys) if _usable(name, unit, keys)]
    return first_able(specification, unit, able) or FALLBACK


def _usable(name: BackendName, unit: str, keys: Path | None) -> bool:
    """Whether the keys are there that the backend cannot do without."""
    backend = get_backend(name)
    if not backend.needs_keys:
        return True
    return keys is not None and (keys / unit_file_name(unit) / backend.mark).is_file()

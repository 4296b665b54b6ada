"""Keys: made by the verifier or its publisher, pinned by a policy, never carried by a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zkllm.backends import MARKS, get_backend
from zkllm.backends.base import Pin, Progress, silent
from zkllm.bundle import BackendName
from zkllm.digests import Digest
from zkllm.errors import InputError
from zkllm.exact.check import check_bounds
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.extras import require_packages
from zkllm.files import AnyPath, as_path, unit_file_name
from zkllm.planning import assign, first_able, plan, preferred
from zkllm.policy import Freshness, Policy


def setup(
    model: ExactModel | AnyPath,
    backend: BackendName,
    keys: AnyPath,
    *,
    tokens: int = 8,
    units: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Pin]:
    """Make the keys of every unit that `backend` proves; units whose keys are there are kept.

    For ezkl these are the keys of circuits for runs of `tokens` positions; for sumcheck they are
    commitments to the units' weights, which serve runs of any length. Returns what a policy pins.
    Raises `BackendError`, before anything is spent, if the work will not fit this machine.
    """
    model, keys = ExactModel.open(model), as_path(keys, "keys")
    if backend == "replay":
        raise InputError("replay: has no keys to make", hint="setup serves ezkl and sumcheck")
    require_packages(*get_backend(backend).prover_packages)
    positions = tokens if backend == "ezkl" else 1
    planned = plan(model.specification, backend, positions, units, keys=True, jobs=1)
    planned.require_fit()
    progress("proving the bounds of the model again")
    check_bounds(model)
    made = {}
    for unit, name in planned.backends.items():
        if name == backend:
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
) -> Policy:
    """A policy for `model` that demands of each unit the first of `backends` that can prove it.

    Without `backends`, it demands the backend whose keys are in `keys`, and sumcheck elsewhere.
    ezkl proves units whose keys are in `keys`; sumcheck proves every unit, under the commitment to
    its weights that is in `keys`, or under the weights themselves where there is none. Every digest
    is recomputed from the bytes that are there, and every commitment from the weights; weights and
    tokenizer are checked, and the bounds of the specification are proven from the weights again.
    Raises `InputError` if `keys` holds no key of this model, or not those that `backends` ask for,
    `DigestMismatch` for a commitment to other weights, and `UntrustedMaterial` for a bound that
    the weights do not prove.
    """
    model, keys = ExactModel.open(model), None if keys is None else as_path(keys, "keys")
    backends = [backends] if isinstance(backends, str) else backends
    check_bounds(model)
    model.tokenizer_bytes()
    units: dict[str, BackendName] = {}
    pins: dict[str, dict[str, Digest]] = {}
    for unit in model.specification.units():
        units[unit] = _backend_for(model.specification, unit, keys, backends)
        # A folder of keys may come from the prover: the root of other weights would pin those.
        pin = get_backend(units[unit]).pin(model, unit, keys, recompute=True)
        model.forget()
        if pin.digests:
            pins[unit] = dict(pin.digests)
    wanted = assign(model.specification, backends).values() if backends else ()
    if "ezkl" in wanted and "ezkl" not in units.values():
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
    """Rebuild the constraints of each unit's circuit from its keys; one line of findings each.

    Raises `UntrustedMaterial` if a circuit does not enforce the equations of its unit.
    """
    from zkllm.backends.ezkl.backend import EzklBackend

    model, keys = ExactModel.open(model), as_path(keys, "keys")
    return {unit: EzklBackend().audit(model, unit, keys, progress) for unit in units}

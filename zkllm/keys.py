"""Keys: made by the verifier or its publisher, pinned by a policy, never carried by a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zkllm.backends import get_backend
from zkllm.backends.base import Pin, Progress, silent
from zkllm.bundle import BackendName
from zkllm.digests import Digest
from zkllm.errors import InputError
from zkllm.exact.model import ExactModel
from zkllm.files import unit_file_name
from zkllm.planning import plan
from zkllm.policy import Policy
from zkllm.proving import assign


def setup(
    model: ExactModel | Path,
    backend: BackendName,
    keys: Path,
    *,
    tokens: int,
    units: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Pin]:
    """Make the keys of every unit that `backend` proves; units whose keys are there are kept.

    Returns what a policy pins. Raises `BackendError`, before anything is spent, if the work will
    not fit this machine.
    """
    if isinstance(model, Path):
        model = ExactModel.from_folder(model)
    plan(model.specification, backend, tokens, units).require_fit()
    made = {}
    for unit, name in assign(model.specification, backend, units).items():
        if name != "replay":
            made[unit] = get_backend(name).setup(model, unit, tokens, keys, progress)
    return made


def policy_for(
    model: ExactModel | Path,
    keys: Path | None = None,
    *,
    insecure_srs: bool = False,
    require_fresh: bool = False,
) -> Policy:
    """A policy for `model` that demands ezkl where `keys` has keys, and `replay` elsewhere.

    Every digest is recomputed from the bytes that are there; weights and tokenizer are checked.
    Raises `InputError` if `keys` holds no key of this model.
    """
    if isinstance(model, Path):
        model = ExactModel.from_folder(model)
    model.check_all()
    units: dict[str, BackendName] = dict.fromkeys(model.specification.units(), "replay")
    pins: dict[str, dict[str, Digest]] = {}
    if keys is not None:
        backend = get_backend("ezkl")
        for unit in units:
            if (keys / unit_file_name(unit)).is_dir():
                units[unit] = "ezkl"
                pins[unit] = dict(backend.pin(model, unit, keys).digests)
        if not pins:
            raise InputError(
                f"{keys}: expected keys of this model, found none",
                hint="make them with: zkllm setup MODEL --backend ezkl --keys DIR",
            )
    return Policy(
        model=model.digest,
        units=units,
        keys=pins,
        insecure_srs=insecure_srs,
        require_fresh=require_fresh,
    )


def audit(
    model: ExactModel | Path, keys: Path, units: Sequence[str], *, progress: Progress = silent
) -> dict[str, str]:
    """Rebuild the constraints of each unit's circuit from its keys; one line of findings each.

    Raises `UntrustedMaterial` if a circuit does not enforce the equations of its unit.
    """
    from zkllm.backends.ezkl.backend import EzklBackend

    if isinstance(model, Path):
        model = ExactModel.from_folder(model)
    return {unit: EzklBackend().audit(model, unit, keys, progress) for unit in units}

"""The keys of a unit: made, made again to be compared, and read.

A unit's keys are a folder. Its verifying half, `VERIFYING`, is what a policy pins and all that
`verify` reads; the rest is for the prover. What lies in such a folder may come from anybody, and a
key of other weights looks like any other. But model, positions and SRS always give the same
verifying half, byte for byte: so keys are made again, and what differs is refused.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zkllm.backends.base import Claim, Pin
from zkllm.backends.ezkl import units, witness
from zkllm.backends.ezkl.settings import check_settings, reproducible
from zkllm.digests import Digest, canonical_json, parse_canonical_json, sha256
from zkllm.engines.ezkl import srs
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.process import Operations
from zkllm.engines.ezkl.readings import demanded
from zkllm.engines.ezkl.recipe import Recipe
from zkllm.errors import BackendError, DigestMismatch, InputError, UntrustedMaterial
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.extras import require_packages
from zkllm.files import read_limited, unit_file_name
from zkllm.policy import INSECURE_SRS
from zkllm.progress import Progress
from zkllm.records import require_fields

VERIFYING: Mapping[str, int] = {
    "vk.key": 16 << 20,
    "settings.json": 1 << 20,
    "kzg1.srs": srs.REDUCED_BYTES,
}
"""The files that a policy pins and a verifier reads, with the largest size of each in bytes."""
_PROVING = ("model.onnx", "model.compiled", "pk.key")
_ABOUT = "about.json"
_MAX_ABOUT = 1 << 16
_MAKE_THEM = "make them in an empty folder with: zkllm setup MODEL --backend ezkl --keys DIR"


@dataclass(frozen=True, slots=True)
class Made:
    """Keys that this process has just made, in a folder that nobody else writes."""

    folder: Path
    """Holds the files of `VERIFYING`, the prover's, and `about.json`."""
    circuit: Circuit
    files: Mapping[str, bytes]
    """The verifying half, by name."""

    @property
    def pin(self) -> Pin:
        """What a policy pins of these keys."""
        return Pin({name: sha256(data) for name, data in self.files.items()})

    def differing(self, files: Mapping[str, bytes]) -> str:
        """The first of `files` that is not as it was made here; empty if there is none."""
        return next((name for name in files if files[name] != self.files[name]), "")

    def move_to(self, folder: Path) -> None:
        """Put all files into `folder`, in the place of those that are there; `about.json` last.

        Raises `BackendError` if that cannot be done.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (*_PROVING, *VERIFYING, _ABOUT):
                (self.folder / name).replace(folder / name)
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise BackendError(f"{folder}: cannot be written: {reason}") from err


@contextlib.contextmanager
def making(
    model: ExactModel,
    unit: str,
    circuit: Circuit,
    source: Path,
    chosen: Recipe,
    *,
    beside: Path | None = None,
    tried: bool = False,
    progress: Progress,
) -> Iterator[Made]:
    """Make the keys of `unit`, whose circuit is given, over the SRS in the file `source`.

    They are in a private folder, in `beside` if that is given, which is removed afterwards. If
    they are to be `tried`, an honest run must satisfy the circuit. Raises `BackendError` if ezkl
    fails, `UntrustedMaterial` for an SRS that is not what it seems.
    """
    require_packages("ezkl", "onnx")
    prefix = "zkllm-" if beside is None else ".keys-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=beside) as name:
        scratch = Path(name).absolute()
        folder = scratch / "keys"
        folder.mkdir()
        operations = Operations(chosen.seconds, chosen.memory, progress)
        progress(f"{unit}: making its circuit")
        _compile(operations, circuit, chosen, unit, folder)
        if tried:
            progress(f"{unit}: trying the circuit on an example")
            example = _example(model, unit, circuit)
            values = witness.honest(circuit, chosen, example)
            witness.write(operations, values, folder / "model.compiled", scratch)
        progress(f"{unit}: making keys")
        # What was checked is what is used: ezkl reads a copy that nobody else can write.
        parameters = scratch / "srs"
        (folder / "kzg1.srs").write_bytes(srs.copy_checked(source, parameters))
        operations.run(
            "setup",
            compiled=folder / "model.compiled",
            vk=folder / "vk.key",
            pk=folder / "pk.key",
            srs=parameters,
        )
        files = {file: read_limited(folder / file, limit) for file, limit in VERIFYING.items()}
        public = srs.is_public(sha256(files["kzg1.srs"]))
        about = {
            "format": 1,
            "model": model.digest,
            "unit": unit,
            "tokens": circuit.public[0].shape[0],
            "srs": "public" if public else INSECURE_SRS,
        }
        (folder / _ABOUT).write_bytes(canonical_json(about))
        yield Made(folder, circuit, files)


@contextlib.contextmanager
def made_again(
    model: ExactModel, unit: str, keys: Path | None, chosen: Recipe, progress: Progress
) -> Iterator[Made]:
    """Make the keys of `unit` that are in `keys` again; yields what was made, if it is the same.

    Nothing is believed of what is there: it says for how many positions to make them, and which
    SRS to look for in `keys`. Raises `InputError` if something is missing that this needs,
    `DigestMismatch` for keys of anything but `unit` of `model`.
    """
    folder = unit_folder(unit, keys)
    files = read_verifying(unit, keys)
    about = _what_for(folder)
    about.require(folder, {"model": model.digest, "unit": unit})
    source = srs.find_matching(folder.parent / "srs", chosen.window.logrows, files["kzg1.srs"])
    progress(f"{unit}: making its keys again")
    circuit = units.circuit_of(model.specification, unit, about.tokens, chosen, model.tensor)
    with making(model, unit, circuit, source, chosen, progress=progress) as made:
        differing = made.differing(files)
        if differing:
            raise DigestMismatch(
                f"{folder / differing}: not of the keys of this model's {unit}", hint=_MAKE_THEM
            )
        yield made


def require_about(folder: Path, **expected: object) -> None:
    """Raises `InputError` if `folder` says that it holds keys for anything but `expected`."""
    if (folder / _ABOUT).exists():
        About.read(folder).require(folder, expected)


def require_same(made: Made, folder: Path) -> None:
    """Raises `InputError` if `folder` holds a verifying half that is not the one made."""
    there = [name for name in VERIFYING if (folder / name).exists()]
    differing = made.differing({name: _read(folder, name) for name in there})
    if differing:
        raise InputError(
            f"{folder / differing}: expected a key of this model, found another",
            hint="choose another --keys folder, or delete the file",
        )


def require_proving(folder: Path, files: Mapping[str, bytes]) -> None:
    """Raises `InputError` unless the prover's half is there, and the key is that of `files`."""
    for name in ("model.compiled", "pk.key"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder / name}: expected a file, found none",
                hint="proving takes the whole folder that zkllm setup made",
            )
    with (folder / "pk.key").open("rb") as file:
        head = file.read(len(files["vk.key"]))
    if head != files["vk.key"]:
        raise InputError(
            f"{folder / 'pk.key'}: expected the proving key of vk.key, found another",
            hint=_MAKE_THEM,
        )


def unit_folder(unit: str, keys: Path | None) -> Path:
    """The folder of the unit's keys; raises `InputError` if there is none."""
    if keys is None:
        raise InputError(
            f"{unit}: expected a folder of keys, got none", hint="name it with --keys DIR"
        )
    folder = keys / unit_file_name(unit)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected the keys of {unit}, found none",
            hint="make them with: zkllm setup MODEL --backend ezkl --keys DIR",
        )
    return folder


def read_verifying(unit: str, keys: Path | None) -> dict[str, bytes]:
    """The bytes of the files that a verifier needs, by name."""
    folder = unit_folder(unit, keys)
    return {name: _read(folder, name) for name in VERIFYING}


def _read(folder: Path, name: str) -> bytes:
    return read_limited(folder / name, VERIFYING[name])


def _what_for(folder: Path) -> About:
    """What `folder` says of keys that are to be made again; raises `InputError` with what to do."""
    if not (folder / _ABOUT).exists():
        raise InputError(
            f"{folder / _ABOUT}: expected what the keys are for, found no such file",
            hint="keys are pinned once they are made again: get it, and the SRS in the folder "
            f"{folder.parent / 'srs'}, or {_MAKE_THEM}",
        )
    return About.read(folder)


def _compile(
    operations: Operations, circuit: Circuit, chosen: Recipe, unit: str, folder: Path
) -> None:
    """Fill `folder` with the graph of `circuit`, its settings and what ezkl compiles of them."""
    # onnx is the prover's and the key maker's alone
    from zkllm.engines.ezkl import lowering

    graph, settings = folder / "model.onnx", folder / "settings.json"
    graph.write_bytes(lowering.to_onnx(circuit, chosen.exp_scale))
    operations.run("settings", model=graph, settings=settings, run_args=chosen.run_args())
    settings.write_bytes(reproducible(settings.read_bytes()))
    zeros = {node.detail: np.zeros(node.shape, dtype=np.int64) for node in circuit.public}
    instances = len(demanded(circuit, zeros))
    try:
        check_settings(unit, settings.read_bytes(), circuit, chosen, instances)
    except UntrustedMaterial as err:
        raise BackendError(err.message) from err
    operations.run("compile", model=graph, compiled=folder / "model.compiled", settings=settings)


def _example(model: ExactModel, unit: str, circuit: Circuit) -> Claim:
    """Some run of the unit, within its bounds."""
    x = circuit.public[0]
    random = np.random.default_rng(0)
    inputs = random.integers(-x.magnitude, x.magnitude + 1, x.shape)
    return Claim(unit, inputs, reference.run_unit(model, unit, inputs), Digest(""))


@dataclass(frozen=True, slots=True)
class About:
    """What a folder of keys says of itself. Nobody has to believe it."""

    model: Digest
    unit: str
    tokens: int

    @classmethod
    def read(cls, folder: Path) -> About:
        """Raises `InputError` if `folder` does not say what its keys are for."""
        path = folder / _ABOUT
        about = parse_canonical_json(read_limited(path, _MAX_ABOUT), str(path))
        if not isinstance(about, dict) or not {"model", "unit", "tokens"} <= set(about):
            raise InputError(f"{path}: expected the model, the unit and the tokens")
        model, unit, tokens = about["model"], about["unit"], about["tokens"]
        if (type(model), type(unit), type(tokens)) != (str, str, int):
            raise InputError(f"{path}: expected a digest, a name and a number of positions")
        return cls(Digest(model), unit, tokens)

    def require(self, folder: Path, expected: Mapping[str, object]) -> None:
        """Raises `InputError` if the keys are for anything else: the work would be in vain."""
        require_fields(
            self,
            expected,
            str(folder),
            "the keys are for",
            "make keys that fit, in another folder, with: zkllm setup",
        )

"""The backend `ezkl`: one zero-knowledge proof for a whole attention unit.

A unit's keys are a folder. Its verifying half, `VERIFYING`, is what a policy pins and all that
`verify` reads; the rest is for the prover.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zkllm.backends.base import Checked, Claim, Estimate, Pin, Progress, silent
from zkllm.backends.ezkl import audit as auditing
from zkllm.backends.ezkl import circuit as circuits
from zkllm.backends.ezkl import proofs, recipe, srs
from zkllm.backends.ezkl.audit.settings import read_settings, settings_problems
from zkllm.backends.ezkl.equations import Circuit
from zkllm.backends.ezkl.process import call
from zkllm.backends.ezkl.recipe import Recipe
from zkllm.bundle import BackendName
from zkllm.digests import Digest, canonical_json, parse_canonical_json, sha256
from zkllm.errors import (
    BackendError,
    DigestMismatch,
    InputError,
    ProofRejected,
    StatementMismatch,
    UnsupportedModel,
    UntrustedMaterial,
    WrongMaterial,
)
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Attention, Specification, multiply_adds
from zkllm.files import read_limited, unit_file_name, write_atomically
from zkllm.tensors import IntArray

VERIFYING: Mapping[str, int] = {
    "vk.key": 16 << 20,
    "settings.json": 1 << 20,
    "kzg1.srs": srs.REDUCED_BYTES,
}
"""The files that a policy pins and a verifier reads, with the largest size of each in bytes."""
_PROVING = ("model.onnx", "model.compiled", "pk.key")
_ABOUT = "about.json"
_MAX_ABOUT = 1 << 16
_RECIPE = "attention"
_VERIFY_SECONDS = 120.0
_VERIFY_MEMORY = 1 << 30

HIDDEN = (
    "the unit's weights, if they cannot be guessed, and its inner values; "
    "its two boundaries are public"
)


class EzklBackend:
    """Evidence is one proof; what it is about, the verifier puts together by itself."""

    name: BackendName = "ezkl"
    prover_packages: tuple[str, ...] = ("ezkl",)

    def unsupported(self, specification: Specification, unit: str) -> str:
        return circuits.unsupported(specification, unit, recipe.load(_RECIPE))

    def estimate(
        self,
        specification: Specification,
        unit: str,
        tokens: int,
        *,
        generated: int = 1,
        keys: bool = False,
    ) -> Estimate:
        chosen = recipe.load(_RECIPE)
        no_weights = circuits.no_weights(specification)
        built = circuits.attention(specification, unit, tokens, chosen, no_weights)
        made = _estimate(built, chosen, multiply_adds(specification, unit, tokens))
        if made.evidence_bytes > proofs.MAX_PROOF:
            raise UnsupportedModel(
                f"{unit}: expected a proof of at most {proofs.MAX_PROOF} bytes, "
                f"this one would have about {made.evidence_bytes}",
                hint="fewer --tokens, or another backend",
            )
        return made

    def setup(
        self, model: ExactModel, unit: str, tokens: int, keys: Path, progress: Progress = silent
    ) -> Pin:
        chosen = recipe.load(_RECIPE)
        built = circuits.attention(model.specification, unit, tokens, chosen, model.tensor)
        store = keys / "srs"
        logrows = chosen.window.logrows
        public = srs.find_public(store, logrows)
        about = {
            "format": 1,
            "model": model.digest,
            "unit": unit,
            "tokens": tokens,
            "srs": "public" if public is not None else "insecure-development",
        }
        folder = keys / unit_file_name(unit)
        if _is_complete(folder, about):
            progress(f"{unit}: its keys are there")
            return self.pin(model, unit, keys)
        source = public or srs.development_srs(store, logrows, progress)
        keys.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".keys-", dir=keys) as name:
            made = Path(name).absolute() / "made"
            made.mkdir()
            _make_keys(built, chosen, model, unit, source.absolute(), made, progress)
            with write_atomically(made / _ABOUT) as file:
                file.write(canonical_json(about))
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
        return self.pin(model, unit, keys)

    def pin(
        self, model: ExactModel, unit: str, keys: Path | None, *, recompute: bool = False
    ) -> Pin:
        # These keys follow from an SRS too, which no verifier has whole: `recompute` asks in vain.
        files = _read_verifying(unit, keys)
        return Pin({name: sha256(data) for name, data in files.items()})

    def check_material(self, model: ExactModel, unit: str, pin: Pin, keys: Path | None) -> None:
        reason = self.unsupported(model.specification, unit)
        if reason:
            raise WrongMaterial(f"the policy demands what no ezkl proof can give: {reason}")
        if not pin.digests:
            raise UntrustedMaterial(
                f"{unit}: the policy pins no keys for it",
                hint="write a policy with: zkllm policy init MODEL --keys DIR",
            )
        _pinned(unit, pin, keys)

    def prove(
        self, model: ExactModel, claim: Claim, keys: Path | None, progress: Progress = silent
    ) -> bytes:
        chosen = recipe.load(_RECIPE)
        tokens = len(claim.inputs)
        unit = claim.unit
        built = circuits.attention(model.specification, unit, tokens, chosen, model.tensor)
        # Every equation and range is checked here: ezkl would prove a wrong witness in silence,
        # and would never end with one that leaves the window.
        witness = _honest(built, chosen, model, claim)
        pin = self.pin(model, unit, keys)
        folder = _unit_folder(unit, keys).absolute()
        _check_about(folder, model, unit, tokens)
        reduced = srs.read_reduced(folder / "kzg1.srs")
        source = srs.find_matching(folder.parent / "srs", chosen.window.logrows, reduced)
        with tempfile.TemporaryDirectory(prefix="zkllm-") as name:
            scratch = Path(name)
            operations = _Operations(chosen, progress)
            _write_witness(operations, witness, folder / "model.compiled", scratch)
            progress(f"{unit}: proving")
            operations.run(
                "prove",
                witness=scratch / "witness.json",
                compiled=folder / "model.compiled",
                pk=folder / "pk.key",
                proof=scratch / "proof.json",
                srs=source.absolute(),
            )
            limit = 64 * proofs.MAX_PROOF + (1 << 20)
            evidence = proofs.proof_bytes(read_limited(scratch / "proof.json", limit))
        # ezkl's prover can return an invalid proof without a word.
        self.verify(claim, evidence, model, pin, keys)
        return evidence

    def verify(
        self, claim: Claim, evidence: bytes, model: ExactModel, pin: Pin, keys: Path | None
    ) -> Checked:
        """Check `evidence`; raises `VerificationError` if it does not show `claim`.

        1. The claim has the unit's shape and stays within its proven bounds. 2. Key, settings and
        SRS are the pinned ones. 3. The settings leave the circuit no freedom. 4. The proof holds
        for the claimed boundaries and for what every equation demands. 5. Nothing follows it.
        """
        chosen = recipe.load(_RECIPE)
        specification, unit = model.specification, claim.unit
        proofs.check_evidence(evidence)
        _check_claim(specification, claim)
        built = circuits.attention(
            specification, unit, len(claim.inputs), chosen, circuits.no_weights(specification)
        )
        instances = built.demanded(_public(claim))
        files = _pinned(unit, pin, keys)
        _check_settings(unit, files["settings.json"], built, chosen, len(instances))
        with tempfile.TemporaryDirectory(prefix="zkllm-") as name:
            # What was hashed is what is used: ezkl reads copies that nobody else can write.
            scratch = Path(name)
            for file, data in files.items():
                (scratch / file).write_bytes(data)
            if not _verifies(scratch, evidence, instances):
                raise ProofRejected(f"{unit}: the proof does not show the claim")
            # ezkl ignores bytes after the proof. With one byte less it must not verify.
            if _verifies(scratch, evidence[:-1], instances):
                raise ProofRejected(f"{unit}: bytes follow the proof")
        public = srs.is_public(pin.digests["kzg1.srs"])
        return Checked(
            words="proved (ezkl)",
            hidden=HIDDEN,
            assumptions=() if public else ("insecure-srs",),
            details={
                "proof_bytes": len(evidence),
                "instances": len(instances),
                "logrows": chosen.window.logrows,
            },
        )

    def audit(self, model: ExactModel, unit: str, keys: Path, progress: Progress = silent) -> str:
        """Rebuild the constraints from the proving key and compare them with the equations.

        Returns a line of figures. Raises `UntrustedMaterial` if they differ.
        """
        folder = _unit_folder(unit, keys)
        tokens = _read_about(folder)["tokens"]
        chosen = recipe.load(_RECIPE)
        built = circuits.attention(model.specification, unit, tokens, chosen, model.tensor)
        progress(f"{unit}: auditing the proving key")
        report = auditing.audit(folder / "pk.key", folder / "settings.json", relation(built))
        problems = list(report.problems)
        if report.vk != self.pin(model, unit, keys).digests["vk.key"]:
            problems.append("the proving key contains another verifying key than vk.key")
        if problems:
            raise UntrustedMaterial(
                f"{unit}: the keys do not enforce its equations: {problems[0]}"
                + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
            )
        return (
            f"{report.rows} rows, {sum(report.lookups.values())} lookups, "
            f"{report.constants} constants, no free operand"
        )


def relation(built: Circuit) -> auditing.Relation:
    """The equations of a circuit as the audit wants them."""
    return auditing.Relation(
        (built.size,),
        lambda inputs, modulus: built.over_field(inputs[0], auditing.symbol, modulus),
    )


@dataclass(frozen=True, slots=True)
class _Operations:
    """ezkl's operations under the limits of a recipe."""

    recipe: Recipe
    progress: Progress = silent

    def run(self, operation: str, **arguments: Any) -> Any:
        result = call(
            operation,
            arguments,
            seconds=self.recipe.seconds,
            memory=self.recipe.memory,
            progress=self.progress,
        )
        return result.value


def _make_keys(
    built: Circuit,
    chosen: Recipe,
    model: ExactModel,
    unit: str,
    source: Path,
    folder: Path,
    progress: Progress,
) -> None:
    """Fill `folder` with all files of a unit's keys but the last, `about.json`."""
    from zkllm.backends.ezkl import lowering

    operations = _Operations(chosen, progress)
    graph, settings, compiled = (
        folder / name for name in ("model.onnx", "settings.json", "model.compiled")
    )
    graph.write_bytes(lowering.to_onnx(built, chosen.exp_scale))
    operations.run("settings", model=graph, settings=settings, run_args=chosen.run_args())
    example = _example(model, unit, built)
    count = len(built.demanded(_public(example)))
    try:
        _check_settings(unit, settings.read_bytes(), built, chosen, count)
    except UntrustedMaterial as err:
        raise BackendError(err.message) from err
    operations.run("compile", model=graph, compiled=compiled, settings=settings)
    with tempfile.TemporaryDirectory(prefix="zkllm-") as name:
        progress(f"{unit}: trying the circuit on an example")
        _write_witness(operations, _honest(built, chosen, model, example), compiled, Path(name))
    progress(f"{unit}: making keys")
    operations.run(
        "setup", compiled=compiled, vk=folder / "vk.key", pk=folder / "pk.key", srs=source
    )
    (folder / "kzg1.srs").write_bytes(srs.reduce(source))


def _write_witness(
    operations: _Operations, values: Sequence[int], compiled: Path, folder: Path
) -> None:
    """Write `folder`/witness.json, and see that it satisfies the circuit."""
    data, witness = folder / "input.json", folder / "witness.json"
    data.write_text(proofs.input_json(values), encoding="ascii")
    operations.run("witness", data=data, compiled=compiled, output=witness)
    if not operations.run("mock", witness=witness, compiled=compiled):
        raise BackendError("the circuit refuses the witness of an honest run")


def _example(model: ExactModel, unit: str, built: Circuit) -> Claim:
    """Some run of the unit, within its bounds."""
    x = built.public[0]
    random = np.random.default_rng(0)
    inputs = random.integers(-x.magnitude, x.magnitude + 1, x.shape)
    return Claim(unit, inputs, reference.run_unit(model, unit, inputs), Digest(""))


def _public(claim: Claim) -> dict[str, IntArray]:
    """The claim in the names of the circuit."""
    return {"x": claim.inputs, "output": claim.outputs}


def _honest(built: Circuit, chosen: Recipe, model: ExactModel, claim: Claim) -> list[int]:
    """The inputs of the graph for a true claim; raises `ConstraintViolation` for another."""
    unit = model.specification.units()[claim.unit]
    assert isinstance(unit, Attention)  # noqa: S101
    lookup = circuits.exp_lookup(model.tensor(unit.exp), chosen)
    return built.flat_inputs(built.honest(_public(claim), lookup))


def _check_claim(specification: Specification, claim: Claim) -> None:
    """(1): the window argument of the circuit begins with these two ranges."""
    index = circuits.boundary_index(specification, claim.unit)
    bounds = specification.boundary_bounds()
    shape = (len(claim.inputs), specification.architecture.width)
    for name, tensor, bound in (
        ("input", claim.inputs, bounds[index]),
        ("output", claim.outputs, bounds[index + 1]),
    ):
        if tensor.shape != shape:
            raise StatementMismatch(
                f"{claim.unit}: {name}: expected shape {list(shape)}, got {list(tensor.shape)}"
            )
        if tensor.size and max(int(tensor.max()), -int(tensor.min())) > bound:
            raise StatementMismatch(f"{claim.unit}: {name}: an integer is beyond ±{bound}")


def _check_settings(unit: str, data: bytes, built: Circuit, chosen: Recipe, instances: int) -> None:
    """(3): raises `UntrustedMaterial` unless these are the settings of the recipe."""
    try:
        settings = read_settings(data)
    except InputError as err:
        raise UntrustedMaterial(f"{unit}: {err.message}") from err
    problems = settings_problems(settings, (built.size,))
    window = chosen.window
    demanded = chosen.run_args()
    found = json.loads(data)["run_args"]
    # ezkl writes its visibilities in words of its own; the audit's reader compares those.
    same = [name for name in demanded if not name.endswith("_visibility")]
    expectations: list[tuple[str, Any, Any]] = [
        *((name, demanded[name], found.get(name)) for name in same),
        ("visibilities", ("Private", "Public"), (settings.inputs, settings.outputs)),
        ("window", (window.low, window.high), settings.window),
        ("instances", instances, settings.instances),
    ]
    problems += [
        f"{name}: expected {expected}, got {got}"
        for name, expected, got in expectations
        if expected != got
    ]
    if problems:
        raise UntrustedMaterial(f"{unit}: settings.json: {problems[0]}")


def _verifies(folder: Path, evidence: bytes, instances: Sequence[int]) -> bool:
    """(4): whether ezkl accepts the proof under the files of `folder`."""
    path = folder / "proof.json"
    path.write_text(proofs.proof_json(evidence, instances), encoding="ascii")
    result = call(
        "verify",
        {
            "proof": path,
            "settings": folder / "settings.json",
            "vk": folder / "vk.key",
            "srs": folder / "kzg1.srs",
            "reduced_srs": True,
        },
        seconds=_VERIFY_SECONDS,
        memory=_VERIFY_MEMORY,
    )
    return result.value is True


def _unit_folder(unit: str, keys: Path | None) -> Path:
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


def _read_verifying(unit: str, keys: Path | None) -> dict[str, bytes]:
    """The bytes of the files that a verifier needs, by name."""
    folder = _unit_folder(unit, keys)
    return {name: read_limited(folder / name, limit) for name, limit in VERIFYING.items()}


def _pinned(unit: str, pin: Pin, keys: Path | None) -> dict[str, bytes]:
    """(2): the verifying files; raises unless each is the one that the policy pins."""
    files = _read_verifying(unit, keys)
    for name, data in files.items():
        if name not in pin.digests:
            raise UntrustedMaterial(f"{unit}: the policy does not pin {name}")
        if sha256(data) != pin.digests[name]:
            raise DigestMismatch(
                f"{unit}: {name}: the policy pins {pin.digests[name]}, got {sha256(data)}"
            )
    return files


def _read_about(folder: Path) -> dict[str, Any]:
    """What the keys in `folder` are for; raises `InputError` if it does not say."""
    about = parse_canonical_json(read_limited(folder / _ABOUT, _MAX_ABOUT), str(folder / _ABOUT))
    if not isinstance(about, dict) or not {"model", "unit", "tokens"} <= set(about):
        raise InputError(f"{folder / _ABOUT}: expected the model, the unit and the tokens")
    return about


def _check_about(folder: Path, model: ExactModel, unit: str, tokens: int) -> None:
    """Raises `InputError` if the keys are for something else: proving would be in vain."""
    about = _read_about(folder)
    for name, expected in (("model", model.digest), ("unit", unit), ("tokens", tokens)):
        if about[name] != expected:
            raise InputError(
                f"{folder}: {name}: the keys are for {about[name]!s:.80}, the run has {expected}",
                hint="make keys that fit with: zkllm setup",
            )


def _is_complete(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether `folder` holds keys for exactly this; it was given its name when it was full."""
    if not (folder / _ABOUT).is_file():
        return False
    names = (*VERIFYING, *_PROVING)
    return all((folder / name).is_file() for name in names) and _read_about(folder) == about


def _estimate(built: Circuit, chosen: Recipe, work: int) -> Estimate:
    """Figures fitted to what `benchmarks.demo` and `benchmarks.head` measured on two cores."""
    logrows = chosen.window.logrows
    cells = built.cells()
    blocks = -(-cells // (chosen.columns * (1 << logrows)))
    return Estimate(
        multiply_adds=work,
        rows=cells,
        logrows=logrows,
        key_bytes=(blocks + 1) * (24 << 20),
        evidence_bytes=2000 + 960 * blocks,
        memory_bytes=(blocks + 1) * (64 << 20),
        setup_seconds=cells * 6e-5,
        prove_seconds=cells * 8e-5,
        verify_seconds=0.5,
    )

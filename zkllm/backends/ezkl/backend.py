"""The backend `ezkl`: one zero-knowledge proof for a whole attention unit.

What a unit's keys are, and how far they are believed, is said in `keys`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zkllm.backends.base import INSECURE_ASSUMPTION, Backend, Checked, Claim, Estimate, Pin
from zkllm.backends.claims import check_ranges
from zkllm.backends.ezkl import keys as keyring
from zkllm.backends.ezkl import units, witness
from zkllm.backends.ezkl.keys import VERIFYING, Made
from zkllm.backends.ezkl.settings import check_settings
from zkllm.digests import sha256
from zkllm.engines.ezkl import audit as auditing
from zkllm.engines.ezkl import proofs, readings, recipe, srs
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.process import Operations, call
from zkllm.engines.ezkl.recipe import Recipe
from zkllm.errors import (
    ConstraintViolation,
    DigestMismatch,
    InputError,
    ProofRejected,
    StatementMismatch,
    UnsupportedModel,
    UntrustedMaterial,
    WrongMaterial,
)
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.files import read_limited, unit_file_name
from zkllm.progress import Progress, silent
from zkllm.records import word

_RECIPE = "attention"
_VERIFY_SECONDS = 120.0
_VERIFY_MEMORY = 1 << 30

HIDDEN = (
    "the unit's weights, if they cannot be guessed, and its inner values; "
    "its two boundaries are public"
)


class EzklBackend(Backend):
    """Evidence is one proof; what it is about, the verifier puts together by itself."""

    name = "ezkl"
    prover_packages = ("ezkl",)
    mark = "vk.key"
    needs_keys = True
    fixed_length = True
    audits = True

    def unsupported(self, specification: Specification, unit: str) -> str:
        return units.unsupported(specification, unit, recipe.load(_RECIPE))

    def demand(self, *, pinned: bool) -> str:
        return "proved (ezkl) under keys that are pinned"

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
        built = _without_weights(specification, unit, tokens, chosen)
        made = _estimate(built, chosen, specification.units()[unit].work(tokens))
        if made.evidence_bytes > proofs.MAX_PROOF:
            raise UnsupportedModel(
                f"{unit}: expected a proof of at most {proofs.MAX_PROOF} bytes, "
                f"this one would have about {made.evidence_bytes}",
                hint="fewer --tokens, or another backend",
            )
        return made

    def setup(
        self,
        model: ExactModel,
        unit: str,
        tokens: int,
        keys: Path,
        progress: Progress = silent,
        *,
        audit: bool = False,
    ) -> Pin:
        """Make the keys of `unit`; with `audit`, its findings are in the pin.

        A verifying half that is there already must be the one that is made: then the prover's
        half is put beside it anew. Raises `InputError` if it is another.
        """
        chosen = recipe.load(_RECIPE)
        built = units.circuit_of(model.specification, unit, tokens, chosen, model.tensor)
        folder = keys / unit_file_name(unit)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: expected a folder, found a file")
        keyring.require_about(folder, model=model.digest, unit=unit, tokens=tokens)
        store, logrows = keys / "srs", chosen.window.logrows
        source = srs.find_public(store, logrows) or srs.development_srs(store, logrows, progress)
        keys.mkdir(parents=True, exist_ok=True)
        with keyring.making(
            model, unit, built, source, chosen, beside=keys, tried=True, progress=progress
        ) as made:
            keyring.require_same(made, folder)
            findings = _audit(made, unit, progress) if audit else ""
            made.move_to(folder)
        return replace(made.pin, audit=findings)

    def pin(
        self,
        model: ExactModel,
        unit: str,
        keys: Path | None,
        *,
        recompute: bool = False,
        progress: Progress = silent,
    ) -> Pin:
        if recompute:
            chosen = recipe.load(_RECIPE)
            with keyring.made_again(model, unit, keys, chosen, progress) as made:
                return made.pin
        files = keyring.read_verifying(unit, keys)
        folder = keyring.unit_folder(unit, keys)
        keyring.require_about(folder, model=model.digest, unit=unit)
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
        unit = claim.unit
        tokens = len(claim.inputs)
        built = units.circuit_of(model.specification, unit, tokens, chosen, model.tensor)
        # Every equation and range is checked here: ezkl would prove a wrong witness in silence,
        # and would never end with one that leaves the window.
        values = witness.honest(built, chosen, claim)
        files = keyring.read_verifying(unit, keys)
        folder = keyring.unit_folder(unit, keys).absolute()
        expected = {"model": model.digest, "unit": unit, "tokens": tokens}
        keyring.About.read(folder).require(folder, expected)
        keyring.require_proving(folder, files)
        source = srs.find_matching(folder.parent / "srs", chosen.window.logrows, files["kzg1.srs"])
        operations = Operations(chosen.seconds, chosen.memory, progress)
        with tempfile.TemporaryDirectory(prefix="zkllm-") as name:
            scratch = Path(name)
            written = witness.write(operations, values, folder / "model.compiled", scratch)
            progress(f"{unit}: proving")
            operations.run(
                "prove",
                witness=written,
                compiled=folder / "model.compiled",
                pk=folder / "pk.key",
                proof=scratch / "proof.json",
                srs=source.absolute(),
            )
            limit = 64 * proofs.MAX_PROOF + (1 << 20)
            evidence = proofs.proof_bytes(read_limited(scratch / "proof.json", limit))
        # ezkl's prover can return an invalid proof without a word.
        pin = Pin({name: sha256(data) for name, data in files.items()})
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
        built = _without_weights(specification, unit, len(claim.inputs), chosen)
        instances = readings.demanded(built, witness.public(claim))
        files = _pinned(unit, pin, keys)
        check_settings(unit, files["settings.json"], built, chosen, len(instances))
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
            assumptions=() if public else (INSECURE_ASSUMPTION,),
            details={
                "proof_bytes": len(evidence),
                "instances": len(instances),
                "logrows": chosen.window.logrows,
            },
        )


def _audit(made: Made, unit: str, progress: Progress) -> str:
    """One line of findings on keys that this process has made.

    They are audited where they were made: the columns in a proving key of somebody else need not
    be those to which its verifying key commits.
    """
    progress(f"{unit}: auditing the proving key")
    report = auditing.audit(
        made.folder / "pk.key", made.folder / "settings.json", relation(made.circuit)
    )
    problems = list(report.problems)
    if report.vk != made.pin.digests["vk.key"]:
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
        lambda inputs, modulus: readings.over_field(built, inputs[0], auditing.symbol, modulus),
    )


def _without_weights(
    specification: Specification, unit: str, tokens: int, chosen: Recipe
) -> Circuit:
    """The circuit of `unit` as a verifier may have it: its demands are the same."""
    return units.circuit_of(specification, unit, tokens, chosen, units.no_weights(specification))


def _check_claim(specification: Specification, claim: Claim) -> None:
    """(1): the window argument of the circuit begins with these two ranges."""
    shape = (len(claim.inputs), specification.architecture.width)
    for name, tensor in (("input", claim.inputs), ("output", claim.outputs)):
        if tensor.shape != shape:
            raise StatementMismatch(
                f"{claim.unit}: {name}: expected shape {list(shape)}, got {list(tensor.shape)}"
            )
    try:
        check_ranges(specification, claim)
    except ConstraintViolation as err:
        raise StatementMismatch(err.message) from err


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


def _pinned(unit: str, pin: Pin, keys: Path | None) -> dict[str, bytes]:
    """(2): the verifying files; raises unless each is the one that the policy pins."""
    unread = sorted(set(pin.digests) - set(VERIFYING))
    if unread:
        raise UntrustedMaterial(
            f"{unit}: expected pins of {', '.join(VERIFYING)} alone, got {word(unread[0])}"
        )
    files = keyring.read_verifying(unit, keys)
    for name in VERIFYING:
        if name not in pin.digests:
            raise UntrustedMaterial(f"{unit}: the policy does not pin {name}")
        digest = sha256(files[name])
        if digest != pin.digests[name]:
            raise DigestMismatch(
                f"{unit}: {name}: the policy pins {pin.digests[name]}, got {digest}",
                hint="verify with the keys for which the policy was written",
            )
    return files


def _estimate(built: Circuit, chosen: Recipe, work: int) -> Estimate:
    """Figures fitted to what `benchmarks.demo` and `benchmarks.head` measured on two cores."""
    logrows = chosen.window.logrows
    cells = readings.cells(built)
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

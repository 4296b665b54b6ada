"""The backend `sumcheck`: an integrity proof of any unit, not zero-knowledge, unaudited.

Weights are *held*, and then the verifier reads them from the exact model; or *committed*: `setup`
writes a commitment to the weights of a unit, a policy pins it, and the verifier needs nothing else
of them. Which of both a proof is for is part of what it proves.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zkllm.backends.base import Backend, Checked, Claim, Estimate, Pin
from zkllm.backends.sumcheck import estimates
from zkllm.backends.sumcheck.units import make_circuit
from zkllm.digests import Digest, canonical_json, parse_canonical_json, sha256, tagged
from zkllm.engines.sumcheck.commitment import HASH
from zkllm.engines.sumcheck.protocol import Circuit, Context, check_proof, make_proof
from zkllm.errors import (
    ConstraintViolation,
    DigestMismatch,
    InputError,
    InvalidBundle,
    ProofRejected,
    UnsupportedModel,
    UntrustedMaterial,
)
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.exact.stored import check_range
from zkllm.extras import require_packages
from zkllm.files import read_limited, unit_file_name, write_atomically
from zkllm.progress import Progress, silent
from zkllm.records import from_json, require_fields, to_json, word
from zkllm.tensors import IntArray, tensor_digest

WORDS = "proved (sumcheck, not zero-knowledge, unaudited)"
COMMITMENT = "commitment.json"
MAX_COMMITMENT = 8 << 20
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a verifier needs of a unit whose weights it does not hold."""

    format: int
    unit: str
    model: Digest
    root: str
    """Merkle root over the encoded weights, in hexadecimal."""
    tables: dict[str, tuple[int, ...]]
    """The unit's lookup tables, whose digests the specification names."""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(to_json(self))

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> Commitment:
        """Raises `InvalidBundle` for anything that `to_bytes` does not write.

        Raises `WrongMaterial` for a table of integers that no model may hold.
        """
        found: Commitment = from_json(cls, parse_canonical_json(data, what), what)
        if found.format != _FORMAT:
            raise InvalidBundle(f"{what}: expected format {_FORMAT}, got {found.format}")
        if not re.fullmatch(f"[0-9a-f]{{{2 * HASH}}}", found.root):
            raise InvalidBundle(f"{what}: expected a root of {HASH} bytes, got {found.root!r:.80}")
        for name, table in found.tables.items():
            check_range(f"{what}: table {word(name)}", table)
        return found

    def require(self, path: Path, model: ExactModel, unit: str) -> None:
        """Raises `InputError` if it says that it is to anything else: proving would be in vain."""
        require_fields(
            self,
            {"model": model.digest, "unit": unit},
            str(path),
            "the commitment is to",
            "make one that fits, in another folder, with: zkllm setup",
        )

    def model_of(self, specification: Specification) -> ExactModel:
        """The model as far as the commitment gives it; raises `DigestMismatch` for other tables."""
        tensors: dict[str, IntArray] = {}
        for name in specification.units()[self.unit].tables():
            stored = specification.tensors[name]
            if name not in self.tables:
                raise InvalidBundle(f"{self.unit}: the commitment lacks the table {name}")
            tensors[name] = np.array(self.tables[name], dtype=np.int64)
            try:
                found = tensor_digest(tensors[name], stored.dtype)
            except OverflowError:  # an entry that the declared type does not hold
                found = Digest("")
            if found != stored.digest:
                raise DigestMismatch(f"{self.unit}: the table {name} is not the model's")
        return ExactModel.in_memory(specification, tensors)


class SumcheckBackend(Backend):
    """Proves every unit, in time near linear in its cells; see `docs/protocol.md`."""

    name = "sumcheck"
    prover_packages = ("numba",)
    parallel = True
    mark = COMMITMENT

    def unsupported(self, specification: Specification, unit: str) -> str:
        try:
            estimates.circuit_of(specification, unit, specification.architecture.context)
        except UnsupportedModel as err:
            return err.message
        return ""

    def demand(self, *, pinned: bool) -> str:
        if pinned:
            return f"{WORDS} under a commitment to the weights"
        return f"{WORDS}; the verifier needs the weights"

    def estimate(
        self,
        specification: Specification,
        unit: str,
        tokens: int,
        *,
        generated: int = 1,
        keys: bool = False,
    ) -> Estimate:
        return estimates.estimate(specification, unit, tokens, generated, committed=keys)

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
        """Commit to the weights of `unit`; `tokens` has no part in it.

        Raises `InputError` if there is a commitment to other weights already.
        """
        made = _commit(model, unit, progress).to_bytes()
        path = keys / unit_file_name(unit) / COMMITMENT
        if path.exists() and read_limited(path, MAX_COMMITMENT) != made:
            raise InputError(
                f"{path}: expected a commitment to this model, found another",
                hint="choose another --keys folder, or delete the file",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            file.write(made)
        return Pin({COMMITMENT: sha256(made)})

    def pin(
        self,
        model: ExactModel,
        unit: str,
        keys: Path | None,
        *,
        recompute: bool = False,
        progress: Progress = silent,
    ) -> Pin:
        """No digest where `keys` has no commitment to the unit: its weights are then held."""
        path = _path(unit, keys)
        if path is None:
            return Pin({})
        data = read_limited(path, MAX_COMMITMENT)
        if not recompute:
            Commitment.from_bytes(data, str(path)).require(path, model, unit)
        elif data != _commit(model, unit, progress).to_bytes():
            raise DigestMismatch(
                f"{path}: not the commitment to this model's {unit}",
                hint="make it in an empty folder with: "
                "zkllm setup MODEL --backend sumcheck --keys DIR",
            )
        return Pin({COMMITMENT: sha256(data)})

    def check_material(self, model: ExactModel, unit: str, pin: Pin, keys: Path | None) -> None:
        if pin.digests:
            _pinned(model, unit, pin, keys).model_of(model.specification)
        else:
            model.find_weights()

    def prove(
        self, model: ExactModel, claim: Claim, keys: Path | None, progress: Progress = silent
    ) -> bytes:
        # compiled kernels are the prover's alone
        require_packages(*self.prover_packages)
        from zkllm.engines.sumcheck import kernels

        kernels.prepare(progress)
        path = _path(claim.unit, keys)
        root = None
        if path is not None:
            data = read_limited(path, MAX_COMMITMENT)
            root = bytes.fromhex(Commitment.from_bytes(data, str(path)).root)
        circuit = make_circuit(model, claim)
        try:
            return make_proof(circuit, context_of(model, claim, root))
        except ConstraintViolation as err:
            if err.message.startswith(f"{claim.unit}:"):
                raise
            raise ConstraintViolation(f"{claim.unit}: {err.message}", err.hint) from err
        finally:
            model.forget()

    def verify(
        self, claim: Claim, evidence: bytes, model: ExactModel, pin: Pin, keys: Path | None
    ) -> Checked:
        root = None
        if pin.digests:
            commitment = _pinned(model, claim.unit, pin, keys)
            root = bytes.fromhex(commitment.root)
            model = commitment.model_of(model.specification)
        try:
            circuit = make_circuit(model, claim)
            bits = check_proof(circuit, evidence, context_of(model, claim, root))
        except ProofRejected:
            _explain(circuit, evidence, root)
            raise
        except (ConstraintViolation, UnsupportedModel) as err:
            # It is the prover who chose rows, and how many: too many can lack soundness.
            raise ProofRejected(err.message) from err
        details: dict[str, Any] = {
            "proof_bytes": len(evidence),
            "soundness_bits": math.floor(10 * bits) / 10,
            "weights": "held" if root is None else "committed",
        }
        return Checked(WORDS, binds_nonce=True, details=details)


def _explain(circuit: Circuit, evidence: bytes, root: bytes | None) -> None:
    """Say of a proof that was refused that it is as long as one of the other mode.

    Lengths follow from the plan. What is said is a guess, and decides nothing.
    """
    try:
        length, _ = estimates.rehearse(circuit, committed=root is None)
    except UnsupportedModel:
        return
    if length != len(evidence):
        return
    if root is None:
        raise ProofRejected(
            "the proof is one under a commitment to the weights, "
            "and the policy has the verifier hold them",
            hint="prove without --keys, or write a policy with: zkllm policy init MODEL --keys DIR",
        )
    raise ProofRejected(
        "the proof is one for weights that the verifier holds, "
        "and the policy pins a commitment to them",
        hint="prove with --keys DIR, the commitments that the policy pins",
    )


def context_of(model: ExactModel, claim: Claim, root: bytes | None) -> Context:
    """What a proof of `claim` is bound to: the model, the unit, its boundaries, the statement."""
    items = (
        ("model", model.digest.encode()),
        ("unit", claim.unit.encode()),
        ("statement", claim.statement.encode()),
        ("inputs", _digest_of(claim.inputs)),
        ("outputs", _digest_of(claim.outputs)),
        ("first row", claim.first_row.to_bytes(8, "little")),
    )
    return Context(items, root)


def _digest_of(array: IntArray) -> bytes:
    """A digest of a tensor's shape and integers."""
    shape = b"".join(n.to_bytes(8, "little") for n in array.shape)
    return tagged("zkllm/sumcheck/tensor/v1", shape, array.astype("<i8").tobytes()).encode()


def _commit(model: ExactModel, unit: str, progress: Progress) -> Commitment:
    """The commitment to the weights of `unit`, from the model."""
    require_packages(*SumcheckBackend.prover_packages)
    from zkllm.engines.sumcheck import kernels
    from zkllm.engines.sumcheck.weights import commit_weights

    kernels.prepare(progress)
    progress(f"{unit}: committing to the weights")
    plan = estimates.circuit_of(model.specification, unit, 1).plan
    root = commit_weights(plan, model).root()
    tables = {
        name: tuple(int(n) for n in model.tensor(name))
        for name in model.specification.units()[unit].tables()
    }
    model.forget()
    return Commitment(_FORMAT, unit, model.digest, root.hex(), tables)


def _path(unit: str, keys: Path | None) -> Path | None:
    """Where the commitment of `unit` is; none if its weights are held."""
    if keys is None:
        return None
    path = keys / unit_file_name(unit) / COMMITMENT
    # a link that leads nowhere was to be a commitment
    return path if os.path.lexists(path) else None


def _pinned(model: ExactModel, unit: str, pin: Pin, keys: Path | None) -> Commitment:
    """The commitment that the policy pins, parsed from the bytes that were hashed."""
    if set(pin.digests) != {COMMITMENT}:
        raise UntrustedMaterial(
            f"{unit}: expected a pin of {COMMITMENT} alone, "
            f"got {word(', '.join(sorted(pin.digests)))}"
        )
    if keys is None:
        raise InputError(
            f"{unit}: its weights are committed to", hint="name the folder: --keys DIR"
        )
    path = keys / unit_file_name(unit) / COMMITMENT
    data = read_limited(path, MAX_COMMITMENT)
    if sha256(data) != pin.digests[COMMITMENT]:
        raise DigestMismatch(
            f"{unit}: {COMMITMENT}: expected {pin.digests[COMMITMENT]}, got {sha256(data)}",
            hint="verify with the keys for which the policy was written",
        )
    commitment = Commitment.from_bytes(data, str(path))
    if commitment.unit != unit:
        raise UntrustedMaterial(f"{unit}: the commitment is that of {commitment.unit!r:.40}")
    if commitment.model != model.digest:
        raise UntrustedMaterial(
            f"{unit}: the commitment is to {commitment.model!r:.80}, the model is {model.digest}"
        )
    return commitment

"""A toy backend, which a test puts into a copy of the package: evidence is a digest.

It proves nothing that replay does not: its verifier computes the unit again. But it has all that a
backend may have: keys that a policy pins, evidence that binds the statement, work in processes.
"""

from __future__ import annotations

from pathlib import Path

from zkllm.backends.base import Backend, Checked, Claim, Estimate, Pin
from zkllm.backends.replay import recompute
from zkllm.digests import sha256, tagged
from zkllm.errors import DigestMismatch, InputError, ProofRejected, UntrustedMaterial
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.files import read_limited, unit_file_name
from zkllm.progress import Progress, silent
from zkllm.tensors import IntArray

KEY = "toy.key"


class ToyBackend(Backend):
    """Evidence is a digest of key, statement, inputs and outputs."""

    name = "toy"  # type: ignore[assignment] # no name of this release
    parallel = True
    mark = KEY
    needs_keys = True

    def unsupported(self, specification: Specification, unit: str) -> str:
        return "" if unit.startswith("mlp") else f"the toy proves MLPs, {unit} is none"

    def demand(self, *, pinned: bool) -> str:
        return "digested (toy) under a key that is pinned"

    def estimate(
        self,
        specification: Specification,
        unit: str,
        tokens: int,
        *,
        generated: int = 1,
        keys: bool = False,
    ) -> Estimate:
        return Estimate(multiply_adds=tokens, evidence_bytes=71, prove_seconds=100.0)

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
        path = keys / unit_file_name(unit) / KEY
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key_of(model, unit))
        return Pin({KEY: sha256(key_of(model, unit))})

    def pin(
        self,
        model: ExactModel,
        unit: str,
        keys: Path | None,
        *,
        recompute: bool = False,
        progress: Progress = silent,
    ) -> Pin:
        data = read_key(unit, keys)
        if recompute and data != key_of(model, unit):
            raise DigestMismatch(f"{unit}: not the key of this model")
        return Pin({KEY: sha256(data)})

    def check_material(self, model: ExactModel, unit: str, pin: Pin, keys: Path | None) -> None:
        if set(pin.digests) != {KEY}:
            raise UntrustedMaterial(f"{unit}: expected a pin of {KEY} alone")
        if sha256(read_key(unit, keys)) != pin.digests[KEY]:
            raise DigestMismatch(f"{unit}: {KEY}: expected {pin.digests[KEY]}, got another")
        model.find_weights()

    def prove(
        self, model: ExactModel, claim: Claim, keys: Path | None, progress: Progress = silent
    ) -> bytes:
        return digest_of(claim, recompute(model, claim), read_key(claim.unit, keys))

    def verify(
        self, claim: Claim, evidence: bytes, model: ExactModel, pin: Pin, keys: Path | None
    ) -> Checked:
        self.check_material(model, claim.unit, pin, keys)
        computed = recompute(model, claim)
        if evidence != digest_of(claim, computed, read_key(claim.unit, keys)):
            raise ProofRejected(f"{claim.unit}: the digest is another")
        if computed.tolist() != claim.outputs.tolist():
            raise ProofRejected(f"{claim.unit}: the outputs are others")
        return Checked("digested (toy)", binds_nonce=True)


def key_of(model: ExactModel, unit: str) -> bytes:
    return tagged("toy/key", model.digest.encode(), unit.encode()).encode()


def read_key(unit: str, keys: Path | None) -> bytes:
    if keys is None:
        raise InputError(f"{unit}: expected a folder of keys, got none")
    return read_limited(keys / unit_file_name(unit) / KEY, 1 << 10)


def digest_of(claim: Claim, outputs: IntArray, key: bytes) -> bytes:
    parts = (claim.statement.encode(), claim.inputs.tobytes(), outputs.tobytes(), key)
    return tagged("toy/evidence", *parts).encode()

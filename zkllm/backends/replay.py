"""The backend `replay`: the verifier computes the unit again. Hides nothing, proves nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zkllm.backends.base import Backend, Checked, Claim, Estimate, Pin
from zkllm.backends.claims import check_ranges
from zkllm.errors import (
    ConstraintViolation,
    InvalidBundle,
    ProofRejected,
    UnsupportedModel,
    UntrustedMaterial,
    WrongMaterial,
)
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.operations.unit import Ids
from zkllm.progress import Progress, silent
from zkllm.tensors import IntArray

_MULTIPLY_ADDS_A_SECOND = 1e9


class ReplayBackend(Backend):
    """Evidence is empty; verification costs about one inference and needs the weights."""

    name = "replay"
    recomputes = True

    def unsupported(self, specification: Specification, unit: str) -> str:
        return ""

    def demand(self, *, pinned: bool) -> str:
        return "recomputed; the verifier needs the weights"

    def estimate(
        self,
        specification: Specification,
        unit: str,
        tokens: int,
        *,
        generated: int = 1,
        keys: bool = False,
    ) -> Estimate:
        work = specification.units()[unit].work(tokens)
        a = specification.architecture
        largest = 8 * (
            max(a.heads * tokens * tokens, tokens * a.inner) * 4 + 2 * specification.size
        )
        return Estimate(
            multiply_adds=work, memory_bytes=largest, verify_seconds=work / _MULTIPLY_ADDS_A_SECOND
        )

    def check_material(self, model: ExactModel, unit: str, pin: Pin, keys: Path | None) -> None:
        if pin.digests:  # whoever pins keys believes that they are looked at
            raise UntrustedMaterial(
                f"{unit}: the policy pins keys for it, and replay has none",
                hint="demand another backend of it, or pin nothing",
            )
        model.find_weights()

    def prove(
        self, model: ExactModel, claim: Claim, keys: Path | None, progress: Progress = silent
    ) -> bytes:
        difference = _difference(model, claim)
        if difference:
            raise ConstraintViolation(difference, hint="the trace is not a run of this model")
        return b""

    def verify(
        self, claim: Claim, evidence: bytes, model: ExactModel, pin: Pin, keys: Path | None
    ) -> Checked:
        if evidence:
            raise InvalidBundle(f"{claim.unit}: replay has no evidence, got {len(evidence)} bytes")
        try:
            difference = _difference(model, claim)
        except ConstraintViolation as err:  # rows that no run can have
            raise ProofRejected(err.message) from err
        except UnsupportedModel as err:
            # boundaries within their bounds: only the model's own numbers can leave int64
            raise WrongMaterial(err.message) from err
        if difference:
            raise ProofRejected(
                difference, clause=f"{claim.unit} gives another result when it is computed again"
            )
        return Checked("recomputed")


def _difference(model: ExactModel, claim: Claim) -> str:
    """Where the claimed output first differs from the recomputed one; empty if nowhere."""
    got = recompute(model, claim)
    if got.shape != claim.outputs.shape:
        return f"{claim.unit}: expected shape {list(got.shape)}, got {list(claim.outputs.shape)}"
    if np.array_equal(got, claim.outputs):
        return ""
    place = tuple(int(i) for i in np.argwhere(got != claim.outputs)[0])
    return (
        f"{claim.unit}: recomputed {int(got[place])} at {list(place)}, "
        f"the claim says {int(claim.outputs[place])}"
    )


def recompute(model: ExactModel, claim: Claim) -> IntArray:
    """What the unit of `claim` really gives for the claimed inputs.

    Raises `ConstraintViolation` for rows for which the arithmetic is not exact, since no run has
    them, and `UnsupportedModel` if the bounds of a hostile model do not hold.
    """
    check_ranges(model.specification, claim)
    inputs = claim.inputs
    if isinstance(model.specification.units()[claim.unit].output, Ids):
        inputs = inputs[claim.first_row : claim.first_row + len(claim.outputs)]
    try:
        return reference.run_unit(model, claim.unit, inputs)
    except UnsupportedModel as err:
        raise UnsupportedModel(f"{claim.unit}: {err.message}") from err

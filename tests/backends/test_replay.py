"""Replay refuses every cheat on the exact semantics, on a trace that is consistent otherwise.

Each cheat computes a whole run with one wrong operation, so that every digest and every later unit
fits; only the unit that was computed wrongly can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.arithmetic import HOMES
from tests.traces import trace
from zkllm import integers
from zkllm.backends.base import Claim, Pin
from zkllm.backends.replay import ReplayBackend
from zkllm.bundle import Bundle, Evidence
from zkllm.checkpoints import Checkpoint
from zkllm.errors import ConstraintViolation, InvalidBundle, ProofRejected
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.keys import policy_for
from zkllm.operations.attention.exact import Attended
from zkllm.operations.head.exact import arg_max
from zkllm.operations.linear.exact import linear
from zkllm.operations.norm.exact import Normalised, layer_norm
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import IntArray
from zkllm.verifying import claims, verify

Attention = Callable[..., Attended]


def cheating_attention(
    *, future: bool = False, maximum: int = 0, cap: int | None = None, output: int = 0
) -> Attention:
    """Attention with one thing wrong."""

    def attention(
        q: IntArray, k: IntArray, v: IntArray, *, shift: int, table: IntArray
    ) -> Attended:
        score = integers.round_shift(integers.matmul(q, k.swapaxes(-1, -2)), shift)
        tokens = score.shape[-1]
        causal = np.ones((tokens, tokens), dtype=bool) if future else np.tri(tokens, dtype=bool)
        top = np.where(causal, score, np.iinfo(np.int64).min).max(axis=-1) + maximum
        distance = np.where(causal, top[..., None] - score, 0)
        last = len(table) - 1 if cap is None else cap
        e = np.where(causal, table[np.clip(distance, 0, last)], 0)
        total = e.sum(axis=-1)
        o = integers.round_div(integers.matmul(e, v), total[..., None]) + output
        return Attended(score, top, e, total, o)

    return attention


def quotient_off_by_one(x: IntArray, w: IntArray, b: IntArray, *, shift: int) -> IntArray:
    y = integers.round_shift(integers.matmul(x, w) + b, shift)
    y[-1, 0] += 1
    return y


def remainder_is_divisor(x: IntArray, w: IntArray, b: IntArray, *, shift: int) -> IntArray:
    """Exact multiples of the divisor get a quotient one less, which leaves r = 2^s."""
    n = integers.matmul(x, w) + b + ((1 << shift) >> 1)
    y = n >> shift
    return y - ((n & ((1 << shift) - 1)) == 0)


def gelu_beyond_the_clip(x: IntArray, table: IntArray) -> IntArray:
    """Entries past the clip that are not 0."""
    wrong = np.concatenate([table, np.full(len(table), 1000)])
    return np.maximum(x, 0) - wrong[np.minimum(np.abs(x), len(wrong) - 1)]


def wrong_sigma(x: IntArray, **constants: int) -> Any:
    n = original_norm(x, **constants)
    sigma = n.sigma + 1
    output = integers.round_div(n.centred * constants["gain"], sigma[:, None])
    return Normalised(n.centred, n.variance, sigma, output)


original_norm = layer_norm

CHEATS: dict[str, tuple[str, Any]] = {
    "a future token attended to": ("attention", cheating_attention(future=True)),
    "the maximum too small": ("attention", cheating_attention(maximum=-200)),
    "the maximum too large": ("attention", cheating_attention(maximum=5000)),
    "the minimum taken too early": ("attention", cheating_attention(cap=5)),
    "attention's quotient off by one": ("attention", cheating_attention(output=1)),
    "a quotient off by one": ("linear", quotient_off_by_one),
    "GELU beyond the clip": ("gelu", gelu_beyond_the_clip),
    "another sigma": ("layer_norm", wrong_sigma),
}


@pytest.fixture(scope="module")
def loud_model(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> ExactModel:
    """The tiny model with hidden layers that reach beyond the GELU table, and soft attention."""
    loud = {
        name: value * (20 if "c_fc" in name else 0.5 if "c_attn" in name else 1)
        for name, value in tiny_checkpoint.tensors.items()
    }
    specification, tensors = build(replace(tiny_checkpoint, tensors=loud), PRECISIONS["wide"])
    folder = tmp_path_factory.mktemp("loud")
    return save(specification, tensors, tiny_checkpoint.tokenizer, folder)


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_are_refused(
    cheat: str, loud_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = trace(loud_model, "a cat", 3)
    name, wrong = CHEATS[cheat]
    with monkeypatch.context() as patched:
        patched.setattr(HOMES[name], name, wrong)
        forged = trace(loud_model, "a cat", 3, generated=honest.statement.generated_ids)
    assert any(
        not np.array_equal(a, b) for a, b in zip(honest.boundaries, forged.boundaries, strict=True)
    ), "the cheat changed nothing: the test would test nothing"
    policy = policy_for(loud_model, backends=["replay"])
    bundle = forged.with_evidence(dict.fromkeys(policy.units, Evidence("replay", b"")))
    with pytest.raises(ProofRejected, match=r"(attention|mlp)\[0\]: recomputed"):
        verify(bundle.to_bytes(loud_model.specification), policy, model=loud_model)


def test_remainder_that_is_the_divisor(tiny_model: ExactModel) -> None:
    """The one case that random runs rarely meet, on an input made for it."""
    x = np.array([[4]])
    w, b = np.array([[1]]), np.array([0])
    assert linear(x, w, b, shift=3)[0, 0] == 1
    assert remainder_is_divisor(x, w, b, shift=3)[0, 0] == 0
    assert integers.round_shift(np.array([-4, 3, 4, 11, 12]), 3).tolist() == [0, 0, 1, 1, 2]


def test_a_tie_goes_to_the_lowest_id(tiny_model: ExactModel) -> None:
    assert arg_max(np.array([[3, 7, 7], [7, 7, 3]])).tolist() == [1, 0]


@pytest.fixture(scope="module")
def head_claim(tiny_model: ExactModel) -> Claim:
    bundle: Bundle = trace(tiny_model, "a cat", 3)
    return list(claims(bundle, tiny_model.specification))[-1]


def test_head_starts_at_the_last_token_of_the_prompt(head_claim: Claim) -> None:
    assert head_claim.first_row == 4
    assert len(head_claim.outputs) == 3


def test_prover_refuses_a_wrong_claim(tiny_model: ExactModel, head_claim: Claim) -> None:
    wrong = Claim("head", head_claim.inputs, head_claim.outputs + 1, head_claim.statement, 4)
    with pytest.raises(ConstraintViolation, match="head: recomputed"):
        ReplayBackend().prove(tiny_model, wrong, None)


@pytest.mark.parametrize("unit", ["attention[0]", "mlp[0]", "head"])
@pytest.mark.parametrize("value", [1, 2**52, 2**63 - 1, -(2**63)])
def test_rows_beyond_their_bound_are_not_computed_with(
    unit: str, value: int, tiny_model: ExactModel
) -> None:
    """Arithmetic is exact within bounds only: beyond them it could agree with a wrong claim."""
    claim = next(
        c for c in claims(trace(tiny_model, "a cat", 3), tiny_model.specification) if c.unit == unit
    )
    specification = tiny_model.specification
    names = [name for name in specification.units() if name != "embed"]
    bound = specification.boundary_bounds()[names.index(unit)]
    rows = claim.inputs.copy()
    rows[-1, 3] = value if abs(value) > bound else bound + value
    wrong = replace(claim, inputs=rows)
    backend = ReplayBackend()
    with pytest.raises(ProofRejected, match=f"input: expected at most {bound} in magnitude, got"):
        backend.verify(wrong, b"", tiny_model, Pin({}), None)
    with pytest.raises(ConstraintViolation, match="expected at most"):
        backend.prove(tiny_model, wrong, None)


def test_evidence_is_empty(tiny_model: ExactModel, head_claim: Claim) -> None:
    backend = ReplayBackend()
    assert backend.prove(tiny_model, head_claim, None) == b""
    assert backend.verify(head_claim, b"", tiny_model, Pin({}), None).words == "recomputed"
    with pytest.raises(InvalidBundle, match="got 1 bytes"):
        backend.verify(head_claim, b"x", tiny_model, Pin({}), None)


def test_needs_no_keys(tiny_model: ExactModel, tmp_path: Path) -> None:
    backend = ReplayBackend()
    assert backend.setup(tiny_model, "head", 8, tmp_path) == Pin({})
    assert backend.unsupported(tiny_model.specification, "head") == ""
    assert backend.estimate(tiny_model.specification, "mlp[0]", 8).multiply_adds == 2 * 8 * 32 * 128

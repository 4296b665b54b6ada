"""The reference executor: close to the float model, causal, and the same in pieces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.inner import attention_values
from zkllm.architectures.gpt2 import GPT2
from zkllm.checkpoints import Checkpoint
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build, logit_fraction
from zkllm.operations.attention.exact import attention
from zkllm.operations.head import exact as head
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import IntArray

MakeCheckpoint = Callable[..., Path]


def float_forward(checkpoint: Checkpoint, ids: IntArray) -> tuple[list[torch.Tensor], torch.Tensor]:
    """GPT-2 in torch's own float64 operations: the rows after every unit, and the logits."""
    config = checkpoint.architecture
    assert isinstance(config, GPT2)
    w = {name: torch.from_numpy(values) for name, values in checkpoint.tensors.items()}
    width, heads = config.width, config.heads
    functional = torch.nn.functional

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        return functional.layer_norm(x, (width,), weight, bias, float(config.epsilon))

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def activate(x: torch.Tensor) -> torch.Tensor:
        if config.activation == "relu":
            return functional.relu(x)
        approximate = "tanh" if config.activation == "gelu_new" else "none"
        return functional.gelu(x, approximate=approximate)

    x = w["wte.weight"][torch.from_numpy(ids)] + w["wpe.weight"][: len(ids)]
    rows = [x]
    for block in range(config.blocks):
        parts = linear(norm(x, f"h.{block}.ln_1"), f"h.{block}.attn.c_attn").split(width, dim=-1)
        q, k, v = (part.view(len(ids), heads, -1).transpose(0, 1) for part in parts)
        scale = None if config.scale_scores else 1.0
        o = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        x = x + linear(o.transpose(0, 1).reshape(len(ids), width), f"h.{block}.attn.c_proj")
        rows.append(x)
        hidden = activate(linear(norm(x, f"h.{block}.ln_2"), f"h.{block}.mlp.c_fc"))
        x = x + linear(hidden, f"h.{block}.mlp.c_proj")
        rows.append(x)
    return rows, norm(x, "ln_f") @ w["lm_head.weight"].T


def random_ids(model: ExactModel, seed: int, length: int | None = None) -> IntArray:
    architecture = model.specification.architecture
    random = np.random.default_rng(seed)
    return random.integers(0, architecture.vocabulary, length or architecture.context)


# Close to the float model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_function": "gelu"},
        {"activation_function": "relu"},
        {"n_head": 4},  # √d_head = √8 is no power of two
        {"scale_attn_weights": False, "n_layer": 1},
        {"n_inner": 50},
        {"layer_norm_epsilon": 0.5},  # large enough that leaving it out would show
    ],
)
@pytest.mark.parametrize(("precision", "limit"), [("wide", 0.006), ("ezkl", 0.03)])
def test_the_reference_is_close_to_float(
    make_checkpoint: MakeCheckpoint, changes: dict[str, Any], precision: str, limit: float
) -> None:
    checkpoint = Checkpoint.from_folder(make_checkpoint(seed=1, **changes))
    model = ExactModel.in_memory(*build(checkpoint, PRECISIONS[precision]))
    ids = random_ids(model, 2)
    boundaries = reference.forward(model, ids)
    rows, logits = float_forward(checkpoint, ids)
    scale = 2.0**-model.specification.fractions.residual
    assert len(boundaries) == len(rows)
    for exact, expected in zip(boundaries, rows, strict=True):
        # Outlier channels are left out: a good match there would hide a bad one elsewhere.
        quiet = [c for c in range(32) if c not in (3, 17)]
        difference = (exact * scale - expected.numpy())[:, quiet]
        assert np.linalg.norm(difference) < limit * np.linalg.norm(expected.numpy()[:, quiet])
    got = reference.logits(model, boundaries[-1]) * 2.0 ** -logit_fraction(
        checkpoint, PRECISIONS[precision]
    )
    assert np.linalg.norm(got - logits.numpy()) < limit * np.linalg.norm(logits.numpy())


def test_a_head_of_its_own_is_used(tiny_checkpoint: Checkpoint) -> None:
    head = tiny_checkpoint.tensors["wte.weight"][::-1].copy()
    tensors = dict(tiny_checkpoint.tensors) | {"lm_head.weight": head}
    checkpoint = dataclasses.replace(tiny_checkpoint, tensors=tensors)
    model = ExactModel.in_memory(*build(checkpoint, PRECISIONS["wide"]))
    tied = ExactModel.in_memory(*build(tiny_checkpoint, PRECISIONS["wide"]))
    ids = random_ids(model, 3)
    rows = reference.forward(model, ids)[-1]
    assert (reference.logits(model, rows) == reference.logits(tied, rows)[:, ::-1]).all()


# Causal, and the same in pieces


def test_later_tokens_do_not_change_earlier_rows(
    tiny_model: ExactModel, demo_model: ExactModel
) -> None:
    for model in (tiny_model, demo_model):
        ids = random_ids(model, 4)
        whole = reference.forward(model, ids)
        for length in range(1, len(ids)):
            changed = np.concatenate([ids[:length], random_ids(model, length)[length:]])
            for other in (
                reference.forward(model, ids[:length]),
                reference.forward(model, changed),
            ):
                for rows, expected in zip(other, whole, strict=True):
                    assert (rows[:length] == expected[:length]).all()


def test_a_token_changes_its_own_and_later_rows(tiny_model: ExactModel) -> None:
    """The other half of causality: attention does look back."""
    ids = random_ids(tiny_model, 5)
    changed = ids.copy()
    changed[3] = (ids[3] + 1) % 29
    last, other = (reference.forward(tiny_model, some)[-1] for some in (ids, changed))
    assert (last != other).any(axis=1).tolist() == [False] * 3 + [True] * 9


def test_heads_are_separate(tiny_model: ExactModel) -> None:
    """Each head attends by its own scores to its own values."""
    unit = tiny_model.specification.attention[0]
    x = reference.forward(tiny_model, random_ids(tiny_model, 6))[0]
    got = attention_values(tiny_model, "attention[0]", x)
    table = tiny_model.tensor(unit.exp)
    for index in range(2):
        alone = attention(
            got.query[index : index + 1],
            got.key[index : index + 1],
            got.value[index : index + 1],
            shift=unit.score_shift,
            table=table,
        )
        assert (alone.output[0] == got.attended.output[index]).all()
    assert (got.output == reference.run_unit(tiny_model, "attention[0]", x)).all()


@pytest.mark.parametrize("precision", ["wide", "ezkl"])
def test_a_fragment_equals_its_slice_of_the_whole(
    tiny_checkpoint: Checkpoint, precision: str
) -> None:
    whole = ExactModel.in_memory(*build(tiny_checkpoint, PRECISIONS[precision]))
    boundaries = reference.forward(whole, random_ids(whole, 7))
    for first, last in ((0, 1), (1, 2), (0, 2)):
        fragment = ExactModel.in_memory(
            *build(tiny_checkpoint, PRECISIONS[precision], (first, last))
        )
        part = reference.forward(fragment, boundaries[2 * first])
        expected = boundaries[2 * first : 2 * last + 1]
        assert len(part) == len(expected)
        assert all((a == b).all() for a, b in zip(part, expected, strict=True))


def test_units_one_by_one_equal_the_whole(tiny_model: ExactModel) -> None:
    ids = random_ids(tiny_model, 8)
    boundaries = reference.forward(tiny_model, ids)
    x = ids
    for name in list(tiny_model.specification.units())[:-1]:
        x = reference.run_unit(tiny_model, name, x)
        assert (x == boundaries.pop(0)).all(), name
    logits = reference.logits(tiny_model, x)
    assert reference.run_unit(tiny_model, "head", x).tolist() == [
        row.index(max(row)) for row in logits.tolist()
    ]


# The head


def test_the_head_is_the_same_in_slices(
    tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(9).integers(-5000, 5000, (64, 32))
    expected = reference.run_unit(tiny_model, "head", x)
    assert len(set(expected.tolist())) > 8
    for columns in (1, 4, 28, 29, 30):
        monkeypatch.setattr(head, "_COLUMNS", columns)
        assert (reference.run_unit(tiny_model, "head", x) == expected).all()


def test_ties_go_to_the_lowest_id_across_slices(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"])
    weight, bias = (tensors[f"head.logits.{part}"].copy() for part in ("weight", "bias"))
    weight[:, 14:28], bias[14:28] = weight[:, :14], bias[:14]  # token n + 14 ties with token n
    twins = {"head.logits.weight": weight, "head.logits.bias": bias}
    model = ExactModel.in_memory(specification, tensors | twins)
    x = np.random.default_rng(10).integers(-5000, 5000, (64, 32))
    for columns in (29, 14, 5):
        monkeypatch.setattr(head, "_COLUMNS", columns)
        written = reference.run_unit(model, "head", x)
        assert ((written < 14) | (written == 28)).all()
        assert (written == reference.logits(model, x).argmax(axis=1)).all()


def test_a_fragment_has_no_logits(tiny_checkpoint: Checkpoint) -> None:
    fragment = ExactModel.in_memory(*build(tiny_checkpoint, PRECISIONS["wide"], (0, 1)))
    with pytest.raises(UnsupportedModel, match="a fragment has no head"):
        reference.logits(fragment, np.zeros((1, 32), dtype=np.int64))


# Ids


@pytest.mark.parametrize(("place", "token"), [(0, -1), (5, 29), (11, 1 << 40)])
def test_an_id_that_is_no_token_is_refused(tiny_model: ExactModel, place: int, token: int) -> None:
    ids = random_ids(tiny_model, 11)
    ids[place] = token
    message = f"^embed: id {place} must lie in 0..28, got {token}$"
    with pytest.raises(ConstraintViolation, match=message):
        reference.forward(tiny_model, ids)


def test_more_ids_than_positions_are_refused(
    tiny_model: ExactModel, make_checkpoint: MakeCheckpoint
) -> None:
    with pytest.raises(ConstraintViolation, match=r"^embed: at most 12 tokens, got 13$"):
        reference.forward(tiny_model, random_ids(tiny_model, 12, 13))
    # One position would be stretched over all tokens.
    folder = make_checkpoint(n_positions=1, n_layer=1)
    short = ExactModel.in_memory(*build(Checkpoint.from_folder(folder), PRECISIONS["ezkl"]))
    with pytest.raises(ConstraintViolation, match=r"^embed: at most 1 tokens, got 2$"):
        reference.forward(short, np.zeros(2, dtype=np.int64))

"""Units in numpy: the executor that is right where others differ, and the core of `replay`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zkllm import integers
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.model import ExactModel
from zkllm.operations.activation.exact import gelu
from zkllm.operations.attention import exact as attending
from zkllm.operations.attention.exact import Attended, join_heads, split_heads
from zkllm.operations.embed.exact import Embed
from zkllm.operations.head.exact import arg_max
from zkllm.operations.linear.exact import Linear, linear
from zkllm.operations.norm.exact import Norm, Normalised, layer_norm
from zkllm.operations.unit import Rows
from zkllm.tensors import IntArray

_HEAD_COLUMNS = 8192
"""Logits are made in slices of so many columns: 50257 rows of float64 need not be in memory."""


def normalise(x: IntArray, n: Norm) -> Normalised:
    """LayerNorm with the constants of `n`."""
    return layer_norm(x, shift=n.shift, epsilon=n.epsilon, gain=n.gain)


def apply(model: ExactModel, layer: Linear, x: IntArray) -> IntArray:
    """One linear layer of `model`."""
    return linear(x, model.integers(layer.weight), model.integers(layer.bias), shift=layer.shift)


def embed(model: ExactModel, unit: Embed, ids: IntArray) -> IntArray:
    """[T] to [T, d]: gathered rows of wte and wpe.

    Raises `ConstraintViolation` for more ids than positions, or an id that is no token: numpy
    would stretch the first and count the second from the end.
    """
    tokens, positions = model.integers(unit.tokens), model.integers(unit.positions)
    if len(ids) > len(positions):
        raise ConstraintViolation(f"embed: at most {len(positions)} tokens, got {len(ids)}")
    for place in np.flatnonzero((ids < 0) | (ids >= len(tokens)))[:1]:
        raise ConstraintViolation(
            f"embed: id {place} must lie in 0..{len(tokens) - 1}, got {ids[place]}"
        )
    # a sum may leave the types in which they are stored
    return tokens[ids].astype(np.int64) + positions[: len(ids)]


@dataclass(frozen=True, slots=True)
class AttentionValues:
    """All inner values of an attention unit."""

    norm: Normalised
    query: IntArray
    """[h, T, d_head], as key and value."""
    key: IntArray
    value: IntArray
    attended: Attended
    projected: IntArray
    """[T, d]: what is added to the residual stream."""
    output: IntArray
    """[T, d]."""


def attention(model: ExactModel, unit: Attention, x: IntArray) -> AttentionValues:
    """[T, d] to [T, d], with everything in between."""
    heads = model.specification.architecture.heads
    norm = normalise(x, unit.norm)
    q, k, v = (
        split_heads(apply(model, layer, norm.output), heads)
        for layer in (unit.query, unit.key, unit.value)
    )
    attended = attending.attention(q, k, v, shift=unit.score_shift, table=model.tensor(unit.exp))
    projected = apply(model, unit.out, join_heads(attended.output))
    return AttentionValues(norm, q, k, v, attended, projected, x + projected)


def mlp(model: ExactModel, unit: Mlp, x: IntArray) -> IntArray:
    """[T, d] to [T, d]."""
    hidden = apply(model, unit.expand, normalise(x, unit.norm).output)
    activated = gelu(hidden, model.tensor(unit.gelu))
    return x + apply(model, unit.project, activated)


def head(model: ExactModel, unit: Head, x: IntArray) -> IntArray:
    """[n, d] to the arg-max ids [n], ties to the lowest id."""
    normalised = normalise(x, unit.norm).output
    weight, bias = model.integers(unit.weight), model.integers(unit.bias)
    best = np.zeros(len(x), dtype=np.int64)
    highest: IntArray | None = None
    for start in range(0, weight.shape[1], _HEAD_COLUMNS):
        columns = slice(start, start + _HEAD_COLUMNS)
        logits = integers.matmul(normalised, weight[:, columns]) + bias[columns]
        index = arg_max(logits)
        value = logits[np.arange(len(x)), index]
        # strictly greater: an equal logit at a higher id loses the tie
        wins = np.ones(len(x), dtype=bool) if highest is None else value > highest
        best = np.where(wins, index + start, best)
        highest = value if highest is None else np.where(wins, value, highest)
    return best


def logits(model: ExactModel, x: IntArray) -> IntArray:
    """All raw accumulators [n, vocabulary] of the head, for the fidelity report."""
    unit = model.specification.head
    if unit is None:
        raise UnsupportedModel("a fragment has no head")
    normalised = normalise(x, unit.norm).output
    return integers.matmul(normalised, model.integers(unit.weight)) + model.integers(unit.bias)


def run_unit(model: ExactModel, name: str, x: IntArray) -> IntArray:
    """The output of unit `name` for the input `x`: ids [T] for embed, rows [T, d] for the rest."""
    return model.specification.lists[name].run(x, model.integers)


def forward(model: ExactModel, x: IntArray) -> list[IntArray]:
    """All boundaries: `x` is ids [T] for a text model, rows [T, d] for a fragment."""
    boundaries = [] if model.specification.embed is not None else [x]
    for unit in model.specification.lists.values():
        if isinstance(unit.output, Rows):
            x = unit.run(x, model.integers)
            boundaries.append(x)
    return boundaries

"""The exact model in Python's integers: slow, and without a width in which a number could wrap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.model import ExactModel
from zkllm.operations.embed.exact import Embed
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm
from zkllm.tensors import IntArray

Integers = np.ndarray[Any, np.dtype[np.object_]]


def big(array: IntArray) -> Integers:
    return array.astype(object)


def divide(n: Any, d: Any) -> Any:
    return (n + d // 2) // d


def norm(x: Integers, n: Norm) -> Integers:
    d = x.shape[1]
    centred = divide(d * x - x.sum(axis=1, keepdims=True), d << n.shift)
    variance = (centred * centred).sum(axis=1) + n.epsilon
    sigma = np.array([math.isqrt(v) + 1 for v in variance], dtype=object)
    return np.asarray(divide(centred * n.gain, sigma[:, None]))


def linear(model: ExactModel, layer: Linear, x: Integers) -> Integers:
    product = x @ big(model.tensor(layer.weight)) + big(model.tensor(layer.bias))
    return np.asarray(divide(product, 1 << layer.shift))


def attention(model: ExactModel, unit: Attention, x: Integers) -> Integers:
    normal = norm(x, unit.norm)
    q, k, v = (linear(model, layer, normal) for layer in (unit.query, unit.key, unit.value))
    table = model.tensor(unit.exp).tolist()
    size = x.shape[1] // model.specification.architecture.heads
    mixed = np.zeros(x.shape, dtype=object)
    for start in range(0, x.shape[1], size):
        columns = slice(start, start + size)
        for i in range(len(x)):
            seen = slice(0, i + 1)
            scores = divide(k[seen, columns] @ q[i, columns], 1 << unit.score_shift)
            distances = [min(max(scores) - score, len(table) - 1) for score in scores]
            weights = np.array([table[z] for z in distances], dtype=object)
            mixed[i, columns] = divide(weights @ v[seen, columns], weights.sum())
    return x + linear(model, unit.out, mixed)


def mlp(model: ExactModel, unit: Mlp, x: Integers) -> Integers:
    hidden = linear(model, unit.expand, norm(x, unit.norm))
    table = model.tensor(unit.gelu).tolist()
    active = [[max(n, 0) - table[min(abs(n), len(table) - 1)] for n in row] for row in hidden]
    return x + linear(model, unit.project, np.array(active, dtype=object))


def head(model: ExactModel, unit: Head, x: Integers) -> list[int]:
    logits = norm(x, unit.norm) @ big(model.tensor(unit.weight)) + big(model.tensor(unit.bias))
    return [row.index(max(row)) for row in logits.tolist()]


def run_unit(model: ExactModel, name: str, x: IntArray) -> list[Any]:
    """The output of a unit, as nested lists of Python's integers."""
    unit = model.specification.records[name]
    if isinstance(unit, Embed):
        tokens, positions = big(model.tensor(unit.tokens)), big(model.tensor(unit.positions))
        return list((tokens[x] + positions[: len(x)]).tolist())
    if isinstance(unit, Head):
        return head(model, unit, big(x))
    made = (
        attention(model, unit, big(x)) if isinstance(unit, Attention) else mlp(model, unit, big(x))
    )
    return list(made.tolist())

"""Bounds proven from integer weights, for every prompt; never from calibration.

All norms are rigorous upper bounds in Python integers: weights are somebody else's, and a fixed
width would measure its least integer as none at all. The tools are Cauchy-Schwarz with
‖x̂‖₂ <= K + ½√d for normalised rows, convexity of attention outputs, and |gelu(x)| <= |x|, which
is what `stored` demands of the table. Every bound on a sum also bounds the sum of the absolute
values of its terms.

A bound is refused that some executor could not hold: numpy's int64, ONNX Runtime's float64, or a
prover, who writes equations over a field and confines each number to a `window`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zkllm.errors import UnsupportedModel
from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.specification import Architecture
from zkllm.integers import (
    FIELD_LIMIT,
    FLOAT64_LIMIT,
    INT64_LIMIT,
    VARIANCE_LIMIT,
    require,
)
from zkllm.operations.embed.exact import Embed
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm
from zkllm.tensors import IntArray, StoredArray, magnitude

_ROOM = 1 << 17
"""Integers that are widened at a time."""


def ceil_sqrt(n: int) -> int:
    """The smallest integer not below √n."""
    root = math.isqrt(n)
    return root + (root * root < n)


def square_sums(weight: StoredArray) -> list[int]:
    """Σ_j w_jk² of every column k, exactly: in int64 only where no sum can leave it."""
    if magnitude(weight) ** 2 * len(weight) < INT64_LIMIT:
        sums = np.zeros(weight.shape[1], dtype=np.int64)
        for _, wide in _widened(weight):
            sums += (wide * wide).sum(axis=0)
        return [int(n) for n in sums]
    return [sum(w * w for w in column.tolist()) for column in weight.T]


def _widened(weight: StoredArray) -> Iterator[tuple[slice, IntArray]]:
    """Some rows at a time in int64, which their own type need not be: squares would leave it."""
    step = max(1, _ROOM // weight.shape[1])
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        yield rows, weight[rows].astype(np.int64)


def window(bound: int) -> int:
    """The power of two above `bound`: what provers confine a number to may be as large."""
    return 1 << bound.bit_length()


def norm_gain(d: int, fraction: int) -> int:
    """K = round(√d·2^g) of a LayerNorm whose rows get `fraction`, g, fraction bits."""
    return (math.isqrt(d << (2 * fraction + 2)) + 1) // 2


def norm(unit: str, bound: int, *, d: int, fraction: int, epsilon: tuple[int, int]) -> Norm:
    """Constants and bounds of a LayerNorm of rows with |x| <= `bound`.

    `fraction` is g. `epsilon` is (numerator, denominator) of ε·2^(2f), f the fraction bits of x.
    t is the smallest shift that proves V < 2^61. Raises `UnsupportedModel` if a sum could leave
    the exact range.
    """
    gain = norm_gain(d, fraction)
    numerator, denominator = epsilon
    shift = 0
    while True:
        # E = max(1, round(d·ε·2^(2(f-t))))
        scaled = denominator << (2 * shift)
        e = max(1, (2 * d * numerator + scaled) // (2 * scaled))
        if _variance(bound, d, shift, e) < VARIANCE_LIMIT:
            return norm_at(unit, bound, d=d, shift=shift, epsilon=e, gain=gain)
        shift += 1


def norm_at(unit: str, bound: int, *, d: int, shift: int, epsilon: int, gain: int) -> Norm:
    """The bounds of a LayerNorm with the constants t, E and K, of rows with |x| <= `bound`.

    Raises `UnsupportedModel` if a sum could leave the exact range.
    """
    # the half of d·2^t that rounds is added before the division
    require(2 * d * bound + (d << shift) // 2, FLOAT64_LIMIT, unit, "d·x - Σx")
    variance = require(_variance(bound, d, shift, epsilon), VARIANCE_LIMIT, unit, "V")
    centred, root = _centred(bound, shift), math.isqrt(variance)
    require(centred * gain + root + 1, FLOAT64_LIMIT, unit, "c·K")
    output = gain + (ceil_sqrt(d) + 1) // 2
    divided = centred * gain + (window(output) + 4) * window(root)
    require(divided, FIELD_LIMIT, unit, "x̂·σ, as provers confine it")
    return Norm(shift, epsilon, gain, centred, variance, output)


def _centred(bound: int, shift: int) -> int:
    """|x - μ| is 2B at most, B/2^t rounded up, and rounding adds less than 1."""
    return 2 * -(-bound // (1 << shift)) + 1


def _variance(bound: int, d: int, shift: int, epsilon: int) -> int:
    """‖c‖₂ <= √d·B/2^t + ½√d, because Σ(x - μ)² <= Σx² and each rounding adds ½ at most."""
    return (d * _centred(bound, shift) ** 2 + 3) // 4 + epsilon


@dataclass(frozen=True, slots=True)
class Vector:
    """What is proven about a row vector: a bound for each entry and one for its 2-norm."""

    entries: list[int]
    norm: int


def normalised(n: Norm, d: int) -> Vector:
    """The output of a LayerNorm."""
    return Vector([n.output] * d, n.output)


def linear(
    unit: str,
    name: str,
    x: Vector,
    weight: StoredArray,
    bias: StoredArray,
    shift: int,
    tensors: tuple[str, str],
) -> tuple[Linear, Vector]:
    """The layer round((x·W + b)/2^s) with its bounds, and what is proven about its output."""
    if shift < 0:
        raise UnsupportedModel(
            f"{unit}: the weights of {name} are too large for {-shift} more fraction bits",
            hint="fewer fraction bits lower the scale: see --help of export",
        )
    half = (1 << shift) >> 1
    squares = square_sums(weight)
    columns = [
        # the better of Cauchy-Schwarz and the sum of absolute values
        min(ceil_sqrt(square) * x.norm, absolute) + abs(b) + half
        for square, absolute, b in zip(
            squares, absolute_sums(weight, x.entries), bias.tolist(), strict=True
        )
    ]
    accumulator = require(max(columns), FLOAT64_LIMIT, unit, f"{name}'s accumulator")
    outputs = [(c >> shift) + 1 if shift else c for c in columns]
    frobenius = ceil_sqrt(sum(squares)) * x.norm + ceil_sqrt(sum(int(b) ** 2 for b in bias))
    # rounding adds at most ½ to each of m entries, hence ½√m to the norm
    length = -(-frobenius // (1 << shift)) + (ceil_sqrt(len(outputs)) + 1) // 2
    return (
        Linear(tensors[0], tensors[1], shift, accumulator, max(outputs)),
        Vector(outputs, min(length, ceil_sqrt(sum(n * n for n in outputs)))),
    )


def absolute_sums(weight: StoredArray, entries: list[int]) -> list[int]:
    """Σ_j |w_jk|·B_j of every column k, where B are bounds of the entries of the input."""
    # Neither factor may be too large for int64 by itself: the other may be zero.
    largest = max(1, magnitude(weight)) * max(1, *entries) * len(entries)
    if largest < INT64_LIMIT:
        factors = np.array(entries, dtype=np.int64)
        sums = np.zeros(weight.shape[1], dtype=np.int64)
        for rows, wide in _widened(weight):
            sums += factors[rows] @ np.abs(wide)
        return [int(n) for n in sums]
    return [
        sum(abs(w) * b for w, b in zip(column.tolist(), entries, strict=True))
        for column in weight.T
    ]


def _require_quotient(unit: str, name: str, layer: Linear, largest: int) -> None:
    """Raises `UnsupportedModel` unless y·2^s fits, |y| confined to `largest` only."""
    confined = layer.accumulator + ((largest + 2) << layer.shift)
    require(confined, FIELD_LIMIT, unit, f"{name}·2^s, as provers confine it")


# Whole units. `Apply` gives one layer of a unit, by its name there, with what is proven of it.

Apply: TypeAlias = Callable[[str, Vector], tuple[Linear, Vector]]


def embed(names: tuple[str, str], tokens: StoredArray, positions: StoredArray) -> Embed:
    """Rows of `tokens` and of `positions` added."""
    bound = magnitude(tokens) + magnitude(positions)
    return Embed(*names, require(bound, FLOAT64_LIMIT, "embed", "the embedding"))


def attention(
    unit: str,
    bound: int,
    n: Norm,
    apply: Apply,
    a: Architecture,
    score_shift: int,
    exp: tuple[str, IntArray],
) -> Attention:
    """An attention unit of rows with |x| <= `bound`; `exp` is its table with its name."""
    name, table = exp
    x = normalised(n, a.width)
    query, q = apply("query", x)
    key, k = apply("key", x)
    value, v = apply("value", x)
    terms = [left * right for left, right in zip(q.entries, k.entries, strict=True)]
    size = a.width // a.heads
    largest = max(sum(terms[start : start + size]) for start in range(0, a.width, size))
    product = require(largest + ((1 << score_shift) >> 1), FLOAT64_LIMIT, unit, "q·k")
    total = a.context * int(table[0])
    mixed = require(total * value.output + total, FLOAT64_LIMIT, unit, "the sum of e·v")
    # o is a rounded convex combination of values, per head: ½ more for each entry. Heads may
    # look at different rows; v.norm holds for such a mixture because it is a sum over columns
    # (Frobenius), and would not if it were a bound on one row of values.
    o = Vector([n + 1 for n in v.entries], v.norm + (ceil_sqrt(a.width) + 1) // 2)
    out, _ = apply("out", o)
    output = require(bound + out.output, FLOAT64_LIMIT, unit, "the residual stream")
    _require_quotient(unit, "out", out, bound + output)
    score = (product >> score_shift) + 1
    # the maximum, the table's last index, and what the minimum with it cuts off
    scores = window(score) + len(table) - 1 + window(2 * score)
    confined = size * window(query.output) * window(key.output) + ((scores + 2) << score_shift)
    require(confined, FIELD_LIMIT, unit, "q·k, as provers confine it")
    return Attention(
        norm=n,
        query=query,
        key=key,
        value=value,
        score_shift=score_shift,
        product=product,
        score=score,
        exp=name,
        total=total,
        mixed=mixed,
        out=out,
        output=output,
    )


def mlp(
    unit: str, bound: int, n: Norm, apply: Apply, a: Architecture, gelu: tuple[str, IntArray]
) -> Mlp:
    """An MLP unit of rows with |x| <= `bound`; `gelu` is its table D with its name."""
    name, table = gelu
    expand, hidden = apply("expand", normalised(n, a.width))
    _require_quotient(unit, "expand", expand, len(table) - 1 + window(expand.output))
    project, _ = apply("project", hidden)  # |gelu(x)| <= |x|
    output = require(bound + project.output, FLOAT64_LIMIT, unit, "the residual stream")
    _require_quotient(unit, "project", project, bound + output)
    return Mlp(norm=n, expand=expand, gelu=name, project=project, output=output)


def head(n: Norm, apply: Apply, a: Architecture) -> Head:
    """The head; its logits are raw accumulators."""
    layer, _ = apply("logits", normalised(n, a.width))
    return Head(n, layer.weight, layer.bias, layer.accumulator)

"""The exact model in plain Python integers, loops and fractions: what numpy is compared with.

Nothing is shared with the package but the specification, whose numbers say what to compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.specification import Specification
from zkllm.operations.embed.exact import Embed
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm

Row = list[int]
Rows = list[Row]
Tensors = Callable[[str], Any]
"""The integers of a tensor by its name."""


def rounded(n: int, d: int) -> int:
    """floor((n + floor(d/2)) / d) by fractions, not by Python's integer division."""
    return math.floor(Fraction(n + math.floor(Fraction(d, 2)), d))


def layer_norm(x: Row, shift: int, epsilon: int, gain: int) -> tuple[Row, int, int, Row]:
    d = len(x)
    centred = [rounded(d * n - sum(x), d * 2**shift) for n in x]
    variance = sum(c * c for c in centred) + epsilon
    sigma = math.isqrt(variance) + 1
    return centred, variance, sigma, [rounded(c * gain, sigma) for c in centred]


def sums(x: Rows, weight: Rows, bias: Row) -> Rows:
    """x·W + b."""
    columns = list(zip(*weight, strict=True))
    return [
        [
            sum(p * w for p, w in zip(row, c, strict=True)) + b
            for c, b in zip(columns, bias, strict=True)
        ]
        for row in x
    ]


def attention(q: Rows, k: Rows, v: Rows, shift: int, table: Row) -> Rows:
    """Row i sees only columns j <= i, by slicing: no mask to get wrong."""
    out = []
    for i in range(len(q)):
        scores = [
            rounded(sum(a * b for a, b in zip(q[i], k[j], strict=True)), 2**shift)
            for j in range(i + 1)
        ]
        weights = [table[min(max(scores) - s, len(table) - 1)] for s in scores]
        out.append(
            [
                rounded(sum(e * v[j][c] for j, e in enumerate(weights)), sum(weights))
                for c in range(len(v[0]))
            ]
        )
    return out


def gelu(n: int, table: Row) -> int:
    return max(n, 0) - table[min(abs(n), len(table) - 1)]


def run_unit(specification: Specification, tensors: Tensors, name: str, x: Any) -> Rows:
    """What unit `name` gives: rows; of the head the logits."""
    unit = specification.records[name]
    if isinstance(unit, Embed):
        tokens, positions = tensors(unit.tokens), tensors(unit.positions)
        return [plus(tokens[i], positions[t]) for t, i in enumerate(x)]

    def normalised(n: Norm) -> Rows:
        return [layer_norm(row, n.shift, n.epsilon, n.gain)[3] for row in x]

    def linear(layer: Linear, rows: Rows) -> Rows:
        made = sums(rows, tensors(layer.weight), tensors(layer.bias))
        return [[rounded(n, 2**layer.shift) for n in row] for row in made]

    hidden = normalised(unit.norm)
    if isinstance(unit, Head):
        return sums(hidden, tensors(unit.weight), tensors(unit.bias))
    if isinstance(unit, Mlp):
        table = tensors(unit.gelu)
        active = [[gelu(n, table) for n in row] for row in linear(unit.expand, hidden)]
        return [plus(*pair) for pair in zip(x, linear(unit.project, active), strict=True)]
    assert isinstance(unit, Attention)
    heads = specification.architecture.heads
    size = specification.architecture.width // heads
    q, k, v = (linear(layer, hidden) for layer in (unit.query, unit.key, unit.value))
    mixed: Rows = [[] for _ in x]
    for start in range(0, heads * size, size):
        parts = [[row[start : start + size] for row in rows] for rows in (q, k, v)]
        out = attention(parts[0], parts[1], parts[2], unit.score_shift, tensors(unit.exp))
        for row, o in zip(mixed, out, strict=True):
            row += o
    return [plus(*pair) for pair in zip(x, linear(unit.out, mixed), strict=True)]


def plus(a: Row, b: Row) -> Row:
    return [n + m for n, m in zip(a, b, strict=True)]


# What is proven of sums


def square_sums(weight: Rows) -> Row:
    return [sum(w * w for w in column) for column in zip(*weight, strict=True)]


def absolute_sums(weight: Rows, entries: Row) -> Row:
    columns = zip(*weight, strict=True)
    return [sum(abs(w) * b for w, b in zip(c, entries, strict=True)) for c in columns]


def largest(tensor: Rows) -> int:
    return max(abs(n) for row in tensor for n in row)


def root_above(n: int) -> int:
    """The smallest integer not below √n."""
    return next(r for r in (math.isqrt(n), math.isqrt(n) + 1) if r * r >= n)


def linear_bounds(
    weight: Rows, bias: Row, shift: int, entries: Row, norm: int
) -> tuple[int, Row, int]:
    """The accumulator's bound, that of every output, and that of their 2-norm.

    `entries` and `norm` are bounds of the input. A sum of half a unit is added before rounding,
    which adds one half at most to what the quotient is in magnitude.
    """
    half = 2**shift // 2
    squares, absolute = square_sums(weight), absolute_sums(weight, entries)
    columns = [
        min(root_above(s) * norm, a) + abs(b) + half
        for s, a, b in zip(squares, absolute, bias, strict=True)
    ]
    outputs = [c // 2**shift + 1 if shift else c for c in columns]
    length = root_above(sum(squares)) * norm + root_above(sum(b * b for b in bias))
    length = math.ceil(Fraction(length, 2**shift)) + (root_above(len(outputs)) + 1) // 2
    return max(columns), outputs, min(length, root_above(sum(n * n for n in outputs)))

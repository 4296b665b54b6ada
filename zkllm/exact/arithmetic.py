"""The operations of the exact model on int64 arrays: the reference every executor must equal.

Each function states its equation. Those equations are normative for every backend: a proof that
leaves one out proves something else. Callers keep every value inside the bounds of the
specification; under these bounds no sum leaves int64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zkllm.errors import UnsupportedModel
from zkllm.tensors import IntArray, magnitude

_EXACT_FLOAT64 = 1 << 52
"""Sums of absolute values below this are exact in float64, whatever rounding does to the sum."""
_EXACT_INT64 = 1 << 61
"""Sums of absolute values below this leave int64 neither by themselves nor by a difference."""


def round_div(n: IntArray, d: int | IntArray) -> IntArray:
    """round(n/d) = floor((n + floor(d/2)) / d), for d > 0; floor goes toward minus infinity."""
    return (n + d // 2) // d


def round_shift(n: IntArray, s: int) -> IntArray:
    """round(n / 2^s): `round_div` by a power of two."""
    return n if s == 0 else (n + (1 << (s - 1))) >> s


def matmul(a: IntArray, b: IntArray) -> IntArray:
    """The exact product of integer matrices, by BLAS where no partial sum can leave 2^52.

    Shapes as `numpy.matmul`. Raises `UnsupportedModel` if even int64 could overflow, which the
    bounds of a specification exclude.
    """
    left, right = a.astype(np.float64), b.astype(np.float64)
    largest = magnitude(a) * magnitude(b) * a.shape[-1]
    if largest >= _EXACT_FLOAT64:
        # Large factors need not meet. Of sums without a sign float64 loses no more than a 2^-20th.
        largest = int(np.matmul(np.abs(left), np.abs(right)).max())
    if largest < _EXACT_FLOAT64:
        return np.asarray(np.matmul(left, right), dtype=np.int64)
    if largest < _EXACT_INT64:
        return np.asarray(np.matmul(a, b), dtype=np.int64)
    raise UnsupportedModel(
        f"a matrix product could reach 2^{largest.bit_length() - 1}, which int64 does not hold: "
        "the bounds of spec.json are not those of its weights"
    )


def isqrt(n: IntArray) -> IntArray:
    """floor(sqrt(n)) for 0 <= n < 2^61: a float64 guess and one integer correction.

    float64(n) and its root are off by a factor of 1 ± 2^-53 at most. The root of a square r² thus
    still rounds to r, so that no guess is too small; one just below a square may be rounded up to
    it, and is then one too large.
    """
    guess = np.floor(np.sqrt(n.astype(np.float64))).astype(np.int64)
    return guess - (guess * guess > n)


def isqrt_exact(n: int) -> int:
    """floor(sqrt(n)) of a Python integer: the oracle of `isqrt`."""
    return math.isqrt(n)


@dataclass(frozen=True, slots=True)
class Normalised:
    """The values of one LayerNorm, all that a prover needs."""

    centred: IntArray
    """c, shape [T, d]: centred rows, shifted right by t."""
    variance: IntArray
    """V = Σ c² + E, shape [T]."""
    sigma: IntArray
    """σ = isqrt(V) + 1, shape [T]."""
    output: IntArray
    """x̂, shape [T, d]."""


def layer_norm(x: IntArray, *, shift: int, epsilon: int, gain: int) -> Normalised:
    """LayerNorm without its affine part, which is folded into the next linear layer.

    c_j = round((d·x_j - Σx) / (d·2^t)) with t = `shift`; V = Σ c² + E with E = `epsilon`;
    σ = isqrt(V) + 1; x̂_j = round(c_j·K / σ) with K = `gain` = round(√d·2^g).
    σ² > V > Σc² gives ‖x̂‖₂ <= K + ½√d for every input.
    """
    d = x.shape[-1]
    centred = round_div(d * x - x.sum(axis=-1, keepdims=True), d << shift)
    variance = (centred * centred).sum(axis=-1) + epsilon
    sigma = isqrt(variance) + 1
    return Normalised(centred, variance, sigma, round_div(centred * gain, sigma[:, None]))


def linear(x: IntArray, weight: IntArray, bias: IntArray, *, shift: int) -> IntArray:
    """round((x·W + b) / 2^s): x [T, n], W [n, m], b [m] at the scale of the accumulator."""
    return round_shift(matmul(x, weight) + bias, shift)


@dataclass(frozen=True, slots=True)
class Attended:
    """The values of causal attention over all heads, all that a prover needs."""

    score: IntArray
    """s, shape [h, T, T]; only j <= i has a meaning."""
    maximum: IntArray
    """m, shape [h, T]."""
    exponential: IntArray
    """e, shape [h, T, T]; zero where j > i."""
    total: IntArray
    """S = Σ e, shape [h, T]."""
    output: IntArray
    """o, shape [h, T, d_head]."""


def attention(q: IntArray, k: IntArray, v: IntArray, *, shift: int, table: IntArray) -> Attended:
    """Causal attention of all heads; q, k, v [h, T, d_head].

    Row i over j <= i: s = round(q·k / 2^sh); m = max s; z = m - s; u = min(z, cap); e = EXP[u];
    S = Σ e; o = round(Σ e·v / S). `table` is EXP, of cap + 1 entries. Places j > i are absent.
    """
    score = round_shift(matmul(q, k.swapaxes(-1, -2)), shift)
    tokens = score.shape[-1]
    causal = np.tri(tokens, dtype=bool)
    lowest = np.iinfo(np.int64).min
    maximum = np.where(causal, score, lowest).max(axis=-1)
    distance = np.where(causal, maximum[..., None] - score, 0)
    exponential = np.where(causal, table[np.minimum(distance, len(table) - 1)], 0)
    total = exponential.sum(axis=-1)
    output = round_div(matmul(exponential, v), total[..., None])
    return Attended(score, maximum, exponential, total, output)


def gelu(x: IntArray, table: IntArray) -> IntArray:
    """max(x, 0) - D[min(|x|, cap)], for every x; `table` is D, of cap + 1 entries, D[cap] = 0.

    With D = [0] this is ReLU.
    """
    return np.maximum(x, 0) - table[np.minimum(np.abs(x), len(table) - 1)]


def split_heads(x: IntArray, heads: int) -> IntArray:
    """[T, h·d_head] to [h, T, d_head]."""
    tokens, width = x.shape
    return x.reshape(tokens, heads, width // heads).transpose(1, 0, 2)


def join_heads(x: IntArray) -> IntArray:
    """[h, T, d_head] to [T, h·d_head]."""
    heads, tokens, width = x.shape
    return x.transpose(1, 0, 2).reshape(tokens, heads * width)


def arg_max(logits: IntArray) -> IntArray:
    """The index of the largest logit of each row, ties to the lowest index."""
    index: IntArray = np.argmax(logits, axis=-1).astype(np.int64)
    return index

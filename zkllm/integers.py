"""Integers and how far each way to compute with them is exact: limits, rounding, products, roots.

All on int64 arrays, products on narrower ones as well. Callers keep values inside the bounds of a
specification, or say what happens where they are not.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zkllm.errors import UnsupportedModel
from zkllm.tensors import IntArray, StoredArray, magnitude
from zkllm.threads import blas_alone, in_pieces

FLOAT64_LIMIT = 1 << 52
"""No value or partial sum that an executor carries in float64 may reach this.

Sums of absolute values below it are exact there, whatever rounding does to the sum.
"""
VARIANCE_LIMIT = 1 << 61
"""No variance V may reach this."""
INT64_LIMIT = 1 << 62
"""Sums below this are taken in int64, all others in Python's integers."""
FIELD_LIMIT = 1 << 63
"""No equation of a prover may span this: its field has a little less than 2^64 elements."""
_EXACT_INT64 = 1 << 61
"""Sums of absolute values below this leave int64 neither by themselves nor by a difference."""
_ROOM = 1 << 17
"""Integers that are floats at a time: they stay in the cache."""


def require(value: int, limit: int, unit: str, tensor: str) -> int:
    """`value`, or `UnsupportedModel` with unit, tensor, bound and limit named."""
    if value >= limit:
        raise UnsupportedModel(
            f"{unit}: the proven bound of {tensor} is {value} (2^{value.bit_length() - 1}), "
            f"the limit is 2^{limit.bit_length() - 1}",
            hint="fewer fraction bits lower it: see --help of export",
        )
    return value


def round_div(n: IntArray, d: int | IntArray) -> IntArray:
    """round(n/d) = floor((n + floor(d/2)) / d), for d > 0; floor goes toward minus infinity."""
    return (n + d // 2) // d


def round_shift(n: IntArray, s: int) -> IntArray:
    """round(n / 2^s): `round_div` by a power of two."""
    return n if s == 0 else (n + (1 << (s - 1))) >> s


def matmul(a: StoredArray, b: StoredArray) -> IntArray:
    """The exact product of integer matrices, by BLAS where no partial sum can leave 2^52.

    a [t, n] and b [n, m], or as many of both, in any signed types; the result is int64. Raises
    `UnsupportedModel` if even int64 could overflow, which the bounds of a specification exclude.
    """
    largest = magnitude(a) * magnitude(b) * a.shape[-1]
    if largest >= FLOAT64_LIMIT:
        # Large factors need not meet. Of sums without a sign float64 loses no more than a 2^-20th.
        left, right = (np.abs(side.astype(np.float64)) for side in (a, b))
        largest = int(np.matmul(left, right).max())
    if largest < FLOAT64_LIMIT:
        return _float_product(a.astype(np.float64), b)
    if largest < _EXACT_INT64:
        a, b = (side.astype(np.int64, copy=False) for side in (a, b))
        return np.asarray(np.matmul(a, b), dtype=np.int64)
    raise UnsupportedModel(
        f"a matrix product could reach 2^{largest.bit_length() - 1}, which int64 does not hold: "
        "the bounds of spec.json are not those of its weights"
    )


def _float_product(a: npt.NDArray[np.float64], b: StoredArray) -> IntArray:
    """a·b, where float64 holds every sum: a few columns of b at a time, in threads."""
    out = np.empty((*a.shape[:-1], b.shape[-1]), dtype=np.int64)
    step = max(1, _ROOM // max(1, b[..., 0].size))

    def work(first: int, last: int) -> None:
        for start in range(first, last, step):
            piece = slice(start, min(start + step, last))
            out[..., piece] = a @ b[..., piece].astype(np.float64)

    with blas_alone():
        in_pieces(b.shape[-1], step, work)
    return out


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

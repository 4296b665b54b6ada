"""What is proven of the values of a unit: bounds that hold for every input.

All in Python's integers, or where int64 is shown not to wrap: weights come from somebody else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from zkllm.integers import INT64_LIMIT
from zkllm.tensors import IntArray, StoredArray, magnitude

_ROOM = 1 << 17
"""Integers that are widened at a time."""


@dataclass(frozen=True, slots=True)
class Vector:
    """What is proven about a row of a value: a bound for each entry and one for its 2-norm."""

    width: int
    """Number of entries, however many dimensions the row has."""
    largest: int
    """Bound on every entry."""
    norm: int
    by_columns: bool
    """Whether `norm` holds too for entries that are taken from different rows.

    It does where it is a sum over columns, and does not where it rests on what one row is.
    """
    apart: list[int] | None = None
    """Bounds of the entries, in their order, where they are not all the same."""

    @property
    def entries(self) -> list[int]:
        """A bound for each entry, in their order."""
        return [self.largest] * self.width if self.apart is None else self.apart

    @property
    def mixed(self) -> int:
        """Bound on the 2-norm of entries that are taken from different rows."""
        return self.norm if self.by_columns else length(self.entries)


def vector(entries: list[int], norm: int, *, by_columns: bool = False) -> Vector:
    """A row with these bounds; `Vector` explains them."""
    return Vector(len(entries), max(entries), norm, by_columns, entries)


def uniform(width: int, bound: int) -> Vector:
    """Rows of `width` entries of which nothing is known but that each is within `bound`."""
    return Vector(width, bound, ceil_sqrt(width * bound * bound), by_columns=True)


def length(entries: list[int]) -> int:
    """The 2-norm of a row of `entries`, rounded up."""
    return ceil_sqrt(sum(n * n for n in entries))


def ceil_sqrt(n: int) -> int:
    """The smallest integer not below √n."""
    root = math.isqrt(n)
    return root + (root * root < n)


def window(bound: int) -> int:
    """The power of two above `bound`: what provers confine a number to may be as large."""
    return 1 << bound.bit_length()


# Sums of products with weights


def accumulators(
    x: Vector, weight: StoredArray, bias: StoredArray, squares: list[int], half: int = 0
) -> list[int]:
    """Σ_j |x_j·w_jk| + |b_k| + `half` of every column k; `squares` are `square_sums`."""
    absolute = absolute_sums(weight, x.entries)
    return [
        # the better of Cauchy-Schwarz and the sum of absolute values
        min(ceil_sqrt(square) * x.norm, total) + abs(b) + half
        for square, total, b in zip(squares, absolute, bias.tolist(), strict=True)
    ]


def square_sums(weight: StoredArray) -> list[int]:
    """Σ_j w_jk² of every column k, exactly: in int64 only where no sum can leave it."""
    if magnitude(weight) ** 2 * len(weight) < INT64_LIMIT:
        sums = np.zeros(weight.shape[1], dtype=np.int64)
        for _, wide in _widened(weight):
            sums += (wide * wide).sum(axis=0)
        return [int(n) for n in sums]
    return [sum(w * w for w in column.tolist()) for column in weight.T]


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


def _widened(weight: StoredArray) -> Iterator[tuple[slice, IntArray]]:
    """Some rows at a time in int64, which their own type need not be: squares would leave it."""
    step = max(1, _ROOM // weight.shape[1])
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        yield rows, weight[rows].astype(np.int64)

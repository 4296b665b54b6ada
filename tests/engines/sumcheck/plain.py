"""The field and its extension in plain Python integers: what the tests of this folder compare with.

An element of the extension is a pair (a, b); nothing here is shared with the package.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from zkllm.engines.sumcheck.field import Ext

P = 2**64 - 2**32 + 1
Pair = tuple[int, int]

EDGES = [
    *(0, 1, 2, 6, 7),
    *(2**16 - 1, 2**16, 2**22 - 1, 2**22, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**32 + 1),
    *(2**33 - 1, 2**63 - 1, 2**63, (P - 1) // 2, (P + 1) // 2),
    *(2**64 - 2**33, P - 2**32 - 1, P - 2**32, P - 2**32 + 1, P - 7, P - 2, P - 1),
    *(k * 2**64 // 7 for k in range(2, 7)),
]
"""Where carries, borrows and the last subtraction happen, of products with 7 as well."""


def plus(*terms: Pair) -> Pair:
    return sum(a for a, _ in terms) % P, sum(b for _, b in terms) % P


def minus(x: Pair, y: Pair) -> Pair:
    return (x[0] - y[0]) % P, (x[1] - y[1]) % P


def times(*factors: Pair | int) -> Pair:
    a, b = 1, 0
    for factor in factors:
        c, d = (factor, 0) if isinstance(factor, int) else factor
        a, b = (a * c + 7 * b * d) % P, (a * d + b * c) % P
    return a, b


def inner(x: Iterable[Pair | int], y: Iterable[Pair | int]) -> Pair:
    return plus((0, 0), *(times(a, b) for a, b in zip(x, y, strict=True)))


def evaluated(coefficients: list[int], length: int) -> list[int]:
    """A polynomial at all powers of 7^((p-1)/length), from its coefficients, lowest first."""
    root = pow(7, (P - 1) // length, P)
    return [
        sum(c * pow(root, i * k, P) for k, c in enumerate(coefficients)) % P for i in range(length)
    ]


def neighbours(values: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    """Entries 2i and 2i + 1, zero beside a last one that is alone."""
    return list(zip(values[::2], [*values[1::2], (0, 0)], strict=False))


def line(first: Pair, second: Pair, t: Pair) -> Pair:
    """The value at t of the line through (0, first) and (1, second)."""
    return plus(first, times(t, minus(second, first)))


def bound(values: Sequence[Pair], t: Pair) -> list[Pair]:
    """The next variable set to t: all pairs of neighbours on their lines."""
    return [line(first, second, t) for first, second in neighbours(values)]


def eq(index: int, point: Sequence[Pair]) -> Pair:
    """By the definition: bit k of the index chooses r_k or 1 - r_k."""
    return times(*(r if index // 2**k % 2 else minus((1, 0), r) for k, r in enumerate(point)))


def eq_all(dims: Sequence[int], point: Sequence[Sequence[Pair]]) -> dict[tuple[int, ...], Pair]:
    """eq of every place of a tensor."""
    return {
        place: times(*(eq(i, r) for i, r in zip(place, point, strict=True)))
        for place in itertools.product(*(range(n) for n in dims))
    }


def pair(element: Ext) -> Pair:
    return element.a, element.b


def pairs(words: npt.NDArray[np.uint64]) -> list[Pair]:
    """The elements of an array [..., 2], flat."""
    return [(int(a), int(b)) for a, b in words.reshape(-1, 2)]


def ints(words: npt.NDArray[np.uint64]) -> list[int]:
    return [int(value) for value in words.reshape(-1)]


def array(values: object) -> npt.NDArray[np.uint64]:
    """Integers, or nested lists of integers or of pairs."""
    return np.array(values, dtype=np.uint64)


class Source(random.Random):
    """Elements of the field, of which every third is an edge."""

    def value(self) -> int:
        return self.choice(EDGES) if self.random() < 1 / 3 else self.randrange(P)

    def pair(self) -> Pair:
        return self.value(), self.value()

    def values(self, count: int) -> list[int]:
        return [self.value() for _ in range(count)]

    def pairs(self, count: int) -> list[Pair]:
        return [self.pair() for _ in range(count)]

    def point(self, count: int) -> tuple[Ext, ...]:
        return tuple(Ext(*self.pair()) for _ in range(count))


def point_pairs(point: Iterable[Ext]) -> list[Pair]:
    return [pair(r) for r in point]

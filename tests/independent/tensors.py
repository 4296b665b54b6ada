"""Section 4: tensors as polynomials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

from tests.independent.field import ONE, ZERO, Element, log

Coordinates = tuple[Element, ...]
Dims = tuple[int, ...]
Point = tuple[Coordinates, ...]
"""A list of coordinates for each dimension."""
Functional = list[tuple[Element, Coordinates]]


def deal(coordinates: Sequence[Element], dims: Dims) -> Point:
    """Coordinates in the order of the dimensions, as a point."""
    point, start = [], 0
    for n in dims:
        point.append(tuple(coordinates[start : start + log(n)]))
        start += log(n)
    return tuple(point)


def flatten(point: Point) -> Coordinates:
    return tuple(r for coordinates in reversed(point) for r in coordinates)


def unflatten(coordinates: Sequence[Element], dims: Dims) -> Point:
    return deal(coordinates, dims[::-1])[::-1]


def eq(i: int, r: Coordinates) -> Element:
    """eq(index, coordinates)"""
    return prod((x if i >> k & 1 else 1 - x for k, x in enumerate(r)), start=ONE)


def same(r: Coordinates, s: Coordinates) -> Element:
    """eq(coordinates, coordinates)"""
    return prod((2 * x * y - x - y + 1 for x, y in zip(r, s, strict=True)), start=ONE)


def eqs(n: int, r: Coordinates) -> list[Element]:
    """eq(i, r) for all i < n."""
    table = [ONE]
    for x in r:
        table = [t * (1 - x) for t in table] + [t * x for t in table]
    return table[:n]


def runs(n: int) -> Iterator[tuple[int, int]]:
    """(start, log of the length) of every run of n."""
    start = 0
    for k in reversed(range(n.bit_length())):
        if n >> k & 1:
            yield start, k
            start += 1 << k


def ones(n: int, r: Coordinates) -> Element:
    """ones_n(r), run by run."""
    return sum((eq(start >> k, r[k:]) for start, k in runs(n)), ZERO)


def within(n: int, r: Coordinates, s: Coordinates) -> Element:
    """within_n(r, s), run by run."""
    return sum(
        (
            eq(start >> k, r[k:]) * eq(start >> k, s[k:]) * same(r[:k], s[:k])
            for start, k in runs(n)
        ),
        ZERO,
    )


def all_ones(dims: Dims, point: Point) -> Element:
    """ones_dims"""
    return prod(map(ones, dims, point), start=ONE)


def all_within(dims: Dims, r: Point, s: Point) -> Element:
    return prod(map(within, dims, r, s), start=ONE)


class Block(NamedTuple):
    starts: Dims
    logs: Dims

    @property
    def bits(self) -> int:
        return sum(self.logs)


def blocks(dims: Dims) -> list[Block]:
    return [
        Block(tuple(start for start, _ in choice), tuple(k for _, k in choice))
        for choice in product(*(list(runs(n)) for n in dims))
    ]


def functional(dims: Dims, point: Point) -> Functional:
    """(f, local) of every block."""
    found = []
    for block in blocks(dims):
        f = ONE
        for start, k, r in zip(block.starts, block.logs, point, strict=True):
            f *= eq(start >> k, r[k:])
        local = tuple(r[:k] for k, r in zip(block.logs, point, strict=True))
        found.append((f, flatten(local)))
    return found


def extension(entries: Sequence[Element | int], dims: Dims, point: Point) -> Element:
    """The value of a tensor, given row by row, at a point: the last dimension is summed first."""
    for n, r in zip(reversed(dims), reversed(point), strict=True):
        weights = eqs(n, r)
        entries = [dot(weights, entries[i : i + n]) for i in range(0, len(entries), n)]
    return ZERO + entries[0]


def dot(weights: Sequence[Element], entries: Sequence[Element | int]) -> Element:
    return sum((w * x for w, x in zip(weights, entries, strict=True)), ZERO)


def flat(nested: Sequence) -> list[int]:
    """The integers of nested lists, row by row."""
    if nested and isinstance(nested[0], Sequence):
        return [n for inner in nested for n in flat(inner)]
    return list(nested)

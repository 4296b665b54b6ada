"""Tensors of any size as multilinear polynomials: virtual zeros, blocks, and equality weights.

A tensor of dimensions n_1 x ... x n_k stands for the multilinear polynomial in Σ ceil(log2 n_i)
variables that takes its entries on the cube and zero on places that do not exist. Nobody stores or
commits these places. Variable k of a dimension is bit k of its index, bit 0 first.

In a commitment a tensor is cut into *blocks*, the products of the powers of two of which each
dimension is the sum, largest first: 37 x 12 gives 32 x 8, 32 x 4, 4 x 8, ... A block starts at a
multiple of its size, so weights eq(·, r) on it are eq of its address times eq of the low bits.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zkllm.engines.sumcheck.field import (
    MODULUS,
    NON_RESIDUE,
    ONE,
    ZERO,
    Ext,
    Words,
    add,
    contract,
    dot,
    multiply_ext,
    words,
)
from zkllm.tensors import StoredArray

Dims: TypeAlias = tuple[int, ...]
Coordinates: TypeAlias = tuple[Ext, ...]
"""Values of the variables of one dimension, bit 0 first."""
Point: TypeAlias = tuple[Coordinates, ...]
"""One `Coordinates` for each dimension."""
_SMALL = 4
"""Variables up to which a table is made entry by entry."""


def variables(n: int) -> int:
    """Number of variables of a dimension of length `n`."""
    return (n - 1).bit_length()


def size(dims: Dims) -> int:
    """Number of entries."""
    return math.prod(dims)


@functools.cache
def runs(n: int) -> tuple[tuple[int, int], ...]:
    """The powers of two that make up `n`: (start, logarithm of the length), largest first."""
    result = []
    start = 0
    for k in reversed(range(n.bit_length())):
        if n >> k & 1:
            result.append((start, k))
            start += 1 << k
    return tuple(result)


@dataclass(frozen=True, slots=True)
class Block:
    """One aligned power-of-two box of a tensor."""

    starts: tuple[int, ...]
    logs: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Logarithm of the number of entries."""
        return sum(self.logs)

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(
            slice(start, start + (1 << log))
            for start, log in zip(self.starts, self.logs, strict=True)
        )


@functools.cache
def blocks(dims: Dims) -> tuple[Block, ...]:
    """All blocks of a tensor, in the order of their starts; they tile it without rest."""
    return tuple(
        Block(tuple(start for start, _ in choice), tuple(log for _, log in choice))
        for choice in itertools.product(*(runs(n) for n in dims))
    )


def eq(index: int, coordinates: Coordinates) -> Ext:
    """Π over variables of r_k where bit k of `index` is set, else 1 - r_k."""
    result = ONE
    for k, r in enumerate(coordinates):
        result = result * (r if index >> k & 1 else 1 - r)
    return result


def eq_points(a: Coordinates, b: Coordinates) -> Ext:
    """Σ over the whole cube of eq(·, a)·eq(·, b)."""
    x, y = 1, 0
    for r, s in zip(a, b, strict=True):
        # 2·r·s - r - s + 1 in plain integers: most of what a verifier multiplies is here
        u = 2 * (r.a * s.a + NON_RESIDUE * r.b * s.b) - r.a - s.a + 1
        v = 2 * (r.a * s.b + r.b * s.a) - r.b - s.b
        x, y = (x * u + NON_RESIDUE * y * v) % MODULUS, (x * v + y * u) % MODULUS
    return Ext(x, y)


def ones(n: int, r: Coordinates) -> Ext:
    """The extension of n ones at r: Σ_{i<n} eq(i, r)."""
    return sum((eq(start >> log, r[log:]) for start, log in runs(n)), ZERO)


def ones_at(dims: Dims, point: Point) -> Ext:
    """The extension of a tensor of ones."""
    result = ONE
    for n, r in zip(dims, point, strict=True):
        result = result * ones(n, r)
    return result


def eq_within(n: int, r: Coordinates, s: Coordinates) -> Ext:
    """Σ_{i<n} eq(i, r)·eq(i, s)."""
    return sum(
        (
            eq(start >> log, r[log:]) * eq(start >> log, s[log:]) * eq_points(r[:log], s[:log])
            for start, log in runs(n)
        ),
        ZERO,
    )


def eq_table(r: Coordinates) -> Words:
    """eq(i, r) for every i below 2^len(r), shape [2^len(r), 2]."""
    if len(r) > _SMALL:
        # One product of the tables of both halves: numpy has its price for every call.
        low, high = eq_table(r[: len(r) // 2]), eq_table(r[len(r) // 2 :])
        return multiply_ext(high[:, None], low[None]).reshape(-1, 2)
    table = [ONE]
    for value in r:
        upper = [value * entry for entry in table]
        table = [entry - other for entry, other in zip(table, upper, strict=True)] + upper
    return words(table)


def weights(dims: Dims, point: Point) -> Words:
    """The weights eq(·, point) of all entries, flat in row-major order, shape [size, 2]."""
    table = ONE.to_words()[None, :]
    for n, r in zip(dims, point, strict=True):
        inner = eq_table(r)[:n]
        # A table of one entry is that of dimensions of length 1: it is one.
        table = (
            multiply_ext(table[:, None], inner[None]).reshape(-1, 2) if len(table) > 1 else inner
        )
    return table


def value_at(values: StoredArray, point: Point) -> Ext:
    """The extension of a tensor of integers of any signed type at `point`."""
    first, rest = values.shape[:1], values.shape[1:]
    rows = contract(weights(first, point[:1]), values.reshape(len(values), -1))
    return dot(rows, weights(rest, point[1:]))


def causal_product(
    n: int, r: tuple[Coordinates, Coordinates], s: tuple[Coordinates, Coordinates]
) -> Ext:
    """Σ_{b <= a < n} eq(a, r_0)·eq(a, s_0)·eq(b, r_1)·eq(b, s_1)."""
    rows = multiply_ext(eq_table(r[0])[:n], eq_table(s[0])[:n])
    columns = multiply_ext(eq_table(r[1])[:n], eq_table(s[1])[:n])
    return _triangle(rows, columns, 0)


def causal_block(
    rows: tuple[int, int], columns: tuple[int, int], i: Coordinates, j: Coordinates
) -> Ext:
    """Σ of eq(a, i)·eq(b, j) over places (row start + a, column start + b) of the lower triangle.

    `rows` and `columns` are (start, logarithm of the length); i and j are local.
    """
    offset = rows[0] - columns[0]
    if offset >= (1 << columns[1]) - 1:
        return ONE
    if offset + (1 << rows[1]) <= 0:
        return ZERO
    return _triangle(eq_table(i), eq_table(j), offset)


def _triangle(rows: Words, columns: Words, offset: int) -> Ext:
    """Σ rows[a]·columns[b] over b <= a + offset."""
    # A running sum of field elements, by doubling: numpy has no cumulative sum modulo p.
    sums = columns
    step = 1
    while step < len(sums):
        shifted = np.zeros_like(sums)
        shifted[step:] = sums[:-step]
        sums = add(sums, shifted)
        step *= 2
    ends = np.arange(len(rows)) + offset
    inside = ends >= 0
    reach = sums[np.minimum(ends[inside], len(sums) - 1)]
    return dot(rows[inside], reach) if inside.any() else ZERO


def flatten(point: Point) -> Coordinates:
    """All variables in the order in which a sumcheck binds them: the last dimension first."""
    return tuple(value for coordinates in reversed(point) for value in coordinates)


def unflatten(values: Coordinates, dims: Dims) -> Point:
    """The inverse of `flatten`."""
    result = []
    position = 0
    for n in reversed(dims):
        count = variables(n)
        result.append(values[position : position + count])
        position += count
    return tuple(reversed(result))

"""The field of values, p = 2^64 - 2^32 + 1, and its quadratic extension, that of challenges.

Scalars of the extension are `Ext`. Arrays hold canonical `uint64`: shape [...] for values, [..., 2]
for elements a + b·X of the extension with X² = 7. Everything here is numpy and Python integers,
which is all that a verifier needs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from zkllm.tensors import StoredArray, magnitude
from zkllm.threads import blas_alone, in_pieces

Words: TypeAlias = npt.NDArray[np.uint64]
"""Canonical field elements; a last axis of length 2 where they are of the extension."""

MODULUS: Final = (1 << 64) - (1 << 32) + 1
NON_RESIDUE: Final = 7
"""X² of the extension; 7 generates the multiplicative group, so it is no square."""
TWO_ADICITY: Final = 32
SIZE: Final = MODULUS * MODULUS
"""Number of challenges."""
CANONICAL_BYTES: Final = 16
"""An `Ext` on the wire: both coordinates, little endian, each below p."""

Operand: TypeAlias = Words | np.uint64
"""Values, or one value for all places."""

_LOW: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)
_P: Final = np.uint64(MODULUS)
_LIMB: Final = 22
_EXACT: Final = 53
"""float64 holds every integer up to 2^53 in magnitude."""
_ROWS: Final = 1 << 10
"""Rows in one product of floats: 22 bits of a limb, 16 of a weight and 10 are below 53."""
_ROOM: Final = 1 << 17
"""Integers that are floats at a time: they stay in the cache."""
_MOST: Final = 1 << 20
"""Rows whose blocks, sums below 2^53, add up within 2^63."""


class Ext:
    """One element of the extension; operators take integers as well."""

    __slots__ = ("a", "b")

    def __init__(self, a: int, b: int = 0) -> None:
        self.a = a
        self.b = b

    def __add__(self, other: Ext | int) -> Ext:
        if isinstance(other, int):
            return Ext((self.a + other) % MODULUS, self.b)
        return Ext((self.a + other.a) % MODULUS, (self.b + other.b) % MODULUS)

    __radd__ = __add__

    def __neg__(self) -> Ext:
        return Ext(-self.a % MODULUS, -self.b % MODULUS)

    def __sub__(self, other: Ext | int) -> Ext:
        if isinstance(other, int):
            return Ext((self.a - other) % MODULUS, self.b)
        return Ext((self.a - other.a) % MODULUS, (self.b - other.b) % MODULUS)

    def __rsub__(self, other: int) -> Ext:
        return Ext((other - self.a) % MODULUS, -self.b % MODULUS)

    def __mul__(self, other: Ext | int) -> Ext:
        if isinstance(other, int):
            return Ext(self.a * other % MODULUS, self.b * other % MODULUS)
        return Ext(
            (self.a * other.a + NON_RESIDUE * self.b * other.b) % MODULUS,
            (self.a * other.b + self.b * other.a) % MODULUS,
        )

    __rmul__ = __mul__

    def inverse(self) -> Ext:
        """1/self by the norm a² - 7·b², zero for zero only; raises `ValueError` for zero."""
        norm = pow(self.a * self.a - NON_RESIDUE * self.b * self.b, -1, MODULUS)
        return Ext(self.a * norm % MODULUS, -self.b * norm % MODULUS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ext) and self.a == other.a and self.b == other.b

    def __hash__(self) -> int:
        return hash((self.a, self.b))

    def __repr__(self) -> str:
        return f"Ext({self.a}, {self.b})"

    def to_words(self) -> Words:
        """Shape [2]."""
        return np.array([self.a, self.b], dtype=np.uint64)

    @classmethod
    def from_words(cls, words: Words) -> Ext:
        """From shape [2]."""
        return cls(int(words[0]), int(words[1]))


ZERO: Final = Ext(0)
ONE: Final = Ext(1)
HALF: Final = Ext((MODULUS + 1) // 2)


def powers(base: Ext, count: int) -> list[Ext]:
    """1, base, base², ... : `count` of them."""
    result = [ONE]
    while len(result) < count:
        result.append(result[-1] * base)
    return result[:count]


def to_field(values: StoredArray) -> Words:
    """Any signed integers of 64 bits or fewer as elements of the field."""
    return np.where(values < 0, values + np.int64(MODULUS - (1 << 64)), values).view(np.uint64)


# Wrapping modulo 2^64 is meant, but numpy warns of it where an operand has no dimensions.
@np.errstate(over="ignore")
def add(a: Operand, b: Operand) -> Words:
    """The sum a + b, element by element, in either field."""
    total = a + b
    # a sum that wrapped lost 2^64 = 2^32 - 1 mod p
    total = np.where(total < a, total + _LOW, total)
    return np.asarray(np.where(total >= _P, total - _P, total), dtype=np.uint64)


@np.errstate(over="ignore")
def subtract(a: Operand, b: Operand) -> Words:
    """The difference a - b, element by element, in either field."""
    return np.asarray(np.where(a >= b, a - b, a - b + _P), dtype=np.uint64)


@np.errstate(over="ignore")
def multiply(a: Operand, b: Operand) -> Words:
    """The product a·b of values, element by element."""
    a0, a1, b0, b1 = a & _LOW, a >> _SHIFT, b & _LOW, b >> _SHIFT
    low, cross, other = a0 * b0, a0 * b1, a1 * b0
    middle = (low >> _SHIFT) + (cross & _LOW) + (other & _LOW)
    low = (middle << _SHIFT) | (low & _LOW)
    high = a1 * b1 + (cross >> _SHIFT) + (other >> _SHIFT) + (middle >> _SHIFT)
    # 2^96 = -1 and 2^64 = 2^32 - 1 mod p
    top = high >> _SHIFT
    reduced = low - top
    reduced = np.where(low < top, reduced - _LOW, reduced)
    rest = (high & _LOW) * _LOW
    total = reduced + rest
    total = np.where(total < rest, total + _LOW, total)
    return np.asarray(np.where(total >= _P, total - _P, total), dtype=np.uint64)


def multiply_ext(a: Words, b: Words) -> Words:
    """The product a·b of elements of the extension, shapes [..., 2] that broadcast."""
    cross = add(multiply(a[..., 0], b[..., 1]), multiply(a[..., 1], b[..., 0]))
    tail = multiply(multiply(a[..., 1], b[..., 1]), np.uint64(NON_RESIDUE))
    return np.stack([add(multiply(a[..., 0], b[..., 0]), tail), cross], axis=-1)


def as_ext(values: Words) -> Words:
    """Values of the base field as elements of the extension, shape [..., 2]."""
    return np.stack([values, np.zeros_like(values)], axis=-1)


def words(elements: Sequence[Ext]) -> Words:
    """Elements of the extension as an array [n, 2]."""
    return np.array([[x.a, x.b] for x in elements], dtype=np.uint64).reshape(-1, 2)


def total(a: Words) -> Words:
    """The sum over the first axis, in either field."""
    low, high = (a & _LOW).sum(axis=0), (a >> _SHIFT).sum(axis=0)
    return add(low % _P, multiply(high % _P, np.uint64(1 << 32)))


def dot(weights: Words, elements: Words) -> Ext:
    """Σ weights·elements, both of the extension, shapes [n, 2]."""
    return Ext.from_words(total(multiply_ext(weights, elements)))


def contract(weights: Words, matrix: StoredArray) -> Words:
    """Σ_i weights[i]·matrix[i, j] for every j, exactly, by float64 products of limbs.

    Weights [n, 2] of the extension, integers [n, m] of any signed type and in either order of
    memory; result [m, 2]. Weights are cut into limbs of 22 bits, and the matrix into digits of so
    many that a sum over a block of rows stays within 2^53: an integer of 16 bits is one digit,
    whatever it is. n is at least 1.
    """
    n, columns = matrix.shape
    if n > _MOST:
        first, rest = slice(_MOST), slice(_MOST, None)
        return add(contract(weights[first], matrix[first]), contract(weights[rest], matrix[rest]))
    limbs = np.stack(
        [
            (weights[:, side] >> np.uint64(_LIMB * k)) & np.uint64((1 << _LIMB) - 1)
            for side in range(2)
            for k in range(3)
        ]
    ).astype(np.float64)
    step = max(1, _ROOM // min(n, _ROWS))
    with blas_alone():
        parts = in_pieces(
            columns, step, lambda start, stop: _contract(limbs, matrix[:, start:stop], step)
        )
    return np.concatenate(parts, dtype=np.uint64)


def _contract(limbs: npt.NDArray[np.float64], matrix: StoredArray, step: int) -> Words:
    """One piece of `contract`, `step` columns at a time."""
    n, columns = matrix.shape
    flipped = matrix.strides[0] < matrix.strides[1]
    room = np.empty(min(n, _ROWS) * min(columns, step))
    sums = np.zeros((0, 6, columns), dtype=np.int64)
    width = _EXACT - _LIMB - (min(n, _ROWS) - 1).bit_length()
    for start in range(0, columns, step):
        for first in range(0, n, _ROWS):
            block = matrix[first : first + _ROWS, start : start + step]
            block = block.T if flipped else block
            floats = room[: block.size].reshape(block.shape)
            factors = limbs[:, first : first + _ROWS]
            last = False
            digit = 0
            while not last:
                last = 8 * block.itemsize <= width + 1 or magnitude(block) < 1 << width
                np.copyto(floats, block if last else block & ((1 << width) - 1))
                if digit == len(sums):
                    sums = np.concatenate([sums, np.zeros((1, *sums.shape[1:]), dtype=np.int64)])
                product = factors @ (floats.T if flipped else floats)
                sums[digit, :, start : start + step] += product.astype(np.int64)
                block = block if last else block >> width
                digit += 1
    result = np.zeros((2, columns), dtype=np.uint64)
    for digit, rows in enumerate(to_field(sums)):
        for k, values in enumerate(rows.reshape(2, 3, columns).swapaxes(0, 1)):
            scale = np.uint64(pow(2, width * digit + _LIMB * k, MODULUS))
            result = add(result, multiply(values, scale) if k or digit else values)
    return np.ascontiguousarray(result.T)


def root_of_unity(logarithm: int) -> int:
    """A primitive 2^logarithm-th root of unity; raises `ValueError` where there is none."""
    if not 0 <= logarithm <= TWO_ADICITY:
        raise ValueError(f"expected a logarithm of 0..{TWO_ADICITY}, got {logarithm}")
    return pow(NON_RESIDUE, (MODULUS - 1) >> logarithm, MODULUS)


def root_powers(root: int, count: int) -> Words:
    """1, root, root², ... : `count` of them, a power of two."""
    result = np.ones(1, dtype=np.uint64)
    while len(result) < count:
        step = np.uint64(pow(root, len(result), MODULUS))
        result = np.concatenate([result, multiply(result, step)])
    return result


@functools.cache
def bit_reversal(logarithm: int) -> npt.NDArray[np.int64]:
    """Every number below 2^logarithm with its bits reversed."""
    order = np.zeros(1, dtype=np.int64)
    for _ in range(logarithm):
        order = np.concatenate([2 * order, 2 * order + 1])
    return order

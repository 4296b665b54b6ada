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

from zkllm.tensors import IntArray, magnitude

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


def to_field(values: IntArray) -> Words:
    """Any signed 64-bit integers as elements of the field."""
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


def contract(weights: Words, matrix: IntArray) -> Words:
    """Σ_i weights[i]·matrix[i, j] for every j, exactly, by float64 products of limbs.

    Weights [n, 2] of the extension, any integers [n, m]; result [m, 2]. Weights are cut
    into limbs of 22 bits, and the matrix so that no sum reaches 2^53. n is at least 1.
    """
    n, columns = matrix.shape
    limb = _EXACT - _LIMB - (n - 1).bit_length()
    limbs = np.stack(
        [
            (weights[:, side] >> np.uint64(_LIMB * k)) & np.uint64((1 << _LIMB) - 1)
            for side in range(2)
            for k in range(3)
        ]
    ).astype(np.float64)
    result = np.zeros((columns, 2), dtype=np.uint64)
    step = max(1, (1 << 22) // n)
    for start in range(0, columns, step):
        piece = matrix[:, start : start + step]
        result[start : start + step] = _contract_piece(limbs, piece, limb)
    return result


def _contract_piece(limbs: npt.NDArray[np.float64], piece: IntArray, limb: int) -> Words:
    out = np.zeros((piece.shape[1], 2), dtype=np.uint64)
    shift = 0
    while True:
        last = magnitude(piece) < 1 << limb
        part = piece if last else piece & ((1 << limb) - 1)
        sums = to_field((limbs @ part.astype(np.float64)).astype(np.int64))
        for row in range(6):
            scale = np.uint64(pow(2, shift + _LIMB * (row % 3), MODULUS))
            out[:, row // 3] = add(out[:, row // 3], multiply(sums[row], scale))
        if last:
            return out
        piece = piece >> limb
        shift += limb


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

"""The commitment: a matrix of values, its rows Reed-Solomon encoded, its columns in a Merkle tree.

A vector of N values is cut into R rows of C = 2^c. Opening it at a point (low, high) shows
Σ_i eq(i, high)·row_i, and beside it a combination of rows with random factors, which shows that
all rows are near to code words. Both are checked in random columns of the encoded matrix. All
distances are within the unique decoding radius (`proximity_error`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zkllm.backends.sumcheck.field import (
    CANONICAL_BYTES,
    MODULUS,
    Words,
    add,
    multiply,
    root_of_unity,
    subtract,
    total,
)

BLOWUP = 4
"""1/rate of the code."""
QUERIES = 160
"""Random columns that are opened."""
HASH = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows R and logarithm c of the columns of a committed matrix."""

    rows: int
    log_columns: int

    @property
    def columns(self) -> int:
        return 1 << self.log_columns

    @property
    def log_length(self) -> int:
        """Logarithm of the length of an encoded row."""
        return self.log_columns + BLOWUP.bit_length() - 1

    @property
    def opening_bytes(self) -> int:
        """What an opening takes: two rows, then columns with their paths."""
        return 2 * CANONICAL_BYTES * self.columns + QUERIES * (
            8 * self.rows + HASH * self.log_length
        )


def shape_of(length: int) -> Shape:
    """The shape with the smallest opening for a vector of `length` values, at least one."""
    shapes = [Shape(((length - 1) >> c) + 1, c) for c in range((length - 1).bit_length() + 1)]
    return min(shapes, key=lambda shape: (shape.opening_bytes, shape.log_columns))


def proximity_error(shape: Shape) -> tuple[float, float]:
    """Errors of the random combination of rows and of the random columns.

    The code is Reed-Solomon of length n and rate ρ over F, the field of challenges; the rows, whose
    values lie in the base field, are words over F as well. With δ = (1 - ρ)/2 and the committed
    words u_i there are two cases.

    No R code words agree with all u_i in a common set of (1 - δ)·n places: then Σ m_i·u_i with
    uniform m_i is within δ of the code with probability n/|F| at most (Ben-Sasson, Carmon, Ishai,
    Kopparty and Saraf, "Proximity Gaps for Reed-Solomon Codes", ePrint 2020/654, Theorem 1.6 for
    the span of the u_i, with the ε = n/q that Theorem 1.2 gives for δ <= (1 - ρ)/2). If it is not,
    whatever row was sent is wrong in more than δ·n columns.

    Such code words v_i exist: they are unique, since 2δ·n is below the distance (1 - ρ)·n + 1, and
    they are words over the base field, since they agree with the u_i in more than ρ·n places. A
    value row other than Σ eq_i·v_i differs from it in (1 - ρ)·n + 1 columns, from Σ eq_i·u_i hence
    in more than δ·n.

    In both cases each random column shows the lie with probability δ at least, independently
    (Ames, Hazay, Ishai and Venkitasubramaniam, "Ligero", CCS 2017, section 4, has this test with a
    smaller radius).
    """
    rate = 1 / BLOWUP
    return float(1 << shape.log_length) / float(MODULUS) ** 2, ((1 + rate) / 2) ** QUERIES


def leaf_hash(column: bytes) -> bytes:
    """The leaf of one encoded column."""
    return hashlib.sha256(b"\x00" + column).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """A binary tree over 2^k leaves: its layers [n, 32], the leaves first."""

    def __init__(self, layers: list[npt.NDArray[np.uint8]]) -> None:
        self.layers = layers

    @property
    def root(self) -> bytes:
        return bytes(self.layers[-1][0])

    def path(self, index: int) -> bytes:
        """The siblings from leaf to root."""
        siblings = []
        for layer in self.layers[:-1]:
            siblings.append(layer[index ^ 1].tobytes())
            index >>= 1
        return b"".join(siblings)


def root_from_path(leaf: bytes, index: int, path: bytes) -> bytes:
    """The root that `leaf` at `index` and its siblings give."""
    node = leaf
    for start in range(0, len(path), HASH):
        sibling = path[start : start + HASH]
        node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index >>= 1
    return node


def transform(coefficients: Words, log_length: int) -> Words:
    """Polynomials [r, n] evaluated on all roots of unity of order 2^log_length, in order."""
    rows, n = coefficients.shape
    length = 1 << log_length
    values = np.zeros((rows, length), dtype=np.uint64)
    values[:, :n] = coefficients
    order = np.zeros(1, dtype=np.int64)
    for _ in range(log_length):
        order = np.concatenate([2 * order, 2 * order + 1])
    values = values[:, order]
    half = 1
    while half < length:
        root = root_of_unity((2 * half).bit_length() - 1)
        twiddles = np.ones(1, dtype=np.uint64)
        while len(twiddles) < half:
            step = np.uint64(pow(root, len(twiddles), MODULUS))
            twiddles = np.concatenate([twiddles, multiply(twiddles, step)])
        pairs = values.reshape(rows, length // (2 * half), 2, half)
        high = multiply(pairs[:, :, 1, :], twiddles)
        low = pairs[:, :, 0, :]
        values = np.stack([add(low, high), subtract(low, high)], axis=2).reshape(rows, length)
        half *= 2
    return values


def columns_agree(
    shape: Shape, row: Words, factors: Words, columns: Words, indices: list[int]
) -> bool:
    """Whether the encoding of `row` [C, 2] is Σ_i factors[i]·column_i at all `indices`.

    `factors` [R, 2], `columns` [queries, R].
    """
    encoded = transform(np.ascontiguousarray(row.T), shape.log_length)[:, indices].T
    sides = [total(multiply(columns.T, factors[:, side, None])) for side in range(2)]
    return bool(np.array_equal(encoded, np.stack(sides, axis=-1)))

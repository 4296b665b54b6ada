"""The commitment: a matrix of values, its rows Reed-Solomon encoded, its columns in a Merkle tree.

A vector of N values is cut into R rows of C = 2^c. Opening it at a point (low, high) gives the row
t = Σ_i eq(i, high)·row_i, and random columns of the encoded matrix show that it is that. A short
row is sent; a long one is committed to in the same way, and opened in its turn: `levels_of`.
All distances are within the unique decoding radius (`proximity_error`).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zkllm.engines.sumcheck.field import (
    CANONICAL_BYTES,
    SIZE,
    Ext,
    Words,
    add,
    bit_reversal,
    multiply,
    multiply_ext,
    root_of_unity,
    root_powers,
    subtract,
    total,
)

HASH: Final = 32
CAP: Final = 7
"""A path ends at the layer of 2^7 nodes, which is sent whole: many paths would meet above it."""


@dataclass(frozen=True, slots=True)
class Code:
    """A Reed-Solomon code, and how often its words are looked at."""

    blowup: int
    """1/rate."""
    queries: int
    """Random columns that are opened."""


MAX_LOG_COLUMNS: Final = 17
"""Longer rows would make shorter proofs, but the error of their combination grows with them, and
transforms leave the processor's caches."""
VECTOR: Final = Code(4, 168)
"""For committed vectors: most of the prover's work, so little of it."""
ROW: Final = Code(16, 124)
"""For rows that are committed to in an opening: they are short, so fewer columns count for more."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A committed matrix of R rows and 2^c columns."""

    rows: int
    log_columns: int
    width: int
    """Words of a value: 1 in the field of values, 2 in its extension."""
    code: Code

    @property
    def columns(self) -> int:
        return 1 << self.log_columns

    @property
    def words(self) -> int:
        """Words of a column; a row of the extension is two rows of words."""
        return self.rows * self.width

    @property
    def log_length(self) -> int:
        """Logarithm of the length of an encoded row."""
        return self.log_columns + self.code.blowup.bit_length() - 1

    @property
    def log_cap(self) -> int:
        """Logarithm of the number of nodes at which paths end."""
        return min(CAP, self.log_length)

    @property
    def piece_bytes(self) -> int:
        """One opened column with its path."""
        return 8 * self.words + HASH * (self.log_length - self.log_cap)

    @property
    def opening_bytes(self) -> int:
        """All opened columns, and the nodes at which their paths end."""
        return (HASH << self.log_cap) + self.code.queries * self.piece_bytes


def levels_of(length: int) -> tuple[Shape, ...]:
    """The shapes of a vector of `length` values, at least one, and of the rows it is opened by.

    They make the shortest opening. The row of the last shape is sent.
    """
    return _shortest(length, 1)[1]


@functools.cache
def _shortest(length: int, width: int) -> tuple[int, tuple[Shape, ...]]:
    """Bytes and shapes of the shortest opening; of equal ones that with the fewest columns."""
    code = VECTOR if width == 1 else ROW
    found = []
    for c in range(min((length - 1).bit_length(), MAX_LOG_COLUMNS) + 1):
        shape = Shape(((length - 1) >> c) + 1, c, width, code)
        deeper: tuple[Shape, ...] = ()
        rest = CANONICAL_BYTES << c
        if shape.rows > 1:
            # A root, a sumcheck of degree 2, and the value that it leaves.
            inner, shapes = _shortest(1 << c, 2)
            inner += HASH + CANONICAL_BYTES * (2 * c + 1)
            if inner < rest:
                rest, deeper = inner, shapes
        found.append((shape.opening_bytes + rest, (shape, *deeper)))
    return min(found, key=lambda item: item[0])


def proximity_error(shape: Shape) -> tuple[float, float]:
    """Errors of the combination of rows at a random point, and of the random columns.

    The code is Reed-Solomon of length n and rate ρ over F, the field of challenges; rows whose
    values lie in the base field are words over F as well. With δ = (1 - ρ)/2 and the committed
    words u_i, of which there are 2^ϑ with zeros that are added, there are two cases.

    No code words agree with all u_i in a common set of (1 - δ)·n places: then Σ eq(i, high)·u_i
    with uniform coordinates `high` is within δ of the code with probability ϑ·n/|F| at most
    (Diamond and Gruen, "Proximity Gaps in Interleaved Codes", 2025, Corollary 3.7, from Ben-Sasson,
    Carmon, Ishai, Kopparty and Saraf, "Proximity Gaps for Reed-Solomon Codes", ePrint 2020/654,
    Theorem 4.1). If it is not, whatever row is shown is wrong in more than δ·n columns.

    Such code words v_i exist: they are unique, since 2δ·n is below the distance (1 - ρ)·n + 1, and
    where the u_i are words over the base field so are they, since they agree with them in more than
    ρ·n places. A row other than Σ eq_i·v_i differs from it in (1 - ρ)·n + 1 columns, from
    Σ eq_i·u_i hence in more than δ·n.

    In both cases each random column shows the lie with probability δ at least, independently
    (Ames, Hazay, Ishai and Venkitasubramaniam, "Ligero", CCS 2017, section 4, has this test with a
    smaller radius; Novakovic and Angeris, "Ligerito", ePrint 2025/1187, opens rows in turn).
    """
    rate = 1 / shape.code.blowup
    folds = (shape.rows - 1).bit_length()
    mixing = folds * float(1 << shape.log_length) / SIZE
    return mixing, ((1 + rate) / 2) ** shape.code.queries


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

    def path(self, index: int, log_cap: int) -> bytes:
        """The siblings from a leaf up to the layer of 2^log_cap nodes."""
        siblings = []
        for layer in self.layers[: len(self.layers) - 1 - log_cap]:
            siblings.append(layer[index ^ 1].tobytes())
            index >>= 1
        return b"".join(siblings)

    def cap(self, log_cap: int) -> bytes:
        """The layer of 2^log_cap nodes."""
        return self.layers[len(self.layers) - 1 - log_cap].tobytes()


def node_from_path(leaf: bytes, index: int, path: bytes) -> bytes:
    """The node that `leaf` at `index` and its siblings give."""
    node = leaf
    for start in range(0, len(path), HASH):
        sibling = path[start : start + HASH]
        node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index >>= 1
    return node


def root_from_cap(cap: bytes) -> bytes:
    """The root over the nodes of one layer."""
    nodes = [cap[start : start + HASH] for start in range(0, len(cap), HASH)]
    while len(nodes) > 1:
        nodes = [node_hash(*nodes[i : i + 2]) for i in range(0, len(nodes), 2)]
    return nodes[0]


def transform(coefficients: Words, log_length: int) -> Words:
    """Polynomials [r, n] evaluated on all roots of unity of order 2^log_length, in order."""
    rows, n = coefficients.shape
    length = 1 << log_length
    values = np.zeros((rows, length), dtype=np.uint64)
    values[:, :n] = coefficients
    values = values[:, bit_reversal(log_length)]
    half = 1
    while half < length:
        twiddles = root_powers(root_of_unity((2 * half).bit_length() - 1), half)
        pairs = values.reshape(rows, length // (2 * half), 2, half)
        high = multiply(pairs[:, :, 1, :], twiddles)
        low = pairs[:, :, 0, :]
        values = np.stack([add(low, high), subtract(low, high)], axis=2).reshape(rows, length)
        half *= 2
    return values


def of_words(factors: Words, width: int) -> Words:
    """Factors of rows [R, 2] as factors of their words [R·width, 2]: a + b·X has two."""
    if width == 1:
        return factors
    times_x = multiply_ext(factors, Ext(0, 1).to_words())
    return np.stack([factors, times_x], axis=1).reshape(-1, 2)


def combined(columns: Words, factors: Words) -> Words:
    """Σ_i factors[i]·columns[:, i], shape [queries, 2], of words [queries, n] and [n, 2]."""
    sides = [total(multiply(columns.T, factors[:, side, None])) for side in range(2)]
    return np.stack(sides, axis=-1)

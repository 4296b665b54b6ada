"""What the prover commits to: matrices with their encoding and tree, and vectors cut into rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zkllm.engines.sumcheck import commitment, kernels
from zkllm.engines.sumcheck.commitment import Shape
from zkllm.engines.sumcheck.field import Ext, Words, add, dot, words
from zkllm.engines.sumcheck.multilinear import Coordinates
from zkllm.engines.sumcheck.party import LinearForm, Owed
from zkllm.engines.sumcheck.plan import Slot


class EncodedMatrix:
    """A matrix, its encoding and its tree."""

    def __init__(self, words: Words, shape: Shape) -> None:
        """`words` [R·width, C]: a row of the extension is two, that of all a and that of all b."""
        self._words, self._shape = words, shape
        self._encoded = kernels.encode(words, shape.code.blowup)
        self._tree = commitment.MerkleTree(merkle_layers(self._encoded))
        self._combined: tuple[Words, Words] | None = None

    def root(self) -> bytes:
        return self._tree.root

    def combined_row(self, factors: Words) -> Words:
        # asked for the value at a point, and then for the row that has it
        if self._combined is None or not np.array_equal(self._combined[0], factors):
            self._combined = factors, self.combine(factors)
        return self._combined[1]

    def combine(self, factors: Words) -> Words:
        """Σ factors[i]·row_i."""
        return kernels.combine_rows(self._words, factors)

    def opened_columns(self, indices: Sequence[int]) -> bytes:
        columns = np.ascontiguousarray(self._encoded[:, indices].T).astype("<u8")
        log_cap = self._shape.log_cap
        pieces = (
            column.tobytes() + self._tree.path(index, log_cap)
            for column, index in zip(columns, indices, strict=True)
        )
        return self._tree.cap(log_cap) + b"".join(pieces)

    def commit(self, factors: Words, shape: Shape) -> EncodedRow:
        return EncodedRow(self.combined_row(factors), shape)


class EncodedRow(EncodedMatrix):
    """A row of the extension that is committed to."""

    def __init__(self, row: Words, shape: Shape) -> None:
        """`row` [n, 2]."""
        self._row = row
        # Rows and their lengths are powers of two, so nothing is left over.
        cut = row.reshape(shape.rows, shape.columns, 2).transpose(0, 2, 1)
        super().__init__(np.ascontiguousarray(cut).reshape(-1, shape.columns), shape)

    def row_tables(
        self, low: Coordinates, indices: Sequence[int], scales: Sequence[Ext], log_length: int
    ) -> list[Words]:
        # Σ_q scale_q·x_q^j for all j is the value at ω^j of the polynomial Σ_q scale_q·X^k_q.
        sparse = np.zeros((1 << log_length, 2), dtype=np.uint64)
        for scale, index in zip(scales[1:], indices, strict=True):
            sparse[index] = add(sparse[index], scale.to_words())
        values = kernels.encode(np.ascontiguousarray(sparse.T), 1)[:, : len(self._row)]
        return [self._row, add(kernels.eq_table(words(low)), np.ascontiguousarray(values.T))]

    def value_at(self, point: Coordinates) -> Ext:
        return dot(self._row, kernels.eq_table(words(point)))


class CommittedVector:
    """A committed vector, and where its tensors lie in it."""

    def __init__(self, vector: Words, layout: dict[str, list[Slot]]) -> None:
        self.shape = commitment.levels_of(len(vector))[0]
        self._layout = layout
        self._rows = np.zeros((self.shape.rows, self.shape.columns), dtype=np.uint64)
        self.vector = self._rows.reshape(-1)[: len(vector)]
        self.vector[:] = vector
        self.matrix = EncodedMatrix(self._rows, self.shape)
        self._tables: dict[Coordinates, Words] = {}

    def root(self) -> bytes:
        return self.matrix.root()

    def eq_table(self, point: Coordinates) -> Words:
        """All weights eq(·, point), kept: many columns are claimed at the same point."""
        if point not in self._tables:
            self._tables[point] = kernels.eq_table(words(point))
        return self._tables[point]

    def evaluate(self, column: str, linear_form: LinearForm) -> Ext:
        """The value of one column."""
        result = Ext(0)
        for slot, (factor, local) in zip(self._layout[column], linear_form, strict=True):
            block = self.vector[slot.offset : slot.offset + (1 << slot.block.bits)]
            a, b = kernels.dot(block, self.eq_table(local))
            result += factor * Ext(a, b)
        return result

    def batch_tables(self, claims: Sequence[Owed], factors: Sequence[Ext]) -> list[Words]:
        weights = np.zeros((len(self.vector), 2), dtype=np.uint64)
        for claim, gamma in zip(claims, factors, strict=True):
            slots = self._layout[claim.column]
            for slot, (factor, local) in zip(slots, claim.linear_form, strict=True):
                block = weights[slot.offset : slot.offset + (1 << slot.block.bits)]
                scale = gamma * factor
                accumulate(block, self.eq_table(local), scale)
        self._tables.clear()
        return [self.vector, weights]

    def value_at(self, point: Coordinates) -> list[Ext]:
        return [vector_at(self.matrix, self.shape, point)]


def vector_at(matrix: EncodedMatrix, shape: Shape, point: Coordinates) -> Ext:
    """The value at `point` of the vector that was cut into the rows of `matrix`."""
    low, high = point[: shape.log_columns], point[shape.log_columns :]
    outer = np.ascontiguousarray(kernels.eq_table(words(high))[: shape.rows])
    return dot(matrix.combined_row(outer), kernels.eq_table(words(low)))


def accumulate(target: Words, table: Words, scale: Ext) -> None:
    """Add scale·table."""
    kernels.accumulate(target, table, np.uint64(scale.a), np.uint64(scale.b))


def merkle_layers(encoded: Words) -> list[npt.NDArray[np.uint8]]:
    """All layers of the tree over the columns of `encoded`, the leaves first, each [n, 32]."""
    layers = [kernels.hash_columns(0, encoded)]
    while len(layers[-1]) > 1:
        pairs = layers[-1].view("<u8").astype(np.uint64).reshape(-1, 8)
        layers.append(kernels.hash_columns(1, np.ascontiguousarray(pairs.T)))
    return layers

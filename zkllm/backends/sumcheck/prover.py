"""The prover's side of the protocol: the only module that needs compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from zkllm.backends.sumcheck import commitment, kernels, shapes
from zkllm.backends.sumcheck.field import Ext, Words, to_field
from zkllm.backends.sumcheck.lookups import lengths
from zkllm.backends.sumcheck.party import (
    Functional,
    Monomial,
    Opening,
    Party,
    Tables,
    encode_elements,
)
from zkllm.backends.sumcheck.plan import Combination, Place
from zkllm.backends.sumcheck.shapes import Coordinates, Dims
from zkllm.backends.sumcheck.witness import Witness
from zkllm.tensors import IntArray


class CommittedVector:
    """The committed vector, its encoding and its tree."""

    def __init__(self, witness: Witness) -> None:
        plan = witness.plan
        self.vector = witness.committed()
        self.shape = commitment.shape_of(plan.size())
        self._layout = plan.layout()
        self._matrix = np.zeros((self.shape.rows, self.shape.columns), dtype=np.uint64)
        self._matrix.reshape(-1)[: len(self.vector)] = self.vector
        encoded = kernels.encode(self._matrix, commitment.BLOWUP)
        self._encoded = np.ascontiguousarray(encoded.T)
        self._tree = commitment.MerkleTree(
            [commitment.leaf_hash(column.tobytes()) for column in self._encoded]
        )
        self._tables: dict[Coordinates, Words] = {}

    def root(self) -> bytes:
        return self._tree.root

    def eq_table(self, point: Coordinates) -> Words:
        """All weights eq(·, point), kept: many columns are claimed at the same point."""
        if point not in self._tables:
            self._tables[point] = kernels.eq_table(_words(point))
        return self._tables[point]

    def evaluate(self, column: str, functional: Functional) -> Ext:
        """The value of one column."""
        result = Ext(0)
        for place, (factor, local) in zip(self._layout[column], functional, strict=True):
            block = self.vector[place.offset : place.offset + (1 << place.block.bits)]
            a, b = kernels.dot(block, self.eq_table(local))
            result += factor * Ext(int(a), int(b))
        return result

    def batch_tables(self, claims: Sequence[Opening], factors: Sequence[Ext]) -> list[Words]:
        weights = np.zeros((len(self.vector), 2), dtype=np.uint64)
        for claim, gamma in zip(claims, factors, strict=True):
            places = self._layout[claim.column]
            for place, (factor, local) in zip(places, claim.functional, strict=True):
                block = weights[place.offset : place.offset + (1 << place.block.bits)]
                scale = gamma * factor
                kernels.accumulate(block, self.eq_table(local), np.uint64(scale.a), np.uint64(scale.b))
        self._tables.clear()
        return [self.vector, weights]

    def value_at(self, point: Coordinates) -> list[Ext]:
        a, b = kernels.dot(self.vector, kernels.eq_table(_words(point)))
        return [Ext(int(a), int(b))]

    def combined_row(self, factors: Words) -> bytes:
        return np.asarray(kernels.combine_rows(self._matrix, factors)).astype("<u8").tobytes()

    def opened_columns(self, indices: Sequence[int]) -> bytes:
        return b"".join(
            self._encoded[index].astype("<u8").tobytes() + self._tree.path(index)
            for index in indices
        )


class Prover(Party):
    """Makes a proof: what it sends is kept in `sent`."""

    def __init__(self, witness: Witness) -> None:
        super().__init__(witness.plan)
        self.witness = witness
        self.sent: list[bytes] = []
        self.committed = CommittedVector(witness)

    @property
    def proof(self) -> bytes:
        """Everything that was sent."""
        return b"".join(self.sent)

    def exchange(self, label: str, make: Callable[[], Sequence[Ext]], count: int) -> list[Ext]:
        elements = list(make())
        self._send(label, encode_elements(elements))
        return elements

    def exchange_bytes(self, label: str, make: Callable[[], bytes], length: int) -> bytes:
        data = make()
        self._send(label, data)
        return data

    def _send(self, label: str, data: bytes) -> None:
        self.transcript.absorb(label, data)
        self.sent.append(data)

    def require(self, label: str, holds: Callable[[], bool]) -> None:
        """Nothing: the proof is verified before it leaves the backend."""

    def evaluate(self, column: str, functional: Functional) -> Ext:
        return self.committed.evaluate(column, functional)

    def integers(self, combination: Combination) -> IntArray:
        return self.witness.integers(combination)

    def begin(self, dims: Dims, tables: Tables, monomials: list[Monomial]) -> ProductRounds:
        return ProductRounds(dims, tables(), monomials)

    def fraction_tree(self, alpha: Ext, beta: Ext) -> Fractions:
        return Fractions(self.witness, alpha, beta)


class ProductRounds:
    """A sumcheck over sums of products of tables."""

    def __init__(self, dims: Dims, tables: list[Words], monomials: list[Monomial]) -> None:
        self._rest = list(dims)
        stacked = np.zeros((len(tables), shapes.size(dims), 2), dtype=np.uint64)
        for k, table in enumerate(tables):
            if table.ndim == len(dims):
                stacked[k, :, 0] = table.reshape(-1)
            else:
                stacked[k] = table.reshape(-1, 2)
        self._tables = stacked
        self._factors = [factor for factor, _ in monomials]
        self._monomials = np.full((len(monomials), 3), -1, dtype=np.int64)
        for m, (_, indices) in enumerate(monomials):
            self._monomials[m, : len(indices)] = indices
        self._next_dimension()

    def _next_dimension(self) -> None:
        """Put the next dimension that has variables last."""
        while self._rest and (self._tables.ndim < 4 or self._tables.shape[2] == 1):
            n = self._rest.pop()
            self._tables = self._tables.reshape(len(self._tables), -1, n, 2)

    def message(self, degree: int) -> list[Ext]:
        sums = kernels.round_sums(self._tables, self._monomials, degree)
        result = []
        for t in range(degree):
            value = Ext(0)
            for m, factor in enumerate(self._factors):
                value += factor * Ext.from_words(sums[m, t])
            result.append(value)
        return result

    def bind(self, challenge: Ext) -> None:
        self._tables = kernels.fold(self._tables, np.uint64(challenge.a), np.uint64(challenge.b))
        self._next_dimension()


class Fractions:
    """The binary tree of fractions of all lookups and tables."""

    def __init__(self, witness: Witness, alpha: Ext, beta: Ext) -> None:
        plan = witness.plan
        sites, tables, count = plan.lookup_layout()
        top = np.zeros((count, 2), dtype=np.uint64)
        bottom = np.zeros((count, 2), dtype=np.uint64)
        square = beta * beta
        scales = [np.uint64(n) for n in (beta.a, beta.b, square.a, square.b)]
        for lookup, places in zip(plan.lookups, sites, strict=True):
            base = alpha - plan.tables[lookup.table].identifier - 1
            keys = to_field(witness.integers(lookup.key))
            values = to_field(witness.integers(lookup.value)) if lookup.value else None
            ones = np.ones(lookup.key.dims, dtype=np.int64)
            numerators = np.tril(ones) if lookup.causal else ones
            for place in places:
                span = slice(place.offset, place.offset + (1 << place.block.bits))
                key = _cells(keys, place)
                value = np.zeros_like(key) if values is None else _cells(values, place)
                top[span, 0] = _cells(numerators.view(np.uint64), place)
                bottom[span] = kernels.fingerprints(
                    key, value, np.uint64(base.a), np.uint64(base.b), *scales
                )
        for name, places in tables.items():
            table = plan.tables[name]
            base = alpha - table.identifier - 1
            counts = to_field(-witness.columns[f"multiplicity of {name}"])
            keys = np.arange(table.rows, dtype=np.uint64)
            values = np.zeros_like(keys) if table.values is None else to_field(table.values)
            for place in places:
                span = slice(place.offset, place.offset + (1 << place.block.bits))
                top[span, 0] = _cells(counts, place)
                bottom[span] = kernels.fingerprints(
                    _cells(keys, place),
                    _cells(values, place),
                    np.uint64(base.a),
                    np.uint64(base.b),
                    *scales,
                )
        self._layers = [(top, bottom)]
        for _ in lengths(count)[1:]:
            self._layers.append(kernels.fraction_sums(*self._layers[-1]))

    def root(self) -> list[Ext]:
        top, bottom = self._layers[-1]
        return [Ext.from_words(top[0]), Ext.from_words(bottom[0])]

    def layer(self, level: int, point: Coordinates, factor: Ext) -> FractionRounds:
        top, bottom = self._layers[level]
        # The layer above is of no more use once its claim is reduced.
        del self._layers[level:]
        return FractionRounds(top, bottom, point, factor)


class FractionRounds:
    """The sumcheck over one layer of fractions."""

    def __init__(self, top: Words, bottom: Words, point: Coordinates, factor: Ext) -> None:
        half = (len(top) + 1) // 2
        children = np.zeros((4, 1, half, 2), dtype=np.uint64)
        for k, layer in enumerate((top, bottom)):
            children[2 * k, 0] = layer[0::2]
            children[2 * k + 1, 0, : len(layer) // 2] = layer[1::2]
        self._children = children
        self._weights = kernels.eq_table(_words(point))[:half].reshape(1, 1, half, 2)
        self._factor = (np.uint64(factor.a), np.uint64(factor.b))

    def message(self, degree: int) -> list[Ext]:
        sums = kernels.fraction_round(self._weights[0, 0], self._children[:, 0], *self._factor)
        return [Ext.from_words(sums[t]) for t in range(degree)]

    def bind(self, challenge: Ext) -> None:
        r = np.uint64(challenge.a), np.uint64(challenge.b)
        self._children = kernels.fold(self._children, *r)
        self._weights = kernels.fold(self._weights, *r)

    def children(self) -> list[Ext]:
        return [Ext.from_words(self._children[k, 0, 0]) for k in range(4)]


def _words(point: Sequence[Ext]) -> Words:
    return np.array([[r.a, r.b] for r in point], dtype=np.uint64).reshape(-1, 2)


def _cells(values: Words, place: Place) -> Words:
    return np.ascontiguousarray(values[place.block.slices]).reshape(-1)

"""The prover's tables between the rounds of a sumcheck: products, and layers of fractions."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import numpy as np

from zkllm.engines.sumcheck import kernels, multilinear
from zkllm.engines.sumcheck.field import ONE, ZERO, Ext, Words, to_field, words
from zkllm.engines.sumcheck.lookups import lengths
from zkllm.engines.sumcheck.multilinear import Coordinates, Dims
from zkllm.engines.sumcheck.party import Monomial
from zkllm.engines.sumcheck.plan import cells
from zkllm.engines.sumcheck.witness import Witness

Terms: TypeAlias = tuple[tuple[Ext, int], ...]
"""Factors and indices of tables."""


class Folding:
    """Binds one variable after the other, between two buffers: fresh memory costs time."""

    def __init__(self) -> None:
        self._room: Words | None = None

    def fold(self, tables: Words, challenge: Ext) -> Words:
        """Tables [k, n, m, 2] become [k, ceil(n/2), m, 2]; the memory of `tables` is used again."""
        if self._room is None:
            count, n, inner, _ = tables.shape
            self._room = np.empty((count, (n + 1) // 2, inner, 2), dtype=np.uint64)
        a, b = np.uint64(challenge.a), np.uint64(challenge.b)
        folded = kernels.fold(tables, a, b, self._room)
        self._room = tables
        return folded


class ProductRounds:
    """A sumcheck over sums of products of two or three tables.

    Monomials are put into the form Σ weight·(linear + Σ a·b), where the first table of each is its
    weight, with as few products a·b as a greedy choice finds: a is the table that most products
    have, b the sum of what it is multiplied with.

    The product of a long table of the base field and one of the extension, as a commitment's batch
    is, is not copied: its first round, half of all work, is done in the base field.
    """

    def __init__(self, dims: Dims, tables: list[Words], monomials: list[Monomial]) -> None:
        self._rest = list(dims)
        self._folding = Folding()
        self._first: tuple[Words, Words] | None = None
        self._tables: Words
        if len(dims) == 1 and monomials == [(ONE, (0, 1))]:
            values, weights = sorted(tables[:2], key=np.ndim)
            if values.ndim == 1:
                self._first = np.ascontiguousarray(values), np.ascontiguousarray(weights)
                return
            self._begin_product(np.stack([values, weights])[:, None])
            return
        made: list[Terms] = []

        def combined(terms: Terms) -> int:
            """The index of Σ factor·table among the tables that are made."""
            if terms not in made:
                made.append(terms)
            return made.index(terms)

        groups: list[tuple[int, int, int, int]] = []
        products: list[tuple[int, int]] = []
        for weight in dict.fromkeys(indices[0] for _, indices in monomials):
            linear, pairs = _collected(weight, monomials)
            start = len(products)
            while pairs:
                counts = Counter(k for pair in pairs for k in set(pair))
                common = counts.most_common(1)[0][0]
                with_it = [pair for pair in pairs if common in pair]
                others = [(pairs.pop((i, j)), j if i == common else i) for i, j in with_it]
                products.append((combined(((ONE, common),)), combined(tuple(others))))
            line = combined(linear) if linear else -1
            groups.append((combined(((ONE, weight),)), line, start, len(products)))
        self._groups = np.array(groups, dtype=np.int64)
        self._products = np.array(products, dtype=np.int64).reshape(-1, 2)
        self._tables = np.zeros((len(made), multilinear.size(dims), 2), dtype=np.uint64)
        for table, terms in zip(self._tables, made, strict=True):
            _add_terms(table, terms, tables)
        self._next_dimension()

    def _next_dimension(self) -> None:
        """Put the next dimension that has variables last."""
        while self._rest and (self._tables.ndim < 4 or self._tables.shape[2] == 1):
            n = self._rest.pop()
            self._tables = self._tables.reshape(len(self._tables), -1, n, 2)

    def message(self, degree: int) -> list[Ext]:
        if self._first is not None:
            return [Ext.from_words(sums) for sums in kernels.value_round(*self._first)]
        sums = kernels.product_round(self._tables, self._groups, self._products, degree)
        return [Ext.from_words(sums[t]) for t in range(degree)]

    def bind(self, challenge: Ext) -> None:
        if self._first is not None:
            self._bind_first(*self._first, challenge)
            return
        count, rows, n, _ = self._tables.shape
        folded = self._folding.fold(self._tables.reshape(count * rows, n, 1, 2), challenge)
        self._tables = folded.reshape(count, rows, -1, 2)
        self._next_dimension()

    def _bind_first(self, values: Words, weights: Words, challenge: Ext) -> None:
        a, b = np.uint64(challenge.a), np.uint64(challenge.b)
        tables = np.empty((2, 1, (len(values) + 1) // 2, 2), dtype=np.uint64)
        kernels.fold_values(values, a, b, tables[0, 0])
        kernels.fold(weights[None, :, None], a, b, tables[1])
        self._begin_product(tables)
        self._first = None

    def _begin_product(self, tables: Words) -> None:
        """The sum over products of two tables [2, 1, n, 2] of one dimension."""
        self._tables, self._rest = tables, []
        self._groups = np.array([[0, 1, 0, 0]], dtype=np.int64)
        self._products = np.empty((0, 2), dtype=np.int64)

    def tables(self) -> Words:
        """Both tables of such a product as far as they are bound, shape [2, n, 2]."""
        return self._tables[:, 0]


def _collected(weight: int, monomials: list[Monomial]) -> tuple[Terms, dict[tuple[int, int], Ext]]:
    """The monomials that begin with `weight`, without it: those of one table, those of two."""
    linear = []
    pairs: dict[tuple[int, int], Ext] = {}
    for factor, (first, *others) in monomials:
        if first == weight and len(others) == 1:
            linear.append((factor, others[0]))
        elif first == weight:
            pair = min(others), max(others)
            pairs[pair] = pairs.get(pair, ZERO) + factor
    return tuple(linear), pairs


def _add_terms(target: Words, terms: Terms, tables: list[Words]) -> None:
    """Set `target` [n, 2], which is zero, to Σ factor·table."""
    for factor, index in terms:
        table = np.ascontiguousarray(tables[index])
        scale = np.uint64(factor.a), np.uint64(factor.b)
        if table.size == len(target):
            if len(terms) == 1 and factor == ONE:
                target[:, 0] = table.reshape(-1)
            else:
                kernels.accumulate_values(target, table.reshape(-1), *scale)
        elif len(terms) == 1 and factor == ONE:
            target[:] = table.reshape(-1, 2)
        else:
            kernels.accumulate(target, table.reshape(-1, 2), *scale)


class Fractions:
    """The binary tree of fractions of all lookups and tables."""

    def __init__(self, witness: Witness, alpha: Ext, beta: Ext, gamma: Ext) -> None:
        plan = witness.plan
        sites, tables, count = plan.lookup_layout()
        self._lengths = lengths(count)
        # an even number, so that every fraction has a neighbour
        top = np.zeros((count + count % 2 if count > 1 else 1, 2), dtype=np.uint64)
        bottom = np.zeros_like(top)
        factors = beta.to_words(), gamma.to_words()
        for lookup, slots in zip(plan.lookups, sites, strict=True):
            base = (alpha - plan.tables[lookup.table].identifier - 1).to_words()
            keys = witness.integers(lookup.key)
            values = witness.integers(lookup.value) if lookup.value is not None else None
            numerators = np.ones((1,) * keys.ndim, dtype=np.int64)
            if lookup.causal:
                numerators = np.tri(keys.shape[-1], dtype=np.int64)
            numerators = np.broadcast_to(numerators, keys.shape)
            for slot in slots:
                span = slice(slot.offset, slot.offset + (1 << slot.block.bits))
                key = to_field(cells(keys, slot))
                value = None if values is None else to_field(cells(values, slot))
                top[span, 0] = cells(numerators, slot)
                kernels.fingerprints(bottom[span], key, value, base, *factors)
        for name, slots in tables.items():
            table = plan.tables[name]
            base = (alpha - table.identifier - 1).to_words()
            counts = to_field(-witness.columns[f"multiplicity of {name}"])
            keys = np.arange(table.rows)
            for slot in slots:
                span = slice(slot.offset, slot.offset + (1 << slot.block.bits))
                key = to_field(cells(keys, slot))
                value = None if table.values is None else to_field(cells(table.values, slot))
                top[span, 0] = counts[slot.block.slices]
                kernels.fingerprints(bottom[span], key, value, base, *factors)
        self._layers = [(top, bottom)]
        for _ in self._lengths[1:]:
            self._layers.append(kernels.fraction_sums(*self._layers[-1]))

    def root(self) -> list[Ext]:
        top, bottom = self._layers[-1]
        return [Ext.from_words(top[0]), Ext.from_words(bottom[0])]

    def layer(self, level: int, point: Coordinates, factor: Ext) -> FractionRounds:
        top, bottom = self._layers[level]
        # The layers above are of no more use once their claims are reduced.
        del self._layers[level:]
        return FractionRounds(top, bottom, point, factor)


class FractionRounds:
    """The sumcheck over one layer of fractions, Σ eq·(p0·q1 + p1·q0 + λ·(q0·q1 - 1)).

    Of eq the table is not kept: for all pairs but the last it is a product of a scalar, of eq of
    the round's variable, and of eq of the variables that follow, which is one factor of a whole
    pair (Gruen, "Some Improvements for the PIOP for ZeroCheck", ePrint 2024/108, section 3). The
    last pair may lack its second half, and has weights of its own.
    """

    def __init__(self, top: Words, bottom: Words, point: Coordinates, factor: Ext) -> None:
        """`top` and `bottom` [2n, 2] are overwritten."""
        self._top, self._bottom = top.reshape(-1, 2, 2), bottom.reshape(-1, 2, 2)
        self._point, self._factor = point, factor
        self._lambda = np.uint64(factor.a), np.uint64(factor.b)
        kernels.mix_children(self._top, self._bottom, *self._lambda)
        count = len(self._top)
        self._folding = Folding(), Folding()
        self._scale = ONE
        self._last = multilinear.eq(count - 1, point)
        self._round = 0
        self._after = kernels.eq_table(words(point[1:]))

    def _last_weights(self) -> tuple[Ext, Ext]:
        """Weights of the two halves of the last pair."""
        count = len(self._top)
        if count % 2:
            return self._last, ZERO
        rest = Ext.from_words(self._after[count // 2 - 1])
        return self._scale * (1 - self._point[self._round]) * rest, self._last

    def message(self, degree: int) -> list[Ext]:
        pairs = (len(self._top) + 1) // 2
        inner = self._sums(self._after, self._top, self._bottom, pairs - 1)
        lone = np.zeros((2, 2, 2, 2), dtype=np.uint64)
        for k, table in enumerate((self._top, self._bottom)):
            rest = table[2 * pairs - 2 :]
            lone[k, : len(rest)] = rest
        last = self._sums(ONE.to_words()[None], lone[0], lone[1], 1)
        first, second = self._last_weights()
        r = self._point[self._round]
        result = []
        for t in (0, 2, 3)[:degree]:
            weight = self._scale * ((1 - r) * (1 - t) + r * t)
            result.append(weight * inner[t] + (first + (second - first) * t) * last[t])
        return result

    def _sums(self, weights: Words, top: Words, bottom: Words, pairs: int) -> list[Ext]:
        """A polynomial of degree 2 at 0, 1, 2, 3, from its first three values."""
        sums = kernels.fraction_round(weights, top, bottom, *self._lambda, pairs)
        at = [Ext.from_words(sums[t]) for t in range(3)]
        return [*at, at[0] + (at[2] - at[1]) * 3]

    def bind(self, challenge: Ext) -> None:
        first, second = self._last_weights()
        self._last = first + challenge * (second - first)
        r = self._point[self._round]
        self._scale = self._scale * ((1 - r) * (1 - challenge) + r * challenge)
        self._round += 1
        self._after = kernels.add_neighbours(self._after)
        self._top = self._folding[0].fold(self._top[None], challenge)[0]
        self._bottom = self._folding[1].fold(self._bottom[None], challenge)[0]

    def children(self) -> list[Ext]:
        p0, p1 = (Ext.from_words(self._top[0, k]) for k in range(2))
        d0, d1 = (Ext.from_words(self._bottom[0, k]) for k in range(2))
        return [p0 - self._factor * d0, p1, d0, d1]

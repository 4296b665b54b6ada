"""Causal attention of all heads between the linear layers: scores, maxima, exponentials, mixing.

q, k, v are committed numbers of dims [T, h, d_head]; cells of one score are columns of dims
[h, T, T]. Above the diagonal there is nothing to attend to: e and y are zero there, and what the
other columns hold is multiplied by a mask that the verifier evaluates itself.
"""

from __future__ import annotations

import functools

import numpy as np

from zkllm import integers
from zkllm.backends.sumcheck.operations import bits_of, require_no_wrap
from zkllm.engines.sumcheck.field import (
    HALF,
    ONE,
    ZERO,
    Ext,
    Words,
    add,
    as_ext,
    contract,
    dot,
    multiply_ext,
    powers,
    subtract,
    to_field,
)
from zkllm.engines.sumcheck.multilinear import (
    Coordinates,
    Dims,
    Point,
    causal_product,
    eq_within,
    ones,
    ones_at,
    value_at,
    variables,
    weights,
)
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Combination, Lookup, Number, Plan
from zkllm.engines.sumcheck.witness import Witness
from zkllm.exact.format1 import Attention
from zkllm.operations.attention import exact
from zkllm.tensors import IntArray


class CausalAttention:
    """The output o = round(Σ_j e_j·v_j / S), S = Σ e, of scores s = round(q·k / 2^sh).

    e = EXP[min(m - s, cap)] with m the largest score of a row.
    """

    def __init__(
        self,
        plan: Plan,
        query: Number,
        key: Number,
        value: Number,
        unit: Attention,
        table: IntArray,
    ) -> None:
        self.query, self.key, self.value = query.value, key.value, value.value
        self.shift, self.table, self.cap = unit.score_shift, table, len(table) - 1
        rows, heads, size = query.value.dims
        self.cells: Dims = (heads, rows, rows)
        self.rows: Dims = (heads, rows)
        self.dims: Dims = (rows, heads, size)
        self.maximum = plan.signed("attention: maximum", self.rows, unit.score)
        self.index = plan.column("attention: index", self.cells)
        self.entry = plan.column("attention: exponential", self.cells)
        plan.lookups.append(
            Lookup(plan.named_table("exp", table), self.index, self.entry, causal=True)
        )
        self.excess = plan.unsigned("attention: excess", self.cells, bits_of(2 * unit.score))
        self.marker = plan.column("attention: marks a maximum", self.cells)
        self.rest: Number | None = None
        if self.shift:
            self.rest = plan.unsigned("attention: score remainder", self.cells, self.shift)
        largest = rows * int(table.max())
        bits = bits_of(largest)
        self.total = plan.column("attention: total", self.rows)
        self.half = plan.unsigned("attention: half of total", self.rows, bits)
        self.odd = plan.unsigned("attention: total is odd", self.rows, 1)
        self.output = plan.signed("attention: output", self.dims, unit.value.output)
        self.low = plan.unsigned("attention: output remainder", self.dims, bits)
        self.high = plan.unsigned("attention: output remainder complement", self.dims, bits)
        score = self.maximum.largest + self.cap + self.excess.largest
        products = size * query.largest * key.largest
        require_no_wrap("attention: score", products, (score + 2) << self.shift)
        require_no_wrap("attention: total", largest, 4 << bits)
        require_no_wrap(
            "attention: output", largest * value.largest, (self.output.largest + 4) << bits
        )

    def fill(self, witness: Witness, q: IntArray, k: IntArray, v: IntArray) -> IntArray:
        """The output, shape [T, h, d_head], of q, k, v of that shape."""
        heads = [x.transpose(1, 0, 2) for x in (q, k, v)]
        attended = exact.attention(*heads, shift=self.shift, table=self.table)
        causal = np.tri(len(q), dtype=bool)
        distance = np.where(causal, attended.maximum[..., None] - attended.score, 0)
        index = np.minimum(distance, self.cap)
        witness.store_number(self.maximum, attended.maximum)
        witness.store(self.index, index)
        witness.store(self.entry, attended.exponential)
        witness.store_number(self.excess, distance - index)
        # The first maximum of each row: any one would do, and places above the diagonal do not.
        first = np.argmax(np.where(causal, distance == 0, False), axis=-1)
        marker = np.zeros(self.cells, dtype=np.int64)
        np.put_along_axis(marker, first[..., None], 1, axis=-1)
        witness.store(self.marker, marker)
        if self.rest is not None:
            products = integers.matmul(heads[0], heads[1].swapaxes(-1, -2))
            rest = (products + (1 << self.shift >> 1)) & ((1 << self.shift) - 1)
            witness.store_number(self.rest, np.where(causal, rest, 0))
        witness.store(self.total, attended.total)
        witness.store_number(self.half, attended.total // 2)
        witness.store_number(self.odd, attended.total % 2)
        output = attended.output.transpose(1, 0, 2)
        divisor = attended.total.T[:, :, None]
        mixed = integers.matmul(attended.exponential, heads[2]).transpose(1, 0, 2)
        low = mixed + divisor // 2 - output * divisor
        witness.store_number(self.output, output)
        witness.store_number(self.low, low)
        witness.store_number(self.high, divisor - 1 - low)
        return output

    def check(self, party: Party) -> None:
        """All equations between q, k, v and the output."""
        at, product = self._check_cells(party)
        self._check_products(party, at, product)
        self._check_rows(party)
        self._check_output(party)

    def _check_cells(self, party: Party) -> tuple[Point, Ext]:
        """The equations of single scores; returns a claim on the products q·k.

        On and below the diagonal (1) q·k + half = s·2^sh + r with s = maximum - index - excess,
        (2) excess·(cap - index) = 0, (3) marker·(index + excess) = 0; above it (4) exponential = 0
        and (5) marker = 0. An index is in 0 .. cap because it was looked up.
        """
        point = party.point("attention: cells", self.cells)
        factor = party.challenge("attention: factor", 4)
        _, second, third, fourth, fifth = powers(factor, 5)

        def tables() -> list[Words]:
            rows = self.cells[1]
            every = weights(self.cells, point).reshape(*self.cells, 2)
            inside = every * np.tri(rows, dtype=np.uint64)[None, :, :, None]
            index, excess = party.integers(self.index), party.integers(self.excess.value)
            score = party.integers(self.maximum.value)[:, :, None] - index - excess
            line = (score << self.shift) - (1 << self.shift >> 1) - self._products(party)
            if self.rest is not None:
                line = line + party.integers(self.rest.value)
            marker = party.integers(self.marker)
            outside = add(
                multiply_ext(as_ext(to_field(party.integers(self.entry))), fourth.to_words()),
                multiply_ext(as_ext(to_field(marker)), fifth.to_words()),
            )
            columns = [to_field(x) for x in (line, index, excess, marker)]
            return [inside, subtract(every, inside), *columns, outside]

        at, value = party.sumcheck(
            "attention: cells",
            self.cells,
            ZERO,
            tables,
            [
                (ONE, (0, 2)),
                (second * self.cap, (0, 4)),
                (-second, (0, 4, 3)),
                (third, (0, 5, 3)),
                (third, (0, 5, 4)),
                (ONE, (1, 6)),
            ],
        )
        (product,) = party.exchange(
            "attention: product", lambda: [value_at(self._products(party), at)], 1
        )
        h, i, j = at
        index, excess = party.value(self.index, at), party.value(self.excess.value, at)
        marker, entry = party.value(self.marker, at), party.value(self.entry, at)
        along = ones(self.cells[2], j)
        score = party.value(self.maximum.value, (h, i)) * along - index - excess
        line = score * (1 << self.shift) - product
        line = line - ones_at(self.cells, at) * (1 << self.shift >> 1)
        if self.rest is not None:
            line = line + party.value(self.rest.value, at)
        inner = line + second * excess * (self.cap - index) + third * marker * (index + excess)
        outer = fourth * entry + fifth * marker
        inside, every = self._masks(point, at)
        expected = inside * inner + (every - inside) * outer
        party.require_equal("attention: cells", value, expected)
        return at, product

    def _masks(self, point: Point, at: Point) -> tuple[Ext, Ext]:
        """Σ eq(·, point)·eq(·, at) over the cells on and below the diagonal, and over all."""
        heads, rows, _ = self.cells
        head = eq_within(heads, point[0], at[0])
        inside = head * causal_product(rows, (point[1], point[2]), (at[1], at[2]))
        every = head * eq_within(rows, point[1], at[1]) * eq_within(rows, point[2], at[2])
        return inside, every

    def _products(self, party: Party) -> IntArray:
        """All q·k, shape [h, T, T], for the prover."""
        q, k = (party.integers(x).transpose(1, 0, 2) for x in (self.query, self.key))
        return integers.matmul(q, k.swapaxes(-1, -2))

    def _check_products(self, party: Party, at: Point, product: Ext) -> None:
        """(6) The products at (h, i, j) are Σ_c q(i, h, c)·k(j, h, c)."""
        rows, heads, size = self.dims
        h, i, j = at

        def tables() -> list[Words]:
            def bound(x: Combination, r: Coordinates) -> Words:
                flat = party.integers(x).reshape(rows, heads * size)
                return contract(weights((rows,), (r,)), flat).reshape(heads, size, 2)

            head = np.broadcast_to(weights((heads,), (h,))[:, None, :], (heads, size, 2))
            return [head, bound(self.query, i), bound(self.key, j)]

        (other, c), value = party.sumcheck(
            "attention: products", (heads, size), product, tables, [(ONE, (0, 1, 2))]
        )
        expected = eq_within(heads, h, other) * ones(size, c)
        expected = expected * party.value(self.query, (i, other, c))
        expected = expected * party.value(self.key, (j, other, c))
        party.require_equal("attention: products", value, expected)

    def _check_rows(self, party: Party) -> None:
        """(7) Σ_j marker = 1, (8) Σ_j exponential = total, (9) total = 2·half + odd.

        With (3) a marker that is not zero stands at a maximum, and by (7) there is one: it need
        not be 0 or 1. Where all variables of j are 1/2, eq(j, ·) is 2^-k for every j.
        """
        k = variables(self.cells[2])
        h, i = point = party.point("attention: rows", self.rows)
        middle = (h, i, (HALF,) * k)
        marked = party.value(self.marker, middle) * (1 << k)
        expected = ones_at(self.rows, point)
        party.require_equal("attention: one maximum", marked, expected)
        summed = party.value(self.entry, middle) * (1 << k)
        total = party.value(self.total, point)
        party.require_equal("attention: total", summed, total)
        halves = self.half.value * 2 + self.odd.value - self.total
        party.require_zero("attention: half of total", halves, point)

    def _check_output(self, party: Party) -> None:
        """(10) Σ_j e_j·v_j + half = o·S + low, (11) low + high = S - 1."""
        rows, heads, _ = self.dims
        i, h, c = point = party.point("attention: output", self.dims)

        @functools.cache
        def mixing() -> list[Words]:
            entry = party.integers(self.entry).transpose(1, 0, 2).reshape(rows, heads * rows)
            value = party.integers(self.value).transpose(2, 1, 0)
            value = value.reshape(len(value), heads * rows)
            shape = (heads, rows, 2)
            head = np.broadcast_to(weights((heads,), (h,))[:, None, :], shape)
            bound = contract(weights((rows,), (i,)), entry).reshape(shape)
            return [head, bound, contract(weights(self.dims[2:], (c,)), value).reshape(shape)]

        def mixed() -> list[Ext]:
            head, bound, value = (table.reshape(-1, 2) for table in mixing())
            return [dot(multiply_ext(head, bound), value)]

        (sums,) = party.exchange("attention: mixed", mixed, 1)
        (other, j), value = party.sumcheck(
            "attention: mixed", (heads, rows), sums, mixing, [(ONE, (0, 1, 2))]
        )
        expected = eq_within(heads, h, other) * ones(rows, j)
        expected = expected * party.value(self.entry, (other, i, j))
        expected = expected * party.value(self.value, (j, other, c))
        party.require_equal("attention: mixed", value, expected)

        low, along = party.value(self.low.value, point), ones(self.dims[2], c)
        dividend = sums + party.value(self.half.value, (h, i)) * along - low

        def dividing() -> list[Words]:
            flat = party.integers(self.output.value).transpose(2, 1, 0)
            flat = flat.reshape(len(flat), heads * rows)
            return [
                weights(self.rows, (h, i)).reshape(heads, rows, 2),
                to_field(party.integers(self.total)),
                contract(weights(self.dims[2:], (c,)), flat).reshape(heads, rows, 2),
            ]

        (g, t), value = party.sumcheck(
            "attention: output", self.rows, dividend, dividing, [(ONE, (0, 1, 2))]
        )
        quotient = eq_within(heads, h, g) * eq_within(rows, i, t)
        quotient = quotient * party.value(self.total, (g, t))
        quotient = quotient * party.value(self.output.value, (t, g, c))
        party.require_equal("attention: output", value, quotient)
        limit = (party.value(self.total, (h, i)) - ones_at(self.rows, (h, i))) * along
        high = party.value(self.high.value, point)
        party.require_equal("attention: output remainder", low + high, limit)

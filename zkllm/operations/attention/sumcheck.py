"""Causal attention of all heads as equations: scores, maxima, exponentials, mixing.

They are those of protocol.md, section 10. q, k, v are [T, h, d_head]; cells of one score are
columns of dims [h, T, T]. Above the diagonal there is nothing to attend to: e and y are zero there,
and what the other columns hold is multiplied by a mask that the verifier evaluates itself.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from zkllm import integers
from zkllm.engines.sumcheck import equations
from zkllm.engines.sumcheck.equations import Scope
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
from zkllm.engines.sumcheck.plan import Lookup, Windowed
from zkllm.engines.sumcheck.tensors import Tensor
from zkllm.engines.sumcheck.windows import bits_of, require_no_wrap
from zkllm.engines.sumcheck.witness import Witness
from zkllm.operations.attention import exact
from zkllm.operations.attention.exact import AttentionStep
from zkllm.tensors import IntArray


class Equations(equations.Equations):
    """The output o = round(Σ_j e_j·v_j / S), S = Σ e, of scores s = round(q·k / 2^sh).

    e = EXP[min(m - s, cap)] with m the largest score of a row.
    """

    def __init__(self, step: AttentionStep, scope: Scope) -> None:
        name, plan, n = step.name, scope.plan, step.numbers
        table = self.table = scope.table(n.exp)  # [cap + 1]
        self.name, self.shift, self.cap = name, n.shift, len(table) - 1
        rows, heads, size = scope.rows, step.heads, step.size
        self.cells: Dims = (heads, rows, rows)
        self.rows: Dims = (heads, rows)
        self.dims: Dims = (rows, heads, size)
        query, key, value = (scope.read(x, self.dims) for x in step.reads)
        self.query, self.key, self.value = query, key, value  # q, k, v [T, h, d_head]
        self.maximum = plan.signed(f"{name}: maximum", self.rows, n.score)  # m [h, T]
        self.index = plan.column(f"{name}: index", self.cells)  # [h, T, T]
        self.entry = plan.column(f"{name}: exponential", self.cells)  # e [h, T, T]
        plan.lookups.append(
            Lookup(plan.named_table("exp", table), self.index, self.entry, causal=True)
        )
        width = bits_of(2 * n.score)
        self.excess = plan.unsigned(f"{name}: excess", self.cells, width)  # [h, T, T]
        self.marker = plan.column(f"{name}: marks a maximum", self.cells)  # [h, T, T]
        self.rest: Windowed | None = None  # r [h, T, T]
        if self.shift:
            self.rest = plan.unsigned(f"{name}: score remainder", self.cells, self.shift)
        largest = rows * int(table.max())
        bits = bits_of(largest)
        self.total = plan.column(f"{name}: total", self.rows)  # S [h, T]
        self.half = plan.unsigned(f"{name}: half of total", self.rows, bits)  # [h, T]
        self.odd = plan.unsigned(f"{name}: total is odd", self.rows, 1)  # [h, T]
        # o and what is left of it, [T, h, d_head]
        self.output = scope.write(step.writes, f"{name}: output", self.dims, n.output)
        self.low = plan.unsigned(f"{name}: output remainder", self.dims, bits)
        self.high = plan.unsigned(f"{name}: output remainder complement", self.dims, bits)
        score = self.maximum.largest + self.cap + self.excess.largest
        products = size * query.largest * key.largest
        require_no_wrap(f"{name}: score", products, (score + 2) << self.shift)
        require_no_wrap(f"{name}: total", largest, 4 << bits)
        require_no_wrap(
            f"{name}: output", largest * value.largest, (self.output.largest + 4) << bits
        )

    def fill(self, witness: Witness, given: Sequence[IntArray]) -> IntArray:
        heads = [x.transpose(1, 0, 2) for x in given]  # q, k, v [h, T, d_head]
        attended = exact.attention(*heads, shift=self.shift, table=self.table)
        causal = np.tri(self.rows[1], dtype=bool)  # [T, T]
        distance = np.where(causal, attended.maximum[..., None] - attended.score, 0)  # [h, T, T]
        index = np.minimum(distance, self.cap)  # [h, T, T]
        witness.store_number(self.maximum, attended.maximum)
        witness.store(self.index, index)
        witness.store(self.entry, attended.exponential)
        witness.store_number(self.excess, distance - index)
        # The first maximum of each row: any one would do, and places above the diagonal do not.
        first = np.argmax(np.where(causal, distance == 0, False), axis=-1)  # [h, T]
        marker = np.zeros(self.cells, dtype=np.int64)  # [h, T, T]
        np.put_along_axis(marker, first[..., None], 1, axis=-1)
        witness.store(self.marker, marker)
        if self.rest is not None:
            products = integers.matmul(heads[0], heads[1].swapaxes(-1, -2))  # [h, T, T]
            rest = (products + (1 << self.shift >> 1)) & ((1 << self.shift) - 1)
            witness.store_number(self.rest, np.where(causal, rest, 0))
        witness.store(self.total, attended.total)
        witness.store_number(self.half, attended.total // 2)
        witness.store_number(self.odd, attended.total % 2)
        output = attended.output.transpose(1, 0, 2)  # [T, h, d_head]
        divisor = attended.total.T[:, :, None]  # [T, h, 1]
        mixed = integers.matmul(attended.exponential, heads[2]).transpose(1, 0, 2)  # [T, h, d_head]
        low = mixed + divisor // 2 - output * divisor  # [T, h, d_head]
        witness.store_number(self.low, low)
        witness.store_number(self.high, divisor - 1 - low)
        return output

    def check(self, party: Party) -> None:
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
        point = party.point(f"{self.name}: cells", self.cells)
        factor = party.challenge(f"{self.name}: factor", 4)
        _, second, third, fourth, fifth = powers(factor, 5)

        def tables() -> list[Words]:
            rows = self.cells[1]
            every = weights(self.cells, point).reshape(*self.cells, 2)
            inside = every * np.tri(rows, dtype=np.uint64)[None, :, :, None]
            index, excess = party.integers(self.index), party.integers(self.excess.value)
            score = party.integers(self.maximum.value)[:, :, None] - index - excess  # [h, T, T]
            line = (score << self.shift) - (1 << self.shift >> 1) - self._products(party)
            if self.rest is not None:
                line = line + party.integers(self.rest.value)
            marker = party.integers(self.marker)  # [h, T, T]
            outside = add(
                multiply_ext(as_ext(to_field(party.integers(self.entry))), fourth.to_words()),
                multiply_ext(as_ext(to_field(marker)), fifth.to_words()),
            )
            columns = [to_field(x) for x in (line, index, excess, marker)]
            return [inside, subtract(every, inside), *columns, outside]

        at, value = party.sumcheck(
            f"{self.name}: cells",
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
            f"{self.name}: product", lambda: [value_at(self._products(party), at)], 1
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
        party.require_equal(f"{self.name}: cells", value, expected)
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
        q, k = (x.integers(party).transpose(1, 0, 2) for x in (self.query, self.key))
        return integers.matmul(q, k.swapaxes(-1, -2))

    def _check_products(self, party: Party, at: Point, product: Ext) -> None:
        """(6) The products at (h, i, j) are Σ_c q(i, h, c)·k(j, h, c)."""
        rows, heads, size = self.dims
        h, i, j = at

        def tables() -> list[Words]:
            def bound(x: Tensor, r: Coordinates) -> Words:
                flat = x.integers(party).reshape(rows, heads * size)  # [T, h·d_head]
                return contract(weights((rows,), (r,)), flat).reshape(heads, size, 2)

            head = np.broadcast_to(weights((heads,), (h,))[:, None, :], (heads, size, 2))
            return [head, bound(self.query, i), bound(self.key, j)]

        (other, c), value = party.sumcheck(
            f"{self.name}: products", (heads, size), product, tables, [(ONE, (0, 1, 2))]
        )
        expected = eq_within(heads, h, other) * ones(size, c)
        expected = expected * self.query.at(party, (i, other, c))
        expected = expected * self.key.at(party, (j, other, c))
        party.require_equal(f"{self.name}: products", value, expected)

    def _check_rows(self, party: Party) -> None:
        """(7) Σ_j marker = 1, (8) Σ_j exponential = total, (9) total = 2·half + odd.

        With (3) a marker that is not zero stands at a maximum, and by (7) there is one: it need
        not be 0 or 1. Where all variables of j are 1/2, eq(j, ·) is 2^-k for every j.
        """
        k = variables(self.cells[2])
        h, i = point = party.point(f"{self.name}: rows", self.rows)
        middle = (h, i, (HALF,) * k)
        marked = party.value(self.marker, middle) * (1 << k)
        expected = ones_at(self.rows, point)
        party.require_equal(f"{self.name}: one maximum", marked, expected)
        summed = party.value(self.entry, middle) * (1 << k)
        total = party.value(self.total, point)
        party.require_equal(f"{self.name}: total", summed, total)
        halves = self.half.value * 2 + self.odd.value - self.total
        party.require_zero(f"{self.name}: half of total", halves, point)

    def _check_output(self, party: Party) -> None:
        """(10) Σ_j e_j·v_j + half = o·S + low, (11) low + high = S - 1."""
        rows, heads, _ = self.dims
        i, h, c = point = party.point(f"{self.name}: output", self.dims)

        @functools.cache
        def mixing() -> list[Words]:
            entry = party.integers(self.entry).transpose(1, 0, 2).reshape(rows, heads * rows)
            value = self.value.integers(party).transpose(2, 1, 0)
            value = value.reshape(len(value), heads * rows)
            shape = (heads, rows, 2)
            head = np.broadcast_to(weights((heads,), (h,))[:, None, :], shape)
            bound = contract(weights((rows,), (i,)), entry).reshape(shape)
            return [head, bound, contract(weights(self.dims[2:], (c,)), value).reshape(shape)]

        def mixed() -> list[Ext]:
            head, bound, value = (table.reshape(-1, 2) for table in mixing())
            return [dot(multiply_ext(head, bound), value)]

        (sums,) = party.exchange(f"{self.name}: mixed", mixed, 1)
        (other, j), value = party.sumcheck(
            f"{self.name}: mixed", (heads, rows), sums, mixing, [(ONE, (0, 1, 2))]
        )
        expected = eq_within(heads, h, other) * ones(rows, j)
        expected = expected * party.value(self.entry, (other, i, j))
        expected = expected * self.value.at(party, (j, other, c))
        party.require_equal(f"{self.name}: mixed", value, expected)

        low, along = party.value(self.low.value, point), ones(self.dims[2], c)
        dividend = sums + party.value(self.half.value, (h, i)) * along - low

        def dividing() -> list[Words]:
            flat = self.output.integers(party).transpose(2, 1, 0)  # [d_head, h, T]
            flat = flat.reshape(len(flat), heads * rows)
            return [
                weights(self.rows, (h, i)).reshape(heads, rows, 2),
                to_field(party.integers(self.total)),  # [h, T]
                contract(weights(self.dims[2:], (c,)), flat).reshape(heads, rows, 2),
            ]

        (g, t), value = party.sumcheck(
            f"{self.name}: output", self.rows, dividend, dividing, [(ONE, (0, 1, 2))]
        )
        quotient = eq_within(heads, h, g) * eq_within(rows, i, t)
        quotient = quotient * party.value(self.total, (g, t))
        quotient = quotient * self.output.at(party, (t, g, c))
        party.require_equal(f"{self.name}: output", value, quotient)
        limit = (party.value(self.total, (h, i)) - ones_at(self.rows, (h, i))) * along
        high = party.value(self.high.value, point)
        party.require_equal(f"{self.name}: output remainder", low + high, limit)

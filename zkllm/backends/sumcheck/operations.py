"""The operations of the exact model as equations: declared, filled in by the prover, checked.

Each class declares columns and lookups when it is made, `fill` gives them values, and `check` is
the protocol for both parties. An equation that is linear in columns costs no sumcheck: both sides
are polynomials, compared at a random point. `docs/protocol.md` numbers the equations.
"""

from __future__ import annotations

import math

import numpy as np

from zkllm import integers
from zkllm.engines.sumcheck.field import (
    MODULUS,
    ONE,
    ZERO,
    Ext,
    Words,
    as_ext,
    contract,
    dot,
    powers,
    to_field,
    total,
)
from zkllm.engines.sumcheck.multilinear import (
    Coordinates,
    Dims,
    Point,
    eq_within,
    ones,
    ones_at,
    size,
    weights,
)
from zkllm.engines.sumcheck.party import Party, Weights
from zkllm.engines.sumcheck.plan import Combination, Lookup, Number, Plan
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import UnsupportedModel
from zkllm.operations.linear.exact import Linear as LinearNumbers
from zkllm.operations.norm import exact as normalising
from zkllm.tensors import IntArray


def require_no_wrap(name: str, *magnitudes: int) -> None:
    """Raises `UnsupportedModel` unless an equation of these magnitudes holds over the integers.

    Magnitudes are those of windows, to which the prover is confined, for what the prover chooses,
    and proven bounds for what is determined before.
    """
    largest = sum(magnitudes)
    if largest >= MODULUS:
        raise UnsupportedModel(
            f"sumcheck: {name} could wrap: its sides differ by up to 2^{largest.bit_length() - 1}, "
            "the field has fewer than 2^64 elements"
        )


def bits_of(largest: int) -> int:
    """Bits of a window that holds 0 .. `largest`; one at least."""
    return max(1, largest.bit_length())


class Remainder:
    """Integers in 0 .. divisor - 1."""

    def __init__(self, plan: Plan, name: str, dims: Dims, divisor: int) -> None:
        self.name = name
        self.divisor = divisor
        self.value = Combination(dims, {})
        self.number: Number | None = None
        self.complement: Number | None = None
        if divisor == 1:
            return
        bits = (divisor - 1).bit_length()
        self.number = plan.unsigned(name, dims, bits)
        self.value = self.number.value
        if divisor == 1 << bits:
            return
        # A window is wider than the divisor: divisor - 1 - r must lie in one as well.
        rest = -self.value + (divisor - 1)
        if len(self.value.terms) == 1:
            plan.lookups.append(Lookup(plan.range_table(bits), rest))
        else:
            self.complement = plan.unsigned(f"{name} complement", dims, bits)

    def fill(self, witness: Witness, values: IntArray) -> None:
        if self.number is not None:
            witness.store_number(self.number, values)
        if self.complement is not None:
            witness.store_number(self.complement, self.divisor - 1 - values)

    def check(self, party: Party, point: Point) -> None:
        if self.complement is not None:
            both = self.value + self.complement.value - (self.divisor - 1)
            party.require_zero(f"{self.name}: below the divisor", both, point)


class Norm:
    """LayerNorm of public rows x [n, d]."""

    def __init__(
        self, plan: Plan, name: str, rows: int, width: int, bound: int, n: normalising.Norm
    ) -> None:
        self.name, self.constants, self.dims = name, n, (rows, width)
        self.divisor = width << n.shift
        column, dims = (rows,), (rows, width)
        bits = bits_of(math.isqrt(n.variance))
        self.centred = plan.signed(f"{name}: centred", dims, n.centred)
        self.rest = Remainder(plan, f"{name}: centred remainder", dims, self.divisor)
        self.root = plan.unsigned(f"{name}: root", column, bits)
        self.below = plan.unsigned(f"{name}: below", column, bits + 1)
        self.above = plan.unsigned(f"{name}: above", column, bits + 1)
        self.half = plan.unsigned(f"{name}: half of sigma", column, bits)
        self.odd = plan.unsigned(f"{name}: sigma is odd", column, 1)
        self.output = plan.signed(f"{name}: output", dims, n.output)
        self.low = plan.unsigned(f"{name}: output remainder", dims, bits)
        self.high = plan.unsigned(f"{name}: output remainder complement", dims, bits)
        require_no_wrap(
            f"{name}: c",
            2 * width * bound,
            self.divisor * (self.centred.largest + 3),
        )
        require_no_wrap(f"{name}: V", n.variance, 1 << 2 * bits, 1 << (bits + 2))
        require_no_wrap(
            f"{name}: output",
            n.centred * n.gain,
            self.output.largest << bits,
            1 << (bits + 2),
        )

    def fill(self, witness: Witness, x: IntArray) -> IntArray:
        n, (_, width) = self.constants, self.dims
        values = normalising.layer_norm(x, shift=n.shift, epsilon=n.epsilon, gain=n.gain)
        root = values.sigma - 1
        below = values.variance - root * root
        shifted = width * x - x.sum(axis=1, keepdims=True) + self.divisor // 2
        witness.store_number(self.centred, values.centred)
        self.rest.fill(witness, shifted - values.centred * self.divisor)
        witness.store_number(self.root, root)
        witness.store_number(self.below, below)
        witness.store_number(self.above, 2 * root - below)
        witness.store_number(self.half, values.sigma // 2)
        witness.store_number(self.odd, values.sigma % 2)
        witness.store_number(self.output, values.output)
        sigma = values.sigma[:, None]
        low = values.centred * n.gain + sigma // 2 - values.output * sigma
        witness.store_number(self.low, low)
        witness.store_number(self.high, sigma - 1 - low)
        return values.output

    def check(self, party: Party, x: IntArray) -> None:
        n, (rows, width) = self.constants, self.dims
        point = party.point(f"{self.name}: point", self.dims)
        i, j = point
        one_row, one_column = ones(rows, i), ones(width, j)
        # (1) d·x - Σx + half = c·(d·2^t) + r
        centred, rest = party.value(self.centred.value, point), party.value(self.rest.value, point)

        def shifted() -> Ext:
            inner = contract(weights((rows,), (i,)), x)
            spread = dot(inner, weights((width,), (j,))) * width
            spread = spread - Ext.from_words(total(inner)) * one_column
            return spread + one_row * one_column * (self.divisor // 2)

        right = centred * self.divisor + rest
        party.require_equal(f"{self.name}: centred", party.held(shifted), right)
        self.rest.check(party, point)
        # (2) Σ c² + E = q² + below
        squares = self._check_squares(party, i)
        below = party.value(self.below.value, (i,))
        variance = squares + below - one_row * n.epsilon

        def square_tables() -> list[Words]:
            return [
                np.broadcast_to(weights((rows,), (i,))[:, None, :], (rows, width, 2)),
                to_field(party.integers(self.centred.value)),
            ]

        at, value = party.sumcheck(
            f"{self.name}: variance", self.dims, variance, square_tables, [(ONE, (0, 1, 1))]
        )
        c = party.value(self.centred.value, at)
        expected = eq_within(rows, i, at[0]) * ones(width, at[1]) * c * c
        party.require_equal(f"{self.name}: variance", value, expected)
        # (3) 2q = below + above, (4) q + 1 = 2·half + odd
        root, half = self.root.value, self.half.value
        party.require_zero(
            f"{self.name}: root", root * 2 - self.below.value - self.above.value, (i,)
        )
        party.require_zero(f"{self.name}: sigma", root + 1 - half * 2 - self.odd.value, (i,))
        # (5) c·K + half = x̂·σ + low, (6) low + high = q
        low = party.value(self.low.value, point)
        product = centred * n.gain + party.value(half, (i,)) * one_column - low
        self._check_output(party, i, j, product)
        high = party.value(self.high.value, point)
        limit = party.value(root, (i,)) * one_column
        party.require_equal(f"{self.name}: output remainder", low + high, limit)

    def _check_squares(self, party: Party, i: Coordinates) -> Ext:
        """Σ eq(·, i)·q²."""
        (rows, _), root = self.dims, self.root.value

        def tables() -> list[Words]:
            return [weights((rows,), (i,)), to_field(party.integers(root))]

        def squares() -> list[Ext]:
            values = party.integers(root)
            return [dot(weights((rows,), (i,)), as_ext(to_field(values * values)))]

        (claim,) = party.exchange(f"{self.name}: squared root", squares, 1)
        at, value = party.sumcheck(
            f"{self.name}: squared root", (rows,), claim, tables, [(ONE, (0, 1, 1))]
        )
        q = party.value(root, at)
        expected = eq_within(rows, i, at[0]) * q * q
        party.require_equal(f"{self.name}: squared root", value, expected)
        return claim

    def _check_output(self, party: Party, i: Coordinates, j: Coordinates, product: Ext) -> None:
        """Σ eq(·, i)·σ·x̂(·, j) = `product`."""
        (rows, width), sigma = self.dims, self.root.value + 1

        def tables() -> list[Words]:
            output = party.integers(self.output.value)
            return [
                weights((rows,), (i,)),
                to_field(party.integers(sigma)),
                contract(weights((width,), (j,)), output.T),
            ]

        (at,), value = party.sumcheck(
            f"{self.name}: output", (rows,), product, tables, [(ONE, (0, 1, 2))]
        )
        factor = party.value(sigma, (at,)) * party.value(self.output.value, (at, j))
        expected = eq_within(rows, i, at) * factor
        party.require_equal(f"{self.name}: output", value, expected)


class Linear:
    """y·2^s + r = x·W + b + half of committed x [n, *inner]; y [n, *outer] is a caller's claim."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        x: Combination,
        outer: Dims,
        layer: LinearNumbers,
        largest: int,
    ) -> None:
        """`largest` is the largest magnitude of y to which the prover is confined."""
        self.name, self.x, self.layer = name, x, layer
        self.dims = (x.dims[0], *outer)
        plan.weight(layer.weight, (*x.dims[1:], *outer))
        plan.weight(layer.bias, outer)
        self.rest = Remainder(plan, f"{name}: remainder", self.dims, 1 << layer.shift)
        require_no_wrap(name, layer.accumulator, (largest + 2) << layer.shift)

    def fill(self, witness: Witness, weights: Weights, x: IntArray) -> IntArray:
        """The quotient, shape [n, *outer], of x [n, *inner]."""
        s, weight, bias = self.layer.shift, self.layer.weight, self.layer.bias
        sums = integers.matmul(x.reshape(len(x), -1), weights.integers(weight))
        sums = sums + weights.integers(bias) + ((1 << s) >> 1)
        y = sums >> s
        self.rest.fill(witness, (sums - (y << s)).reshape(self.dims))
        return y.reshape(self.dims)

    def check(self, party: Party, point: Point, y: Ext) -> None:
        """`y` is the value of the quotient at `point`, which was drawn after the commitment."""
        outer, inner = self.dims[1:], self.x.dims[1:]
        half = (1 << self.layer.shift) >> 1
        sums = y * (1 << self.layer.shift) + party.value(self.rest.value, point)
        sums = sums - ones_at(self.dims, point) * half
        sums = sums - ones(self.dims[0], point[0]) * party.weight(self.layer.bias, point[1:])

        def tables() -> list[Words]:
            x = party.integers(self.x).reshape(self.dims[0], -1)
            weight = party.tensor(self.layer.weight).reshape(size(inner), size(outer))
            return [
                contract(weights(self.dims[:1], point[:1]), x).reshape(*inner, 2),
                contract(weights(outer, point[1:]), weight.T).reshape(*inner, 2),
            ]

        at, value = party.sumcheck(self.name, inner, sums, tables, [(ONE, (0, 1))])
        x = party.value(self.x, (point[0], *at))
        weight = party.weight(self.layer.weight, (*at, *point[1:]))
        party.require_equal(self.name, value, x * weight)


class Gelu:
    """g = max(h, 0) - D[min(|h|, cap)], by sign and magnitude."""

    def __init__(self, plan: Plan, name: str, dims: Dims, bound: int, table: IntArray) -> None:
        self.name, self.dims, self.table, self.cap = name, dims, table, len(table) - 1
        self.sign = plan.column(f"{name}: sign", dims)
        self.positive = plan.column(f"{name}: positive part", dims)
        self.index = plan.column(f"{name}: index", dims)
        self.entry = plan.column(f"{name}: entry", dims)
        plan.lookups.append(Lookup(plan.named_table(name, table), self.index, self.entry))
        self.excess = plan.unsigned(f"{name}: excess", dims, bits_of(bound))
        magnitude = self.index + self.excess.value
        self.input = self.positive * 2 - magnitude
        self.output = self.positive - self.entry
        self.largest = self.cap + self.excess.largest

    def fill(self, witness: Witness, hidden: IntArray) -> IntArray:
        magnitude = np.abs(hidden)
        index = np.minimum(magnitude, self.cap)
        witness.store(self.sign, (hidden < 0).astype(np.int64))
        witness.store(self.positive, np.maximum(hidden, 0))
        witness.store(self.index, index)
        witness.store(self.entry, self.table[index])
        witness.store_number(self.excess, magnitude - index)
        return np.maximum(hidden, 0) - self.table[index]

    def check(self, party: Party) -> None:
        """`positive = (1 - sign)·magnitude, sign² = sign, excess·(cap - index) = 0`."""
        point = party.point(f"{self.name}: point", self.dims)
        factor = party.challenge(f"{self.name}: factor", 2)
        _, second, third = powers(factor, 3)
        columns = [self.sign, self.positive, self.index, self.excess.value]

        def tables() -> list[Words]:
            eq = weights(self.dims, point).reshape(*self.dims, 2)
            return [eq, *(to_field(party.integers(column)) for column in columns)]

        at, value = party.sumcheck(
            self.name,
            self.dims,
            ZERO,
            tables,
            [
                (ONE, (0, 2)),
                (-ONE, (0, 3)),
                (-ONE, (0, 4)),
                (ONE, (0, 1, 3)),
                (ONE, (0, 1, 4)),
                (second, (0, 1, 1)),
                (-second, (0, 1)),
                (third * self.cap, (0, 4)),
                (-third, (0, 4, 3)),
            ],
        )
        sign, positive, index, excess = (party.value(column, at) for column in columns)
        magnitude = index + excess
        inner = positive - magnitude + sign * magnitude + second * (sign * sign - sign)
        # The constant cap needs no extension of ones: excess is zero where nothing exists.
        inner = inner + third * excess * (self.cap - index)
        weight = ONE
        for n, r, s in zip(self.dims, point, at, strict=True):
            weight = weight * eq_within(n, r, s)
        party.require_equal(self.name, value, weight * inner)

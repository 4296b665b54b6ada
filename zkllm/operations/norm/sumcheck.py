"""LayerNorm as equations (protocol.md, section 10)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zkllm.engines.sumcheck import equations
from zkllm.engines.sumcheck.equations import Scope
from zkllm.engines.sumcheck.field import HALF, ONE, Ext, Words, as_ext, contract, dot, to_field
from zkllm.engines.sumcheck.multilinear import Coordinates, eq_within, ones, variables, weights
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.windows import Remainder, bits_of, require_no_wrap
from zkllm.engines.sumcheck.witness import Witness
from zkllm.operations.norm import exact
from zkllm.operations.norm.exact import NormStep
from zkllm.tensors import IntArray


class Equations(equations.Equations):
    """c, q, σ and x̂ of rows x [n, d]."""

    def __init__(self, step: NormStep, scope: Scope) -> None:
        self.name, self.constants = step.name, step.numbers
        plan, name, n = scope.plan, self.name, self.constants
        rows, width = dims = self.dims = scope.rows, step.width
        self.x = scope.read(step.reads[0], dims)  # [n, d]
        column = (rows,)
        self.divisor = width << n.shift
        bits = bits_of(math.isqrt(n.variance))
        self.centred = plan.signed(f"{name}: centred", dims, n.centred)  # c [n, d]
        self.rest = Remainder(plan, f"{name}: centred remainder", dims, self.divisor)  # r [n, d]
        self.root = plan.unsigned(f"{name}: root", column, bits)  # q [n]
        self.below = plan.unsigned(f"{name}: below", column, bits + 1)  # V - q² [n]
        self.above = plan.unsigned(f"{name}: above", column, bits + 1)  # 2q - below [n]
        self.half = plan.unsigned(f"{name}: half of sigma", column, bits)  # [n]
        self.odd = plan.unsigned(f"{name}: sigma is odd", column, 1)  # [n]
        self.output = scope.write(step.writes, f"{name}: output", dims, n.output)  # x̂ [n, d]
        self.low = plan.unsigned(f"{name}: output remainder", dims, bits)  # [n, d]
        self.high = plan.unsigned(f"{name}: output remainder complement", dims, bits)  # [n, d]
        require_no_wrap(
            f"{name}: c",
            2 * width * self.x.largest,
            self.divisor * (self.centred.largest + 3),
        )
        require_no_wrap(f"{name}: V", n.variance, 1 << 2 * bits, 1 << (bits + 2))
        require_no_wrap(
            f"{name}: output",
            n.centred * n.gain,
            self.output.largest << bits,
            1 << (bits + 2),
        )

    def fill(self, witness: Witness, given: Sequence[IntArray]) -> IntArray:
        n, (_, width), (x,) = self.constants, self.dims, given
        values = exact.layer_norm(x, shift=n.shift, epsilon=n.epsilon, gain=n.gain)
        root = values.sigma - 1  # [n]
        below = values.variance - root * root  # [n]
        shifted = width * x - x.sum(axis=1, keepdims=True) + self.divisor // 2  # [n, d]
        witness.store_number(self.centred, values.centred)
        self.rest.fill(witness, shifted - values.centred * self.divisor)
        witness.store_number(self.root, root)
        witness.store_number(self.below, below)
        witness.store_number(self.above, 2 * root - below)
        witness.store_number(self.half, values.sigma // 2)
        witness.store_number(self.odd, values.sigma % 2)
        sigma = values.sigma[:, None]  # [n, 1]
        low = values.centred * n.gain + sigma // 2 - values.output * sigma  # [n, d]
        witness.store_number(self.low, low)
        witness.store_number(self.high, sigma - 1 - low)
        return values.output

    def check(self, party: Party) -> None:
        n, (rows, width) = self.constants, self.dims
        i, j = point = party.point(f"{self.name}: point", self.dims)
        one_row, one_column = ones(rows, i), ones(width, j)
        # (1) d·x - Σx + half = c·(d·2^t) + r; where all variables of j are 1/2, eq(j, ·) is 2^-k
        centred, rest = party.value(self.centred.value, point), party.value(self.rest.value, point)
        k = variables(width)
        summed = self.x.at(party, (i, (HALF,) * k)) * (1 << k)
        shifted = self.x.at(party, point) * width - summed * one_column
        shifted = shifted + one_row * one_column * (self.divisor // 2)
        party.require_equal(f"{self.name}: centred", shifted, centred * self.divisor + rest)
        self.rest.check(party, point)
        # (2) Σ c² + E = q² + below
        squares = self._check_squares(party, i)
        below = party.value(self.below.value, (i,))
        variance = squares + below - one_row * n.epsilon

        def square_tables() -> list[Words]:
            return [
                np.broadcast_to(weights((rows,), (i,))[:, None, :], (rows, width, 2)),
                to_field(party.integers(self.centred.value)),  # [n, d]
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
            return [weights((rows,), (i,)), to_field(party.integers(root))]  # [n, 2], [n]

        def squares() -> list[Ext]:
            values = party.integers(root)  # [n]
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
            output = self.output.integers(party)  # [n, d]
            return [
                weights((rows,), (i,)),  # [n, 2]
                to_field(party.integers(sigma)),  # [n]
                contract(weights((width,), (j,)), output.T),  # [n, 2]
            ]

        (at,), value = party.sumcheck(
            f"{self.name}: output", (rows,), product, tables, [(ONE, (0, 1, 2))]
        )
        factor = party.value(sigma, (at,)) * self.output.at(party, (at, j))
        expected = eq_within(rows, i, at) * factor
        party.require_equal(f"{self.name}: output", value, expected)

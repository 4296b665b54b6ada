"""GELU and ReLU as equations, by sign and magnitude (protocol.md, section 10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zkllm.engines.sumcheck import equations
from zkllm.engines.sumcheck.equations import Scope, require_same
from zkllm.engines.sumcheck.field import ONE, ZERO, Words, powers, to_field
from zkllm.engines.sumcheck.multilinear import eq_within, weights
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Lookup
from zkllm.engines.sumcheck.tensors import Committed
from zkllm.engines.sumcheck.windows import bits_of, require_no_wrap
from zkllm.engines.sumcheck.witness import Witness
from zkllm.operations.activation.exact import ActivationStep
from zkllm.tensors import IntArray


class Equations(equations.Equations):
    """g = max(h, 0) - D[min(|h|, cap)] of h [n, *dims].

    h and g are made of this step's columns; it gives them this form where they have none.
    """

    def __init__(self, step: ActivationStep, scope: Scope) -> None:
        name, plan = step.name, scope.plan
        dims = self.dims = (scope.rows, *step.dims)
        table = self.table = scope.table(step.numbers.table)  # [cap + 1]
        self.name, self.cap = name, len(table) - 1
        # all [n, *dims]
        self.sign = plan.column(f"{name}: sign", dims)
        self.positive = plan.column(f"{name}: positive part", dims)
        self.index = plan.column(f"{name}: index", dims)
        self.entry = plan.column(f"{name}: entry", dims)
        plan.lookups.append(Lookup(plan.named_table(name, table), self.index, self.entry))
        self.excess = plan.unsigned(f"{name}: excess", dims, bits_of(step.numbers.input))
        magnitude = self.index + self.excess.value
        largest = self.cap + self.excess.largest
        self.input = Committed(self.positive * 2 - magnitude, largest)
        self.output = Committed(self.positive - self.entry, largest)
        self.x = scope.give(step.reads[0], self.input)
        self.y = scope.give(step.writes, self.output)
        require_no_wrap(f"{name}: input", self.x.largest, largest)
        require_no_wrap(f"{name}: output", self.y.largest, largest)

    def fill(self, witness: Witness, given: Sequence[IntArray]) -> IntArray:
        (x,) = given
        magnitude = np.abs(x)  # [n, *dims]
        index = np.minimum(magnitude, self.cap)
        positive, entry = np.maximum(x, 0), self.table[index]
        witness.store(self.sign, (x < 0).astype(np.int64))
        witness.store(self.positive, positive)
        witness.store(self.index, index)
        witness.store(self.entry, entry)
        witness.store_number(self.excess, magnitude - index)
        return np.asarray(positive - entry)

    def check(self, party: Party) -> None:
        """`positive = (1 - sign)·magnitude, sign² = sign, excess·(cap - index) = 0`."""
        point = party.point(f"{self.name}: point", self.dims)
        factor = party.challenge(f"{self.name}: factor", 2)
        _, second, third = powers(factor, 3)
        columns = [self.sign, self.positive, self.index, self.excess.value]

        def tables() -> list[Words]:
            eq = weights(self.dims, point).reshape(*self.dims, 2)  # [n, *dims, 2]
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
        require_same(party, f"{self.name}: input", self.x, self.input)
        require_same(party, f"{self.name}: output", self.y, self.output)

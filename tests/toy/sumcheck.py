"""Squares as equations of a sumcheck proof."""

from __future__ import annotations

from collections.abc import Sequence

from tests.toy.exact import SquareStep, square
from zkllm.engines.sumcheck import equations
from zkllm.engines.sumcheck.equations import Scope
from zkllm.engines.sumcheck.field import ONE, Words, to_field
from zkllm.engines.sumcheck.multilinear import eq_within, weights
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.windows import require_no_wrap
from zkllm.engines.sumcheck.witness import Witness
from zkllm.tensors import IntArray


class Equations(equations.Equations):
    """y = x², entry by entry."""

    def __init__(self, step: SquareStep, scope: Scope) -> None:
        self.name = step.name
        self.dims = (scope.rows, *step.dims)
        self.x = scope.read(step.reads[0], self.dims)  # [n, *dims]
        output = step.numbers.output
        self.y = scope.write(step.writes, f"{step.name}: output", self.dims, output)  # [n, *dims]
        require_no_wrap(step.name, self.x.largest**2, self.y.largest)

    def fill(self, witness: Witness, given: Sequence[IntArray]) -> IntArray:
        return square(given[0])

    def check(self, party: Party) -> None:
        """Σ eq(·, point)·x² = y(point)."""
        point = party.point(f"{self.name}: point", self.dims)
        y = self.y.at(party, point)

        def tables() -> list[Words]:
            across = weights(self.dims, point).reshape(*self.dims, 2)
            return [across, to_field(self.x.integers(party))]

        at, value = party.sumcheck(self.name, self.dims, y, tables, [(ONE, (0, 1, 1))])
        x = self.x.at(party, at)
        expected = x * x
        for n, r, s in zip(self.dims, point, at, strict=True):
            expected = expected * eq_within(n, r, s)
        party.require_equal(self.name, value, expected)

"""A linear layer with rounding as equations (protocol.md, section 10)."""

from __future__ import annotations

from collections.abc import Sequence

from zkllm import integers
from zkllm.engines.sumcheck import equations
from zkllm.engines.sumcheck.equations import Scope
from zkllm.engines.sumcheck.field import ONE, Words, contract
from zkllm.engines.sumcheck.multilinear import ones, ones_at, size, weights
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.windows import Remainder, require_no_wrap
from zkllm.engines.sumcheck.witness import Witness
from zkllm.operations.linear.exact import LinearStep
from zkllm.tensors import IntArray


class Equations(equations.Equations):
    """y·2^s + r = x·W + b + half of x [n, *inner] and y [n, *outer]."""

    def __init__(self, step: LinearStep, scope: Scope) -> None:
        self.name, self.layer, self.weights = step.name, step.numbers, scope.weights
        layer, self.inner, self.outer = step.numbers, step.inner, step.outer
        self.x = scope.read(step.reads[0], (scope.rows, *step.inner))  # [n, *inner]
        self.dims = (scope.rows, *step.outer)
        self.y = scope.write(step.writes, step.name, self.dims, layer.output)  # [n, *outer]
        scope.plan.weight(layer.weight, (*step.inner, *step.outer))
        scope.plan.weight(layer.bias, step.outer)
        self.rest = Remainder(
            scope.plan, f"{step.name}: remainder", self.dims, 1 << layer.shift
        )  # [n, *outer]
        require_no_wrap(step.name, layer.accumulator, (self.y.largest + 2) << layer.shift)

    def fill(self, witness: Witness, given: Sequence[IntArray]) -> IntArray:
        s, (x,) = self.layer.shift, given
        weight = self.weights.integers(self.layer.weight)  # [Π inner, Π outer]
        bias = self.weights.integers(self.layer.bias)  # [Π outer]
        sums = integers.matmul(x.reshape(len(x), -1), weight) + bias + ((1 << s) >> 1)
        y = sums >> s  # [n, Π outer]
        self.rest.fill(witness, (sums - (y << s)).reshape(self.dims))
        return y.reshape(self.dims)

    def check(self, party: Party) -> None:
        rows, inner, outer, layer = self.dims[0], self.inner, self.outer, self.layer
        point = party.point(f"{self.name}: point", self.dims)
        half = (1 << layer.shift) >> 1
        sums = self.y.at(party, point) * (1 << layer.shift) + party.value(self.rest.value, point)
        sums = sums - ones_at(self.dims, point) * half
        sums = sums - ones(rows, point[0]) * party.weight(layer.bias, point[1:])

        def tables() -> list[Words]:
            x = self.x.integers(party).reshape(rows, -1)  # [n, Π inner]
            weight = party.tensor(layer.weight).reshape(size(inner), size(outer))
            return [
                contract(weights((rows,), point[:1]), x).reshape(*inner, 2),  # x(i, ·)
                contract(weights(outer, point[1:]), weight.T).reshape(*inner, 2),  # W(·, o)
            ]

        at, value = party.sumcheck(self.name, inner, sums, tables, [(ONE, (0, 1))])
        x = self.x.at(party, (point[0], *at))
        weight = party.weight(layer.weight, (*at, *point[1:]))
        party.require_equal(self.name, value, x * weight)

"""Section 10: operations on rows. Each declares its part of the plan, and checks it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from tests.independent.conversation import Conversation
from tests.independent.field import ZERO, Element, require, window
from tests.independent.ledger import Columns, Committed, Held
from tests.independent.plan import Combination, Plan, does_not_wrap
from tests.independent.tensors import (
    Dims,
    Point,
    all_ones,
    all_within,
    extension,
    flat,
    ones,
    within,
)

Rows = list[list[int]]


@dataclass
class Checking:
    """What a check speaks with: the prover, and the ledgers."""

    talk: Conversation
    columns: Columns
    weights: Held | Committed

    def value(self, combination: Combination, *point) -> Element:
        return self.columns.value(combination, point)

    def weight(self, name: str, *point) -> Element:
        return self.weights.value(name, point)


class Linear:
    """y·2^s + r = x·W + b + ⌊2^s / 2⌋"""

    def __init__(
        self,
        plan: Plan,
        name: str,
        numbers: dict,
        x: Combination,
        inner: Dims,
        outer: Dims,
        y_largest: int,
    ) -> None:
        self.name, self.x, self.inner, self.outer = name, x, inner, outer
        self.shift = numbers["shift"]
        self.weight = plan.weight(numbers["weight"], *inner, *outer)
        self.bias = plan.weight(numbers["bias"], *outer)
        dims = (x.dims[0], *outer)
        self.remainder, _ = plan.below(f"{name}: remainder", dims, 2**self.shift)
        does_not_wrap(numbers["accumulator"], (y_largest + 2) * 2**self.shift)

    def check(self, it: Checking, point: Point, y: Element) -> None:
        i, *o = point
        there = all_ones(self.remainder.dims, point)
        remainder = it.value(self.remainder, *point)
        bias = it.weight(self.bias, *o)
        total = y * 2**self.shift + remainder - there * (2**self.shift // 2)
        total -= ones(self.x.dims[0], i) * bias
        k, value = it.talk.sumcheck(self.name, self.inner, total, 2)
        x = it.value(self.x, i, *k)
        weight = it.weight(self.weight, *k, *o)
        require(value == x * weight, self.name)


class Norm:
    """LayerNorm of public rows x [n, d]."""

    def __init__(self, plan: Plan, name: str, numbers: dict, dims: Dims, bound: int) -> None:
        n, d = self.dims = dims
        self.name = name
        self.epsilon, self.gain = numbers["epsilon"], numbers["gain"]
        self.divisor = d * 2 ** numbers["shift"]
        w = window(isqrt(numbers["variance"]))
        self.centred = plan.signed(f"{name}: centred", dims, numbers["centred"])
        self.remainder, self.zero = plan.below(f"{name}: centred remainder", dims, self.divisor)
        self.root = plan.unsigned(f"{name}: root", (n,), w)
        self.below = plan.unsigned(f"{name}: below", (n,), w + 1)
        self.above = plan.unsigned(f"{name}: above", (n,), w + 1)
        self.half = plan.unsigned(f"{name}: half of sigma", (n,), w)
        self.odd = plan.unsigned(f"{name}: sigma is odd", (n,), 1)
        self.output = plan.signed(f"{name}: output", dims, numbers["output"])
        self.rest = plan.unsigned(f"{name}: output remainder", dims, w)
        self.rest_complement = plan.unsigned(f"{name}: output remainder complement", dims, w)
        does_not_wrap(2 * d * bound, self.divisor * (self.centred.largest + 3))
        does_not_wrap(numbers["variance"], 4**w, 2 ** (w + 2))
        does_not_wrap(numbers["centred"] * self.gain, self.output.largest * 2**w, 2 ** (w + 2))

    def check(self, it: Checking, x: Rows) -> None:
        (n, d), talk = self.dims, it.talk
        i, j = point = talk.draw_point(f"{self.name}: point", self.dims)
        centred = it.value(self.centred, i, j)
        remainder = it.value(self.remainder, i, j)
        total = extension([sum(row) for row in x], (n,), (i,)) * ones(d, j)
        half_divisor = self.divisor // 2 * all_ones(self.dims, point)
        left = d * extension(flat(x), self.dims, point) - total + half_divisor
        require(left == centred * self.divisor + remainder, f"{self.name}: (1)")
        if self.zero is not None:
            require(it.value(self.zero, i, j) == ZERO, f"{self.name}: complement")

        squared = talk.send_one(f"{self.name}: squared root")
        (u,), value = talk.sumcheck(f"{self.name}: squared root", (n,), squared, 3)
        root = it.value(self.root, u)
        require(value == within(n, i, u) * root * root, f"{self.name}: squared root")
        below = it.value(self.below, i)
        variance = squared + below - self.epsilon * ones(n, i)
        (u, m), value = talk.sumcheck(f"{self.name}: variance", self.dims, variance, 3)
        c = it.value(self.centred, u, m)
        require(value == within(n, i, u) * ones(d, m) * c * c, f"{self.name}: (2)")
        difference = it.value(2 * self.root - self.below - self.above, i)
        require(difference == ZERO, f"{self.name}: (3)")
        difference = it.value(self.root + 1 - 2 * self.half - self.odd, i)
        require(difference == ZERO, f"{self.name}: (4)")

        rest = it.value(self.rest, i, j)
        half = it.value(self.half, i)
        total = centred * self.gain + half * ones(d, j) - rest
        (u,), value = talk.sumcheck(f"{self.name}: output", (n,), total, 3)
        sigma = it.value(self.root + 1, u)
        output = it.value(self.output, u, j)
        require(value == within(n, i, u) * sigma * output, f"{self.name}: (5)")
        complement = it.value(self.rest_complement, i, j)
        root = it.value(self.root, i)
        require(rest + complement == root * ones(d, j), f"{self.name}: (6)")


class Gelu:
    """g = max(x, 0) - T[min(|x|, cap)] of x [n, m]"""

    def __init__(self, plan: Plan, name: str, table: list[int], dims: Dims, bound: int) -> None:
        self.name, self.dims, self.cap = name, dims, len(table) - 1
        self.sign = plan.column(f"{name}: sign", *dims)
        self.positive = plan.column(f"{name}: positive part", *dims)
        self.index = plan.column(f"{name}: index", *dims)
        self.entry = plan.column(f"{name}: entry", *dims)
        plan.look_up(name, table, self.index, self.entry)
        self.excess = plan.unsigned(f"{name}: excess", dims, window(bound))
        self.x = 2 * self.positive - (self.index + self.excess)
        self.g = self.positive - self.entry
        self.x_largest = self.cap + self.excess.largest

    def expression(self, phi: Element, s: Element, p: Element, u: Element, v: Element) -> Element:
        return p - (u + v) + s * (u + v) + phi * (s * s - s) + phi * phi * v * (self.cap - u)

    def check(self, it: Checking) -> None:
        r = it.talk.draw_point(f"{self.name}: point", self.dims)
        phi = it.talk.draw(f"{self.name}: factor", 2)
        y, value = it.talk.sumcheck(self.name, self.dims, ZERO, 3)
        s, p, u, v = (
            it.value(of, *y) for of in (self.sign, self.positive, self.index, self.excess)
        )
        expected = all_within(self.dims, r, y) * self.expression(phi, s, p, u, v)
        require(value == expected, self.name)

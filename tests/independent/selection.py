"""Section 10: selection from a weight by public functions, and margins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.independent.field import ZERO, Element, require, window
from tests.independent.operations import Checking
from tests.independent.plan import Combination, Plan, does_not_wrap
from tests.independent.tensors import Coordinates, dot, eq, eqs, ones, within


@dataclass
class Selector:
    """A(v) = Σ_k a_k·[v = id_k] + b·eq(v, ρ) for v < L"""

    length: int
    ids: list[int]
    factors: list[Element]
    b: Element = ZERO
    rho: Coordinates | None = None

    def at(self, y: Coordinates) -> Element:
        listed = dot(self.factors, [eq(v, y) for v in self.ids])
        return listed if self.rho is None else listed + self.b * within(self.length, self.rho, y)


def selected(
    it: Checking, label: str, selector: Selector, weight: Callable[[Coordinates], Element]
) -> Element:
    """Σ_v A(v)·w(v), sent and then shown; `weight` is w at a point of the dimension."""
    total = it.talk.send_one(label)
    (y,), value = it.talk.sumcheck(label, (selector.length,), total, 2)
    require(value == selector.at(y) * weight(y), label)
    return total


class Margins:
    """The arg-max of x·W + b is the id, in every row."""

    def __init__(
        self, plan: Plan, numbers: dict, x: Combination, ids: list[int], length: int
    ) -> None:
        self.x, self.ids, self.length = x, ids, length
        self.weight = plan.weight(numbers["weight"], x.dims[1], length)
        self.bias = plan.weight(numbers["bias"], length)
        w = window(2 * numbers["logit"])
        self.margin = plan.unsigned("margin", (x.dims[0], length), w)
        does_not_wrap(2**w, 2 * numbers["logit"], 1)

    def check(self, it: Checking) -> None:
        n, d = self.x.dims
        i, j = it.talk.draw_point("margin: point", self.margin.dims)
        f = eqs(n, i)
        exists = ones(self.length, j)

        def difference(of_rows: list[Element]) -> Selector:
            factors = [r * exists for r in of_rows]
            return Selector(self.length, self.ids, factors, -sum(of_rows, ZERO), j)

        bias = selected(it, "margin: bias", difference(f), lambda y: it.weight(self.bias, y))
        margin = it.value(self.margin, i, j)
        columns = eqs(self.length, j)
        lower = [sum(columns[:v], ZERO) for v in self.ids]
        total = margin + dot(f, lower) - bias
        (r_, c), value = it.talk.sumcheck("margin", (n, d), total, 2)
        of_rows = [x * y for x, y in zip(f, eqs(n, r_), strict=True)]
        weight = selected(
            it, "margin: weight", difference(of_rows), lambda y: it.weight(self.weight, c, y)
        )
        x = it.value(self.x, r_, c)
        require(value == x * weight, "margin")

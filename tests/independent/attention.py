"""Section 10: attention of heads, from q, k, v [n, h, d_head] to o [n, h, d_head]."""

from __future__ import annotations

from tests.independent.field import ZERO, Element, P, log, require, window
from tests.independent.operations import Checking
from tests.independent.plan import Combination, Plan, does_not_wrap
from tests.independent.tensors import Coordinates, all_ones, eqs, ones, within

HALF = (P + 1) // 2


class Attention:
    def __init__(
        self,
        plan: Plan,
        numbers: dict,
        exp: list[int],
        q: Combination,
        k: Combination,
        v: Combination,
    ) -> None:
        n, h, d_head = self.dims = q.dims
        score_shift, score = numbers["score_shift"], numbers["score"]
        self.scale, self.cap, self.q, self.k, self.v = 2**score_shift, len(exp) - 1, q, k, v
        cells, rows = (h, n, n), (h, n)
        w = window(n * max(exp))
        name = "attention: {}".format
        self.maximum = plan.signed(name("maximum"), rows, score)
        self.index = plan.column(name("index"), *cells)
        self.exponential = plan.column(name("exponential"), *cells)
        plan.look_up("exp", exp, self.index, self.exponential, causal=True)
        self.excess = plan.unsigned(name("excess"), cells, window(2 * score))
        self.mark = plan.column(name("marks a maximum"), *cells)
        self.score_remainder = None
        if score_shift > 0:
            self.score_remainder = plan.unsigned(name("score remainder"), cells, score_shift)
        self.total = plan.column(name("total"), *rows)
        self.half = plan.unsigned(name("half of total"), rows, w)
        self.odd = plan.unsigned(name("total is odd"), rows, 1)
        self.output = plan.signed(name("output"), q.dims, numbers["value"]["output"])
        self.rest = plan.unsigned(name("output remainder"), q.dims, w)
        self.rest_complement = plan.unsigned(name("output remainder complement"), q.dims, w)
        distance = self.maximum.largest + self.cap + self.excess.largest
        does_not_wrap(d_head * q.largest * k.largest, (distance + 2) * self.scale)
        does_not_wrap(n * max(exp), 2 ** (w + 2))
        does_not_wrap(n * max(exp) * v.largest, (self.output.largest + 4) * 2**w)

    def check(self, it: Checking) -> None:
        self.check_cells(it)
        self.check_rows(it)
        self.check_output(it)

    def check_cells(self, it: Checking) -> None:
        """(1) to (5), then (6): that products are those of q and k."""
        (n, h, d_head), talk = self.dims, it.talk
        cells = (h, n, n)
        h_, i_, j_ = talk.draw_point("attention: cells", cells)
        phi = talk.draw("attention: factor", 4)
        (g, i, j), value = talk.sumcheck("attention: cells", cells, ZERO, 3)
        product = talk.send_one("attention: product")
        u, x, z, e = (
            it.value(of, g, i, j) for of in (self.index, self.excess, self.mark, self.exponential)
        )
        m = it.value(self.maximum, g, i)
        rho = ZERO if self.score_remainder is None else it.value(self.score_remainder, g, i, j)
        inside = within(h, h_, g) * within_triangle(n, i_, i, j_, j)
        outside = within(h, h_, g) * within(n, i_, i) * within(n, j_, j) - inside
        line = (m * ones(n, j) - u - x) * self.scale - product + rho
        line -= self.scale // 2 * all_ones(cells, (g, i, j))
        expected = inside * (line + phi * x * (self.cap - u) + phi * phi * z * (u + x))
        expected += outside * phi * phi * phi * (e + phi * z)
        require(value == expected, "attention: cells")

        (f, c), value = talk.sumcheck("attention: products", (h, d_head), product, 3)
        q = it.value(self.q, i, f, c)
        k = it.value(self.k, j, f, c)
        require(value == within(h, g, f) * ones(d_head, c) * q * k, "attention: (6)")

    def check_rows(self, it: Checking) -> None:
        n, h, _ = self.dims
        h_, i_ = point = it.talk.draw_point("attention: rows", (h, n))
        places = 2 ** log(n)
        middle = (Element(HALF, 0),) * log(n)
        marks = it.value(self.mark, h_, i_, middle)
        require(marks * places == all_ones((h, n), point), "attention: (7)")
        exponentials = it.value(self.exponential, h_, i_, middle)
        total = it.value(self.total, h_, i_)
        require(exponentials * places == total, "attention: (8)")
        difference = it.value(2 * self.half + self.odd - self.total, h_, i_)
        require(difference == ZERO, "attention: (9)")

    def check_output(self, it: Checking) -> None:
        """(10) and (11)"""
        (n, h, d_head), talk = self.dims, it.talk
        i_, h_, c_ = talk.draw_point("attention: output", self.dims)
        mixed = talk.send_one("attention: mixed")
        (f, j), value = talk.sumcheck("attention: mixed", (h, n), mixed, 3)
        e = it.value(self.exponential, f, i_, j)
        v = it.value(self.v, j, f, c_)
        require(value == within(h, h_, f) * ones(n, j) * e * v, "attention: mixed")

        rest = it.value(self.rest, i_, h_, c_)
        half = it.value(self.half, h_, i_)
        divided = mixed + half * ones(d_head, c_) - rest
        (f, a), value = talk.sumcheck("attention: output", (h, n), divided, 3)
        t = it.value(self.total, f, a)
        o = it.value(self.output, a, f, c_)
        require(value == within(h, h_, f) * within(n, i_, a) * t * o, "attention: (10)")
        t = it.value(self.total, h_, i_)
        complement = it.value(self.rest_complement, i_, h_, c_)
        limit = (t - all_ones((h, n), (h_, i_))) * ones(d_head, c_)
        require(rest + complement == limit, "attention: (11)")


def within_triangle(
    n: int, i_: Coordinates, i: Coordinates, j_: Coordinates, j: Coordinates
) -> Element:
    """Σ_{b<=a<n} eq(a, i')·eq(a, i)·eq(b, j')·eq(b, j)"""
    rows = [x * y for x, y in zip(eqs(n, i_), eqs(n, i), strict=True)]
    columns = [x * y for x, y in zip(eqs(n, j_), eqs(n, j), strict=True)]
    result = up_to_here = ZERO
    for row, column in zip(rows, columns, strict=True):
        up_to_here += column
        result += row * up_to_here
    return result

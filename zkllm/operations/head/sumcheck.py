"""The arg-max as equations (protocol.md, section 10).

The logit of the claimed id is above all others, or equal to later ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zkllm import integers
from zkllm.engines.sumcheck import equations
from zkllm.engines.sumcheck.equations import Scope
from zkllm.engines.sumcheck.field import (
    ONE,
    ZERO,
    Ext,
    Words,
    as_ext,
    contract,
    multiply_ext,
    subtract,
    to_field,
)
from zkllm.engines.sumcheck.multilinear import Coordinates, eq, ones, weights
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.selection import Selection, selected
from zkllm.engines.sumcheck.tensors import public_ids
from zkllm.engines.sumcheck.windows import bits_of, require_no_wrap
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation
from zkllm.operations.head import exact
from zkllm.operations.head.exact import HeadStep
from zkllm.tensors import IntArray


class Equations(equations.Equations):
    """D_ij = L_i[id_i] - L_i[j] - [j < id_i] >= 0 for every row i and token j; L = x·W + b."""

    def __init__(self, step: HeadStep, scope: Scope) -> None:
        name, plan, n = step.name, scope.plan, step.numbers
        self.name, self.numbers, self.weights = name, n, scope.weights
        self.vocabulary = step.vocabulary
        self.x = scope.read(step.reads[0], (scope.rows, step.width))  # [n, d]
        self.ids = public_ids(name, scope.read(step.writes, (scope.rows,)), step.vocabulary)
        plan.weight(n.weight, (step.width, step.vocabulary))
        plan.weight(n.bias, (step.vocabulary,))
        bits = bits_of(2 * n.logit)
        self.margin = plan.unsigned(name, (len(self.ids), step.vocabulary), bits)  # D [n, L]
        require_no_wrap(name, 1 << bits, 2 * n.logit, 1)

    def fill(self, witness: Witness, given: Sequence[IntArray]) -> IntArray:
        """Raises `ConstraintViolation` for an id that is not the arg-max of its row."""
        (x,) = given
        logits = integers.matmul(x, self.weights.integers(self.numbers.weight))  # [n, L]
        logits += self.weights.integers(self.numbers.bias)
        ids = np.array(self.ids)  # [n]
        best = np.take_along_axis(logits, ids[:, None], axis=1)  # [n, 1]
        margin = best - logits - (np.arange(self.vocabulary) < ids[:, None])  # [n, L]
        for i, j in np.argwhere(margin < 0)[:1]:
            raise ConstraintViolation(
                f"head: row {i} has the arg-max {exact.arg_max(logits)[i]}, "
                f"the claim says {self.ids[i]}: token {j} has the logit {logits[i, j]}, "
                f"the claimed one {best[i, 0]}"
            )
        witness.store_number(self.margin, margin)
        return ids

    def check(self, party: Party) -> None:
        """At a random (i, j): D + [j < id] = Σ_d x·M + bias, where M = W[id] - W[j] by rows."""
        i, j = point = party.point(f"{self.name}: point", self.margin.value.dims)
        rows, width = self.x.dims
        factors = [eq(row, i) for row in range(rows)]
        below = sum((f * ones(n, j) for f, n in zip(factors, self.ids, strict=True)), ZERO)
        bias = selected(
            party, f"{self.name}: bias", self.numbers.bias, self._difference(factors, j)
        )
        total = party.value(self.margin.value, point) + below - bias

        def tables() -> list[Words]:
            return [to_field(self.x.integers(party)), self._weight_rows(party, i, j)]

        at, value = party.sumcheck(self.name, (rows, width), total, tables, [(ONE, (0, 1))])
        t, c = at
        difference = self._difference([f * eq(row, t) for row, f in enumerate(factors)], j)
        weight = selected(party, f"{self.name}: weight", self.numbers.weight, difference, 1, (c,))
        x = self.x.at(party, at)
        party.require_equal(self.name, value, x * weight)

    def _difference(self, factors: list[Ext], j: Coordinates) -> Selection:
        """A(v) = Σ_i factors[i]·(ones(j)·[v = id_i] - eq(v, j))."""
        every = ones(self.vocabulary, j)
        picked = tuple(f * every for f in factors)
        return Selection(self.vocabulary, self.ids, picked, -sum(factors, ZERO), j)

    def _weight_rows(self, party: Party, i: Coordinates, j: Coordinates) -> Words:
        """M(i, d) = eq(i)·(ones(j)·W[d, id_i] - W(d, j)), shape [n, d, 2]."""
        weight = party.tensor(self.numbers.weight)  # [d, L]
        every = ones(self.vocabulary, j)
        spread = contract(weights((self.vocabulary,), (j,)), weight.T)  # [d, 2]
        picked = as_ext(to_field(weight[:, list(self.ids)].T))  # [n, d, 2]
        difference = subtract(multiply_ext(picked, every.to_words()), spread)
        return multiply_ext(difference, weights((len(self.ids),), (i,))[:, None, :])

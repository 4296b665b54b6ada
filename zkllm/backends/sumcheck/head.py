"""The head's arg-max: the logit of the claimed id is above all others, or equal to later ones."""

from __future__ import annotations

import numpy as np

from zkllm import integers
from zkllm.backends.sumcheck.operations import bits_of, require_no_wrap
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
from zkllm.engines.sumcheck.party import Party, Weights
from zkllm.engines.sumcheck.plan import Combination, Plan
from zkllm.engines.sumcheck.selection import Selection, selected
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation
from zkllm.exact.format1 import Head
from zkllm.operations.head.exact import arg_max
from zkllm.tensors import IntArray


class Margins:
    """D_ij = L_i[id_i] - L_i[j] - [j < id_i] >= 0 for every row i and token j; L = x·W + b."""

    def __init__(
        self,
        plan: Plan,
        x: Combination,
        unit: Head,
        vocabulary: int,
        ids: tuple[int, ...],
    ) -> None:
        """`x` are committed rows [n, d]; `ids` the claimed tokens, one for each row."""
        self.x, self.unit, self.ids, self.vocabulary = x, unit, ids, vocabulary
        plan.weight(unit.weight, (x.dims[1], vocabulary))
        plan.weight(unit.bias, (vocabulary,))
        bits = bits_of(2 * unit.logit)
        self.margin = plan.unsigned("margin", (len(ids), vocabulary), bits)
        require_no_wrap("margin", 1 << bits, 2 * unit.logit, 1)

    def fill(self, witness: Witness, model: Weights, x: IntArray) -> None:
        """Raises `ConstraintViolation` for an id that is not the arg-max of its row."""
        logits = integers.matmul(x, model.integers(self.unit.weight))
        logits += model.integers(self.unit.bias)
        ids = np.array(self.ids)
        best = np.take_along_axis(logits, ids[:, None], axis=1)
        margin = best - logits - (np.arange(self.vocabulary) < ids[:, None])
        for i, j in np.argwhere(margin < 0)[:1]:
            raise ConstraintViolation(
                f"head: row {i} has the arg-max {arg_max(logits)[i]}, "
                f"the claim says {self.ids[i]}: token {j} has the logit {logits[i, j]}, "
                f"the claimed one {best[i, 0]}"
            )
        witness.store_number(self.margin, margin)

    def check(self, party: Party) -> None:
        """At a random (i, j): D + [j < id] = Σ_d x·M + bias, where M = W[id] - W[j] by rows."""
        i, j = point = party.point("margin: point", self.margin.value.dims)
        rows, width = self.x.dims
        factors = [eq(row, i) for row in range(rows)]
        below = sum((f * ones(n, j) for f, n in zip(factors, self.ids, strict=True)), ZERO)
        bias = selected(party, "margin: bias", self.unit.bias, self._difference(factors, j))
        total = party.value(self.margin.value, point) + below - bias

        def tables() -> list[Words]:
            return [to_field(party.integers(self.x)), self._weight_rows(party, i, j)]

        at, value = party.sumcheck("margin", (rows, width), total, tables, [(ONE, (0, 1))])
        t, c = at
        difference = self._difference([f * eq(row, t) for row, f in enumerate(factors)], j)
        weight = selected(party, "margin: weight", self.unit.weight, difference, 1, (c,))
        x = party.value(self.x, at)
        party.require_equal("margin", value, x * weight)

    def _difference(self, factors: list[Ext], j: Coordinates) -> Selection:
        """A(v) = Σ_i factors[i]·(ones(j)·[v = id_i] - eq(v, j))."""
        every = ones(self.vocabulary, j)
        picked = tuple(f * every for f in factors)
        return Selection(self.vocabulary, self.ids, picked, -sum(factors, ZERO), j)

    def _weight_rows(self, party: Party, i: Coordinates, j: Coordinates) -> Words:
        """M(i, d) = eq(i)·(ones(j)·W[d, id_i] - W(d, j)), shape [n, d, 2]."""
        weight = party.tensor(self.unit.weight)
        every = ones(self.vocabulary, j)
        spread = contract(weights((self.vocabulary,), (j,)), weight.T)
        picked = as_ext(to_field(weight[:, list(self.ids)].T))
        difference = subtract(multiply_ext(picked, every.to_words()), spread)
        return multiply_ext(difference, weights((len(self.ids),), (i,))[:, None, :])

"""Rows of a weight picked by token ids, as in the embedding and the arg-max of the head."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from zkllm.engines.sumcheck.field import ONE, ZERO, Ext, Words, add, contract, dot, multiply_ext
from zkllm.engines.sumcheck.multilinear import Coordinates, Point, eq, eq_within, weights
from zkllm.engines.sumcheck.party import Party


@dataclass(frozen=True, slots=True)
class Selection:
    """The public function A(v) = Σ_i factors[i]·[v = ids[i]] + spread·eq(v, rho) of v < length."""

    length: int
    ids: tuple[int, ...]
    """Each below `length`; they may repeat."""
    factors: tuple[Ext, ...]
    spread: Ext = ZERO
    rho: Coordinates = ()

    def table(self) -> Words:
        """All values, shape [length, 2]."""
        if self.spread == ZERO:
            values = np.zeros((self.length, 2), dtype=np.uint64)
        else:
            values = multiply_ext(weights((self.length,), (self.rho,)), self.spread.to_words())
        for i, factor in zip(self.ids, self.factors, strict=True):
            values[i] = add(values[i], factor.to_words())
        return values

    def at(self, point: Coordinates) -> Ext:
        """The extension at `point`."""
        picked = zip(self.ids, self.factors, strict=True)
        result = sum((factor * eq(i, point) for i, factor in picked), ZERO)
        if self.spread != ZERO:
            result = result + self.spread * eq_within(self.length, self.rho, point)
        return result


def selected(
    party: Party, label: str, name: str, selection: Selection, axis: int = 0, fixed: Point = ()
) -> Ext:
    """Σ_v A(v)·w(v, fixed), where v is dimension `axis` of the weight `name`: sent, and shown.

    `fixed` are the points of the other dimensions (at most one), drawn beforehand.
    """

    # Bound once for the sum and for its sumcheck: it takes a pass over the whole weight.
    @functools.cache
    def tables() -> list[Words]:
        return [selection.table(), _fibre(party, name, axis, fixed)]

    (total,) = party.exchange(label, lambda: [dot(*tables())], 1)
    (at,), value = party.sumcheck(label, (selection.length,), total, tables, [(ONE, (0, 1))])
    weight = party.weight(name, (*fixed[:axis], at, *fixed[axis:]))
    party.require_equal(label, value, party.held(lambda: selection.at(at)) * weight)
    return total


def _fibre(party: Party, name: str, axis: int, fixed: Point) -> Words:
    """w(·, fixed) along `axis`, shape [length, 2]."""
    weight = party.tensor(name)
    if weight.ndim == 1:
        return contract(ONE.to_words()[None, :], weight[None, :])
    matrix = np.moveaxis(weight, axis, 1)
    return contract(weights(matrix.shape[:1], fixed), matrix)

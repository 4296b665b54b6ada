"""Rows of a weight picked by token ids, as in the embedding and the arg-max of the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zkllm.backends.sumcheck.field import ONE, ZERO, Ext, Words, add, contract, dot, multiply_ext
from zkllm.backends.sumcheck.party import Party
from zkllm.backends.sumcheck.shapes import Coordinates, Point, eq, eq_within, weights


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
            spread = np.broadcast_to(self.spread.to_words(), (self.length, 2))
            values = multiply_ext(weights((self.length,), (self.rho,)), spread)
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


def select(
    party: Party, label: str, name: str, selection: Selection, axis: int, fixed: Point, total: Ext
) -> None:
    """Show that Σ_v A(v)·w(v, fixed) = `total`, where v is dimension `axis` of the weight `name`.

    `fixed` are the points of the other dimensions (at most one), drawn beforehand.
    """

    def tables() -> list[Words]:
        return [selection.table(), _fibre(party, name, axis, fixed)]

    (at,), value = party.sumcheck(label, (selection.length,), total, tables, [(ONE, (0, 1))])
    point = (*fixed[:axis], at, *fixed[axis:])
    weight = party.weight(name, point)
    party.require(label, lambda: value == selection.at(at) * weight)


def selected(
    party: Party, label: str, name: str, selection: Selection, axis: int = 0, fixed: Point = ()
) -> Ext:
    """Σ_v A(v)·w(v, fixed): sent by the prover, and shown."""

    def make() -> list[Ext]:
        return [dot(selection.table(), _fibre(party, name, axis, fixed))]

    (total,) = party.exchange(label, make, 1)
    select(party, label, name, selection, axis, fixed, total)
    return total


def _fibre(party: Party, name: str, axis: int, fixed: Point) -> Words:
    """w(·, fixed) along `axis`, shape [length, 2]."""
    weight = party.tensor(name)
    if weight.ndim == 1:
        return contract(ONE.to_words()[None, :], weight[None, :])
    matrix = np.moveaxis(weight, axis, 1)
    return contract(weights(matrix.shape[:1], fixed), matrix)

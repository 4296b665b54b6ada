from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from tests.engines.sumcheck.circuits import Alone
from tests.engines.sumcheck.plain import (
    P,
    Pair,
    Source,
    eq,
    eq_all,
    inner,
    pair,
    pairs,
    plus,
    point_pairs,
    times,
)
from zkllm.engines.sumcheck.field import ZERO, Ext
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Plan
from zkllm.engines.sumcheck.selection import Selection, selected
from zkllm.exact.model import ExactModel

IDS = (7, 0, 7, 11)
LENGTHS = [12, 16, 37]


def selection(length: int, *, spread: bool) -> Selection:
    source = Source(length)
    factors = tuple(Ext(*source.pair()) for _ in IDS)
    if not spread:
        return Selection(length, IDS, factors)
    return Selection(
        length, IDS, factors, Ext(*source.pair()), source.point((length - 1).bit_length())
    )


def by_definition(s: Selection) -> list[Pair]:
    """A(v) = Σ_i factors[i]·[v = ids[i]] + spread·eq(v, rho)."""
    return [
        plus(
            times(pair(s.spread), eq(v, point_pairs(s.rho))),
            *(pair(f) for i, f in zip(s.ids, s.factors, strict=True) if i == v),
        )
        for v in range(s.length)
    ]


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_selection_is_its_definition_and_its_extension(length: int, spread: bool) -> None:
    s = selection(length, spread=spread)
    expected = by_definition(s)
    assert pairs(s.table()) == expected
    point = Source(0).point((length - 1).bit_length())
    weights = [eq(v, point_pairs(point)) for v in range(length)]
    assert pair(s.at(point)) == inner(weights, expected)


def test_no_row_is_selected_from_nothing() -> None:
    nothing = Selection(5, (), ())
    assert pairs(nothing.table()) == [(0, 0)] * 5
    assert nothing.at(Source(0).point(3)) == ZERO


def circuit_of(model: ExactModel, weight: np.ndarray, axis: int, s: Selection) -> Alone:
    """The sum of a selection of `weight`, as `selected` shows it."""
    plan = Plan(8)
    plan.weight("w", weight.shape)
    rows = np.moveaxis(weight, axis, 0).reshape(s.length, -1)
    others = weight.shape[:axis] + weight.shape[axis + 1 :]

    def examine(party: Party) -> None:
        fixed = party.point("fixed", others)
        found = selected(party, "selected", "w", s, axis, fixed)
        across = eq_all(others, [point_pairs(r) for r in fixed]).values()
        summed = [inner([int(n) % P for n in row], across) for row in rows]
        assert pair(found) == inner(by_definition(s), summed)

    stored = ExactModel.in_memory(model.specification, {"w": weight})
    return Alone(plan, stored, lambda _: None, examine)


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("shape", [(12,), (12, 5), (5, 12), (37, 1)], ids=str)
def test_the_sum_of_a_selection_is_shown(
    shape: tuple[int, ...], committed: bool, tiny_model: ExactModel
) -> None:
    axis = int(np.argmax(shape))
    weight = np.random.default_rng(0).integers(-128, 128, shape)
    s = selection(shape[axis], spread=True)
    circuit_of(tiny_model, weight, axis, s).accept(committed=committed)


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
def test_another_sum_is_refused(committed: bool, tiny_model: ExactModel) -> None:
    weight = np.random.default_rng(0).integers(-128, 128, (12, 5))
    s = selection(12, spread=False)
    circuit = circuit_of(tiny_model, weight, 0, s)

    def examine(party: Party) -> None:
        fixed = party.point("fixed", (5,))
        honest = party.exchange

        def exchange(label: str, make: Callable[[], Sequence[Ext]], count: int) -> list[Ext]:
            return honest(label, (lambda: [Ext(3)]) if label == "selected" else make, count)

        with patch.object(party, "exchange", exchange):
            selected(party, "selected", "w", s, 0, fixed)

    wrong = replace(circuit, examine=examine)
    wrong.refuse("selected", lambda _: None, committed=committed)

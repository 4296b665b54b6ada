import itertools

import numpy as np
import pytest

from tests.engines.sumcheck.plain import (
    P,
    Pair,
    Source,
    array,
    bound,
    eq,
    inner,
    minus,
    pair,
    pairs,
    plus,
    point_pairs,
    times,
)
from zkllm.engines.sumcheck import kernels
from zkllm.engines.sumcheck.field import Ext
from zkllm.engines.sumcheck.party import Monomial
from zkllm.engines.sumcheck.rounds import FractionRounds, ProductRounds

POINTS = (0, 2, 3)


def summed(tables: list[list[Pair]], monomials: list[Monomial]) -> Pair:
    return plus(
        (0, 0),
        *(
            times(pair(factor), *(table[i] for table in (tables[k] for k in indices)))
            for factor, indices in monomials
            for i in range(len(tables[0]))
        ),
    )


MONOMIALS: dict[str, list[Monomial]] = {
    "product": [(Ext(1), (0, 1))],
    "square": [(Ext(1), (0, 1, 1))],
    "three": [(Ext(5, 6), (0, 1, 2))],
    "two weights": [(Ext(1), (0, 2)), (Ext(3, 1), (0, 3, 2)), (Ext(P - 1), (1, 3))],
    "quadratic form": [
        (Ext(1), (0, 2)),
        (Ext(P - 1), (0, 3)),
        (Ext(1), (0, 1, 3)),
        (Ext(7, 9), (0, 1, 1)),
        (Ext(2, P - 2), (0, 3, 2)),
        (Ext(4), (0, 2, 3)),
    ],
}


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("monomials", MONOMIALS.values(), ids=MONOMIALS)
@pytest.mark.parametrize("dims", [(2,), (3,), (601,), (5, 3), (1, 6), (3, 1, 7)], ids=str)
def test_rounds_of_products_are_the_sums_of_their_definition(
    dims: tuple[int, ...], monomials: list[Monomial]
) -> None:
    source = Source(f"{dims}")
    size = int(np.prod(dims))
    # The second table is of the base field, as columns are.
    plain = [source.pairs(size) for _ in range(4)]
    plain[1] = [(value, 0) for value in source.values(size)]
    tables = [array(table).reshape(*dims, 2) for table in plain]
    tables[1] = np.ascontiguousarray(tables[1][..., 0])
    degree = max(len(indices) for _, indices in monomials)
    rounds = ProductRounds(dims, tables, monomials)
    rows = [[list(t[i : i + dims[-1]]) for i in range(0, size, dims[-1])] for t in plain]
    for k in reversed(range(len(dims))):
        for _ in range((dims[k] - 1).bit_length()):
            expected = [
                summed(
                    [
                        list(itertools.chain(*(bound(row, (t, 0)) for row in table)))
                        for table in rows
                    ],
                    monomials,
                )
                for t in POINTS[:degree]
            ]
            assert [pair(value) for value in rounds.message(degree)] == expected
            challenge = Ext(*source.pair())
            rounds.bind(challenge)
            rows = [[bound(row, pair(challenge)) for row in table] for table in rows]
        if k:
            flat = [[row[0] for row in table] for table in rows]
            rows = [[t[i : i + dims[k - 1]] for i in range(0, len(t), dims[k - 1])] for t in flat]


def fractions(eqs: list[Pair], tables: list[list[Pair]], factor: Pair, t: Pair) -> Pair:
    """Σ eq·(p0·q1 + p1·q0 + λ·(q0·q1 - 1)) with the next variable at t."""
    summands = []
    for p0, p1, d0, d1 in zip(*(bound(table, t) for table in tables), strict=True):
        q0, q1 = plus(d0, (1, 0)), plus(d1, (1, 0))
        mixed = times(factor, minus(times(q0, q1), (1, 0)))
        summands.append(plus(times(p0, q1), times(p1, q0), mixed))
    return inner(bound(eqs, t), summands)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 8, 9, 37, 1027])
def test_rounds_of_fractions_are_the_sums_of_their_definition(count: int) -> None:
    source = Source(count)
    top, bottom = source.pairs(2 * count), source.pairs(2 * count)
    point = source.point((count - 1).bit_length())
    factor = Ext(*source.pair())
    eqs = [eq(i, point_pairs(point)) for i in range(count)]
    tables = [top[::2], top[1::2], bottom[::2], bottom[1::2]]
    rounds = FractionRounds(array(top), array(bottom), point, factor)
    for _ in point:
        expected = [fractions(eqs, tables, pair(factor), (t, 0)) for t in POINTS]
        assert [pair(value) for value in rounds.message(3)] == expected
        challenge = Ext(*source.pair())
        rounds.bind(challenge)
        eqs = bound(eqs, pair(challenge))
        tables = [bound(table, pair(challenge)) for table in tables]
    assert [pair(value) for value in rounds.children()] == [table[0] for table in tables]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [2, 4, 6, 38])
def test_a_layer_of_fractions_is_the_sums_of_neighbours_with_an_even_number_of_places(
    count: int,
) -> None:
    source = Source(count)
    top, bottom = source.pairs(count), source.pairs(count)
    above, below = (pairs(table) for table in kernels.fraction_sums(array(top), array(bottom)))
    half = count // 2
    assert len(above) == len(below) == (1 if half == 1 else half + half % 2)
    for i in range(half):
        q0, q1 = (plus(bottom[2 * i + k], (1, 0)) for k in range(2))
        assert above[i] == plus(times(top[2 * i], q1), times(top[2 * i + 1], q0))
        assert below[i] == minus(times(q0, q1), (1, 0))
    assert above[half:] == below[half:] == [(0, 0)] * (len(above) - half)

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.engines.sumcheck.plain import (
    EDGES,
    P,
    Pair,
    Source,
    array,
    bound,
    eq,
    evaluated,
    inner,
    ints,
    minus,
    pairs,
    plus,
    point_pairs,
    times,
)
from zkllm import threads
from zkllm.engines.sumcheck import commitment, kernels
from zkllm.engines.sumcheck.commitment import ROW, VECTOR
from zkllm.engines.sumcheck.field import MODULUS, Words, words

LENGTHS = [1, 2, 3, 37, 64, 65, 3001]
GREAT = 100_000
"""Enough elements for pieces of the usual size."""
LARGEST = P - 1


def scalar(value: Pair) -> tuple[np.uint64, np.uint64]:
    return np.uint64(value[0]), np.uint64(value[1])


def edge_pairs() -> list[Pair]:
    """Every pair of edges."""
    return [(a, b) for a in EDGES for b in EDGES]


# Values, weights and scalars


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("variables", [0, 1, 2, 5, 9])
def test_weights_of_a_cube_are_eq(variables: int) -> None:
    point = Source(variables).point(variables)
    expected = [eq(i, point_pairs(point)) for i in range(1 << variables)]
    assert pairs(kernels.eq_table(words(point))) == expected


@pytest.mark.parametrize("edge", EDGES)
def test_weights_of_a_cube_at_an_edge(edge: int) -> None:
    point = [(edge, LARGEST), (LARGEST, edge)]
    expected = [eq(i, point) for i in range(4)]
    assert pairs(kernels.eq_table(array(point))) == expected


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", LENGTHS)
def test_dot_products(length: int) -> None:
    source = Source(length)
    values, weights = source.values(length), source.pairs(length)
    assert kernels.dot(array(values), array(weights)) == inner(values, weights)


def test_a_sum_of_the_largest_products_is_carried() -> None:
    largest = np.full(GREAT, LARGEST, dtype=np.uint64)
    expected = GREAT * LARGEST**2 % P
    assert kernels.dot(largest, np.stack([largest, largest], axis=-1)) == (expected, expected)


def test_dot_products_of_edges() -> None:
    for value in EDGES:
        for weight in edge_pairs():
            assert kernels.dot(array([value]), array([weight])) == times(value, weight)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", LENGTHS)
def test_multiples_are_added(length: int) -> None:
    source = Source(length)
    target, weights, factor = source.pairs(length), source.pairs(length), source.pair()
    found = array(target)
    kernels.accumulate(found, array(weights), *scalar(factor))
    expected = [plus(t, times(w, factor)) for t, w in zip(target, weights, strict=True)]
    assert pairs(found) == expected

    values = source.values(length)
    found = array(target)
    kernels.accumulate_values(found, array(values), *scalar(factor))
    expected = [plus(t, times(v, factor)) for t, v in zip(target, values, strict=True)]
    assert pairs(found) == expected


@pytest.mark.parametrize("edge", EDGES)
def test_multiples_of_edges_are_added(edge: int) -> None:
    weights = edge_pairs()
    for factor in [(edge, LARGEST), (LARGEST, edge), (edge, edge)]:
        found = np.full((len(weights), 2), LARGEST, dtype=np.uint64)
        kernels.accumulate(found, array(weights), *scalar(factor))
        assert pairs(found) == [plus((LARGEST, LARGEST), times(w, factor)) for w in weights]
        found = np.full((len(EDGES), 2), LARGEST, dtype=np.uint64)
        kernels.accumulate_values(found, array(EDGES), *scalar(factor))
        assert pairs(found) == [plus((LARGEST, LARGEST), times(v, factor)) for v in EDGES]


# Rounds; their polynomials are tested in test_rounds


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("tables", [1, 3])
@pytest.mark.parametrize("length", LENGTHS)
def test_folding_binds_neighbours(length: int, tables: int) -> None:
    source = Source(length)
    plain = [source.pairs(length) for _ in range(tables)]
    challenge = source.pair()
    room = np.empty((tables * (length + 1), 2), dtype=np.uint64)
    folded = kernels.fold(array(plain)[:, :, None], *scalar(challenge), room)
    assert folded.shape == (tables, (length + 1) // 2, 1, 2)
    assert [pairs(table) for table in folded] == [bound(table, challenge) for table in plain]
    assert np.shares_memory(folded, room)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", [1, 2, 5])
def test_folding_keeps_inner_places_apart(length: int) -> None:
    source = Source(length)
    plain = [[source.pairs(length) for _ in range(3)] for _ in range(2)]
    challenge = source.pair()
    tables = np.ascontiguousarray(array(plain).transpose(0, 2, 1, 3))
    folded = kernels.fold(tables, *scalar(challenge), np.empty_like(tables))
    for k, inside in enumerate(plain):
        for i, table in enumerate(inside):
            assert pairs(folded[k, :, i]) == bound(table, challenge)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", LENGTHS)
def test_folding_values_binds_neighbours(length: int) -> None:
    source = Source(length)
    values, challenge = source.values(length), source.pair()
    out = np.empty(((length + 1) // 2, 2), dtype=np.uint64)
    kernels.fold_values(array(values), *scalar(challenge), out)
    assert pairs(out) == bound([(value, 0) for value in values], challenge)


def test_folding_edges() -> None:
    plain = [(a, b) for pair in edge_pairs() for a, b in [pair, pair[::-1]]]
    for challenge in [(0, 0), (1, 0), (LARGEST, LARGEST), (2**32, P - 2**32)]:
        folded = kernels.fold(
            array(plain)[None, :, None], *scalar(challenge), np.empty((len(plain), 2), np.uint64)
        )
        assert pairs(folded) == bound(plain, challenge)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", LENGTHS)
def test_neighbours_are_added_and_one_alone_is_left_out(length: int) -> None:
    plain = Source(length).pairs(length)
    expected = [plus(a, b) for a, b in zip(plain[::2], plain[1::2], strict=False)]
    assert pairs(kernels.add_neighbours(array(plain))) == expected


@pytest.mark.parametrize("degree", [2, 3])
def test_a_round_polynomial_of_the_largest_values_is_carried(degree: int) -> None:
    # More pairs than a tile, and than a sum of products that forgot its overflow could survive.
    count, length = 4, 1203
    tables = np.full((count, 1, length, 2), LARGEST, dtype=np.uint64)
    groups = np.array([[0, 3, 0, 2], [1, -1, 2, 3]])
    products = np.array([[1, 2], [2, 3], [0, 1]])
    found = kernels.product_round(tables, groups, products, degree)
    for t, sums in zip((0, 2, 3)[:degree], pairs(found), strict=False):
        # all whole pairs lie on a constant line, the last alone on one that falls to zero
        parts = [((length - 1) // 2, (LARGEST, LARGEST)), (1, times((1 - t) % P, (LARGEST,) * 2))]
        expected = (0, 0)
        for number, value in parts:
            first = times(value, plus(value, times(value, value), times(value, value)))
            expected = plus(expected, times(number, plus(first, times(value, value, value))))
        assert sums == expected
    assert not found[degree:].any()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", LENGTHS)
def test_the_first_round_of_values_and_weights(length: int) -> None:
    source = Source(length)
    values, weights = source.values(length), source.pairs(length)
    expected = [
        inner(bound([(value, 0) for value in values], (t, 0)), bound(weights, (t, 0)))
        for t in (0, 2)
    ]
    assert pairs(kernels.value_round(array(values), array(weights))) == expected


# Fractions; their sums and their rounds are tested in test_rounds


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("with_values", [True, False], ids=["values", "no values"])
def test_fingerprints(length: int, with_values: bool) -> None:
    source = Source(length)
    keys, base, beta = source.values(length), source.pair(), source.pair()
    values = source.values(length) if with_values else [0] * length
    square = times(beta, beta)
    out = np.empty((length, 2), dtype=np.uint64)
    kernels.fingerprints(
        out,
        array(keys),
        array(values) if with_values else None,
        *(array(factor) for factor in (base, beta, square)),
    )
    assert pairs(out) == [
        minus(minus(base, times(key, beta)), times(value, square))
        for key, value in zip(keys, values, strict=True)
    ]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", LENGTHS)
def test_mixing_children_changes_the_first_numerators_alone(count: int) -> None:
    source = Source(count)
    top, bottom, factor = source.pairs(2 * count), source.pairs(2 * count), source.pair()
    found, below = array(top).reshape(-1, 2, 2), array(bottom).reshape(-1, 2, 2)
    kernels.mix_children(found, below, *scalar(factor))
    assert pairs(found[:, 0]) == [
        plus(p, times(factor, d)) for p, d in zip(top[::2], bottom[::2], strict=True)
    ]
    assert pairs(found[:, 1]) == top[1::2]
    assert pairs(below) == bottom


# The commitment


BLOWUPS = [VECTOR.blowup, ROW.blowup]


@pytest.mark.parametrize("blowup", BLOWUPS)
@pytest.mark.parametrize("log_columns", range(6))
def test_an_encoded_row_is_its_polynomial_at_all_roots_of_unity(
    log_columns: int, blowup: int
) -> None:
    source = Source(log_columns)
    rows = [source.values(1 << log_columns), [LARGEST] * (1 << log_columns)]
    encoded = kernels.encode(array(rows), blowup)
    length = blowup << log_columns
    assert [ints(row) for row in encoded] == [evaluated(row, length) for row in rows]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("blowup", BLOWUPS)
@pytest.mark.parametrize("log_columns", range(11))
def test_rows_are_encoded_as_the_verifier_does(log_columns: int, blowup: int) -> None:
    source = Source(log_columns)
    matrix = array(source.values(5 << log_columns)).reshape(5, -1)
    expected = commitment.transform(matrix, log_columns + blowup.bit_length() - 1)
    assert np.array_equal(kernels.encode(matrix, blowup), expected)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 37), (5, 1), (3, 65), (40, 9)])
def test_rows_are_combined(rows: int, columns: int) -> None:
    source = Source(rows)
    matrix = [source.values(columns) for _ in range(rows)]
    coefficients = source.pairs(rows)
    expected = [inner(column, coefficients) for column in zip(*matrix, strict=True)]
    assert pairs(kernels.combine_rows(array(matrix), array(coefficients))) == expected


ROWS = [1, 5, 6, 7, 8, 13, 14, 15, 16, 31, 62, 63]
"""A column and its byte of prefix end just before, at and after where padding needs a block."""


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 2051])
def test_columns_are_hashed_as_hashlib_does(rows: int, columns: int) -> None:
    random = np.random.default_rng(rows)
    matrix = random.integers(0, MODULUS, (rows, columns), dtype=np.uint64)
    for prefix in (0, 1):
        found = kernels.hash_columns(prefix, matrix)
        assert found.shape == (columns, 32)
        for column, digest in zip(matrix.T, found, strict=True):
            data = bytes([prefix]) + column.astype("<u8").tobytes()
            assert digest.tobytes() == hashlib.sha256(data).digest()


# Threads

GREAT_WORK: dict[str, Callable[[], Any]] = {
    "eq_table": lambda: kernels.eq_table(array(Source(1).pairs(17))),
    "encode": lambda: kernels.encode(some(8, 1 << 12), 4),
    "combine_rows": lambda: kernels.combine_rows(some(8, 1 << 12), some(8, 2)),
    "hash_columns": lambda: kernels.hash_columns(0, some(3, 1 << 14)),
    "fraction_sums": lambda: np.concatenate(kernels.fraction_sums(some(GREAT, 2), some(GREAT, 2))),
    "value_round": lambda: kernels.value_round(some(GREAT), some(GREAT, 2)),
}
"""Work that is cut into pieces of the usual size."""


def some(*shape: int) -> Words:
    return np.random.default_rng(len(shape)).integers(0, MODULUS, shape, dtype=np.uint64)


@pytest.mark.parametrize("name", GREAT_WORK)
def test_great_work_does_not_depend_on_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "count", lambda: 1)
    alone = GREAT_WORK[name]()
    monkeypatch.setattr(threads, "count", lambda: 3)
    ran_in: set[int] = set()
    original = threads.in_pieces

    def watched(count: int, grain: int, work: Callable[[int, int], object]) -> list[object]:
        def noting(start: int, stop: int) -> object:
            ran_in.add(start)
            return work(start, stop)

        return original(count, grain, noting)

    monkeypatch.setattr(kernels, "in_pieces", watched)
    assert np.array_equal(GREAT_WORK[name](), alone)
    assert len(ran_in) > 1, "the work was not cut"

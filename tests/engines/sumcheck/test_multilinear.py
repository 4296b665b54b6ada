import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

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
from zkllm.engines.sumcheck import multilinear
from zkllm.engines.sumcheck.field import Ext
from zkllm.engines.sumcheck.multilinear import Coordinates, Dims, Point

LENGTHS = [1, 2, 3, 8, 12, 37, 64, 65]
LARGE = [768, 50257]
DIMS: list[Dims] = [
    (1,),
    (37,),
    (64,),
    (65,),
    (1, 1),
    (1, 5),
    (5, 1),
    (3, 12),
    (2, 3, 5),
    (7, 1, 2),
]


def point_of(source: Source, dims: Dims) -> Point:
    return tuple(source.point((n - 1).bit_length()) for n in dims)


def plain(point: Point) -> list[list[Pair]]:
    return [point_pairs(coordinates) for coordinates in point]


def eq_list(n: int, r: Coordinates) -> list[Pair]:
    """eq(i, r) for i below n by doubling, where the definition would take too long."""
    table: list[Pair] = [(1, 0)]
    for k, value in enumerate(point_pairs(r)):
        # Entries that share their low k bits: this bit is set in the second half.
        table = [times(e, plus((1, 0), times(value, P - 1))) for e in table] + [
            times(e, value) for e in table
        ]
        assert len(table) == 2 << k
    return table[:n]


def test_the_quick_list_of_weights_is_that_of_the_definition() -> None:
    r = Source(0).point(4)
    assert eq_list(13, r) == [eq(i, point_pairs(r)) for i in range(13)]


# Runs and blocks


@pytest.mark.parametrize("n", [*LENGTHS, *LARGE])
def test_a_dimension_has_just_enough_variables(n: int) -> None:
    k = multilinear.variables(n)
    assert n <= 1 << k
    assert k == 0 or n > 1 << (k - 1)


@pytest.mark.parametrize("n", [*LENGTHS, *LARGE])
def test_runs_are_aligned_powers_of_two_that_tile_a_dimension(n: int) -> None:
    runs = multilinear.runs(n)
    assert [i for start, log in runs for i in range(start, start + (1 << log))] == list(range(n))
    assert all(start % (1 << log) == 0 for start, log in runs)
    logs = [log for _, log in runs]
    assert logs == sorted(set(logs), reverse=True)


def test_the_runs_of_a_vocabulary() -> None:
    assert multilinear.runs(50257) == (
        *((0, 15), (32768, 14), (49152, 10)),
        *((50176, 6), (50240, 4), (50256, 0)),
    )


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_blocks_tile_a_tensor(dims: Dims) -> None:
    tensor = np.zeros(dims, dtype=np.int64)
    for block in multilinear.blocks(dims):
        tensor[block.slices] += 1
        assert tensor[block.slices].size == 1 << block.bits
    assert (tensor == 1).all()
    assert multilinear.size(dims) == tensor.size


def test_the_last_dimension_of_blocks_changes_fastest() -> None:
    found = [(block.starts, block.logs) for block in multilinear.blocks((37, 12))]
    assert found == [
        *(((0, 0), (5, 3)), ((0, 8), (5, 2))),
        *(((32, 0), (2, 3)), ((32, 8), (2, 2))),
        *(((36, 0), (0, 3)), ((36, 8), (0, 2))),
    ]


# Weights: sums over all places, by definition


@pytest.mark.parametrize("k", [0, 1, 3, 6])
def test_eq_of_an_index_is_that_of_its_bits(k: int) -> None:
    r = Source(k).point(k)
    for i in range(1 << k):
        assert pair(multilinear.eq(i, r)) == eq(i, point_pairs(r))


@pytest.mark.parametrize("k", [0, 1, 4, 5, 6, 9])
def test_the_table_of_eq_is_eq_of_every_index(k: int) -> None:
    r = Source(k).point(k)
    assert pairs(multilinear.eq_table(r)) == [eq(i, point_pairs(r)) for i in range(1 << k)]


@pytest.mark.parametrize("k", [0, 1, 5])
def test_eq_of_two_points_is_the_sum_over_the_cube(k: int) -> None:
    source = Source(k)
    r, s = source.point(k), source.point(k)
    expected = inner(eq_list(1 << k, r), eq_list(1 << k, s))
    assert pair(multilinear.eq_points(r, s)) == expected


def test_points_of_different_lengths_are_not_compared() -> None:
    source = Source(0)
    with pytest.raises(ValueError, match="shorter"):
        multilinear.eq_points(source.point(3), source.point(2))


@pytest.mark.parametrize("n", [*LENGTHS, *LARGE])
def test_ones(n: int) -> None:
    r = Source(n).point((n - 1).bit_length())
    assert pair(multilinear.ones(n, r)) == plus((0, 0), *eq_list(n, r))


@pytest.mark.parametrize("n", [*LENGTHS, *LARGE])
def test_eq_within_a_length(n: int) -> None:
    source = Source(n)
    r, s = (source.point((n - 1).bit_length()) for _ in range(2))
    assert pair(multilinear.eq_within(n, r, s)) == inner(eq_list(n, r), eq_list(n, s))


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_weights_of_a_tensor_are_eq_of_its_places(dims: Dims) -> None:
    point = point_of(Source(str(dims)), dims)
    expected = list(eq_all(dims, plain(point)).values())
    assert pairs(multilinear.weights(dims, point)) == expected
    assert pair(multilinear.ones_at(dims, point)) == plus((0, 0), *expected)


@pytest.mark.parametrize("dims", DIMS, ids=str)
@pytest.mark.parametrize("largest", [1, 2**16, 2**40, 2**62 - 1], ids=lambda n: f"{n:x}")
def test_the_value_of_a_tensor_is_the_weighted_sum_of_its_entries(dims: Dims, largest: int) -> None:
    source = Source(str(dims))
    entries = [
        source.choice([-largest, largest, 0, source.randint(-largest, largest)])
        for _ in range(multilinear.size(dims))
    ]
    point = point_of(source, dims)
    tensor = np.array(entries, dtype=np.int64).reshape(dims)
    weights = list(eq_all(dims, plain(point)).values())
    expected = inner([entry % P for entry in entries], weights)
    assert pair(multilinear.value_at(tensor, point)) == expected


def test_the_value_at_a_place_is_its_entry() -> None:
    tensor = np.arange(-20, 22).reshape(3, 14)
    for place in itertools.product(range(3), range(14)):
        bits = [
            [Ext(i >> k & 1) for k in range(count)] for i, count in zip(place, (2, 4), strict=True)
        ]
        assert multilinear.value_at(tensor, tuple(map(tuple, bits))) == Ext(int(tensor[place]) % P)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("dims", [(5,), (3, 7), (5, 2, 9), (1, 1)])
def test_the_value_of_a_tensor_of_every_type(kind: Any, dims: Dims) -> None:
    source, limits = Source(len(dims)), np.iinfo(kind)
    ends = [int(n) for n in (limits.min, limits.max, limits.min + 1, 0, -1)]
    entries = [source.choice(ends) for _ in range(multilinear.size(dims))]
    point = point_of(source, dims)
    expected = inner([n % P for n in entries], list(eq_all(dims, plain(point)).values()))
    tensor = np.array(entries, dtype=kind).reshape(dims)
    assert pair(multilinear.value_at(tensor, point)) == expected
    turned = np.asfortranarray(tensor)
    assert pair(multilinear.value_at(turned, point)) == expected


# The lower triangle


def triangle(n: int, rows: Sequence[Pair], columns: Sequence[Pair]) -> Pair:
    return plus((0, 0), *(times(rows[a], columns[b]) for a in range(n) for b in range(a + 1)))


@pytest.mark.parametrize("n", LENGTHS)
def test_the_lower_triangle_under_two_points(n: int) -> None:
    source = Source(n)
    r, s = (point_of(source, (n, n)) for _ in range(2))
    rows, columns = (
        [times(a, b) for a, b in zip(eq_list(n, r[k]), eq_list(n, s[k]), strict=True)]
        for k in range(2)
    )
    assert pair(multilinear.causal_product(n, (r[0], r[1]), (s[0], s[1]))) == triangle(
        n, rows, columns
    )


@pytest.mark.parametrize("logs", [*itertools.product(range(4), range(4))], ids=str)
def test_the_lower_triangle_within_a_box(logs: tuple[int, int]) -> None:
    source = Source(str(logs))
    i, j = (source.point(log) for log in logs)
    along, across = (eq_list(1 << log, r) for log, r in zip(logs, (i, j), strict=True))
    for start in range(12):
        rows, columns = (start, logs[0]), (4, logs[1])
        inside = [
            times(along[a], across[b])
            for a in range(len(along))
            for b in range(len(across))
            if 4 + b <= start + a
        ]
        assert pair(multilinear.causal_block(rows, columns, i, j)) == plus((0, 0), *inside)


@pytest.mark.parametrize("n", [3, 37])
def test_blocks_of_the_lower_triangle_add_up_to_it(n: int) -> None:
    point = point_of(Source(n), (n, n))
    total = Ext(0)
    for block in multilinear.blocks((n, n)):
        rows, columns = zip(block.starts, block.logs, strict=True)
        low = [r[:log] for r, log in zip(point, block.logs, strict=True)]
        high = [
            multilinear.eq(start >> log, r[log:])
            for r, start, log in zip(point, block.starts, block.logs, strict=True)
        ]
        total += high[0] * high[1] * multilinear.causal_block(rows, columns, low[0], low[1])
    assert pair(total) == triangle(n, *(eq_list(n, r) for r in point))


# The order of variables


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_flattening_and_back(dims: Dims) -> None:
    point = point_of(Source(str(dims)), dims)
    assert multilinear.unflatten(multilinear.flatten(point), dims) == point


@pytest.mark.parametrize("dims", [(4, 8), (2, 1, 4)], ids=str)
def test_bit_k_of_the_number_of_a_cell_belongs_to_entry_k(dims: Dims) -> None:
    point = point_of(Source(str(dims)), dims)
    flat = point_pairs(multilinear.flatten(point))
    assert [eq(i, flat) for i in range(multilinear.size(dims))] == pairs(
        multilinear.weights(dims, point)
    )

"""Field arithmetic against plain integers, above all where carries and borrows happen."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.sumcheck import plain
from tests.engines.sumcheck.plain import EDGES, P, Pair, Source, array, ints, pair, pairs
from zkllm import threads
from zkllm.engines.sumcheck import field
from zkllm.engines.sumcheck.field import ONE, ZERO, Ext

ELEMENTS = st.one_of(st.sampled_from(EDGES), st.integers(0, P - 1))
EXTENSION = st.builds(Ext, ELEMENTS, ELEMENTS)
BINARY = {
    "add": (field.add, lambda a, b: (a + b) % P),
    "subtract": (field.subtract, lambda a, b: (a - b) % P),
    "multiply": (field.multiply, lambda a, b: a * b % P),
}


@pytest.mark.parametrize("name", BINARY)
def test_values_at_all_pairs_of_edges(name: str) -> None:
    function, twin = BINARY[name]
    grid = list(itertools.product(EDGES, EDGES))
    result = function(array([a for a, _ in grid]), array([b for _, b in grid]))
    assert result.dtype == np.uint64
    assert ints(result) == [twin(a, b) for a, b in grid]


@pytest.mark.parametrize("name", BINARY)
@given(a=ELEMENTS, b=ELEMENTS)
def test_values(name: str, a: int, b: int) -> None:
    function, twin = BINARY[name]
    assert ints(function(array([a]), array([b]))) == [twin(a, b)]


@pytest.mark.parametrize("name", BINARY)
def test_a_single_value_stands_for_all_places_without_warnings(name: str) -> None:
    function, twin = BINARY[name]
    for b in EDGES:
        result = function(array(EDGES), np.uint64(b))
        assert ints(result) == [twin(a, b) for a in EDGES]
        single = function(np.uint64(P - 1), np.uint64(b))
        assert int(single) == twin(P - 1, b)


def test_operands_are_left_as_they_were() -> None:
    a, b = array(EDGES), array(EDGES[::-1])
    for function, _ in BINARY.values():
        function(a, b)
    assert ints(a) == EDGES
    assert ints(b) == EDGES[::-1]


# Signed integers


@pytest.mark.parametrize(
    "value", [0, 1, -1, 2**32 - 1, -(2**32) + 1, -(2**32), 2**62, -(2**62), 2**63 - 1, -(2**63)]
)
def test_signed_integers_as_elements(value: int) -> None:
    assert ints(field.to_field(np.array([value, value]))) == [value % P] * 2


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_any_signed_integers_as_elements(values: list[int]) -> None:
    assert ints(field.to_field(np.array(values))) == [value % P for value in values]


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
def test_integers_of_every_type_as_elements(kind: Any) -> None:
    limits = np.iinfo(kind)
    values = [int(limits.min), int(limits.min) + 1, -1, 0, 1, int(limits.max)]
    assert ints(field.to_field(np.array(values, dtype=kind))) == [value % P for value in values]


# The extension


@given(EXTENSION, EXTENSION, EXTENSION)
def test_the_extension_is_a_commutative_ring(x: Ext, y: Ext, z: Ext) -> None:
    assert x + y == y + x
    assert x * y == y * x
    assert (x + y) + z == x + (y + z)
    assert (x * y) * z == x * (y * z)
    assert x * (y + z) == x * y + x * z
    assert x + ZERO == x
    assert x * ONE == x
    assert x - x == ZERO
    assert x - y == x + -y


@given(EXTENSION, EXTENSION)
def test_extension_arithmetic(x: Ext, y: Ext) -> None:
    assert pair(x + y) == plain.plus(pair(x), pair(y))
    assert pair(x - y) == plain.minus(pair(x), pair(y))
    assert pair(x * y) == plain.times(pair(x), pair(y))


@given(EXTENSION, st.integers(-(2**70), 2**70))
def test_integers_are_elements_of_the_extension(x: Ext, n: int) -> None:
    element = Ext(n % P)
    assert x + n == n + x == x + element
    assert x * n == n * x == x * element
    assert x - n == x - element
    assert n - x == element - x


@given(EXTENSION.filter(lambda x: x != ZERO))
def test_inverse(x: Ext) -> None:
    assert x * x.inverse() == ONE


def test_zero_has_no_inverse() -> None:
    with pytest.raises(ValueError, match="not invertible"):
        ZERO.inverse()


def test_seven_is_no_square() -> None:
    # otherwise X² - 7 splits, and the extension has divisors of zero
    assert pow(field.NON_RESIDUE, (P - 1) // 2, P) == P - 1
    assert field.MODULUS == P
    assert field.SIZE == P * P


def test_elements_are_equal_by_both_coordinates() -> None:
    assert Ext(1, 2) == Ext(1, 2)
    assert Ext(1, 2) != Ext(1, 3)
    assert Ext(1, 2) != Ext(2, 2)
    assert Ext(1) != 1
    assert len({Ext(1, 2), Ext(1, 2), Ext(2, 1)}) == 2


@given(EXTENSION)
def test_elements_as_words(x: Ext) -> None:
    assert ints(x.to_words()) == [x.a, x.b]
    assert Ext.from_words(x.to_words()) == x


def test_half() -> None:
    assert field.HALF + field.HALF == ONE


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_powers(count: int) -> None:
    base = Ext(P - 2, 2**32)
    expected = [plain.times(*[pair(base)] * k) for k in range(count)]
    assert [pair(power) for power in field.powers(base, count)] == expected


def test_multiply_ext_at_edges() -> None:
    elements = list(itertools.product(EDGES[::3], EDGES[::3]))
    grid = list(itertools.product(elements, elements))
    result = field.multiply_ext(array([x for x, _ in grid]), array([y for _, y in grid]))
    assert pairs(result) == [plain.times(x, y) for x, y in grid]


def test_multiply_ext_keeps_the_shape() -> None:
    source = Source(1)
    a, b = source.pairs(12), source.pairs(12)
    result = field.multiply_ext(array(a).reshape(3, 4, 2), array(b).reshape(3, 4, 2))
    assert result.shape == (3, 4, 2)
    assert pairs(result) == [plain.times(x, y) for x, y in zip(a, b, strict=True)]


# Sums


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_total(count: int) -> None:
    source = Source(count)
    values = [source.pairs(count), [(P - 1, P - 1)] * count]
    for columns in values:
        assert pairs(field.total(array(columns))) == [plain.plus(*columns)]
    assert int(field.total(array([P - 1] * count))) == -count % P


@pytest.mark.parametrize("count", [1, 2, 33])
def test_dot(count: int) -> None:
    source = Source(count)
    x, y = source.pairs(count), source.pairs(count)
    assert pair(field.dot(array(x), array(y))) == plain.inner(x, y)


def contracted(weights: list[Pair], matrix: list[list[int]]) -> list[Pair]:
    return [plain.inner(weights, column) for column in zip(*matrix, strict=True)]


TYPES = (np.int8, np.int16, np.int32, np.int64)


def extremes(kind: Any) -> list[int]:
    """The ends of a type, and what lies at the ends of digits of the matrix and of halves."""
    least, most = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    powers = [sign * 2**k for k in (7, 15, 16, 21, 31, 32, 61) for sign in (1, -1)]
    around = [power + more for power in powers for more in (-1, 0, 1)]
    return [least, least + 1, -1, 0, 1, most - 1, most, *(n for n in around if least <= n <= most)]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 1023, 1024, 1025, 2049])
@pytest.mark.parametrize("kind", TYPES)
def test_contract_of_every_type_with_extreme_integers(kind: Any, n: int, order: Any) -> None:
    source, found = Source(n), extremes(kind)
    weights = [*source.pairs(n - 1), (P - 1, P - 1)]
    matrix = [[source.choice(found) for _ in range(6)] + found[:2] for _ in range(n)]
    array_of_kind = np.array(matrix, dtype=kind, order=order)
    result = field.contract(array(weights), array_of_kind)
    assert pairs(result) == contracted(weights, matrix)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("n", [1, 2, 1024, 1025, 4097])
def test_contract_of_many_equal_rows_stays_exact(kind: Any, n: int) -> None:
    """All limbs of the weights are full: one bit too many in a limb or a digit would show."""
    weights = np.full((n, 2), P - 1, dtype=np.uint64)
    values = [int(np.iinfo(kind).min), int(np.iinfo(kind).max), -1]
    matrix = np.tile(np.array(values, dtype=kind), (n, 1))
    expected = [n * (P - 1) * value % P for value in values]
    assert pairs(field.contract(weights, matrix)) == [(n, n) for n in expected]


def test_contract_of_weights_with_full_limbs() -> None:
    n = 1 << 10
    full = 2**44 - 1  # two limbs of 22 ones, as large as limbs can be
    for value in (-(2**15), 2**15 - 1, -(2**21), 2**21 - 1):
        kind = np.int16 if abs(value) <= 2**15 else np.int64
        weights = np.full((n, 2), full, dtype=np.uint64)
        result = field.contract(weights, np.full((n, 1), value, dtype=kind))
        assert pairs(result) == [(n * full * value % P,) * 2]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("n", "columns"), [(3, 100), (20, 33), (37, 7), (64, 8), (65, 9)])
def test_contract_at_the_edges_of_blocks(
    n: int, columns: int, order: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fills the last block of rows or columns, in however many threads."""
    monkeypatch.setattr(field, "_ROWS", 16)
    monkeypatch.setattr(field, "_ROOM", 64)
    monkeypatch.setattr(threads, "count", lambda: count)
    source = Source(n)
    weights = source.pairs(n)
    for kind in TYPES:
        matrix = [[source.choice(extremes(kind)) for _ in range(columns)] for _ in range(n)]
        result = field.contract(array(weights), np.array(matrix, dtype=kind, order=order))
        assert pairs(result) == contracted(weights, matrix)


def test_contract_of_a_part_of_a_tensor() -> None:
    """Neither axis need lie together in memory."""
    source = Source(3)
    whole = np.array([[source.choice(extremes(np.int16)) for _ in range(40)] for _ in range(30)])
    whole = whole.astype(np.int16)
    for part in (whole[::3, 5:30:2], whole[::-2, ::-1], whole[::3, 5:30:2].T):
        weights = source.pairs(len(part))
        result = field.contract(array(weights), part)
        assert pairs(result) == contracted(weights, [[int(v) for v in row] for row in part])


def test_contract_of_more_rows_than_sums_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field, "_MOST", 8)
    source = Source(5)
    weights, matrix = source.pairs(21), [[source.choice(extremes(np.int64))] for _ in range(21)]
    result = field.contract(array(weights), np.array(matrix, dtype=np.int64))
    assert pairs(result) == contracted(weights, matrix)


@pytest.mark.parametrize(("kind", "value"), [(np.int16, 2**15 - 1), (np.int64, 2**42 - 1)])
def test_contract_of_two_million_rows(kind: Any, value: int) -> None:
    """All limbs and digits are full: sums of all blocks would leave int64."""
    n, full = (1 << 21) + 1, 2**44 - 1
    weights = np.full((n, 2), full, dtype=np.uint64)
    result = field.contract(weights, np.full((n, 1), value, dtype=kind))
    assert pairs(result) == [(n * full * value % P,) * 2]


def test_contract_of_no_columns() -> None:
    assert field.contract(array([(1, 2)]), np.zeros((1, 0), dtype=np.int64)).shape == (0, 2)


# Roots of unity


@pytest.mark.parametrize("logarithm", [0, 1, 2, 16, 31, 32])
def test_roots_of_unity_have_their_order(logarithm: int) -> None:
    root = field.root_of_unity(logarithm)
    assert pow(root, 2**logarithm, P) == 1
    if logarithm:
        assert pow(root, 2 ** (logarithm - 1), P) == P - 1
        assert pow(root, 2, P) == field.root_of_unity(logarithm - 1)


@pytest.mark.parametrize("logarithm", [-1, 33])
def test_there_are_no_other_roots_of_unity(logarithm: int) -> None:
    with pytest.raises(ValueError, match=f"got {logarithm}"):
        field.root_of_unity(logarithm)

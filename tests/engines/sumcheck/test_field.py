"""Field arithmetic against plain integers, above all where carries and borrows happen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.sumcheck import plain
from tests.engines.sumcheck.plain import EDGES, P, Pair, Source, array, ints, pair, pairs
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


EXTREMES = [0, 1, -1, 2**61, -(2**61), 2**61 - 1, 1 - 2**61, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65])
def test_contract_with_extreme_integers(n: int) -> None:
    source = Source(n)
    weights = [*source.pairs(n - 1), (P - 1, P - 1)]
    matrix = [[source.choice(EXTREMES) for _ in range(6)] + EXTREMES[3:5] for _ in range(n)]
    result = field.contract(array(weights), np.array(matrix, dtype=np.int64))
    assert pairs(result) == contracted(weights, matrix)


@pytest.mark.parametrize("value", [2**61, -(2**61), 2**20 - 1, -1])
def test_contract_of_many_rows_stays_exact(value: int) -> None:
    # All limbs of the weights are full, so that one bit too many in a limb would show.
    n = 4097
    weights = np.full((n, 2), 2**62 - 1, dtype=np.uint64)
    result = field.contract(weights, np.full((n, 2), value, dtype=np.int64))
    expected = n * (2**62 - 1) * value % P
    assert pairs(result) == [(expected, expected)] * 2


def test_contract_by_pieces_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(5)
    calls = []
    whole = field._contract_piece

    def piece(*arguments: object) -> object:
        calls.append(arguments)
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(field, "_contract_piece", piece)
    n = 1 << 20
    matrix = np.zeros((n, 9), dtype=np.int64)
    rows = [0, 1, n // 2, n - 1]
    for row in rows:
        matrix[row] = [source.randrange(-(2**40), 2**40) for _ in range(9)]
    weights = np.zeros((n, 2), dtype=np.uint64)
    chosen = source.pairs(len(rows))
    weights[rows] = array(chosen)
    result = field.contract(weights, matrix)
    assert len(calls) == 3
    assert pairs(result) == contracted(chosen, [[int(v) for v in matrix[row]] for row in rows])


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

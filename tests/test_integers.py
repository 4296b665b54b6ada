"""Arithmetic on integers against an oracle of plain Python integers, loops and fractions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.drawing import array, rows
from tests.exact import oracle
from tests.exact.oracle import Rows
from zkllm import integers as whole
from zkllm import threads
from zkllm.errors import UnsupportedModel
from zkllm.integers import require

# Division


@given(st.integers(-(2**60), 2**60), st.integers(1, 2**60))
@example(-1, 2)
@example(1, 2)
@example(-3, 2)
@example(-5, 3)
@example(-1, 1)
def test_round_div(n: int, d: int) -> None:
    expected = oracle.rounded(n, d)
    assert int(whole.round_div(array([n]), d)[0]) == expected
    assert int(whole.round_div(array([n]), array([d]))[0]) == expected
    assert abs(Fraction(n, d) - expected) <= Fraction(1, 2)


@given(st.integers(-(2**60), 2**60), st.integers(0, 58))
@example(-1, 1)
@example(-(2**60), 58)
def test_round_shift(n: int, s: int) -> None:
    assert int(whole.round_shift(array([n]), s)[0]) == oracle.rounded(n, 2**s)


def test_a_half_goes_up() -> None:
    assert whole.round_shift(array([-3, -1, 1, 3]), 1).tolist() == [-1, 0, 1, 2]


# Square root


@given(st.integers(0, 2**61 - 1))
@example(0)
@example(2**61 - 1)
def test_isqrt(n: int) -> None:
    assert int(whole.isqrt(array([n]))[0]) == math.isqrt(n) == whole.isqrt_exact(n)


@given(st.integers(1, math.isqrt(2**61) - 1))
@example(math.isqrt(2**61) - 1)
@example(94906267)  # its square is the first beyond 2^53
def test_isqrt_around_squares(root: int) -> None:
    """One below a square is where a float64 guess is wrong."""
    values = [root * root - 1, root * root, root * root + 1]
    assert whole.isqrt(array(values)).tolist() == [root - 1, root, root]


def test_isqrt_corrects_its_guess() -> None:
    """Near 2^61 the float64 root of r² - 1 is r: the correction must run. That of r² is r too."""
    start = math.isqrt(2**61 - 1)
    roots = array(range(start - 5000, start + 1))
    below = roots * roots - 1
    assert (np.sqrt(below.astype(np.float64)) == roots).any()
    assert (whole.isqrt(below) == roots - 1).all()
    assert (whole.isqrt(roots * roots) == roots).all()
    assert (whole.isqrt(roots * roots + 1) == roots).all()


# Products


@pytest.mark.parametrize("limit", [3, 2**12, 2**25, 2**29])
@given(data=st.data())
def test_matmul(limit: int, data: st.DataObject) -> None:
    t, n, m = (data.draw(st.integers(1, 4)) for _ in range(3))
    a, b = rows(data, t, n, limit), rows(data, n, m, limit)
    expected = [[sum(a[i][j] * b[j][k] for j in range(n)) for k in range(m)] for i in range(t)]
    assert whole.matmul(array(a), array(b)).tolist() == expected


def test_a_product_beyond_float64_keeps_its_last_bit() -> None:
    a, b = array([[2**30, 1]]), array([[2**30], [1]])
    assert whole.matmul(a, b).tolist() == [[2**60 + 1]]
    assert whole.matmul(array([[2**26, 1]]), array([[2**27], [1]])).tolist() == [[2**53 + 1]]


def test_large_factors_that_do_not_meet_are_multiplied() -> None:
    """Bounds are of sums; the largest of each side together may be far beyond them."""
    a, b = array([[2**40, 0], [0, 3]]), array([[0, 7], [2**51, 1]])
    assert whole.matmul(a, b).tolist() == [[0, 7 * 2**40], [3 * 2**51, 3]]
    a, b = array([[2**51, 0]]), array([[0, -1], [2**51, 2**51]])
    assert whole.matmul(a, b).tolist() == [[0, -(2**51)]]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([[2**31]], [[-(2**31)]]),
        ([[-(2**63)]], [[1]]),
        ([[-(2**63)]], [[2]]),
        ([[2**60, 2**60]], [[2], [-2]]),
    ],
)
def test_a_product_beyond_int64_is_refused(a: Rows, b: Rows) -> None:
    with pytest.raises(UnsupportedModel, match=r"could reach 2\^6\d, which int64 does not hold"):
        whole.matmul(array(a), array(b))


TYPES = (np.int8, np.int16, np.int32, np.int64)


def product(a: Rows, b: Rows) -> Rows:
    columns = list(zip(*b, strict=True))
    return [[sum(p * q for p, q in zip(row, k, strict=True)) for k in columns] for row in a]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kinds", list(itertools.product(TYPES[:2], TYPES[:3])))
def test_matmul_of_every_type_with_extreme_integers(kinds: tuple[Any, Any], order: Any) -> None:
    """What is multiplied leaves its type, and what is added the type of the products."""
    left, right = (
        [int(n) for n in (np.iinfo(kind).min, np.iinfo(kind).max, -1, np.iinfo(kind).min)]
        for kind in kinds
    )
    for a_kind, b_kind, a, b in (
        (*kinds, [left, left[::-1]], [[n, n, 1] for n in right]),
        (*kinds[::-1], [right, right[::-1]], [[n, n, 1] for n in left]),
    ):
        found = whole.matmul(np.array(a, dtype=a_kind), np.array(b, dtype=b_kind, order=order))
        assert found.dtype == np.int64
        assert found.tolist() == product(a, b)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape", [(2, 16, 100), (1, 20, 33), (3, 64, 8), (3, 65, 9), (2, 1, 1)])
def test_matmul_by_pieces_of_columns(
    shape: tuple[int, int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "_ROOM", 64)
    monkeypatch.setattr(threads, "count", lambda: count)
    t, n, m = shape
    random = np.random.default_rng(n)
    a, b = random.integers(-(2**15), 2**15, (t, n)), random.integers(-(2**15), 2**15, (n, m))
    expected = product(a.tolist(), b.tolist())
    for kind, order in itertools.product((np.int16, np.int64), "CF"):
        found = whole.matmul(a, np.array(b, dtype=kind, order=order))  # type: ignore[call-overload]
        assert found.tolist() == expected
    heads = whole.matmul(np.stack([a, -a]), np.stack([b, b]))
    assert heads.tolist() == [expected, [[-n for n in row] for row in expected]]


def test_products_of_int64_are_taken_in_int64_whatever_the_types() -> None:
    """Beyond float64 numpy multiplies integers, and would do so in the type that they have."""
    a, b = np.full((1, 300), -(2**31), np.int32), np.full((300, 1), 2**20, np.int32)
    assert whole.matmul(a, b).tolist() == [[-300 * 2**51]]


def test_require_names_all_it_knows() -> None:
    assert require(15, 16, "head", "x") == 15
    message = r"^head: the proven bound of x is 17 \(2\^4\), the limit is 2\^4$"
    with pytest.raises(UnsupportedModel, match=message):
        require(17, 16, "head", "x")
    with pytest.raises(UnsupportedModel):
        require(16, 16, "head", "x")

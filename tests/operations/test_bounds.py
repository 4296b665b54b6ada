"""What is proven of rows, and of sums of products with weights, in Python's integers."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from zkllm.operations import bounds


@given(st.lists(st.integers(0, 2**60), min_size=1, max_size=9), st.integers(0, 2**60))
def test_rows(entries: list[int], bound: int) -> None:
    row = bounds.vector(entries, 7)
    assert (row.width, row.largest, row.norm) == (len(entries), max(entries), 7)
    assert row.entries == entries
    # of entries from different rows only their own bounds are known
    squares = sum(n * n for n in entries)
    assert row.mixed == bounds.length(entries) == math.isqrt(max(0, squares - 1)) + bool(squares)
    assert bounds.vector(entries, 7, by_columns=True).mixed == 7
    same = bounds.uniform(len(entries), bound)
    assert same.entries == [bound] * len(entries)
    assert same.largest == bound
    assert same.norm == same.mixed == bounds.length(same.entries)


@given(st.integers(0, 10**30))
def test_a_window_is_above_its_bound(bound: int) -> None:
    assert bound < bounds.window(bound) <= max(1, 2 * bound)


def test_sums_beyond_int64_are_exact() -> None:
    weight = np.array([[2**40, 1], [2**40, 1]])
    assert bounds.square_sums(weight) == [2**81, 2]
    assert bounds.square_sums(weight >> 8) == [2**65, 0]  # int64 would wrap around to zero
    assert bounds.square_sums(weight >> 20) == [2**41, 0]
    entries = [2**40, 2**39]
    assert bounds.absolute_sums(-weight, entries) == [2**80 + 2**79, 2**40 + 2**39]
    assert bounds.absolute_sums(weight >> 20, [3, 1]) == [2**22, 0]


@given(st.integers(0, 10**40))
@example(0)
@example(2**104)
@example(2**104 + 1)
def test_ceil_sqrt(n: int) -> None:
    root = bounds.ceil_sqrt(n)
    assert (root - 1) ** 2 < n <= root * root or n == root == 0

"""Linear layers against Python's integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import array, rows
from tests.exact import oracle
from tests.inner import linear as proven_linear
from zkllm.errors import UnsupportedModel
from zkllm.integers import FLOAT64_LIMIT
from zkllm.operations import bounds
from zkllm.operations.linear.exact import linear
from zkllm.tensors import magnitude


@given(data=st.data(), shift=st.integers(0, 12))
def test_linear(data: st.DataObject, shift: int) -> None:
    x, w = rows(data, 3, 4, 2**15), rows(data, 4, 2, 2**11)
    b = rows(data, 1, 2, 2**20)[0]
    expected = [
        [
            oracle.rounded(sum(p * w[j][k] for j, p in enumerate(row)) + b[k], 2**shift)
            for k in (0, 1)
        ]
        for row in x
    ]
    y = linear(array(x), array(w), array(b), shift=shift)
    assert y.tolist() == expected


@given(
    weight=st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2), min_size=2, max_size=2),
    bias=st.lists(st.integers(-30, 30), min_size=2, max_size=2),
    shift=st.integers(0, 3),
    entries=st.lists(st.integers(0, 5), min_size=2, max_size=2),
    length=st.integers(0, 8),
)
def test_linear_bounds_every_row_there_is(
    weight: list[list[int]], bias: list[int], shift: int, entries: list[int], length: int
) -> None:
    w, b = np.array(weight), np.array(bias)
    layer, output = proven_linear("unit", "layer", bounds.vector(entries, length), w, b, shift)
    half = (1 << shift) >> 1
    for row in itertools.product(*(range(-n, n + 1) for n in entries)):
        if sum(n * n for n in row) > length * length:
            continue
        x = np.array([row])
        assert magnitude(np.abs(x) @ np.abs(w) + np.abs(b) + half) <= layer.accumulator
        y = linear(x, w, b, shift=shift)[0]
        assert all(abs(int(n)) <= limit for n, limit in zip(y, output.entries, strict=True))
        assert magnitude(y) <= layer.output == max(output.entries)
        assert int((y * y).sum()) <= output.norm**2
    assert (layer.weight, layer.bias, layer.shift) == ("w", "b", shift)


def test_linear_bounds_are_not_loose() -> None:
    """Cauchy-Schwarz where the norm is short, absolute values where the entries are."""
    w, b = np.array([[3], [4]]), np.array([7])
    short, _ = proven_linear("u", "l", bounds.vector([100, 100], 10), w, b, 0)
    small, _ = proven_linear("u", "l", bounds.vector([1, 2], 100), w, b, 0)
    assert (short.accumulator, small.accumulator) == (5 * 10 + 7, 3 + 8 + 7)
    rounded, _ = proven_linear("u", "l", bounds.vector([100, 100], 10), w, b, 3)
    assert (rounded.accumulator, rounded.output) == (50 + 7 + 4, 61 // 8 + 1)


def test_rounding_counts_in_the_length_of_a_row() -> None:
    """Sixty-four halves are rounded up to a row of length 8, twice as long as before."""
    w, b = np.ones((1, 64), dtype=np.int64), np.zeros(64, dtype=np.int64)
    _, output = proven_linear("u", "l", bounds.vector([1], 1), w, b, 1)
    y = linear(np.array([[1]]), w, b, shift=1)
    assert int((y * y).sum()) == 64
    assert output.norm == 8


def test_an_accumulator_beyond_float64_is_refused() -> None:
    x = bounds.vector([1 << 30], 1 << 30)
    weight = np.array([[1 << 22]])
    with pytest.raises(
        UnsupportedModel,
        match=r"^mlp\[1\]: the proven bound of project's accumulator is "
        r"4503599627370497 \(2\^52\), the limit is 2\^52",
    ):
        proven_linear("mlp[1]", "project", x, weight, np.array([1]), 0)
    below = proven_linear("mlp[1]", "project", x, weight - 1, np.array([1]), 0)
    assert below[0].accumulator < FLOAT64_LIMIT


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"^head: the weights of logits .* for 2 more"):
        proven_linear(
            "head",
            "logits",
            bounds.vector([1], 1),
            np.eye(1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            -2,
        )

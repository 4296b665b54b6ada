"""Activations against Python's integers."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tests.drawing import array
from zkllm.operations.activation.exact import gelu


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8))
@example([-4, -3, 0, 3, 4, 5])
def test_gelu(values: list[int]) -> None:
    table = [0, 1, 1, 1, 0]
    expected = [(n if n > 0 else 0) - (table[abs(n)] if abs(n) < 5 else 0) for n in values]
    assert gelu(array(values), array(table)).tolist() == expected
    assert gelu(array(values), array([0])).tolist() == [max(n, 0) for n in values]

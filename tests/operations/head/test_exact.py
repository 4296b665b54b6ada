"""The arg-max against Python's integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import array
from tests.exact.oracle import Rows
from zkllm.operations.head.exact import arg_max


@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4))
def test_ties_go_to_the_lowest_index(logits: Rows) -> None:
    assert arg_max(array(logits)).tolist() == [row.index(max(row)) for row in logits]

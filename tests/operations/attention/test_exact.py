"""Attention against Python's integers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import array, rows
from tests.exact import oracle
from tests.inner import join_heads, split_heads
from zkllm.operations.attention.exact import attention

TABLE = [1000, 500, 200, 50, 3]


@given(
    data=st.data(),
    heads=st.integers(1, 3),
    tokens=st.integers(1, 6),
    limit=st.sampled_from([2, 9, 3000]),
    shift=st.integers(0, 6),
)
def test_attention(data: st.DataObject, heads: int, tokens: int, limit: int, shift: int) -> None:
    q, k, v = ([rows(data, tokens, 3, limit) for _ in range(heads)] for _ in range(3))
    got = attention(array(q), array(k), array(v), shift=shift, table=array(TABLE))
    assert got.output.tolist() == [
        oracle.attention(*head, shift, TABLE) for head in zip(q, k, v, strict=True)
    ]


@given(data=st.data())
def test_the_inner_values_of_attention_are_those_of_its_output(data: st.DataObject) -> None:
    q, k, v = (array([rows(data, 5, 3, 9)]) for _ in range(3))
    got = attention(q, k, v, shift=1, table=array(TABLE))
    for i in range(5):
        assert int(got.maximum[0, i]) == got.score[0, i, : i + 1].max()
        assert not got.exponential[0, i, i + 1 :].any()
        assert int(got.total[0, i]) == got.exponential[0, i].sum() >= TABLE[0]


def test_the_place_of_a_maximum_counts_only_if_it_is_visible() -> None:
    """A later key with a huge score must not lower the weights of earlier rows."""
    q = array([[[1], [1]]])
    k = array([[[0], [1_000_000]]])
    v = array([[[5], [9]]])
    got = attention(q, k, v, shift=0, table=array(TABLE))
    assert got.maximum.tolist() == [[0, 1_000_000]]
    assert got.exponential.tolist() == [[[1000, 0], [3, 1000]]]
    assert got.output[0].tolist() == [[5], [9]]


def test_heads_are_split_and_joined() -> None:
    x = array(np.arange(24).reshape(3, 8))
    split = split_heads(x, 2)
    assert split.shape == (2, 3, 4)
    assert split[1, 2].tolist() == x[2, 4:].tolist()
    assert (join_heads(split) == x).all()


def test_heads_may_attend_to_different_rows() -> None:
    """‖o‖₂ is not bounded by any one row of values, only by their columns: see `quantise`."""
    large, peak = 1000, 1 << 20
    v = np.array([[[large], [0]], [[0], [large]]])  # head 0 is large in row 0, head 1 in row 1
    q, k = np.array([[[1], [1]]] * 2), np.array([[[peak], [0]], [[0], [peak]]])
    o = attention(q, k, v, shift=0, table=np.array([1 << 10, 0])).output
    assert (o[:, 1] == large).all()
    longest_row = max(int((row * row).sum()) for row in join_heads(v))
    assert int((o[:, 1] ** 2).sum()) == 2 * longest_row

"""Integers for tests of exact arithmetic: as arrays, and as rows that hypothesis draws."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.exact.oracle import Rows
from zkllm.tensors import IntArray


def array(values: object) -> IntArray:
    return np.array(values, dtype=np.int64)


def rows(data: st.DataObject, count: int, width: int, limit: int) -> Rows:
    row = st.lists(st.integers(-limit, limit), min_size=width, max_size=width)
    return data.draw(st.lists(row, min_size=count, max_size=count))

"""Tables of integers, correctly rounded with `decimal`, on any machine the same."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_FLOOR, Decimal

import numpy as np

from zkllm.tensors import IntArray

DIGITS = 60
"""Working precision: an entry would have to lie within 10^-50 of a tie to be rounded wrongly."""
GUARD = 20
"""More digits where each entry comes from the one before."""


def rounded(value: Decimal) -> int:
    """The nearest integer; a half goes up."""
    return int((value + Decimal("0.5")).to_integral_value(rounding=ROUND_FLOOR))


def constant(values: list[int]) -> IntArray:
    """An array that no caller can change under the others: tables are made once and shared."""
    table = np.array(values, dtype=np.int64)
    table.setflags(write=False)
    return table


def powers(first: Decimal, ratio: Decimal) -> Iterator[Decimal]:
    """`first`·`ratio`^u for u = 0, 1, ...; 2^20 products lose 7 of `GUARD` more digits."""
    while True:
        yield first
        first *= ratio

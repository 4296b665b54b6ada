"""Floats become integers exactly: rounding, and how finely weights are cut."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zkllm.errors import UnsupportedModel
from zkllm.operations.draft import quantise, weight_fraction

WEIGHTS = st.floats(-1e6, 1e6, allow_subnormal=True)


@given(st.lists(WEIGHTS, min_size=1, max_size=6), st.integers(-12, 24))
@example([0.49999999999999994, -0.5, 0.5, -1e-300], 0)
def test_quantise_is_exact(values: list[float], fraction: int) -> None:
    scale = Fraction(2) ** fraction
    expected = [math.floor(Fraction(x) * scale + Fraction(1, 2)) for x in values]
    assert quantise(np.array(values), fraction).tolist() == expected


@pytest.mark.parametrize("value", [2.0**44, -(2.0**44), 1e300, math.inf, math.nan])
def test_what_no_integer_holds_is_refused(value: float) -> None:
    assert quantise(np.array([2.0**43]), 8).tolist() == [2**51]
    with pytest.raises(UnsupportedModel, match=r"^embed: x must stay below 2\^52 with 8 fraction"):
        quantise(np.array([0.0, value]), 8, "embed: x")


@given(st.lists(WEIGHTS, min_size=1, max_size=6), st.sampled_from([8, 10, 12]))
def test_the_weight_fraction_is_the_finest_that_fits(values: list[float], bits: int) -> None:
    array, limit = np.array(values), 2 ** (bits - 1) - 1
    fraction = weight_fraction(array, bits)
    assert np.abs(quantise(array, fraction)).max() <= limit
    if fraction < 24:
        assert max(Fraction(abs(x)) * Fraction(2) ** (fraction + 1) for x in values) > limit


def test_no_weights_at_all_have_the_finest_fraction() -> None:
    assert weight_fraction(np.zeros((2, 2)), 10) == 24

"""The constants of a LayerNorm follow from floats without rounding."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from zkllm.operations.norm.draft import epsilon_at


@given(st.integers(1, 10**6), st.integers(1, 10**9), st.integers(-4, 16))
def test_epsilon_is_scaled_without_rounding(
    numerator: int, denominator: int, fraction: int
) -> None:
    epsilon = Fraction(numerator, denominator)
    assert Fraction(*epsilon_at(epsilon, fraction)) == epsilon * Fraction(2) ** (2 * fraction)

"""LayerNorm against Python's integers, and its bounds."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.drawing import array, rows
from tests.exact import oracle
from tests.inner import norm, norm_values, normalise
from zkllm.errors import UnsupportedModel
from zkllm.integers import VARIANCE_LIMIT
from zkllm.operations.norm.exact import layer_norm


@given(
    data=st.data(),
    width=st.integers(1, 9),
    limit=st.sampled_from([1, 100, 2**20, 2**30]),
    shift=st.integers(0, 5),
    epsilon=st.integers(1, 10**6),
)
def test_layer_norm(data: st.DataObject, width: int, limit: int, shift: int, epsilon: int) -> None:
    x = rows(data, 3, width, limit >> 4 if width > 4 and limit > 2**28 else limit)
    gain = round(math.sqrt(width) * 1024)
    got = layer_norm(array(x), shift=shift, epsilon=epsilon, gain=gain)
    for t, row in enumerate(x):
        centred, variance, sigma, output = oracle.layer_norm(row, shift, epsilon, gain)
        assert got.centred[t].tolist() == centred
        assert (int(got.variance[t]), int(got.sigma[t])) == (variance, sigma)
        assert got.output[t].tolist() == output
        # ‖x̂‖₂ <= K + ½√d, on which every later bound rests, as (2‖x̂‖ - √d)² <= (2K)² unrooted
        squares = sum(n * n for n in output)
        assert math.isqrt(4 * squares) <= 2 * gain + math.isqrt(width) + 1


def test_a_constant_row_is_normalised_to_zero() -> None:
    got = layer_norm(array([[7, 7, 7]]), shift=0, epsilon=1, gain=1000)
    assert got.output.tolist() == [[0, 0, 0]]
    assert int(got.sigma[0]) == 2


# Bounds

NORMS = st.tuples(
    st.integers(1, 12),  # d
    st.integers(1, 1 << 45) | st.integers(1, 50),  # bound
    st.integers(0, 12),  # fraction
    st.fractions(0, 1).filter(bool) | st.just(Fraction(1, 100_000)),
)


@given(NORMS, st.data())
@example((4, 1 << 40, 10, Fraction(1, 10**5)), None)
def test_norm(case: tuple[int, int, int, Fraction], data: Any) -> None:
    d, bound, fraction, epsilon = case
    n = norm(
        "unit", bound, d=d, fraction=fraction, epsilon=(epsilon.numerator, epsilon.denominator)
    )
    # K = round(√d·2^g)
    assert (2 * n.gain - 1) ** 2 <= 4 * d * 4**fraction <= (2 * n.gain + 1) ** 2
    # E = max(1, round(d·ε/4^t)), and t the least that proves V < 2^61
    for shift in (n.shift, n.shift - 1) if n.shift else (n.shift,):
        constant = max(1, math.floor(d * epsilon / 4**shift + Fraction(1, 2)))
        largest = d * (math.ceil(Fraction(bound, 2**shift)) + Fraction(1, 2)) ** 2 + constant
        assert (largest < VARIANCE_LIMIT) == (shift == n.shift)
        assert shift != n.shift or n.variance == math.ceil(largest)
    assert n.epsilon == max(1, math.floor(d * epsilon / 4**n.shift + Fraction(1, 2)))
    if data is None:
        row = [bound, bound, -bound, -bound]  # Σ(x - μ)² = d·B², the most there is
    else:
        entry = st.sampled_from([-bound, bound]) | st.integers(-bound, bound)
        row = data.draw(st.lists(entry, min_size=d, max_size=d))
    for name, met, limit in norm_values(np.array([row]), n)[0]:
        assert met <= limit, name


def test_the_variance_bound_is_nearly_reached() -> None:
    n = norm("unit", 1 << 20, d=4, fraction=10, epsilon=(1, 10**5))
    x = np.array([[1, 1, -1, -1]]) << 20
    assert n.shift == 0
    assert int(normalise(x, n).variance[0]) > 0.99 * n.variance


@pytest.mark.parametrize(
    ("bound", "fraction", "message"),
    [
        (1 << 50, 10, r"^mlp\[3\]: the proven bound of d·x - Σx is 90071992\d{8} \(2\^53\), the "),
        (1 << 46, 24, r"^mlp\[3\]: the proven bound of c·K is \d+ \(2\^\d+\), the limit is 2\^52"),
    ],
)
def test_a_norm_beyond_the_exact_range_is_refused(bound: int, fraction: int, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message) as caught:
        norm("mlp[3]", bound, d=4, fraction=fraction, epsilon=(1, 10**5))
    assert "fraction bits" in caught.value.hint

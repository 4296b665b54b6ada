"""Tables against an independent way: intervals of fractions, and the float functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from zkllm.engines.ezkl.exp import FLOAT32_E
from zkllm.operations import tables
from zkllm.tensors import IntArray, tensor_digest

E32 = Fraction(float(np.float32(math.e)))
BITS = 120
"""Working precision of the oracle, in bits behind the point."""


def exp_interval(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two fractions around exp(x): the series after halving, outward by its remainder."""
    halvings = max(0, math.ceil(abs(x)).bit_length())
    y = x / 2**halvings
    term = total = Fraction(1)
    for n in range(1, 45):
        term = Fraction(round(term * y / n * 2**BITS), 2**BITS)
        total += term
    error = Fraction(1, 2 ** (BITS - 12))  # 45 roundings, and a remainder below |y|^45/45!
    low, high = total - error, total + error
    for _ in range(halvings):
        low = Fraction(math.floor(low * low * 2**BITS), 2**BITS)
        high = Fraction(math.ceil(high * high * 2**BITS), 2**BITS)
    return low, high


def log_e32() -> tuple[Fraction, Fraction]:
    """Two fractions around ln(E32) = 1 + ln(E32/e)."""
    low, high = exp_interval(Fraction(1))
    ratios = (E32 / high - 1, E32 / low - 1)
    logs = [x - x * x / 2 + x**3 / 3 for x in ratios]  # |x| < 2^-24, so x^4/4 < 2^-98
    return 1 + min(logs) - Fraction(1, 2**96), 1 + max(logs) + Fraction(1, 2**96)


def rounded(low: Fraction, high: Fraction) -> int:
    """floor(x + 1/2) of any x between; the two ends must agree."""
    a, b = math.floor(low + Fraction(1, 2)), math.floor(high + Fraction(1, 2))
    assert a == b, "the oracle is too coarse"
    return a


def sampled(table: IntArray, count: int = 60) -> list[int]:
    """Both ends and places between, the steep start more densely."""
    last = len(table) - 1
    places = {0, 1, 2, 3, last, last - 1, last // 2} | set(range(0, last, max(1, last // count)))
    return sorted(u for u in places if 0 <= u <= last)


# EXP


@pytest.mark.parametrize(("argument_bits", "value_bits"), [(10, 16), (8, 12), (3, 5), (0, 8)])
def test_exp_free_is_correctly_rounded(argument_bits: int, value_bits: int) -> None:
    table = tables.exp_free(argument_bits, value_bits)
    for u in sampled(table):
        low, high = exp_interval(Fraction(-u, 2**argument_bits))
        assert int(table[u]) == rounded(low * 2**value_bits, high * 2**value_bits), u


@pytest.mark.parametrize(("argument_bits", "value_bits"), [(10, 16), (8, 12), (3, 5)])
def test_exp_free_falls_from_its_scale_to_zero(argument_bits: int, value_bits: int) -> None:
    table = tables.exp_free(argument_bits, value_bits)
    assert table[0] == 2**value_bits
    assert (np.diff(table) <= 0).all()
    assert table[-1] == 0 < table[-2]
    # the first zero is where exp(-u/2^a) drops below 2^-(k+1)
    assert len(table) - 1 == math.floor((value_bits + 1) * math.log(2) * 2**argument_bits) + 1


@pytest.mark.parametrize(("scale", "offset", "logrows"), [(8, 240, 14), (8, 0, 13), (10, 0, 13)])
def test_exp_ezkl_is_correctly_rounded(scale: int, offset: int, logrows: int) -> None:
    table = tables.exp_ezkl(scale, offset, logrows)
    log_low, log_high = log_e32()
    for z in sampled(table):
        power = Fraction(offset - z, 2**scale)
        exponents = sorted((power * log_low, power * log_high))
        low, high = exp_interval(exponents[0])[0], exp_interval(exponents[1])[1]
        assert int(table[z]) == rounded(low * 2**scale, high * 2**scale), z


def test_exp_ezkl_fills_the_lookup_window_and_falls() -> None:
    table = tables.exp_ezkl(8, 240, 14)
    assert len(table) == 2**14 - 8
    assert (np.diff(table) <= 0).all()
    assert table[0] == round(256 * math.exp(240 / 256))
    assert table[240] == 256
    assert table[-1] == 0


def test_exp_ezkl_has_float32_e_for_its_base() -> None:
    assert Fraction(FLOAT32_E) != E32  # what is written is cut to the digits shown by Rust
    assert abs(Fraction(FLOAT32_E) - E32) < Fraction(1, 10**16)
    # A base this wrong shows where a value is large: e^4 and E32^4 differ in the tenth digit.
    table = tables.exp_ezkl(25, 4 << 25, 4)
    with_e = [round(2**25 * math.exp((4 * 2**25 - z) / 2**25)) for z in range(8)]
    with_e32 = [round(2**25 * float(E32) ** ((4 * 2**25 - z) / 2**25)) for z in range(8)]
    assert table.tolist() == with_e32 != with_e


# GELU


def gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


KINDS = [(tables.gelu_tanh, gelu_tanh), (tables.gelu_erf, gelu_erf)]


@pytest.mark.parametrize(("make", "function"), KINDS)
@pytest.mark.parametrize("fraction", [4, 8, 10])
def test_gelu_tables_are_the_float_functions(
    make: Callable[[int], IntArray], function: Callable[[float], float], fraction: int
) -> None:
    """D[u] = 2^f·(max(x, 0) - gelu(x)) on either side of zero, within the error of float64."""
    table = make(fraction)
    for u, entry in enumerate(table.tolist()):
        for x in (u / 2**fraction, -u / 2**fraction):
            exact = 2**fraction * (max(x, 0) - function(x))
            assert entry == math.floor(exact + 0.5) or abs(exact + 0.5 - round(exact + 0.5)) < 1e-9


@pytest.mark.parametrize(("make", "function"), KINDS)
@pytest.mark.parametrize("fraction", [4, 8, 10])
def test_gelu_tables_rise_fall_and_end_in_zero(
    make: Callable[[int], IntArray], function: Callable[[float], float], fraction: int
) -> None:
    table = make(fraction)
    top = int(table.argmax())
    assert (np.diff(table[: top + 1]) >= 0).all()
    assert (np.diff(table[top:]) <= 0).all()
    assert table[0] == 0 == table[-1] < table[-2]
    assert (table <= np.arange(len(table))).all()  # |gelu(x)| <= |x|
    # nothing is cut off: beyond the end every value rounds to zero
    for u in range(len(table), len(table) + 2**fraction):
        x = u / 2**fraction
        assert 2**fraction * (x - function(x)) < 0.5


def test_a_table_that_would_not_end_is_refused() -> None:
    with pytest.raises(OverflowError, match="more than 1048576 entries"):
        tables._until_zero(itertools.repeat(Decimal(1)))


def test_relu_is_the_empty_correction() -> None:
    assert tables.relu().tolist() == [0]


DIGESTS = {
    "exp_free(10, 16)": "b00f6186cde0d00f15bb2098aa6e0b6341a9714bbd5812bce3110dfba7331070",
    "exp_ezkl(8, 240, 14)": "58282816b4cff9110b275ac99e71ab7b85c12346a8f7d37657aa8849ed0e13fd",
    "gelu_tanh(10)": "06940ce6a5502a75c5a18e27894c8a4af1d868f9830897e18ebfab91107eef9b",
    "gelu_erf(10)": "29ff612931d0596e8c42385c96e84fbb5a8415506b77cfea974175b5e3292194",
}


@pytest.mark.parametrize("call", DIGESTS)
def test_tables_are_the_same_on_every_machine(call: str) -> None:
    """Other entries are other models: every digest that was ever pinned would change."""
    table = eval(call, vars(tables))
    assert tensor_digest(table, "int32") == f"sha256:{DIGESTS[call]}"

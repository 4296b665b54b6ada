"""EXP and GELU tables, correctly rounded with `decimal`, on any machine the same.

A table is *stored* in the exact model and its digest is checked; this code only makes it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from decimal import Decimal, localcontext

from zkllm.decimals import DIGITS, GUARD, constant, powers, rounded
from zkllm.engines.ezkl.exp import exp_ezkl as exp_ezkl  # one of the tables that a model may have
from zkllm.tensors import IntArray

_LIMIT = 1 << 20
"""No table is longer than this."""


def _until_zero(entries: Iterator[Decimal]) -> IntArray:
    """All entries up to and with the first that rounds to 0 for good."""
    values: list[int] = []
    risen = False
    for entry in itertools.islice(entries, _LIMIT):
        values.append(rounded(entry))
        risen = risen or values[-1] > 0
        # Both tables end at 0 on a falling slope; u·Φ(-u) also starts at 0.
        if values[-1] == 0 and risen:
            return constant(values)
    raise OverflowError(f"a table would need more than {_LIMIT} entries")


@functools.cache
def exp_free(argument_bits: int, value_bits: int) -> IntArray:
    """EXP[u] = round(2^k·exp(-u·2^-a)) with a = `argument_bits`, k = `value_bits`; ends in 0."""
    with localcontext() as context:
        context.prec = DIGITS + GUARD
        step = Decimal(2) ** -argument_bits
        return _until_zero(powers(Decimal(2) ** value_bits, (-step).exp()))


def _erf(x: Decimal) -> Decimal:
    """Erf by its Maclaurin series; fast enough below |x| = 8."""
    term = total = x
    n = 0
    threshold = Decimal(10) ** -(DIGITS + 5)
    while abs(term) > threshold:
        n += 1
        term *= -x * x / n
        total += term / (2 * n + 1)
    return total * 2 / _pi().sqrt()


def _pi() -> Decimal:
    """π by Machin's formula, to the working precision."""

    def arctan_inverse(n: int) -> Decimal:
        power = total = Decimal(1) / n
        k = 1
        while abs(power) > Decimal(10) ** -(DIGITS + 8):
            power /= -n * n
            k += 2
            total += power / k
        return total

    return 4 * (4 * arctan_inverse(5) - arctan_inverse(239))


@functools.cache
def gelu_erf(fraction: int) -> IntArray:
    """D[u] = round(2^f·x·Φ(-x)) at x = u·2^-f, f = `fraction`, with the Gaussian Φ."""
    with localcontext() as context:
        context.prec = DIGITS + 15
        root = Decimal(2).sqrt()
        unit = Decimal(2) ** fraction
        return _until_zero(u * (1 - _erf(u / unit / root)) / 2 for u in itertools.count())


@functools.cache
def gelu_tanh(fraction: int) -> IntArray:
    """D for GPT-2's `gelu_new`, Φ(-x) ≈ (1 - tanh(√(2/π)·(x + 0.044715·x³))) / 2."""
    with localcontext() as context:
        context.prec = DIGITS
        slope = (2 / _pi()).sqrt()
        unit = Decimal(2) ** fraction
        cubic = Decimal("0.044715")

        def entry(u: int) -> Decimal:
            x = u / unit
            # (1 - tanh(a))/2 = 1/(exp(2a) + 1)
            return u / ((2 * slope * (x + cubic * x**3)).exp() + 1)

        return _until_zero(entry(u) for u in itertools.count())


def relu() -> IntArray:
    """D = [0]: max(x, 0) alone."""
    return constant([0])

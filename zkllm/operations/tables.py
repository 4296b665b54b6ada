"""EXP and GELU tables, correctly rounded with `decimal`, on any machine the same.

A table is *stored* in the exact model and its digest is checked; this code only makes it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Literal, TypeAlias

from zkllm.decimals import DIGITS, GUARD, constant, powers, rounded
from zkllm.engines.ezkl.exp import exp_ezkl as exp_ezkl  # one of the tables that a model may have
from zkllm.records import below
from zkllm.tensors import IntArray

_LIMIT = 1 << 20
"""No table is longer than this."""

_MAX_VALUE_BITS = 48
"""Entries stay below 2^50: a sum of e·v could not hold more."""
_TIE = 1e-6
"""More than floats lose here; what is this near to a half is left to exact arithmetic."""

ActivationKind: TypeAlias = Literal["gelu_new", "gelu", "relu"]
"""A function that is max(x, 0) less what a table holds."""


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


# A table by what is said of it


@dataclass(frozen=True, slots=True)
class ExpTable:
    """Which EXP table an attention uses."""

    family: Literal["free", "ezkl"]
    argument_bits: int = field(metadata=below(62))
    """a of the free family, S of ezkl's: arguments are multiples of 2^-a."""
    value_parameter: int
    """k of the free family (values are multiples of 2^-k), hi of ezkl's."""
    logrows: int = field(metadata=below(62))
    """Size of ezkl's lookup window, 2^logrows - 8; 0 for the free family."""

    def make(self) -> IntArray:
        """The table; raises `OverflowError` if it would be too long."""
        if self.family == "free":
            return exp_free(self.argument_bits, self.value_parameter)
        return exp_ezkl(self.argument_bits, self.value_parameter, self.logrows)

    def make_like(self, table: IntArray) -> IntArray | None:
        """The table, unless it is known before it is made that `table` is another.

        Somebody may say that a table is of any length, and its numbers of any size.
        """
        a, k = self.argument_bits, self.value_parameter
        if self.family == "free":
            size = math.ldexp((k + 1) * math.log(2), a)
            may = not self.logrows and k <= _MAX_VALUE_BITS and abs(size - len(table)) < 3
        else:
            bits = a + math.ldexp(k / math.log(2), -a)
            may = bits <= _MAX_VALUE_BITS and len(table) == (1 << self.logrows) - 8
        return self.make() if may else None


def activation(kind: ActivationKind, fraction: int) -> IntArray:
    """The table D of an activation whose arguments have `fraction` fraction bits.

    Raises `OverflowError` if it would be too long.
    """
    match kind:
        case "gelu_new":
            return gelu_tanh(fraction)
        case "gelu":
            return gelu_erf(fraction)
        case "relu":
            return relu()


def activation_like(kind: ActivationKind, fraction: int, table: IntArray) -> IntArray | None:
    """`activation`, unless it is known before it is made that `table` is another."""
    # below a quarter nothing of it is left
    may = kind == "relu" or (fraction >= 2 and ends_gelu(kind, fraction, len(table) - 1))
    return activation(kind, fraction) if may else None


def ends_gelu(kind: ActivationKind, fraction: int, last: int) -> bool:
    """Whether `last` is the first index at which the table of `kind` has fallen to 0."""

    def entry(u: int) -> float:
        x = math.ldexp(u, -fraction)
        if kind == "gelu":
            return u * math.erfc(x / math.sqrt(2)) / 2
        return u / (math.exp(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) + 1)

    if not 1 << fraction <= last <= 1 << (fraction + 4):
        return False  # far from 1 to 16, where a float would not hold its exponential
    return entry(last) < 0.5 + _TIE and entry(last - 1) > 0.5 - _TIE

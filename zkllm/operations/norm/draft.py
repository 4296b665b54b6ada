"""The constants of a LayerNorm, from how finely its rows are cut."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from zkllm.integers import VARIANCE_LIMIT
from zkllm.operations.bounds import Vector
from zkllm.operations.draft import Draft
from zkllm.operations.norm.exact import Norm, NormStep, variance
from zkllm.tensors import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class NormDraft(Draft):
    """LayerNorm of rows that have `residual` fraction bits to rows that have `fraction`."""

    width: int
    """d."""
    epsilon: Fraction
    """ε, at the scale of the floats."""
    residual: int
    fraction: int
    """g."""

    def quantise(
        self, unit: str, given: Sequence[Vector], tensors: MutableMapping[str, IntArray]
    ) -> NormStep:
        epsilon = epsilon_at(self.epsilon, self.residual)
        (x,) = given
        numbers = chosen(x.largest, d=self.width, fraction=self.fraction, epsilon=epsilon)
        return NormStep(self.name, self.reads, self.writes, numbers, self.width)


def chosen(bound: int, *, d: int, fraction: int, epsilon: tuple[int, int]) -> Norm:
    """Constants of a LayerNorm of rows with |x| <= `bound`; no bound is proven yet.

    `fraction` is g. `epsilon` is (numerator, denominator) of ε·2^(2f), f the fraction bits of x.
    t is the smallest shift that proves V < 2^61.
    """
    numerator, denominator = epsilon
    shift = 0
    while True:
        # E = max(1, round(d·ε·2^(2(f-t))))
        scaled = denominator << (2 * shift)
        e = max(1, (2 * d * numerator + scaled) // (2 * scaled))
        if variance(bound, d=d, shift=shift, epsilon=e) < VARIANCE_LIMIT:
            return Norm(shift, e, gain(d, fraction), 0, 0, 0)
        shift += 1


def gain(d: int, fraction: int) -> int:
    """K = round(√d·2^g) of a LayerNorm whose rows get `fraction`, g, fraction bits."""
    return (math.isqrt(d << (2 * fraction + 2)) + 1) // 2


def epsilon_at(epsilon: Fraction, fraction: int) -> tuple[int, int]:
    """ε·2^(2f) as (numerator, denominator)."""
    scaled = epsilon * Fraction(4) ** fraction
    return scaled.numerator, scaled.denominator

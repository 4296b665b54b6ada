"""LayerNorm without its affine part, which is folded into the next linear layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from zkllm import integers
from zkllm.integers import FIELD_LIMIT, FLOAT64_LIMIT, VARIANCE_LIMIT, isqrt, round_div
from zkllm.operations import bounds
from zkllm.operations.bounds import Vector
from zkllm.operations.step import Step, Tensors
from zkllm.records import below
from zkllm.tensors import IntArray


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm's constants and proven bounds (`layer_norm`)."""

    shift: int = field(metadata=below(62))
    """t."""
    epsilon: int = field(metadata=below(VARIANCE_LIMIT))
    """E."""
    gain: int
    """K."""
    centred: int
    """Bound on |c|."""
    variance: int = field(metadata=below(VARIANCE_LIMIT))
    """Bound on V."""
    output: int
    """Bound on |x̂|."""


@dataclass(frozen=True)
class NormStep(Step):
    """[T, d] to [T, d]."""

    numbers: Norm
    width: int
    """d."""

    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        return normalise(given[0], self.numbers).output

    def prove(self, unit: str, given: Sequence[Vector], tensor: Tensors) -> tuple[NormStep, Vector]:
        n, (x,) = self.numbers, given
        proven = prove(unit, x.largest, d=self.width, shift=n.shift, epsilon=n.epsilon, gain=n.gain)
        # ‖x̂‖₂ <= K + ½√d is true of a row, not of entries from different rows
        value = Vector(self.width, proven.output, proven.output, by_columns=False)
        return replace(self, numbers=proven), value

    def work(self, rows: int) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Normalised:
    """The values of one LayerNorm, all that a prover needs."""

    centred: IntArray
    """c, shape [T, d]: centred rows, shifted right by t."""
    variance: IntArray
    """V = Σ c² + E, shape [T]."""
    sigma: IntArray
    """σ = isqrt(V) + 1, shape [T]."""
    output: IntArray
    """x̂, shape [T, d]."""


def layer_norm(x: IntArray, *, shift: int, epsilon: int, gain: int) -> Normalised:
    """LayerNorm without its affine part, which is folded into the next linear layer.

    c_j = round((d·x_j - Σx) / (d·2^t)) with t = `shift`; V = Σ c² + E with E = `epsilon`;
    σ = isqrt(V) + 1; x̂_j = round(c_j·K / σ) with K = `gain` = round(√d·2^g).
    σ² > V > Σc² gives ‖x̂‖₂ <= K + ½√d for every input.
    """
    d = x.shape[-1]
    centred = round_div(d * x - x.sum(axis=-1, keepdims=True), d << shift)
    variance = (centred * centred).sum(axis=-1) + epsilon
    sigma = isqrt(variance) + 1
    return Normalised(centred, variance, sigma, round_div(centred * gain, sigma[:, None]))


def normalise(x: IntArray, n: Norm) -> Normalised:
    """`layer_norm` with the constants of `n`."""
    return layer_norm(x, shift=n.shift, epsilon=n.epsilon, gain=n.gain)


def prove(unit: str, bound: int, *, d: int, shift: int, epsilon: int, gain: int) -> Norm:
    """The bounds of a LayerNorm with the constants t, E and K, of rows with |x| <= `bound`.

    Raises `UnsupportedModel` if a sum could leave the exact range.
    """
    # the half of d·2^t that rounds is added before the division
    integers.require(2 * d * bound + (d << shift) // 2, FLOAT64_LIMIT, unit, "d·x - Σx")
    largest = variance(bound, d=d, shift=shift, epsilon=epsilon)
    integers.require(largest, VARIANCE_LIMIT, unit, "V")
    centred, root = _centred(bound, shift), math.isqrt(largest)
    integers.require(centred * gain + root + 1, FLOAT64_LIMIT, unit, "c·K")
    output = gain + (bounds.ceil_sqrt(d) + 1) // 2
    divided = centred * gain + (bounds.window(output) + 4) * bounds.window(root)
    integers.require(divided, FIELD_LIMIT, unit, "x̂·σ, as provers confine it")
    return Norm(shift, epsilon, gain, centred, largest, output)


def variance(bound: int, *, d: int, shift: int, epsilon: int) -> int:
    """Bound on V of rows with |x| <= `bound`.

    ‖c‖₂ <= √d·B/2^t + ½√d, because Σ(x - μ)² <= Σx² and each rounding adds ½ at most.
    """
    return (d * _centred(bound, shift) ** 2 + 3) // 4 + epsilon


def _centred(bound: int, shift: int) -> int:
    """|x - μ| is 2B at most, B/2^t rounded up, and rounding adds less than 1."""
    return 2 * -(-bound // (1 << shift)) + 1

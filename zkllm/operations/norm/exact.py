"""LayerNorm without its affine part, which is folded into the next linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zkllm.integers import isqrt, round_div
from zkllm.operations.step import Step, Tensors
from zkllm.tensors import IntArray


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm's constants and proven bounds (`layer_norm`)."""

    shift: int
    """t."""
    epsilon: int
    """E."""
    gain: int
    """K."""
    centred: int
    """Bound on |c|."""
    variance: int
    """Bound on V; below 2^61."""
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

"""A linear layer with rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zkllm.integers import matmul, round_shift
from zkllm.operations.step import Dims, Step, Tensors
from zkllm.tensors import IntArray, StoredArray


@dataclass(frozen=True, slots=True)
class Linear:
    """round((x·W + b) / 2^s), with proven bounds."""

    weight: str
    bias: str
    shift: int
    accumulator: int
    """Bound on the sum of the absolute values of all terms, bias and rounding included."""
    output: int
    """Bound on |y|."""


@dataclass(frozen=True)
class LinearStep(Step):
    """[T, *inner] to [T, *outer]."""

    numbers: Linear
    inner: Dims
    outer: Dims

    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        layer, (x,) = self.numbers, given
        flat = x.reshape(len(x), -1)  # [T, n]
        y = linear(flat, tensor(layer.weight), tensor(layer.bias), shift=layer.shift)  # [T, m]
        return y.reshape(len(x), *self.outer)

    def weights(self) -> Mapping[str, Dims]:
        n, m = math.prod(self.inner), math.prod(self.outer)
        return {self.numbers.weight: (n, m), self.numbers.bias: (m,)}

    def work(self, rows: int) -> int:
        return rows * math.prod(self.inner) * math.prod(self.outer)


def linear(x: IntArray, weight: StoredArray, bias: StoredArray, *, shift: int) -> IntArray:
    """round((x·W + b) / 2^s): x [T, n], W [n, m], b [m] at the scale of the accumulator."""
    return round_shift(matmul(x, weight) + bias, shift)

"""A linear layer with rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from zkllm import integers
from zkllm.errors import UnsupportedModel
from zkllm.integers import FIELD_LIMIT, FLOAT64_LIMIT, matmul, round_shift
from zkllm.operations import bounds
from zkllm.operations.bounds import Vector, ceil_sqrt
from zkllm.operations.step import Dims, Step, Tensors
from zkllm.records import below
from zkllm.tensors import IntArray, StoredArray


@dataclass(frozen=True, slots=True)
class Linear:
    """round((x·W + b) / 2^s), with proven bounds."""

    weight: str
    bias: str
    shift: int = field(metadata=below(62))
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

    def prove(
        self, unit: str, given: Sequence[Vector], tensor: Tensors
    ) -> tuple[LinearStep, Vector]:
        layer, (x,) = self.numbers, given
        if layer.shift < 0:
            raise UnsupportedModel(
                f"{unit}: the weights of {self.name} are too large for {-layer.shift} more "
                "fraction bits",
                hint="fewer fraction bits lower the scale: see --help of export",
            )
        weight, bias = tensor(layer.weight), tensor(layer.bias)
        squares = bounds.square_sums(weight)
        columns = bounds.accumulators(x, weight, bias, squares, (1 << layer.shift) >> 1)
        largest = max(columns)
        integers.require(largest, FLOAT64_LIMIT, unit, f"{self.name}'s accumulator")
        outputs = [(c >> layer.shift) + 1 if layer.shift else c for c in columns]
        proven = replace(layer, accumulator=largest, output=max(outputs))
        frobenius = ceil_sqrt(sum(squares)) * x.norm + ceil_sqrt(sum(b * b for b in bias.tolist()))
        # rounding adds at most ½ to each of m entries, hence ½√m to the norm
        norm = -(-frobenius // (1 << layer.shift)) + (ceil_sqrt(len(outputs)) + 1) // 2
        norm = min(norm, bounds.length(outputs))
        # 2^52 above every term leaves room in the field for the window above any output
        return replace(self, numbers=proven), bounds.vector(outputs, norm, by_columns=True)

    def require_room(self, unit: str, largest: int) -> None:
        layer = self.numbers
        confined = layer.accumulator + ((largest + 2) << layer.shift)
        integers.require(confined, FIELD_LIMIT, unit, f"{self.name}·2^s, as provers confine it")

    def weights(self) -> Mapping[str, Dims]:
        n, m = math.prod(self.inner), math.prod(self.outer)
        return {self.numbers.weight: (n, m), self.numbers.bias: (m,)}

    def work(self, rows: int) -> int:
        return rows * math.prod(self.inner) * math.prod(self.outer)


def linear(x: IntArray, weight: StoredArray, bias: StoredArray, *, shift: int) -> IntArray:
    """round((x·W + b) / 2^s): x [T, n], W [n, m], b [m] at the scale of the accumulator."""
    return round_shift(matmul(x, weight) + bias, shift)

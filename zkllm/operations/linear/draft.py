"""The integers of a linear layer, from its float weights."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from zkllm.operations.bounds import Vector
from zkllm.operations.draft import Draft, product_fraction, quantise
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.step import Dims
from zkllm.tensors import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class LinearDraft(Draft):
    """x·W + b from values of `fraction_in` fraction bits to values of `fraction_out`."""

    weight: FloatArray
    """W, shape [n, m]."""
    bias: FloatArray
    """b, shape [m]."""
    inner: Dims
    """Of the values that it reads, n together."""
    outer: Dims
    """Of those that it writes, m together."""
    fraction_in: int
    fraction_out: int
    bits: int
    """Of a weight, sign included."""

    def quantise(
        self, unit: str, given: Sequence[Vector], tensors: MutableMapping[str, IntArray]
    ) -> LinearStep:
        fraction = product_fraction(self.fraction_in, self.weight, self.bits)
        names = f"{unit}.{self.name}.weight", f"{unit}.{self.name}.bias"
        weight = quantise(self.weight, fraction - self.fraction_in, f"{unit}: {self.name}.weight")
        bias = quantise(self.bias, fraction, f"{unit}: {self.name}.bias")
        tensors.update(zip(names, (weight, bias), strict=True))
        numbers = Linear(*names, fraction - self.fraction_out, 0, 0)
        return LinearStep(self.name, self.reads, self.writes, numbers, self.inner, self.outer)

"""The integers of a head, from its float weights."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from zkllm.operations.bounds import Vector
from zkllm.operations.draft import Draft, product_fraction, quantise
from zkllm.operations.head.exact import HeadStep, Logits
from zkllm.tensors import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class HeadDraft(Draft):
    """The arg-max of x·W + b, of values that have `fraction_in` fraction bits.

    Logits are compared with each other, so any fraction bits will do: they keep those of x·W.
    """

    weight: FloatArray
    """W, shape [d, vocabulary]."""
    bias: FloatArray
    """b, shape [vocabulary]."""
    fraction_in: int
    bits: int
    """Of a weight, sign included."""

    def quantise(
        self, unit: str, given: Sequence[Vector], tensors: MutableMapping[str, IntArray]
    ) -> HeadStep:
        names = f"{unit}.logits.weight", f"{unit}.logits.bias"
        fraction = product_fraction(self.fraction_in, self.weight, self.bits)
        weight = quantise(self.weight, fraction - self.fraction_in, f"{unit}: logits.weight")
        bias = quantise(self.bias, fraction, f"{unit}: logits.bias")
        tensors.update(zip(names, (weight, bias), strict=True))
        return HeadStep(self.name, self.reads, self.writes, Logits(*names, 0), *weight.shape)

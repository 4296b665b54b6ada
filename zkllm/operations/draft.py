"""From float weights to steps: drafts, whose numbers are chosen as the bounds before them allow.

Rounding uses element-wise IEEE operations only, so that it is the same on any machine.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from zkllm.errors import UnsupportedModel
from zkllm.integers import FLOAT64_LIMIT
from zkllm.operations.bounds import Vector
from zkllm.operations.step import Step
from zkllm.operations.unit import Boundary, Bounds, Ids, Unit, in_order
from zkllm.tensors import FloatArray, IntArray

MAX_WEIGHT_FRACTION = 24


@dataclass(frozen=True, slots=True, eq=False)
class Draft(ABC):
    """A step whose numbers are still to be chosen: `name`, `reads` and `writes` are the step's.

    Subclasses add float weights, how finely they are cut, and the dimensions.
    """

    name: str
    reads: tuple[str, ...]
    writes: str

    @abstractmethod
    def quantise(
        self, unit: str, given: Sequence[Vector], tensors: MutableMapping[str, IntArray]
    ) -> Step:
        """The step with its constants; its bounds are still to be proven (`Step.prove`).

        `given` is proven of what it reads. The integers of its weights and tables are put into
        `tensors`. Raises `UnsupportedModel` for weights that no integers hold.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A unit of drafts, as an architecture makes it; `Unit` explains the fields."""

    name: str
    drafts: tuple[Draft, ...]
    output: Ids | None = None
    """The ids that the unit gives; if none, it gives rows, whose bound follows."""
    reads: str = "x"
    writes: str = "change"
    residual: bool = True

    def quantise(self, source: Boundary, tensors: MutableMapping[str, IntArray]) -> Unit:
        """The unit with its bounds proven, of the input `source`; its integers go to `tensors`.

        Raises `UnsupportedModel` for weights that no integers hold, or if a number could leave
        the exact range.
        """
        proof = Bounds(self.name, self.reads, source, tensors.__getitem__)
        for draft in in_order(self.name, self.reads, self.drafts):
            proof.add(draft.quantise(self.name, proof.of(draft.reads), tensors))
        return proof.unit(self.drafts, self.writes, self.output, residual=self.residual)


def weight_fraction(weight: FloatArray, bits: int) -> int:
    """The most fraction bits with which every weight fits in `bits` bits."""
    largest = float(np.abs(weight).max())
    limit = (1 << (bits - 1)) - 1
    fraction = MAX_WEIGHT_FRACTION
    while fraction > -MAX_WEIGHT_FRACTION and math.ldexp(largest, fraction) > limit:
        fraction -= 1
    return fraction


def product_fraction(fraction: int, weight: FloatArray, bits: int) -> int:
    """Fraction bits of x·W, of x with `fraction` and W cut into integers of `bits` bits."""
    return fraction + weight_fraction(weight, bits)


def quantise(values: FloatArray, fraction: int, what: str = "a tensor") -> IntArray:
    """floor(x·2^f + 1/2), exactly: scaling by a power of two does not round, nor does x - ⌊x⌋.

    Raises `UnsupportedModel` if an integer would reach 2^52, beyond which bounds mean nothing.
    """
    limit = math.ldexp(FLOAT64_LIMIT, -fraction)
    if not (np.abs(values) < limit).all():
        raise UnsupportedModel(
            f"{what} must stay below 2^52 with {fraction} fraction bits, "
            f"got {float(np.abs(values).max()):.4g}"
        )
    scaled = np.ldexp(values, fraction)
    whole = np.floor(scaled)
    # floor(x + 0.5) in float64 would carry the largest number below one half up to one
    return (whole + (scaled - whole >= 0.5)).astype(np.int64)

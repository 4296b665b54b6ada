"""Squares, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zkllm import integers
from zkllm.integers import FIELD_LIMIT, FLOAT64_LIMIT
from zkllm.operations.bounds import Vector, length, vector, window
from zkllm.operations.step import Dims, Step, Tensors
from zkllm.tensors import IntArray


@dataclass(frozen=True, slots=True)
class Square:
    """What a square needs to know."""

    input: int
    """Bound on |x|."""
    output: int
    """Bound on x²."""


@dataclass(frozen=True)
class SquareStep(Step):
    """[T, *dims] to the same shape."""

    numbers: Square
    dims: Dims

    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        return square(given[0])

    def prove(
        self, unit: str, given: Sequence[Vector], tensor: Tensors
    ) -> tuple[SquareStep, Vector]:
        (x,) = given
        largest = integers.require(x.largest**2, FLOAT64_LIMIT, unit, "x²")
        entries = [n * n for n in x.entries]
        proven = replace(self, numbers=Square(x.largest, largest))
        # provers confine y to the window of its bound, and x to its own
        proven.require_room(unit, window(largest))
        return proven, vector(entries, length(entries), by_columns=True)

    def require_room(self, unit: str, largest: int) -> None:
        confined = window(self.numbers.input) ** 2 + largest
        integers.require(confined, FIELD_LIMIT, unit, "x², as provers confine it")

    def work(self, rows: int) -> int:
        return rows * math.prod(self.dims)


def square(x: IntArray) -> IntArray:
    """x² of every entry."""
    return x * x

"""Squares of values that are cut into integers."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from tests.toy.exact import Square, SquareStep
from zkllm.operations.bounds import Vector
from zkllm.operations.draft import Draft
from zkllm.operations.step import Dims
from zkllm.tensors import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class SquareDraft(Draft):
    """x² of values of some fraction bits, to values of twice as many."""

    dims: Dims

    def quantise(
        self, unit: str, given: Sequence[Vector], tensors: MutableMapping[str, IntArray]
    ) -> SquareStep:
        return SquareStep(self.name, self.reads, self.writes, Square(0, 0), self.dims)

"""GELU and ReLU by a table of what they are less than max(x, 0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zkllm.errors import WrongMaterial
from zkllm.operations.bounds import Vector, window
from zkllm.operations.step import Dims, Step, Tensors
from zkllm.records import word
from zkllm.tensors import IntArray, StoredArray


@dataclass(frozen=True, slots=True)
class Activation:
    """What an activation reads."""

    table: str
    """The table D."""
    input: int
    """Bound on |x|, and so on |y|."""


@dataclass(frozen=True)
class ActivationStep(Step):
    """[T, *dims] to the same shape."""

    numbers: Activation
    dims: Dims

    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        return gelu(given[0], tensor(self.numbers.table))

    def prove(
        self, unit: str, given: Sequence[Vector], tensor: Tensors
    ) -> tuple[ActivationStep, Vector]:
        (x,) = given
        # |y| <= |x|, entry by entry, since 0 <= D[u] <= u (`check_table`)
        return replace(self, numbers=replace(self.numbers, input=x.largest)), x

    def confines(self, tensor: Tensors) -> Mapping[str, int]:
        # |x| is a sum: its minimum with the last index, and what that cuts off
        last = len(tensor(self.numbers.table)) - 1
        return {self.reads[0]: last + window(self.numbers.input)}

    def tables(self) -> tuple[str, ...]:
        return (self.numbers.table,)

    def check_table(self, name: str, table: StoredArray) -> None:
        beyond = (table < 0) | (table > np.arange(len(table)))
        for u in np.flatnonzero(beyond)[:1]:
            raise WrongMaterial(
                f"tensor {word(name)}: expected a table of GELU with 0 <= D[u] <= u, "
                f"got D[{u}] = {int(table[u])}"
            )

    def work(self, rows: int) -> int:
        return 0


def gelu(x: IntArray, table: StoredArray) -> IntArray:
    """max(x, 0) - D[min(|x|, cap)], for every x; `table` is D, of cap + 1 entries, D[cap] = 0.

    With D = [0] this is ReLU.
    """
    entries = table[np.minimum(np.abs(x), len(table) - 1)]
    return np.maximum(x, 0) - entries.astype(np.int64)

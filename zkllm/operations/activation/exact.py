"""GELU and ReLU by a table of what they are less than max(x, 0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zkllm.operations.step import Dims, Step, Tensors
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

    def tables(self) -> tuple[str, ...]:
        return (self.numbers.table,)

    def work(self, rows: int) -> int:
        return 0


def gelu(x: IntArray, table: StoredArray) -> IntArray:
    """max(x, 0) - D[min(|x|, cap)], for every x; `table` is D, of cap + 1 entries, D[cap] = 0.

    With D = [0] this is ReLU.
    """
    entries = table[np.minimum(np.abs(x), len(table) - 1)]
    return np.maximum(x, 0) - entries.astype(np.int64)

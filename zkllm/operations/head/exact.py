"""The arg-max of the logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zkllm import integers
from zkllm.integers import FLOAT64_LIMIT, matmul
from zkllm.operations import bounds
from zkllm.operations.bounds import Vector
from zkllm.operations.step import Chooser, Dims, Tensors
from zkllm.tensors import IntArray, StoredArray

_COLUMNS = 8192
"""Logits are made in slices of so many columns: 50257 rows of float64 need not be in memory."""


@dataclass(frozen=True, slots=True)
class Logits:
    """Logits are raw accumulators x·W + b: compared, never rescaled."""

    weight: str
    bias: str
    logit: int
    """Bound on the sum of the absolute values of all terms of a logit."""


@dataclass(frozen=True)
class HeadStep(Chooser):
    """Rows [n, d] to ids [n], ties to the lowest id."""

    numbers: Logits
    width: int
    vocabulary: int

    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        return best(given[0], tensor(self.numbers.weight), tensor(self.numbers.bias))

    def logits(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        return matmul(given[0], tensor(self.numbers.weight)) + tensor(self.numbers.bias)

    def prove(self, unit: str, given: Sequence[Vector], tensor: Tensors) -> tuple[HeadStep, Vector]:
        head, (x,) = self.numbers, given
        weight, bias = tensor(head.weight), tensor(head.bias)
        largest = max(bounds.accumulators(x, weight, bias, bounds.square_sums(weight)))
        integers.require(largest, FLOAT64_LIMIT, unit, "logits's accumulator")
        proven = replace(head, logit=largest)
        return replace(self, numbers=proven), bounds.uniform(1, self.vocabulary - 1)

    def weights(self) -> Mapping[str, Dims]:
        return {
            self.numbers.weight: (self.width, self.vocabulary),
            self.numbers.bias: (self.vocabulary,),
        }

    def work(self, rows: int) -> int:
        return rows * self.width * self.vocabulary


def best(x: IntArray, weight: StoredArray, bias: StoredArray) -> IntArray:
    """[n, d] to the arg-max ids [n] of x·W + b, ties to the lowest id."""
    ids = np.zeros(len(x), dtype=np.int64)
    highest: IntArray | None = None
    for start in range(0, weight.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        logits = matmul(x, weight[:, columns]) + bias[columns]  # [n, columns]
        index = arg_max(logits)
        value = logits[np.arange(len(x)), index]
        # strictly greater: an equal logit at a higher id loses the tie
        wins = np.ones(len(x), dtype=bool) if highest is None else value > highest
        ids = np.where(wins, index + start, ids)
        highest = value if highest is None else np.where(wins, value, highest)
    return ids


def arg_max(logits: IntArray) -> IntArray:
    """The index of the largest logit of each row, ties to the lowest index."""
    index: IntArray = np.argmax(logits, axis=-1).astype(np.int64)
    return index

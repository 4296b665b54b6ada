"""Rows of two tables, by token and by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zkllm import integers
from zkllm.errors import ConstraintViolation
from zkllm.integers import FLOAT64_LIMIT
from zkllm.operations import bounds
from zkllm.operations.bounds import Vector
from zkllm.operations.step import Dims, Step, Tensors
from zkllm.tensors import IntArray, StoredArray, magnitude


@dataclass(frozen=True, slots=True)
class Embed:
    """x = tokens[id] + positions[position]."""

    tokens: str
    positions: str
    output: int


@dataclass(frozen=True)
class EmbedStep(Step):
    """Ids [T] to rows [T, d]."""

    numbers: Embed
    vocabulary: int
    context: int
    width: int

    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        return embed(given[0], tensor(self.numbers.tokens), tensor(self.numbers.positions))

    def prove(
        self, unit: str, given: Sequence[Vector], tensor: Tensors
    ) -> tuple[EmbedStep, Vector]:
        largest = [magnitude(tensor(n)) for n in (self.numbers.tokens, self.numbers.positions)]
        bound = integers.require(sum(largest), FLOAT64_LIMIT, unit, "the embedding")
        proven = replace(self.numbers, output=bound)
        return replace(self, numbers=proven), bounds.uniform(self.width, bound)

    def weights(self) -> Mapping[str, Dims]:
        return {
            self.numbers.tokens: (self.vocabulary, self.width),
            self.numbers.positions: (self.context, self.width),
        }

    def work(self, rows: int) -> int:
        return 0


def embed(ids: IntArray, tokens: StoredArray, positions: StoredArray) -> IntArray:
    """[T] to [T, d]: gathered rows, the first id standing at position 0.

    Raises `ConstraintViolation` for more ids than positions, or an id that is no token: numpy
    would stretch the first and count the second from the end.
    """
    if len(ids) > len(positions):
        raise ConstraintViolation(f"embed: at most {len(positions)} tokens, got {len(ids)}")
    for place in np.flatnonzero((ids < 0) | (ids >= len(tokens)))[:1]:
        raise ConstraintViolation(
            f"embed: id {place} must lie in 0..{len(tokens) - 1}, got {ids[place]}"
        )
    return tokens[ids].astype(np.int64) + positions[: len(ids)]

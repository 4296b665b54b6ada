"""What all operations have in common: a step of a unit, and how it is read in exact arithmetic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from zkllm.tensors import IntArray, StoredArray

Dims: TypeAlias = tuple[int, ...]
Tensors: TypeAlias = Callable[[str], StoredArray]
"""The integers of a tensor of the model, by its name, in any signed type.

They are widened before anything is computed with them: a sum or product may leave that type.
"""


@dataclass(frozen=True)
class Step(ABC):
    """One operation of a unit: what it reads and writes there, and its numbers.

    Values have a row for each position: shape [T, ...]. Subclasses add a record of numbers, which
    are constants and proven bounds, and whatever dimensions do not follow from what is read.
    """

    name: str
    """Its own in the unit; columns, equations and errors are called after it."""
    reads: tuple[str, ...]
    """Names of values."""
    writes: str
    """The name of one value."""

    @abstractmethod
    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        """What it writes, of what it reads, in numpy: right where others differ."""

    def weights(self) -> Mapping[str, Dims]:
        """The weights that it reads, by name, with the shapes in which they are stored."""
        return {}

    def tables(self) -> tuple[str, ...]:
        """The lookup tables that it reads, by name."""
        return ()

    @abstractmethod
    def work(self, rows: int) -> int:
        """Products that it sums for so many rows."""

"""What all operations have in common: a step of a unit, and how it is read in exact arithmetic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from zkllm.errors import UnsupportedModel, WrongMaterial
from zkllm.operations.bounds import Vector
from zkllm.records import word
from zkllm.tensors import IntArray, StoredArray

Dims: TypeAlias = tuple[int, ...]
Tensors: TypeAlias = Callable[[str], StoredArray]
"""The integers of a tensor of the model, by its name, in any signed type.

They are widened before anything is computed with them: a sum or product may leave that type.
"""


@dataclass(frozen=True)
class Step(ABC):
    """One operation of a unit: what it reads and writes there, and its numbers.

    Values have a row for each position: shape [T, ...]. Subclasses say what record
    their numbers are, and add whatever dimensions do not follow from what is read.
    """

    name: str
    """Its own in the unit; columns, equations and errors are called after it."""
    reads: tuple[str, ...]
    """Names of values."""
    writes: str
    """The name of one value."""
    numbers: Any
    """A record: constants and proven bounds."""

    @abstractmethod
    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        """What it writes, of what it reads, in numpy: right where others differ."""

    @abstractmethod
    def prove(self, unit: str, given: Sequence[Vector], tensor: Tensors) -> tuple[Step, Vector]:
        """The step with its constants and the bounds that its integers prove; those of its value.

        `given` is proven of what it reads. Provers confine what it writes to the power of two
        above its bound, unless its reader or the unit gives that value a form of its own (then
        see `require_room`): under that alone its equations have to hold over the integers, and not
        only over a field. Raises `UnsupportedModel` if a number could leave the exact range.
        """

    def confines(self, tensor: Tensors) -> Mapping[str, int]:
        """The values that it reads and gives a form of its own, by name.

        Provers confine each to the magnitude that stands beside it, and to nothing smaller.
        """
        return {}

    def require_room(self, unit: str, largest: int) -> None:
        """Raises `UnsupportedModel` unless its equations hold if what it writes has another form.

        It is then confined to `largest` in magnitude, and to nothing smaller.
        """
        raise UnsupportedModel(f"{unit}: what {self.name} writes has a form of its own")

    def weights(self) -> Mapping[str, Dims]:
        """The weights that it reads, by name, with the shapes in which they are stored."""
        return {}

    def tables(self) -> tuple[str, ...]:
        """The lookup tables that it reads, by name."""
        return ()

    def check_table(self, name: str, table: StoredArray) -> None:
        """Raises `WrongMaterial` unless its table `name` may hold `table`, as bounds suppose."""
        raise WrongMaterial(f"tensor {word(name)}: {self.name} reads no table")

    def largest_entry(self, table: str) -> int:
        """The largest entry of `table`, for who plans without it; 0 where that changes nothing."""
        return 0

    @abstractmethod
    def work(self, rows: int) -> int:
        """Products that it sums for so many rows."""


class Chooser(Step):
    """A step that gives the id of the largest logit of each row."""

    @abstractmethod
    def logits(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        """All logits [n, vocabulary], raw accumulators."""

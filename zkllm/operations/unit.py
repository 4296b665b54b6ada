"""A unit is data: a list of steps between two boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zkllm.operations.step import Dims, Step, Tensors
from zkllm.tensors import IntArray


@dataclass(frozen=True, slots=True)
class Rows:
    """A boundary of rows of integers, shape [T, width]."""

    width: int
    bound: int
    """Proven for every magnitude."""


@dataclass(frozen=True, slots=True)
class Ids:
    """A boundary of token ids, shape [T]."""

    vocabulary: int
    """Ids are below it."""


Boundary = Rows | Ids


@dataclass(frozen=True, slots=True)
class Unit:
    """What is proved by itself: steps from `input` to `output`, as everybody reads them.

    Steps stand in the order in which they are declared. They are computed and checked as soon as
    what they read is there (`order`).
    """

    name: str
    input: Boundary
    """What the value `reads` is."""
    output: Boundary
    """What the unit gives: the value `writes`, which is added to its input if `residual`."""
    steps: tuple[Step, ...]
    reads: str = "x"
    writes: str = "change"
    residual: bool = True
    """Whether the unit gives x + change rather than what its steps write."""

    def order(self) -> tuple[Step, ...]:
        """The steps in the order in which they can be computed.

        Raises `ValueError` for a step that reads what nobody writes.
        """
        known, left, result = {self.reads}, list(self.steps), []
        while left:
            ready = next((step for step in left if known >= set(step.reads)), None)
            if ready is None:
                raise ValueError(f"{self.name}: nothing writes what {left[0].name} reads")
            left.remove(ready)
            result.append(ready)
            known.add(ready.writes)
        return tuple(result)

    def weights(self) -> Mapping[str, Dims]:
        """The weights of all steps, by name, with the shapes in which they are stored."""
        return {name: dims for step in self.steps for name, dims in step.weights().items()}

    def tables(self) -> tuple[str, ...]:
        """The lookup tables of all steps, by name."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.tables()))

    def work(self, tokens: int) -> int:
        """Products that it sums for a run of `tokens` positions; one row where it gives ids."""
        rows = 1 if isinstance(self.output, Ids) else tokens
        return sum(step.work(rows) for step in self.steps)

    def values(self, x: IntArray, tensor: Tensors) -> dict[str, IntArray]:
        """All values by name, in numpy; the last is what the unit gives for `x`."""
        found = {self.reads: x}
        for step in self.order():
            found[step.writes] = step.run([found[name] for name in step.reads], tensor)
        return found

    def run(self, x: IntArray, tensor: Tensors) -> IntArray:
        """What the unit gives for `x`: ids [T], or rows [T, d]."""
        change = self.values(x, tensor)[self.writes]
        return np.asarray(x + change) if self.residual else change

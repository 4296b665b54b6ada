"""A unit is data: a list of steps between two boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from zkllm import integers
from zkllm.integers import FLOAT64_LIMIT
from zkllm.operations.bounds import Vector, uniform
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

        Raises `ValueError` for a step that reads what nobody writes, for a unit that gives it, and
        for two steps of one name or that write one value.
        """
        if self.writes not in {step.writes for step in self.steps} - {self.reads}:
            raise ValueError(f"{self.name}: nothing writes {self.writes}")
        return tuple(in_order(self.name, self.reads, self.steps))

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

    def prove(self, tensor: Tensors) -> Unit:
        """The unit with the constants that it has and the bounds that its integers prove.

        The bound of its input is believed, that of its output proven. Raises `UnsupportedModel`
        if a number could leave the exact range.
        """
        proof = Bounds(self.name, self.reads, self.input, tensor)
        for step in self.order():
            proof.add(step)
        return proof.unit(self.steps, self.writes, self.output, residual=self.residual)

    def prove_constants(self) -> Iterator[tuple[Step, Step]]:
        """The steps whose bounds follow from constants and the input alone, each with its proof.

        Raises as `prove` does.
        """
        proof = Bounds(self.name, self.reads, self.input, _no_tensor)
        for step in self.order():
            if not step.weights() and not step.tables() and proof.knows(step.reads):
                yield step, proof.add(step)


def _no_tensor(name: str) -> IntArray:
    raise KeyError(name)


class Part(Protocol):
    """What reads values of a unit and writes one: a step, or the draft of one."""

    @property
    def name(self) -> str: ...

    @property
    def reads(self) -> tuple[str, ...]: ...

    @property
    def writes(self) -> str: ...


AnyPart = TypeVar("AnyPart", bound=Part)


def in_order(unit: str, given: str, parts: Iterable[AnyPart]) -> Iterator[AnyPart]:
    """`parts` of a unit that is given one value, in the order in which they can be computed.

    Raises `ValueError` for one that reads what nobody writes, and for two of one name or that write
    one value: whoever looked them up by it would find the second, and never the first.
    """
    known, left = {given}, list(parts)
    names = [part.name for part in left]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{unit}: two steps are called {name}")
    while left:
        ready = next((part for part in left if known >= set(part.reads)), None)
        if ready is None:
            raise ValueError(f"{unit}: nothing writes what {left[0].name} reads")
        left.remove(ready)
        if ready.writes in known:
            raise ValueError(f"{unit}: {ready.name} writes {ready.writes}, which is there before")
        yield ready
        known.add(ready.writes)


class Bounds:
    """What is proven of the values of a unit, step by step."""

    def __init__(self, unit: str, reads: str, source: Boundary, tensor: Tensors) -> None:
        self._name, self._reads, self._input, self._tensor = unit, reads, source, tensor
        if isinstance(source, Ids):
            known = uniform(1, source.vocabulary - 1)
        else:
            known = uniform(source.width, source.bound)
        self._values = {reads: known}
        self._steps: dict[str, Step] = {}

    def knows(self, values: Iterable[str]) -> bool:
        """Whether something is proven of all `values`."""
        return self._values.keys() >= set(values)

    def of(self, values: Iterable[str]) -> list[Vector]:
        """What is proven of `values`."""
        return [self._values[name] for name in values]

    def add(self, step: Step) -> Step:
        """`step` with its proven bounds; all that it reads has been added before."""
        proven, value = step.prove(self._name, self.of(step.reads), self._tensor)
        self._values[step.writes], self._steps[step.writes] = value, proven
        for name, largest in proven.confines(self._tensor).items():
            self._require_room(name, largest)
        return proven

    def unit(
        self, declared: Iterable[Part], writes: str, output: Boundary | None, *, residual: bool
    ) -> Unit:
        """The unit of all steps that were added, in the order of `declared`.

        It gives ids if `output` says so, else rows, whose bound follows.
        """
        (value,) = self.of([writes])
        if not isinstance(output, Ids):
            bound = value.largest
            if residual and isinstance(self._input, Rows):
                bound += self._input.bound
                integers.require(bound, FLOAT64_LIMIT, self._name, "the residual stream")
                # both ends are public and held to their bounds, and so is what lies between
                self._require_room(writes, self._input.bound + bound)
            output = Rows(value.width, bound)
        steps = tuple(self._steps[part.writes] for part in declared)
        return Unit(self._name, self._input, output, steps, self._reads, writes, residual)

    def _require_room(self, value: str, largest: int) -> None:
        """Raises `UnsupportedModel` unless `value` may be confined to `largest`."""
        if value in self._steps:  # what the unit is given is held to its bound before
            self._steps[value].require_room(self._name, largest)

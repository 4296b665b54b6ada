"""Values that operations read and write: public, or committed to. Both have a value at a point.

Which of both a value is changes no equation: whoever writes one asks a `Tensor`. A committed value
must be determined by public ones, or be held to the bound that was proven for it: what is proven
of an operation's numbers is proven for values within it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from zkllm.engines.sumcheck.field import Ext
from zkllm.engines.sumcheck.multilinear import Dims, Point
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Combination
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.tensors import IntArray


class Tensor(Protocol):
    """Integers of one shape, of which both parties can say the value at a point."""

    @property
    def dims(self) -> Dims:
        """Its shape."""
        ...

    @property
    def largest(self) -> int:
        """No magnitude is larger, whatever a prover does."""
        ...

    def at(self, party: Party, point: Point) -> Ext:
        """The value of its extension at `point`."""
        ...

    def integers(self, party: Party) -> IntArray:
        """All of it, for the prover's tables."""
        ...


@dataclass(frozen=True, slots=True)
class Public:
    """Both parties know it."""

    values: IntArray
    largest: int

    @property
    def dims(self) -> Dims:
        return self.values.shape

    def at(self, party: Party, point: Point) -> Ext:
        return party.public(lambda: self.values, point)

    def integers(self, party: Party) -> IntArray:
        return self.values


@dataclass(frozen=True, slots=True)
class Committed:
    """It is made of columns; the verifier gets its values at points."""

    value: Combination
    largest: int
    """Its columns confine it to this magnitude."""

    @property
    def dims(self) -> Dims:
        return self.value.dims

    def at(self, party: Party, point: Point) -> Ext:
        return party.value(self.value, point)

    def integers(self, party: Party) -> IntArray:
        return party.integers(self.value)


@dataclass(frozen=True, slots=True)
class Difference:
    """What one tensor is more than another, of either kind each."""

    left: Tensor
    right: Tensor

    @property
    def dims(self) -> Dims:
        return self.left.dims

    @property
    def largest(self) -> int:
        return self.left.largest + self.right.largest

    def at(self, party: Party, point: Point) -> Ext:
        left, right = self.left, self.right
        if isinstance(left, Public) and isinstance(right, Public):
            # one pass over what is as large as a boundary, not two
            return party.public(lambda: np.asarray(left.values - right.values), point)
        return left.at(party, point) - right.at(party, point)

    def integers(self, party: Party) -> IntArray:
        return np.asarray(self.left.integers(party) - self.right.integers(party))


def public_ids(name: str, tensor: Tensor, count: int) -> tuple[int, ...]:
    """The ids [n] of a tensor, each below `count`: equations pick rows by them.

    Raises `UnsupportedModel` for a tensor that is not public, `ConstraintViolation` for an id that
    is none: it would pick the row of another.
    """
    if not isinstance(tensor, Public):
        raise UnsupportedModel(f"sumcheck: {name}: token ids are public, they are never hidden")
    ids = tensor.values
    for place in np.flatnonzero((ids < 0) | (ids >= count))[:1]:
        raise ConstraintViolation(
            f"{name}: id {place} must lie in 0..{count - 1}, got {ids[place]}"
        )
    return tuple(int(i) for i in ids)

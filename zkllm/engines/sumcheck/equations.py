"""Steps as equations: what every one of them declares, fills in and checks, and where they meet.

`docs/protocol.md` numbers the equations. One that is linear in columns costs no sumcheck: both
sides are polynomials, compared at a random point.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from zkllm.engines.sumcheck.multilinear import Dims
from zkllm.engines.sumcheck.party import Party, Weights
from zkllm.engines.sumcheck.plan import Plan, Windowed
from zkllm.engines.sumcheck.tensors import Committed, Tensor
from zkllm.engines.sumcheck.witness import Witness
from zkllm.tensors import IntArray


class Equations(ABC):
    """One step. A reading in this engine is a class `Equations(step, scope)` of that name.

    When it is made it declares columns, lookups and weights, from shapes alone.
    """

    @abstractmethod
    def fill(self, witness: Witness, given: Sequence[IntArray]) -> IntArray:
        """What the step writes, of what it reads, with all columns that lie between.

        Raises `ConstraintViolation` where there is no such witness.
        """

    @abstractmethod
    def check(self, party: Party) -> None:
        """The equations between what the step reads and what it writes, for both parties."""


@dataclass(slots=True)
class Scope:
    """What the steps of a unit share: one plan, and the values by which they meet."""

    plan: Plan
    weights: Weights
    rows: int
    """Positions: the first dimension of every value."""
    values: dict[str, Tensor] = field(default_factory=dict)
    """The form of every value that has one, by its name in the unit."""
    numbers: dict[str, Windowed] = field(default_factory=dict)
    """Values that have limbs of their own, which whoever fills in the unit stores."""

    def read(self, name: str, dims: Dims) -> Tensor:
        """The value `name`; raises `ValueError` if no step before gave it a form, or another."""
        if name not in self.values:
            raise ValueError(f"{name}: no step before gives it a form")
        return self._of(dims, name)

    def write(self, name: str, label: str, dims: Dims, bound: int) -> Tensor:
        """The value `name` in the form that it has, or as a number `label` of its own."""
        if name not in self.values:
            number = self.plan.signed(label, dims, bound)
            self.numbers[name] = number
            self.values[name] = Committed(number.value, number.largest)
        return self._of(dims, name)

    def give(self, name: str, form: Tensor) -> Tensor:
        """The value `name` in the form that it has, or in `form`.

        Where these are two, the step must require that they are equal.
        """
        self.values.setdefault(name, form)
        return self._of(form.dims, name)

    def table(self, name: str) -> IntArray:
        """A lookup table of the model."""
        return np.asarray(self.weights.integers(name), dtype=np.int64)

    def _of(self, dims: Dims, name: str) -> Tensor:
        found = self.values[name]
        if found.dims != dims:
            raise ValueError(f"{name}: expected the shape {dims}, got {found.dims}")
        return found


def require_same(party: Party, label: str, left: Tensor, right: Tensor) -> None:
    """Refuse unless two tensors are equal: at a random point, if they are not one."""
    if left is not right:
        point = party.point(f"{label}: point", left.dims)
        party.require_equal(label, left.at(party, point), right.at(party, point))

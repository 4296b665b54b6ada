"""Units as circuits: one for every list of steps, between boundaries that the claim names."""

from __future__ import annotations

import numpy as np

from zkllm.backends.base import Claim
from zkllm.backends.claims import check_ranges
from zkllm.engines.sumcheck.equations import Equations, Scope
from zkllm.engines.sumcheck.party import Party, Weights
from zkllm.engines.sumcheck.plan import MAX_LIMB, Plan
from zkllm.engines.sumcheck.protocol import Circuit
from zkllm.engines.sumcheck.tensors import Committed, Difference, Public, Tensor, public_ids
from zkllm.engines.sumcheck.windows import Remainder
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation
from zkllm.exact.model import ExactModel
from zkllm.operations import reading
from zkllm.operations.unit import Boundary, Ids, Unit
from zkllm.tensors import IntArray

MIN_LIMB = 4


class UnitCircuit(Circuit):
    """The steps of a unit as equations, between the two boundaries of a claim.

    Steps are declared in the order of the list, filled in and checked in that of `Unit.order`.
    Boundaries are public; rows that are `hidden` are columns instead, held to the same bounds. Ids
    are always public.
    """

    def __init__(
        self, unit: Unit, weights: Weights, claim: Claim, limb: int, *, hidden: bool = False
    ) -> None:
        self.unit, self.weights, self.claim, self.plan = unit, weights, claim, Plan(limb)
        self.order = unit.order()
        self.ends: dict[str, Remainder] = {}
        """The boundaries that are columns: integers in 0 .. 2·bound, the bound more than rows."""
        x, y = self.x, self.y = integers_of(unit, claim)
        first = self._boundary("input", x, unit.input, hidden)
        last = self._boundary("output", y, unit.output, hidden)
        written = Difference(last, first) if unit.residual else last
        self.scope = Scope(self.plan, weights, len(x), {unit.reads: first, unit.writes: written})
        self.steps: dict[str, Equations] = {
            step.name: reading(step, "sumcheck").Equations(step, self.scope) for step in unit.steps
        }
        """The equations of every step, by its name."""
        self.plan.seal()

    def _boundary(self, name: str, rows: IntArray, boundary: Boundary, hidden: bool) -> Tensor:
        if isinstance(boundary, Ids):
            return Public(rows, boundary.vocabulary - 1)
        if not hidden:
            return Public(rows, boundary.bound)
        # nobody sees whether hidden rows stay within their bound: the proof shows it
        end = Remainder(self.plan, name, rows.shape, 2 * boundary.bound + 1)
        self.ends[name] = end
        return Committed(end.value - boundary.bound, boundary.bound)

    def witness(self) -> Witness:
        unit, witness = self.unit, Witness(self.plan)
        for name, rows in (("input", self.x), ("output", self.y)):
            if name in self.ends:
                end = self.ends[name]
                end.fill(witness, rows + end.divisor // 2)
        values = {unit.reads: self.x}
        for step in self.order:
            given = [values[name] for name in step.reads]
            written = values[step.writes] = self.steps[step.name].fill(witness, given)
            if step.writes in self.scope.numbers:
                witness.store_number(self.scope.numbers[step.writes], written)
        change = values[unit.writes]
        require_equal(self.claim, self.x + change if unit.residual else change)
        witness.count_lookups()
        return witness

    def check(self, party: Party) -> None:
        for name, end in self.ends.items():
            end.check(party, party.point(f"{name}: point", end.value.dims))
        for step in self.order:
            self.steps[step.name].check(party)


def require_equal(claim: Claim, rows: IntArray) -> None:
    """Raises `ConstraintViolation` unless the claim's output is `rows`."""
    for place in np.argwhere(rows != claim.outputs)[:1]:
        at = tuple(int(i) for i in place)
        raise ConstraintViolation(
            f"{claim.unit}: the model gives {int(rows[at])} at {list(at)}, "
            f"the claim says {int(claim.outputs[at])}"
        )


def integers_of(unit: Unit, claim: Claim) -> tuple[IntArray, IntArray]:
    """What `unit` reads and gives, as `claim` has it; of a unit that gives ids, only their rows.

    Raises `ConstraintViolation` for shapes that its boundaries do not have, and for no ids.
    """
    x, y = claim.inputs, claim.outputs
    rows = len(x)
    if isinstance(unit.output, Ids):
        if claim.first_row < 0:
            raise ConstraintViolation(
                f"{claim.unit}: expected a row from 0 on, got {claim.first_row}"
            )
        rows = len(y)
        x = x[claim.first_row : claim.first_row + rows]
    for values, boundary in ((x, unit.input), (y, unit.output)):
        expected = (rows,) if isinstance(boundary, Ids) else (rows, boundary.width)
        if values.shape != expected or 0 in expected:
            raise ConstraintViolation(
                f"{claim.unit}: expected shape {list(expected)}, got {list(values.shape)}"
            )
        if isinstance(boundary, Ids):
            public_ids(claim.unit, Public(values, boundary.vocabulary - 1), boundary.vocabulary)
    return x, y


def make_circuit(model: ExactModel, claim: Claim, *, hidden: bool = False) -> UnitCircuit:
    """The circuit of `claim.unit`, with limbs of the size that costs least.

    Prover and verifier choose alike, from shapes alone. Raises `ConstraintViolation` for a claim
    that no run can make, `UnsupportedModel` if an equation could wrap around the field.
    """
    check_ranges(model.specification, claim)
    unit = model.specification.units()[claim.unit]
    return smallest_circuit(unit, model, claim, hidden=hidden)


def smallest_circuit(
    unit: Unit, weights: Weights, claim: Claim, *, hidden: bool = False
) -> UnitCircuit:
    """As `make_circuit`, for a claim that has only shapes: nobody looks at its integers."""
    candidates = [
        UnitCircuit(unit, weights, claim, limb, hidden=hidden)
        for limb in range(MIN_LIMB, MAX_LIMB + 1)
    ]
    return min(candidates, key=lambda circuit: circuit.plan.cost())

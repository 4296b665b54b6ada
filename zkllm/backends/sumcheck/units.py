"""Units as circuits: which operations a unit is made of, and how they meet."""

from __future__ import annotations

from zkllm.backends.sumcheck.operations import Gelu, Linear, Norm, public_value, require_no_wrap
from zkllm.backends.sumcheck.party import Party
from zkllm.backends.sumcheck.plan import Plan
from zkllm.backends.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Mlp
from zkllm.tensors import IntArray


class MlpCircuit:
    """y = x + project(gelu(expand(norm(x)))) of public rows x and y, with weights held."""

    def __init__(
        self, model: ExactModel, unit: Mlp, bound: int, x: IntArray, y: IntArray, limb: int
    ) -> None:
        self.model, self.unit, self.x, self.y = model, unit, x, y
        self.plan = Plan(limb)
        rows, width = x.shape
        inner = model.specification.architecture.inner
        self.norm = Norm(self.plan, "norm", rows, width, bound, unit.norm)
        table = model.tensor(unit.gelu)
        self.gelu = Gelu(self.plan, "gelu", (rows, inner), unit.expand.output, table)
        self.expand = Linear(
            self.plan, "expand", self.norm.output.value, (inner,), unit.expand, self.gelu.largest
        )
        self.project = Linear(
            self.plan, "project", self.gelu.output, (width,), unit.project, bound + unit.output
        )
        require_no_wrap("the residual stream", bound, unit.output)
        self.plan.seal()

    def witness(self) -> Witness:
        """All values; raises `ConstraintViolation` if y is not the unit's output."""
        witness, tensor = Witness(self.plan), self.model.tensor
        normal = self.norm.fill(witness, self.x)
        expand, project = self.unit.expand, self.unit.project
        hidden = self.expand.fill(witness, normal, tensor(expand.weight), tensor(expand.bias))
        active = self.gelu.fill(witness, hidden)
        added = self.project.fill(witness, active, tensor(project.weight), tensor(project.bias))
        if not (self.x + added == self.y).all():
            raise ConstraintViolation("mlp: the claimed output is not that of the claimed input")
        witness.count_lookups()
        return witness

    def check(self, party: Party) -> None:
        tensor = self.model.tensor
        expand, project = self.unit.expand, self.unit.project
        self.norm.check(party, self.x)
        point = party.point("expand: point", self.expand.dims)
        hidden = party.value(self.gelu.input, point)
        self.expand.check(party, tensor(expand.weight), tensor(expand.bias), point, hidden)
        self.gelu.check(party)
        point = party.point("project: point", self.project.dims)
        added = public_value(self.y - self.x, point)
        self.project.check(party, tensor(project.weight), tensor(project.bias), point, added)

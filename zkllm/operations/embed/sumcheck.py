"""The embedding as equations: nothing but weights, so no witness (protocol.md, section 10)."""

from __future__ import annotations

from collections.abc import Sequence

from zkllm.engines.sumcheck import equations
from zkllm.engines.sumcheck.equations import Scope
from zkllm.engines.sumcheck.multilinear import eq
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.selection import Selection, selected
from zkllm.engines.sumcheck.tensors import public_ids
from zkllm.engines.sumcheck.windows import require_no_wrap
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation
from zkllm.operations.embed.exact import EmbedStep
from zkllm.tensors import IntArray


class Equations(equations.Equations):
    """Rows x = tokens[id] + positions[position] [n, d] of public ids [n]."""

    def __init__(self, step: EmbedStep, scope: Scope) -> None:
        self.step, self.weights = step, scope.weights
        self.ids = public_ids(step.name, scope.read(step.reads[0], (scope.rows,)), step.vocabulary)
        if len(self.ids) > step.context:
            raise ConstraintViolation(
                f"{step.name}: at most {step.context} tokens, got {len(self.ids)}"
            )
        dims = (len(self.ids), step.width)
        self.output = scope.write(step.writes, f"{step.name}: output", dims, step.numbers.output)
        scope.plan.weight(step.numbers.tokens, (step.vocabulary, step.width))
        scope.plan.weight(step.numbers.positions, (step.context, step.width))
        require_no_wrap(step.name, step.numbers.output, self.output.largest)

    def fill(self, witness: Witness, given: Sequence[IntArray]) -> IntArray:
        return self.step.run(given, self.weights.integers)

    def check(self, party: Party) -> None:
        name, numbers, count = self.step.name, self.step.numbers, len(self.ids)
        t, c = point = party.point(f"{name}: point", self.output.dims)
        factors = tuple(eq(i, t) for i in range(count))
        tokens = Selection(self.step.vocabulary, self.ids, factors)
        places = Selection(self.step.context, tuple(range(count)), factors)
        total = selected(party, f"{name}: tokens", numbers.tokens, tokens, 0, (c,))
        total += selected(party, f"{name}: positions", numbers.positions, places, 0, (c,))
        party.require_equal(name, total, self.output.at(party, point))

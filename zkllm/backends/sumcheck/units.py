"""Units as circuits: which operations a unit is made of, in which order, and how they meet."""

from __future__ import annotations

import numpy as np

from zkllm.backends.base import Claim
from zkllm.backends.claims import check_ranges
from zkllm.backends.sumcheck.attention import CausalAttention
from zkllm.backends.sumcheck.head import Margins
from zkllm.backends.sumcheck.operations import Gelu, Linear, Norm
from zkllm.engines.sumcheck.multilinear import eq
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import MAX_LIMB, Number, Plan
from zkllm.engines.sumcheck.protocol import Circuit
from zkllm.engines.sumcheck.selection import Selection, selected
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation
from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.model import ExactModel
from zkllm.operations.embed.exact import Embed
from zkllm.tensors import IntArray

MIN_LIMB = 4


class EmbedCircuit(Circuit):
    """Rows x = wte[id] + wpe[position] for public ids: nothing but weights, so no witness."""

    def __init__(self, model: ExactModel, unit: Embed, claim: Claim, limb: int) -> None:
        a = model.specification.architecture
        self.weights, self.unit, self.claim, self.plan = model, unit, claim, Plan(limb)
        self.vocabulary, self.context = a.vocabulary, a.context
        self.ids = require_ids(claim, claim.inputs, a.vocabulary)
        require_shape(claim, claim.outputs, (len(self.ids), a.width))
        self.plan.weight(unit.tokens, (a.vocabulary, a.width))
        self.plan.weight(unit.positions, (a.context, a.width))

    def witness(self) -> Witness:
        claim, integers = self.claim, self.weights.integers
        # a sum may leave the types in which they are stored
        rows = integers(self.unit.tokens)[claim.inputs].astype(np.int64)
        rows = rows + integers(self.unit.positions)[: len(claim.inputs)]
        require_equal(claim, rows)
        return Witness(self.plan)

    def check(self, party: Party) -> None:
        t, c = point = party.point("embed: point", self.claim.outputs.shape)
        factors = tuple(eq(i, t) for i in range(len(self.ids)))
        tokens = Selection(self.vocabulary, self.ids, factors)
        places = Selection(self.context, tuple(range(len(self.ids))), factors)
        total = selected(party, "embed: tokens", self.unit.tokens, tokens, 0, (c,))
        total += selected(party, "embed: positions", self.unit.positions, places, 0, (c,))
        party.require_equal("embed", total, party.public(lambda: self.claim.outputs, point))


class AttentionCircuit(Circuit):
    """y = x + out(attention(norm(x))) of public rows x and y."""

    def __init__(
        self, model: ExactModel, unit: Attention, bound: int, claim: Claim, limb: int
    ) -> None:
        a = model.specification.architecture
        self.weights, self.unit, self.claim, self.plan = model, unit, claim, Plan(limb)
        rows, width = require_rows(claim, a.width)
        heads = (a.heads, a.width // a.heads)
        self.norm = Norm(self.plan, "norm", rows, width, bound, unit.norm)
        self.numbers: dict[str, Number] = {}
        self.layers: dict[str, Linear] = {}
        for name, layer in {"query": unit.query, "key": unit.key, "value": unit.value}.items():
            number = self.plan.signed(name, (rows, *heads), layer.output)
            self.numbers[name] = number
            self.layers[name] = Linear(
                self.plan, name, self.norm.output.value, heads, layer, number.largest
            )
        query, key, value = self.numbers.values()
        self.attention = CausalAttention(self.plan, query, key, value, unit, model.tensor(unit.exp))
        self.out = Linear(
            self.plan,
            "out",
            self.attention.output.value,
            (width,),
            unit.out,
            bound + unit.output,
        )
        self.plan.seal()

    def witness(self) -> Witness:
        witness = Witness(self.plan)
        normal = self.norm.fill(witness, self.claim.inputs)
        values = []
        for name, layer in self.layers.items():
            values.append(layer.fill(witness, self.weights, normal))
            witness.store_number(self.numbers[name], values[-1])
        query, key, value = values
        mixed = self.attention.fill(witness, query, key, value)
        added = self.out.fill(witness, self.weights, mixed)
        require_equal(self.claim, self.claim.inputs + added)
        witness.count_lookups()
        return witness

    def check(self, party: Party) -> None:
        self.norm.check(party, self.claim.inputs)
        for name, layer in self.layers.items():
            point = party.point(f"{name}: point", layer.dims)
            layer.check(party, point, party.value(self.numbers[name].value, point))
        self.attention.check(party)
        check_added(party, self.out, self.claim)


class MlpCircuit(Circuit):
    """y = x + project(gelu(expand(norm(x)))) of public rows x and y."""

    def __init__(self, model: ExactModel, unit: Mlp, bound: int, claim: Claim, limb: int) -> None:
        self.weights, self.unit, self.claim, self.plan = model, unit, claim, Plan(limb)
        rows, width = require_rows(claim, model.specification.architecture.width)
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
        self.plan.seal()

    def witness(self) -> Witness:
        witness = Witness(self.plan)
        normal = self.norm.fill(witness, self.claim.inputs)
        hidden = self.expand.fill(witness, self.weights, normal)
        active = self.gelu.fill(witness, hidden)
        added = self.project.fill(witness, self.weights, active)
        require_equal(self.claim, self.claim.inputs + added)
        witness.count_lookups()
        return witness

    def check(self, party: Party) -> None:
        self.norm.check(party, self.claim.inputs)
        point = party.point("expand: point", self.expand.dims)
        self.expand.check(party, point, party.value(self.gelu.input, point))
        self.gelu.check(party)
        check_added(party, self.project, self.claim)


class HeadCircuit(Circuit):
    """The generated ids are the arg-max of norm(x)·W + b, ties to the lowest id."""

    def __init__(self, model: ExactModel, unit: Head, bound: int, claim: Claim, limb: int) -> None:
        a = model.specification.architecture
        self.weights, self.unit, self.claim, self.plan = model, unit, claim, Plan(limb)
        if claim.first_row < 0:
            raise ConstraintViolation(f"head: expected a row from 0 on, got {claim.first_row}")
        self.x = claim.inputs[claim.first_row : claim.first_row + len(claim.outputs)]
        require_shape(claim, self.x, (len(claim.outputs), a.width))
        rows, width = self.x.shape
        self.norm = Norm(self.plan, "norm", rows, width, bound, unit.norm)
        ids = require_ids(claim, claim.outputs, a.vocabulary)
        self.margins = Margins(self.plan, self.norm.output.value, unit, a.vocabulary, ids)
        self.plan.seal()

    def witness(self) -> Witness:
        witness = Witness(self.plan)
        normal = self.norm.fill(witness, self.x)
        self.margins.fill(witness, self.weights, normal)
        witness.count_lookups()
        return witness

    def check(self, party: Party) -> None:
        self.norm.check(party, self.x)
        self.margins.check(party)


def check_added(party: Party, layer: Linear, claim: Claim) -> None:
    """The last layer of a unit gives what its output adds to its input."""
    point = party.point(f"{layer.name}: point", layer.dims)
    layer.check(party, point, party.public(lambda: claim.outputs - claim.inputs, point))


def require_equal(claim: Claim, rows: IntArray) -> None:
    """Raises `ConstraintViolation` unless the claim's output is `rows`."""
    for place in np.argwhere(rows != claim.outputs)[:1]:
        at = tuple(int(i) for i in place)
        raise ConstraintViolation(
            f"{claim.unit}: the model gives {int(rows[at])} at {list(at)}, "
            f"the claim says {int(claim.outputs[at])}"
        )


def require_ids(claim: Claim, ids: IntArray, vocabulary: int) -> tuple[int, ...]:
    """The ids as integers; raises `ConstraintViolation` for one that is no token."""
    require_shape(claim, ids, (len(ids),))
    for place in np.flatnonzero((ids < 0) | (ids >= vocabulary))[:1]:
        raise ConstraintViolation(
            f"{claim.unit}: id {place} must lie in 0..{vocabulary - 1}, got {ids[place]}"
        )
    return tuple(int(i) for i in ids)


def require_rows(claim: Claim, width: int) -> tuple[int, int]:
    """The shape of input and output; raises `ConstraintViolation` unless both have that `width`."""
    expected = len(claim.inputs), width
    require_shape(claim, claim.inputs, expected)
    require_shape(claim, claim.outputs, expected)
    return expected


def require_shape(claim: Claim, rows: IntArray, expected: tuple[int, ...]) -> None:
    """Raises `ConstraintViolation` unless `rows` has the shape that the unit needs."""
    if rows.shape != expected or 0 in expected:
        raise ConstraintViolation(
            f"{claim.unit}: expected shape {list(expected)}, got {list(rows.shape)}"
        )


def make_circuit(model: ExactModel, claim: Claim) -> Circuit:
    """The circuit of `claim.unit`, with limbs of the size that costs least.

    Prover and verifier choose alike, from shapes alone. Raises `ConstraintViolation` for a claim
    that no run can make, `UnsupportedModel` if an equation could wrap around the field.
    """
    check_ranges(model.specification, claim)
    return smallest_circuit(model, claim)


def smallest_circuit(model: ExactModel, claim: Claim) -> Circuit:
    """As `make_circuit`, for a claim that has only shapes: nobody looks at its integers."""
    candidates = [_build(model, claim, limb) for limb in range(MIN_LIMB, MAX_LIMB + 1)]
    return min(candidates, key=lambda circuit: circuit.plan.cost())


def _build(model: ExactModel, claim: Claim, limb: int) -> Circuit:
    specification = model.specification
    unit = specification.units()[claim.unit]
    if isinstance(unit, Embed):
        return EmbedCircuit(model, unit, claim, limb)
    bound = specification.input_bound(claim.unit)
    if isinstance(unit, Attention):
        return AttentionCircuit(model, unit, bound, claim, limb)
    if isinstance(unit, Mlp):
        return MlpCircuit(model, unit, bound, claim, limb)
    return HeadCircuit(model, unit, bound, claim, limb)

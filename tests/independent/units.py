"""Section 11: units. Each declares its plan from the specification, and checks the claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from tests.independent.attention import Attention
from tests.independent.field import require
from tests.independent.operations import Checking, Gelu, Linear, Norm
from tests.independent.plan import Plan
from tests.independent.selection import Margins, Selector, selected
from tests.independent.tensors import Dims, eqs, extension, flat


@dataclass(frozen=True)
class Claim:
    """This unit of this model maps these integers to those, as this statement says."""

    unit: str
    inputs: list
    """Token ids for `embed`, rows for every other unit."""
    outputs: list
    """Generated ids for `head`, rows for every other unit."""
    model: str
    """The model digest."""
    statement: str
    """The statement digest."""
    first_row: int = 0


@dataclass(frozen=True)
class Given:
    """What a plan follows from."""

    claim: Claim
    sizes: dict
    """The specification's `architecture`."""
    numbers: dict
    """What the specification says of the unit."""
    bound: int
    """On the entries of the unit's input; of embed's output."""
    tensors: Mapping[str, list[int]]


class Embed:
    """n ids to Y [n, d]"""

    def __init__(self, plan: Plan, given: Given) -> None:
        self.ids, self.y = given.claim.inputs, given.claim.outputs
        self.vocabulary, self.context = given.sizes["vocabulary"], given.sizes["context"]
        self.dims = len(self.ids), given.sizes["width"]
        self.tokens = plan.weight(given.numbers["tokens"], self.vocabulary, self.dims[1])
        self.positions = plan.weight(given.numbers["positions"], self.context, self.dims[1])

    def check(self, it: Checking) -> None:
        t, c = it.talk.draw_point("embed: point", self.dims)
        rows = eqs(len(self.ids), t)
        tokens = selected(
            it,
            "embed: tokens",
            Selector(self.vocabulary, self.ids, rows),
            lambda y: it.weight(self.tokens, y, c),
        )
        positions = selected(
            it,
            "embed: positions",
            Selector(self.context, list(range(len(self.ids))), rows),
            lambda y: it.weight(self.positions, y, c),
        )
        require(tokens + positions == extension(flat(self.y), self.dims, (t, c)), "embed")


class AttentionUnit:
    """X [n, d] to Y [n, d]"""

    def __init__(self, plan: Plan, given: Given) -> None:
        self.claim, numbers = given.claim, given.numbers
        n, d, h = len(given.claim.inputs), given.sizes["width"], given.sizes["heads"]
        heads = (h, d // h)
        self.norm = Norm(plan, "norm", numbers["norm"], (n, d), given.bound)
        normal = self.norm.output
        self.layers = []
        for name in ("query", "key", "value"):
            number = plan.signed(name, (n, *heads), numbers[name]["output"])
            layer = Linear(plan, name, numbers[name], normal, (d,), heads, number.largest)
            self.layers.append((number, layer))
        q, k, v = (number for number, _ in self.layers)
        exp = given.tensors[numbers["exp"]]
        self.attention = Attention(plan, numbers, exp, q, k, v)
        change = given.bound + numbers["output"]
        mixed = self.attention.output
        self.out = Linear(plan, "out", numbers["out"], mixed, heads, (d,), change)

    def check(self, it: Checking) -> None:
        self.norm.check(it, self.claim.inputs)
        for number, layer in self.layers:
            r = it.talk.draw_point(f"{layer.name}: point", number.dims)
            layer.check(it, r, it.value(number, *r))
        self.attention.check(it)
        check_change(it, self.out, self.claim, self.norm.dims)


class Mlp:
    """X [n, d] to Y [n, d]"""

    def __init__(self, plan: Plan, given: Given) -> None:
        self.claim, numbers = given.claim, given.numbers
        n, d, inner = len(given.claim.inputs), given.sizes["width"], given.sizes["inner"]
        self.norm = Norm(plan, "norm", numbers["norm"], (n, d), given.bound)
        table = given.tensors[numbers["gelu"]]
        self.gelu = Gelu(plan, "gelu", table, (n, inner), numbers["expand"]["output"])
        normal, g, largest = self.norm.output, self.gelu.g, self.gelu.x_largest
        self.expand = Linear(plan, "expand", numbers["expand"], normal, (d,), (inner,), largest)
        change = given.bound + numbers["output"]
        self.project = Linear(plan, "project", numbers["project"], g, (inner,), (d,), change)

    def check(self, it: Checking) -> None:
        self.norm.check(it, self.claim.inputs)
        r = it.talk.draw_point("expand: point", self.gelu.dims)
        self.expand.check(it, r, it.value(self.gelu.x, *r))
        self.gelu.check(it)
        check_change(it, self.project, self.claim, self.norm.dims)


class Head:
    """Rows of the last boundary to the generated ids"""

    def __init__(self, plan: Plan, given: Given) -> None:
        claim, numbers = given.claim, given.numbers
        n = len(claim.outputs)
        self.x = claim.inputs[claim.first_row : claim.first_row + n]
        dims = n, given.sizes["width"]
        self.norm = Norm(plan, "norm", numbers["norm"], dims, given.bound)
        ids, vocabulary = claim.outputs, given.sizes["vocabulary"]
        self.margins = Margins(plan, numbers, self.norm.output, ids, vocabulary)

    def check(self, it: Checking) -> None:
        self.norm.check(it, self.x)
        self.margins.check(it)


def check_change(it: Checking, layer: Linear, claim: Claim, dims: Dims) -> None:
    """The last layer of a unit gives Y - X."""
    r = it.talk.draw_point(f"{layer.name}: point", dims)
    change = [y - x for x, y in zip(flat(claim.inputs), flat(claim.outputs), strict=True)]
    layer.check(it, r, extension(change, dims, r))


KINDS = {"embed": Embed, "attention": AttentionUnit, "mlp": Mlp, "head": Head}


def find(specification: dict, name: str) -> tuple[str, dict, int]:
    """The kind of a unit, its numbers, and the index of the boundary at its input.

    Of embed, which has none there: of the one at its output.
    """
    first = specification["architecture"]["first_block"]
    for i, pair in enumerate(zip(specification["attention"], specification["mlp"], strict=True)):
        for k, kind in enumerate(("attention", "mlp")):
            if name == f"{kind}[{first + i}]":
                return kind, pair[k], 2 * i + k
    require(name in ("embed", "head") and specification[name] is not None, "no such unit")
    boundary = 0 if name == "embed" else 2 * len(specification["mlp"])
    return name, specification[name], boundary


def bounds(specification: dict) -> list[int]:
    """The bound of every boundary."""
    blocks = zip(specification["attention"], specification["mlp"], strict=True)
    return [specification["input"], *(unit["output"] for unit in chain.from_iterable(blocks))]


def declare(
    plan: Plan, specification: dict, tensors: Mapping[str, list[int]], claim: Claim
) -> Embed | AttentionUnit | Mlp | Head:
    kind, numbers, boundary = find(specification, claim.unit)
    bound = bounds(specification)[boundary]
    return KINDS[kind](plan, Given(claim, specification["architecture"], numbers, bound, tensors))


def check_boundaries(specification: dict, claim: Claim) -> None:
    """Before anything else: shapes, ids, positions, and bounds."""
    kind, _, boundary = find(specification, claim.unit)
    sizes, bound = specification["architecture"], bounds(specification)
    x, y, n, width = claim.inputs, claim.outputs, len(claim.inputs), sizes["width"]
    require(0 < n <= sizes["context"], "positions")
    if kind == "embed":
        check_ids(x, sizes["vocabulary"])
        check_rows(y, n, width, bound[0])
    else:
        check_rows(x, n, width, bound[boundary])
    if kind == "head":
        check_ids(y, sizes["vocabulary"])
        require(0 <= claim.first_row < claim.first_row + len(y) <= n, "rows of the head")
    else:
        require(claim.first_row == 0, "first row")
    if kind in ("attention", "mlp"):
        check_rows(y, n, width, bound[boundary + 1])


def check_ids(ids: list, vocabulary: int) -> None:
    require(all(isinstance(v, int) for v in ids), "ids of another shape")
    require(all(0 <= v < vocabulary for v in ids), "a token id outside the vocabulary")


def check_rows(rows: list, n: int, width: int, bound: int) -> None:
    require(len(rows) == n, "rows of another shape")
    for row in rows:
        require(isinstance(row, list) and len(row) == width, "rows of another shape")
        require(all(isinstance(x, int) for x in row), "rows of another shape")
        require(all(abs(x) <= bound for x in row), "an entry that leaves its bound")

"""Section 5: what is committed to and looked up; section 15: that no equation wraps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

from tests.independent.field import P, log, require, window
from tests.independent.tensors import Block, Dims, blocks

FIRST_IDENTIFIER = 32
LIMBS = range(4, 17)


@dataclass(frozen=True)
class Combination:
    """Σ factor·column + constant over columns of equal dimensions."""

    dims: Dims
    terms: dict[str, int]
    constant: int = 0
    largest: int = 0
    """The largest magnitude in the window, of what `unsigned` declares."""

    def __add__(self, other: Combination | int) -> Combination:
        if isinstance(other, int):
            return Combination(self.dims, self.terms, self.constant + other)
        terms = dict(self.terms)
        for column, factor in other.terms.items():
            terms[column] = terms.get(column, 0) + factor
        return Combination(self.dims, terms, self.constant + other.constant)

    def __mul__(self, factor: int) -> Combination:
        terms = {column: factor * old for column, old in self.terms.items()}
        return Combination(self.dims, terms, factor * self.constant)

    def __sub__(self, other: Combination | int) -> Combination:
        return self + -1 * other

    def __rsub__(self, other: int) -> Combination:
        return -1 * self + other

    __rmul__ = __mul__


@dataclass
class Table:
    identifier: int
    values: list[int]


@dataclass
class Lookup:
    table: str
    key: Combination
    value: Combination
    causal: bool


@dataclass
class Plan:
    limb: int
    columns: dict[str, Dims] = field(default_factory=dict)
    lookups: list[Lookup] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    weights: dict[str, Dims] = field(default_factory=dict)

    def weight(self, name: str, *dims: int) -> str:
        self.weights[name] = dims
        return name

    def column(self, name: str, *dims: int) -> Combination:
        self.columns[name] = dims
        return Combination(dims, {name: 1})

    def unsigned(self, name: str, dims: Dims, w: int, offset: int = 0) -> Combination:
        widths = [self.limb] * (w // self.limb) + [w % self.limb] * (w % self.limb > 0)
        whole = Combination(dims, {}, -offset)
        for k, width in enumerate(widths):
            limb = self.column(name if len(widths) == 1 else f"{name}.{k}", *dims)
            self.confine(limb, width)
            whole += 2 ** (self.limb * k) * limb
        return replace(whole, largest=max(offset, 2**w - 1 - offset))

    def signed(self, name: str, dims: Dims, bound: int) -> Combination:
        w = window(2 * bound)
        return self.unsigned(name, dims, w, 2 ** (w - 1))

    def below(self, name: str, dims: Dims, limit: int) -> tuple[Combination, Combination | None]:
        """r in 0 .. limit - 1, and what an equation has to say is zero, if there is one."""
        if limit == 1:
            return Combination(dims, {}), None
        w = log(limit)
        r = self.unsigned(name, dims, w)
        if limit == 2**w:
            return r, None
        if len(r.terms) == 1:
            self.confine(limit - 1 - r, w)
            return r, None
        complement = self.unsigned(f"{name} complement", dims, w)
        return r, r + complement - (limit - 1)

    def confine(self, key: Combination, width: int) -> None:
        name = f"range {width}"
        self.tables.setdefault(name, Table(width, [0] * 2**width))
        self.lookups.append(Lookup(name, key, Combination(key.dims, {}), causal=False))

    def look_up(
        self,
        name: str,
        values: list[int],
        key: Combination,
        value: Combination,
        causal: bool = False,
    ) -> None:
        self.tables[name] = Table(FIRST_IDENTIFIER, values)  # no unit has two tables with values
        self.lookups.append(Lookup(name, key, value, causal))

    def multiplicities(self) -> None:
        for name, table in self.tables.items():
            self.column(f"multiplicity of {name}", len(table.values))

    def fractions(self) -> list[Dims]:
        """The dimensions of all lookups, then of all tables."""
        looked_up = [lookup.key.dims for lookup in self.lookups]
        return looked_up + [(len(table.values),) for table in self.tables.values()]

    @property
    def cost(self) -> int:
        return length(list(self.columns.values())) + length(self.fractions())


def choose(declare: Callable[[Plan], object]) -> tuple[Plan, object]:
    """Section 13: the plan of the limb that costs least, and the unit that it belongs to."""
    drafts = []
    for limb in LIMBS:
        plan = Plan(limb)
        unit = declare(plan)
        plan.multiplicities()
        drafts.append((plan, unit))
    return min(drafts, key=lambda draft: draft[0].cost)


def length(tensors: list[Dims]) -> int:
    return sum(map(prod, tensors))


def layout(tensors: list[Dims]) -> list[list[int]]:
    """The offset of every block of every tensor."""
    order = [(block, t) for t, dims in enumerate(tensors) for block in blocks(dims)]
    offsets: list[dict] = [{} for _ in tensors]
    end = 0
    for block, t in sorted(order, key=lambda placed: -placed[0].bits):
        offsets[t][block] = end
        end += 2**block.bits
    return [
        [found[block] for block in blocks(dims)]
        for found, dims in zip(offsets, tensors, strict=True)
    ]


def cells(entries: list[int], dims: Dims, block: Block) -> list[int]:
    """The entries of a block of a tensor, row by row."""
    found = []
    for index in product(*(range(start, start + 2**k) for start, k in zip(*block, strict=True))):
        place = 0
        for n, i in zip(dims, index, strict=True):
            place = place * n + i
        found.append(entries[place])
    return found


def does_not_wrap(*magnitudes: int) -> None:
    """An equation of terms of these magnitudes that holds over F_p holds over the integers."""
    require(sum(magnitudes) < P, "an equation that may wrap")

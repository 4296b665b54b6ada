"""What a unit commits to and looks up: columns, numbers made of limbs, tables, and their slots.

A plan follows from the specification, the unit and the number of rows alone, so that prover and
verifier make the same one. It holds shapes, not values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from zkllm.engines.sumcheck.field import MODULUS
from zkllm.engines.sumcheck.multilinear import Block, Dims, blocks, size
from zkllm.errors import UnsupportedModel
from zkllm.tensors import IntArray, StoredArray

MAX_LIMB = 16
_FIRST_NAMED = 32
"""Identifiers below belong to the range tables: `w` is the table of all numbers below 2^w."""


@dataclass(frozen=True, slots=True)
class Combination:
    """A tensor that is a linear combination of committed columns, plus a constant everywhere."""

    dims: Dims
    terms: Mapping[str, int]
    """Factor of every column, by name; all columns have the shape `dims`."""
    constant: int = 0

    def __add__(self, other: Combination | int) -> Combination:
        if isinstance(other, int):
            return replace(self, constant=self.constant + other)
        if other.dims != self.dims:
            raise ValueError(f"expected a tensor of {self.dims}, got one of {other.dims}")
        terms = dict(self.terms)
        for name, factor in other.terms.items():
            terms[name] = terms.get(name, 0) + factor
        return Combination(self.dims, terms, self.constant + other.constant)

    def __mul__(self, factor: int) -> Combination:
        terms = {name: factor * value for name, value in self.terms.items()}
        return Combination(self.dims, terms, factor * self.constant)

    def __neg__(self) -> Combination:
        return self * -1

    def __sub__(self, other: Combination | int) -> Combination:
        return self + -other


@dataclass(frozen=True, slots=True)
class Windowed:
    """A tensor of integers in a window: the sum of looked-up limbs, less an offset."""

    name: str
    value: Combination
    bits: int
    """The window has 2^bits values ..."""
    offset: int
    """... the first of which is -offset."""
    limb: int
    """Bits of all limbs but the last."""

    @property
    def largest(self) -> int:
        """The largest magnitude inside the window."""
        return max(self.offset, (1 << self.bits) - 1 - self.offset)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Every cell of `key` (with `value`, where the table has one) is a row of `table`."""

    table: str
    key: Combination
    value: Combination | None = None
    causal: bool = False
    """Only cells of the lower triangle of the last two dimensions, which are equal."""

    def __post_init__(self) -> None:
        dims = self.key.dims
        if self.value is not None and self.value.dims != dims:
            raise ValueError(f"keys have the shape {dims}, values {self.value.dims}")
        if self.causal and (len(dims) < 2 or dims[-1] != dims[-2]):
            raise ValueError(f"a tensor of {dims} has no lower triangle")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows (identifier, key, value) with keys 0, 1, 2, ..."""

    identifier: int
    rows: int
    values: IntArray | None
    """Shape [rows]; without it every value is 0."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one block lies in a flat vector: a multiple of its size."""

    block: Block
    offset: int


@dataclass(slots=True)
class Plan:
    """All columns, lookups and tables of a unit, in the order of their declaration."""

    limb: int
    """Bits of a limb: small units take small ones, because every table is paid for whole."""
    columns: dict[str, Dims] = field(default_factory=dict)
    numbers: dict[str, Windowed] = field(default_factory=dict)
    lookups: list[Lookup] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    weights: dict[str, Dims] = field(default_factory=dict)
    """Tensors of the model that the unit uses, by their names in the specification."""
    _sealed: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.limb <= MAX_LIMB:
            raise ValueError(f"expected a limb of 1..{MAX_LIMB} bits, got {self.limb}")

    def column(self, name: str, dims: Dims) -> Combination:
        """A committed column that nothing restricts yet."""
        self._require_open(name)
        if name in self.columns:
            raise ValueError(f"two columns are called {name}")
        self.columns[name] = dims
        return Combination(dims, {name: 1})

    def range_table(self, bits: int) -> str:
        """The table of all numbers below 2^bits."""
        # A longer one would share its identifier with a named table.
        if not 0 <= bits <= MAX_LIMB:
            raise ValueError(f"expected a range of 0..{MAX_LIMB} bits, got {bits}")
        name = f"range {bits}"
        if name not in self.tables:
            self._require_open(name)
            self.tables[name] = Table(bits, 1 << bits, None)
        if self.tables[name].values is not None:
            raise ValueError(f"two tables are called {name}")
        return name

    def named_table(self, name: str, values: IntArray) -> str:
        """A table with values; every table has an identifier of its own."""
        if name not in self.tables:
            self._require_open(name)
            named = sum(table.values is not None for table in self.tables.values())
            self.tables[name] = Table(_FIRST_NAMED + named, len(values), values)
        found = self.tables[name].values
        if found is None or not np.array_equal(found, values):
            raise ValueError(f"two tables are called {name}")
        return name

    def unsigned(self, name: str, dims: Dims, bits: int, offset: int = 0) -> Windowed:
        """Integers in -offset .. 2^bits - 1 - offset, each limb of which is looked up."""
        value = Combination(dims, {}, -offset)
        widths = limb_widths(bits, self.limb)
        for k, width in enumerate(widths):
            label = name if len(widths) == 1 else f"{name}.{k}"
            limb = self.column(label, dims)
            self.lookups.append(Lookup(self.range_table(width), limb))
            value = value + limb * (1 << (k * self.limb))
        number = Windowed(name, value, bits, offset, self.limb)
        self.numbers[name] = number
        return number

    def signed(self, name: str, dims: Dims, bound: int) -> Windowed:
        """Integers of magnitude at most `bound`, in a window that may be wider."""
        bits = max(1, (2 * bound).bit_length())
        return self.unsigned(name, dims, bits, 1 << (bits - 1))

    def weight(self, name: str, dims: Dims) -> str:
        """A weight of the unit, seen as a tensor of `dims`."""
        self._require_open(name)
        if name in self.weights:
            raise ValueError(f"two layers share the weight {name}")
        self.weights[name] = dims
        return name

    def seal(self) -> None:
        """Add the multiplicities of all tables; nothing may be declared afterwards."""
        for name, table in self.tables.items():
            self.column(f"multiplicity of {name}", (table.rows,))
        self._sealed = True
        # A multiplicity that reaches p counts as fewer, down to none.
        cells = sum(size(lookup.key.dims) for lookup in self.lookups)
        if cells + sum(table.rows for table in self.tables.values()) >= MODULUS:
            raise UnsupportedModel("more lookups than the field has elements")

    def _require_open(self, name: str) -> None:
        if self._sealed:
            raise ValueError(f"{name} is declared after the plan was sealed")

    def layout(self) -> dict[str, list[Slot]]:
        """Where every block of every column lies in the committed vector."""
        return _arrange(self.columns)

    def weights_layout(self) -> dict[str, list[Slot]]:
        """Where every block of every weight lies in the vector of weights."""
        return _arrange(self.weights)

    def lookup_layout(self) -> tuple[list[list[Slot]], dict[str, list[Slot]], int]:
        """Slots of lookups (in order) and of tables in the vector of fractions, and its length."""
        dims = {f"lookup {i}": lookup.key.dims for i, lookup in enumerate(self.lookups)}
        dims |= {name: (table.rows,) for name, table in self.tables.items()}
        slots = _arrange(dims)
        sites = [slots[f"lookup {i}"] for i in range(len(self.lookups))]
        return sites, {name: slots[name] for name in self.tables}, total(dims)

    def size(self) -> int:
        """Length of the committed vector."""
        return total(self.columns)

    def cost(self) -> int:
        """Cells that are committed to or looked up: what the prover's time goes with."""
        cells = sum(size(lookup.key.dims) for lookup in self.lookups)
        return self.size() + cells + sum(table.rows for table in self.tables.values())


def limb_widths(bits: int, limb: int) -> list[int]:
    """Widths of the limbs of a number of `bits` bits, least significant first."""
    if bits < 1:
        raise ValueError(f"a window needs at least one bit, got {bits}")
    full, rest = divmod(bits, limb)
    return [limb] * full + [rest] * (rest > 0)


def total(columns: Mapping[str, Dims]) -> int:
    """Number of cells."""
    return sum(size(dims) for dims in columns.values())


def _arrange(columns: Mapping[str, Dims]) -> dict[str, list[Slot]]:
    """Largest blocks first, ties in order: every block then starts at a multiple of its size."""
    order = [
        (block.bits, name, index, block)
        for name, dims in columns.items()
        for index, block in enumerate(blocks(dims))
    ]
    order.sort(key=lambda item: -item[0])
    slots: dict[str, dict[int, Slot]] = {name: {} for name in columns}
    offset = 0
    for bits, name, index, block in order:
        slots[name][index] = Slot(block, offset)
        offset += 1 << bits
    return {name: [found[i] for i in range(len(found))] for name, found in slots.items()}


def cells(values: StoredArray, slot: Slot) -> StoredArray:
    """The entries of one block of a tensor, flat."""
    return np.ascontiguousarray(values[slot.block.slices]).reshape(-1)

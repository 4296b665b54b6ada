"""Where ezkl 23.0.5 puts things: columns, blocks, selectors and their compression.

Everything a circuit computes happens in three *tracks* of advice columns, `left`, `right` and
`result`, each `width` columns wide and cut into blocks of 2^k - 6 rows. The order of the
permutation columns is: committed tensors, left, right, result, constants, the instance column;
of the fixed columns: constants, the window of the lookups, one column per table, selectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from zkllm.engines.ezkl.audit.pk import ProvingKey
from zkllm.engines.ezkl.audit.settings import Settings
from zkllm.errors import InputError

Operation = Literal[
    "ADD", "SUB", "MULT", "DOTINIT", "DOT", "CUMPROD", "CUMPRODINIT", "SUM", "SUMINIT", "LOOKUP"
]

SINGLE: tuple[Operation, ...] = ("ADD", "SUB", "MULT")
"""Gates on one column of the three tracks."""
WHOLE: tuple[Operation, ...] = ("DOTINIT", "DOT", "CUMPROD", "CUMPRODINIT", "SUM", "SUMINIT")
"""Gates on a whole block: `width` products or terms at once."""
ACCUMULATING: frozenset[Operation] = frozenset({"DOT", "CUMPROD", "SUM"})
"""Gates that also read the result of the row before."""

_UNUSABLE_ROWS = 6
"""Five blinding rows and the last row, at the end of every column."""
_MAX_DEGREE = 64
"""No circuit that ezkl makes has gates of a higher degree."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What one selector switches on."""

    operation: Operation
    block: int
    inner: int
    """Column inside the block; 0 for gates on a whole block."""
    table: str = ""
    """For a lookup: the name of its table."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of one circuit, from its settings."""

    logrows: int
    width: int
    blocks: int
    committed: tuple[int, ...]
    """Lengths of the committed tensors, each in a column of its own."""
    constant_columns: int
    tables: tuple[str, ...]
    """Names of the lookup tables, in the order of the settings."""
    foreign: bool
    """Whether there are columns and gates, of Freivalds' check, that this layout does not know."""

    @property
    def rows(self) -> int:
        """Length of a column."""
        return 1 << self.logrows

    @property
    def usable(self) -> int:
        """Rows of a column that a circuit may use."""
        return self.rows - _UNUSABLE_ROWS

    @property
    def window_column(self) -> int:
        """The fixed column with the arguments of the tables; their entries come after it."""
        return self.constant_columns

    @property
    def selector_column(self) -> int:
        """The first fixed column with selectors."""
        return self.constant_columns + (1 + len(self.tables) if self.tables else 0)

    @property
    def gates(self) -> list[Gate]:
        """What each selector switches on, in order of the selectors."""
        singles = [
            Gate(operation, block, inner)
            for block in range(self.blocks)
            for inner in range(self.width)
            for operation in SINGLE
        ]
        wholes = [Gate(operation, block, 0) for block in range(self.blocks) for operation in WHOLE]
        lookups = [
            Gate("LOOKUP", block, inner, table)
            for table in self.tables
            for block in range(self.blocks)
            for inner in range(self.width)
        ]
        return singles + wholes + ([] if self.foreign else lookups)

    def track(self, number: int, block: int, inner: int, row: int) -> int:
        """The cell of track `number` (0 left, 1 right, 2 result)."""
        column = len(self.committed) + (number * self.blocks + block) * self.width + inner
        return column * self.rows + row

    def coordinate(self, number: int, place: int) -> int:
        """The cell of track `number` in which ezkl puts its `place`-th value."""
        block, offset = divmod(place, self.usable * self.width)
        row, inner = divmod(offset, self.width)
        return self.track(number, block, inner, row)

    @property
    def places(self) -> int:
        """How many values a track holds."""
        return self.blocks * self.width * self.usable

    def commitment(self, tensor: int, element: int) -> int:
        """The cell of one element of a committed tensor."""
        return tensor * self.rows + element

    def constant(self, column: int, row: int) -> int:
        """The cell of a constant."""
        return (self._constants + column) * self.rows + row

    def instance(self, row: int) -> int:
        """The cell of a public instance."""
        return (self._constants + self.constant_columns) * self.rows + row

    @property
    def _constants(self) -> int:
        return len(self.committed) + 3 * self.blocks * self.width


def read_layout(settings: Settings, key: ProvingKey) -> Layout:
    """The layout that `settings` demand; raises `InputError` if `key` has another one."""
    _expect("k", settings.logrows, key.logrows)
    usable = (1 << key.logrows) - _UNUSABLE_ROWS
    layout = Layout(
        logrows=key.logrows,
        width=settings.width,
        blocks=_ceil(settings.assignments, settings.width * usable),
        committed=settings.committed,
        constant_columns=_ceil(settings.constants, usable),
        tables=tuple(table.name for table in settings.tables),
        foreign=settings.einsum != 0,
    )
    columns = layout.instance(0) // layout.rows + 1
    _expect("permutation columns", columns, len(key.successors), more=layout.foreign)
    _expect("selectors", len(layout.gates), len(key.selectors), more=layout.foreign)
    _expect("fixed columns", layout.selector_column, len(key.fixed), more=True)
    return layout


def _expect(what: str, expected: int, got: int, *, more: bool = False) -> None:
    if got < expected or (got > expected and not more):
        raise InputError(f"{what}: {expected} expected from the settings, the key has {got}")


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // max(1, denominator))


def compressed_selectors_match(layout: Layout, key: ProvingKey) -> bool:
    """Whether the last fixed columns of `key` are what halo2 makes of its selector bits.

    Gates are switched by these columns; the bits only say how to read them. halo2 puts selectors
    that are never on together into one column, as far as the degree of their gates allows. That
    limit, the degree of the constraint system, is the one thing that the key does not tell, so
    all are tried.
    """
    actual = [np.array(column, dtype=object) for column in key.fixed[layout.selector_column :]]
    for limit in range(3, _MAX_DEGREE):
        expected = _compress(layout, key.selectors, limit)
        if len(expected) == len(actual) and all(
            np.array_equal(one, other) for one, other in zip(expected, actual, strict=True)
        ):
            return True
    return False


def _compress(
    layout: Layout, selectors: npt.NDArray[np.bool_], limit: int
) -> list[npt.NDArray[np.int64]]:
    """The columns that hold all selectors, for gates of a degree of at most `limit`."""
    degrees = [_degree(gate.operation, layout.width) for gate in layout.gates]
    columns = [
        bits.astype(np.int64) for bits, degree in zip(selectors, degrees, strict=True) if not degree
    ]
    waiting = [index for index, degree in enumerate(degrees) if degree]
    while waiting:
        group: list[int] = []
        taken = np.zeros(layout.rows, np.bool_)
        highest = 0
        for index in waiting:
            rest = max(highest, degrees[index] - 1)
            if rest + len(group) + 1 <= limit and not (taken & selectors[index]).any():
                group.append(index)
                taken |= selectors[index]
                highest = rest
        if not group:
            return []
        column = np.zeros(layout.rows, np.int64)
        for number, index in enumerate(group, start=1):
            column[selectors[index]] = number
        columns.append(column)
        waiting = [index for index in waiting if index not in group]
    return columns


def _degree(operation: Operation, width: int) -> int:
    """The degree of a gate with its selector; 0 for lookups, whose selectors stay alone."""
    match operation:
        case "LOOKUP":
            return 0
        case "ADD" | "SUB" | "SUM" | "SUMINIT":
            return 2
        case "MULT" | "DOTINIT" | "DOT":
            return 3
        case "CUMPRODINIT":
            return width + 1
        case "CUMPROD":
            return width + 2

"""Text in columns: lines of whole words, tables that narrow terminals can do with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len


def wrapped(body: str, first: int, rest: int) -> list[str]:
    """`body` in lines of whole words, `first` columns wide and then `rest`."""
    lines: list[str] = []
    line, room = "", first
    for i, word in enumerate(body.split(" ")):
        longer = f"{line} {word}" if i else word
        if cell_len(longer) > room and (i or rest > first):
            lines.append(line)
            line, room = word, rest
        else:
            line = longer
    return [*lines, line]


@dataclass(slots=True)
class Rows:
    """A table without rules."""

    columns: tuple[str, ...]
    right: Sequence[str]
    """Columns that are aligned to the right."""
    drop: Sequence[str]
    """Columns that a narrow terminal can do without, the first one first."""
    cells: list[tuple[str, ...]] = field(default_factory=list)

    def add_row(self, *cells: str) -> None:
        self.cells.append(cells)

    def fitting(self, room: int | None) -> list[str]:
        """The columns that are shown in `room` columns of text, or where there is no limit."""
        names = list(self.columns)
        for name in self.drop:
            if room is not None and name in names and self.width(names) > room:
                names.remove(name)
        return names

    def width(self, names: Sequence[str]) -> int:
        """Columns of text that the columns `names` take."""
        return sum(self._width(name) for name in names) + 2 * (len(names) - 1)

    def lines(self, names: Sequence[str]) -> list[str]:
        """The head, and a line for each row, with the columns `names` alone."""
        places = [(self.columns.index(name), self._width(name), name) for name in names]
        return [
            "  ".join(self._padded(cells[i], width, name) for i, width, name in places).rstrip()
            for cells in (self.columns, *self.cells)
        ]

    def _width(self, name: str) -> int:
        place = self.columns.index(name)
        return max(cell_len(cells[place]) for cells in (self.columns, *self.cells))

    def _padded(self, cell: str, width: int, name: str) -> str:
        blank = " " * (width - cell_len(cell))
        return blank + cell if name in self.right else cell + blank

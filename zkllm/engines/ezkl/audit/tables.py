"""Whether lookup tables hold the functions that their names promise, on exactly their window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zkllm.engines.ezkl.audit.pk import ProvingKey
from zkllm.engines.ezkl.audit.settings import Table
from zkllm.engines.ezkl.exp import FLOAT32_E, exp_ezkl
from zkllm.engines.ezkl.expressions import FIELD

RESERVED_ROWS = 8
"""A table fills all rows of its column but these."""


def table_problems(
    key: ProvingKey, tables: Sequence[Table], window: tuple[int, int], first: int
) -> list[str]:
    """What is wrong with the tables, whose columns begin at fixed column `first`.

    `window` is `lookup_range`, both ends included. A table has 2^k - 8 rows whatever the range,
    and a lookup accepts all of them: only a range that fills the column is a range check.
    """
    low, high = window
    size = (1 << key.logrows) - RESERVED_ROWS
    if high - low + 1 != size:
        return [f"lookup_range: {size} values expected to fill the column, got {high - low + 1}"]
    problems = []
    if not _holds(key.fixed[first], range(low, high + 1)):
        problems.append(f"lookup window: expected {low}..{high} in its column")
    names = [table.name for table in tables]
    if len(set(names)) != len(names):
        problems.append(f"lookup tables: expected different functions, got {', '.join(names)}")
    for number, table in enumerate(tables, start=1):
        expected = _entries(table, window, key.logrows)
        if expected is None:
            problems.append(
                f"table {table.name}: expected Exp, or ACosh where it is zero, "
                f"got parameters {dict(table.parameters)}"
            )
        elif not _holds(key.fixed[first + number], expected):
            problems.append(f"table {table.name}: its column is not this function on {low}..{high}")
    return problems


def _holds(column: Sequence[int], expected: Sequence[int]) -> bool:
    """Whether `column` is `expected`, its first entry repeated up to the blinding rows, zeros."""
    filler = [expected[0]] * 2
    blinding = [0] * (len(column) - len(expected) - len(filler))
    return list(column) == [value % FIELD for value in (*expected, *filler, *blinding)]


def _entries(table: Table, window: tuple[int, int], logrows: int) -> list[int] | None:
    """The entries of `table` from the lower end of the window on; None if it is not known."""
    low, high = window
    scale = table.parameters.get("scale", 0)
    bits = round(math.log2(scale)) if scale > 0 else 0
    if scale != 2**bits:
        return None
    base = table.parameters.get("base", 0)
    if table.name == "Exp" and np.float32(base) == np.float32(float(FLOAT32_E)):
        entries: list[int] = exp_ezkl(bits, high, logrows)[::-1].tolist()
        return entries
    if table.name == "ACosh" and high <= scale:
        # The inverse hyperbolic cosine does not exist below 1, where ezkl makes it 0.
        return [0] * (high - low + 1)
    return None

"""Section 8: lookups, a sum over a tree of fractions."""

from __future__ import annotations

from tests.independent.conversation import Conversation
from tests.independent.field import ZERO, Element, require
from tests.independent.ledger import Columns
from tests.independent.plan import Combination, Lookup, Plan, layout, length
from tests.independent.tensors import (
    Block,
    Coordinates,
    Functional,
    blocks,
    eq,
    eqs,
    extension,
    within,
)


def check_lookups(talk: Conversation, columns: Columns, plan: Plan) -> None:
    fractions = plan.fractions()
    layers = [length(fractions)]
    while layers[-1] > 1:
        layers.append((layers[-1] + 1) // 2)
    alpha = talk.draw("lookups: alpha", layers[0])
    beta = talk.draw("lookups: beta", 0)  # the error is that of all three
    gamma = talk.draw("lookups: gamma", 0)
    p, d = talk.send("lookups: sum", 2)
    require(p == ZERO and d + 1 != ZERO, "lookups: the sum of all fractions is not zero")
    z: Coordinates = ()
    for n in reversed(layers[1:]):
        mix = talk.draw("lookups: layer", 1)
        (y,), value = talk.sumcheck("lookups", (n,), p + mix * d, 3)
        p0, p1, d0, d1 = talk.send("lookups: children", 4)
        parent = p0 + p1 + p0 * d1 + p1 * d0 + mix * (d0 + d1 + d0 * d1)
        require(value == within(n, z, y) * parent, "lookups: children")
        side = talk.draw("lookups: side", 1)
        p, d, z = p0 + side * (p1 - p0), d0 + side * (d1 - d0), (side, *y)

    offsets = iter(layout(fractions))
    for lookup, starts in zip(plan.lookups, offsets, strict=False):  # those of tables follow
        places = place(lookup.key.dims, starts, z)
        key = claimed(columns, lookup.key, places)
        value = claimed(columns, lookup.value, places)
        identifier = plan.tables[lookup.table].identifier
        p -= numerators(lookup, places)
        d -= total(places) * (alpha - identifier - 1) - beta * key - gamma * value
    for (name, table), starts in zip(plan.tables.items(), offsets, strict=True):
        dims = (len(table.values),)
        places = place(dims, starts, z)
        key = value = ZERO
        for (f, local), block in zip(places, blocks(dims), strict=True):
            start, end = block.starts[0], block.starts[0] + 2**block.bits
            key += f * (start + sum((2**k * r for k, r in enumerate(local)), ZERO))
            value += f * extension(table.values[start:end], (2**block.bits,), (local,))
        p += columns.claim(f"multiplicity of {name}", places)
        d -= total(places) * (alpha - table.identifier - 1) - beta * key - gamma * value
    require(p == ZERO and d == ZERO, "lookups: the fractions are not those of the columns")


def place(dims: tuple[int, ...], offsets: list[int], z: Coordinates) -> Functional:
    """The functional of a tensor's blocks at these offsets of the leaves, at their point z."""
    return [
        (eq(offset >> block.bits, z[block.bits :]), z[: block.bits])
        for block, offset in zip(blocks(dims), offsets, strict=True)
    ]


def total(places: Functional) -> Element:
    """w"""
    return sum((f for f, _ in places), ZERO)


def claimed(columns: Columns, combination: Combination, places: Functional) -> Element:
    value = combination.constant * total(places)
    for column, factor in combination.terms.items():
        value += factor * columns.claim(column, places)
    return value


def numerators(lookup: Lookup, places: Functional) -> Element:
    if not lookup.causal:
        return total(places)
    parts = zip(places, blocks(lookup.key.dims), strict=True)
    return sum((f * triangle(block, local) for (f, local), block in parts), ZERO)


def triangle(block: Block, local: Coordinates) -> Element:
    """`Inside the lower triangle of the last two dimensions` of a block, at a point of its own."""
    (s, t), (row_bits, column_bits) = block.starts[-2:], block.logs[-2:]
    columns = eqs(2**column_bits, local[:column_bits])
    rows = eqs(2**row_bits, local[column_bits : column_bits + row_bits])
    return sum(
        (x * y for a, x in enumerate(rows) for b, y in enumerate(columns) if t + b <= s + a), ZERO
    )

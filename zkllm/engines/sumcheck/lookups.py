"""Lookups: every looked-up cell is a row of its table, by sums of fractions (LogUp) over a tree.

With f = identifier + β·key + γ·value, Σ numerator/(α - f) over all cells equals Σ
multiplicity/(α - f) over all rows of all tables, as rational functions, only if every cell with a
nonzero numerator is a row. Numerators are public, so that no cell can be left out. The sum is taken
by a binary tree of fractions; each layer is one sumcheck. A denominator q is kept as d = q - 1, so
that the fraction 0/1 is a pair of zeros and places that do not exist are as everywhere.
"""

from __future__ import annotations

import functools

from zkllm.engines.sumcheck import multilinear
from zkllm.engines.sumcheck.field import MODULUS, ONE, ZERO, Ext, contract
from zkllm.engines.sumcheck.multilinear import Coordinates
from zkllm.engines.sumcheck.party import (
    FractionTree,
    LayerRounds,
    LinearForm,
    Party,
    slots_at,
)
from zkllm.engines.sumcheck.plan import Combination, Lookup, Slot, Table


def lengths(count: int) -> list[int]:
    """Lengths of the layers over `count` fractions: the leaves first, 1 last."""
    result = [count]
    while result[-1] > 1:
        result.append((result[-1] + 1) // 2)
    return result


def check_lookups(party: Party) -> None:
    """Show that all lookups of the plan hold; leaves claims about columns in the ledger."""
    plan = party.plan
    sites, tables, count = plan.lookup_layout()
    # Cross-multiplied, the difference of both sides has degree `count` at most in (α, β, γ).
    alpha = party.challenge("lookups: alpha", count)
    beta, gamma = party.challenge("lookups: beta", 0), party.challenge("lookups: gamma", 0)
    tree = party.fraction_tree(alpha, beta, gamma)
    numerator, denominator, point = reduce_fractions(party, tree, count)
    top, bottom = ZERO, ZERO
    for lookup, slots in zip(plan.lookups, sites, strict=True):
        linear_form = slots_at(slots, point)
        fingerprint = _claimed(party, lookup.key, linear_form) * beta
        if lookup.value is not None:
            fingerprint += _claimed(party, lookup.value, linear_form) * gamma
        identifier = plan.tables[lookup.table].identifier
        top += public_numerator(lookup, slots, linear_form)
        bottom += total_weight(linear_form) * (alpha - identifier - 1) - fingerprint
    for name, slots in tables.items():
        linear_form = slots_at(slots, point)
        top -= party.claim(f"multiplicity of {name}", linear_form)
        table = plan.tables[name]
        fingerprint = table_fingerprint(table, slots, linear_form, beta, gamma)
        bottom += total_weight(linear_form) * (alpha - table.identifier - 1) - fingerprint
    party.require_equal("lookups: numerators", numerator, top)
    party.require_equal("lookups: fingerprints", denominator, bottom)


def reduce_fractions(
    party: Party, tree: FractionTree | None, count: int
) -> tuple[Ext, Ext, Coordinates]:
    """From "the sum is zero" to claims on numerators and denominators of the leaves, at a point."""
    layers = lengths(count)
    numerator, denominator = party.exchange("lookups: sum", functools.partial(_root, tree), 2)
    party.require_equal("lookups: sum", numerator, ZERO)
    party.require_nonzero("lookups: sum", denominator + ONE)
    point: Coordinates = ()
    for level in reversed(range(len(layers) - 1)):
        factor = party.challenge("lookups: layer", 1)
        state = tree.layer(level, point, factor) if tree is not None else None
        (reached,), value = party.rounds(
            "lookups", (layers[level + 1],), numerator + factor * denominator, state, 3
        )
        p0, p1, d0, d1 = party.exchange("lookups: children", functools.partial(_children, state), 4)
        summand = p0 + p1 + p0 * d1 + p1 * d0 + factor * (d0 + d1 + d0 * d1)
        expected = multilinear.eq_within(layers[level + 1], point, reached) * summand
        party.require_equal("lookups: layer", value, expected)
        side = party.challenge("lookups: side", 1)
        numerator, denominator = p0 + side * (p1 - p0), d0 + side * (d1 - d0)
        point = (side, *reached)
    return numerator, denominator, point


def _root(tree: FractionTree | None) -> list[Ext]:
    return [] if tree is None else tree.root()


def _children(state: LayerRounds | None) -> list[Ext]:
    return [] if state is None else state.children()


def total_weight(linear_form: LinearForm) -> Ext:
    """The linear form of a tensor of ones."""
    return sum((factor for factor, _ in linear_form), ZERO)


def _claimed(party: Party, combination: Combination, linear_form: LinearForm) -> Ext:
    result = total_weight(linear_form) * (combination.constant % MODULUS)
    for column, factor in combination.terms.items():
        result += party.claim(column, linear_form) * (factor % MODULUS)
    return result


def public_numerator(lookup: Lookup, slots: list[Slot], linear_form: LinearForm) -> Ext:
    """The numerators of a lookup under a linear form: 1, or 1 in the lower triangle."""
    if not lookup.causal:
        return total_weight(linear_form)
    result = ZERO
    for slot, (factor, local) in zip(slots, linear_form, strict=True):
        rows, columns = zip(slot.block.starts[-2:], slot.block.logs[-2:], strict=True)
        j, i = local[: columns[1]], local[columns[1] : columns[1] + rows[1]]
        result += factor * multilinear.causal_block(rows, columns, i, j)
    return result


def table_fingerprint(
    table: Table, slots: list[Slot], linear_form: LinearForm, beta: Ext, gamma: Ext
) -> Ext:
    """β·key + γ·value of all rows of a table under a linear form."""
    result = ZERO
    for slot, (factor, local) in zip(slots, linear_form, strict=True):
        (start,) = slot.block.starts
        key = sum((r * (1 << k) for k, r in enumerate(local)), Ext(start))
        result += factor * key * beta
        if table.values is not None:
            rows = table.values[slot.block.slices][:, None]
            value = Ext.from_words(contract(multilinear.eq_table(local), rows)[0])
            result += factor * value * gamma
    return result

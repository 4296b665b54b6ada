"""EXP as ezkl looks it up, entry for entry."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from decimal import Decimal, localcontext

from zkllm.decimals import DIGITS, GUARD, constant, powers, rounded
from zkllm.engines.ezkl.recipe import Recipe
from zkllm.tensors import IntArray

Lookup = Callable[[int], int]
"""The EXP table as a function of high - z."""

FLOAT32_E = Decimal("2.7182817459106445")
"""e rounded to float32: the base of ezkl's Exp table (measured on the wheel)."""


@functools.cache
def exp_ezkl(scale: int, offset: int, logrows: int) -> IntArray:
    """EXP[z] = floor(2^S·E^((hi - z)/2^S) + 1/2) over ezkl's whole lookup window of 2^k - 8 values.

    S = `scale`, hi = `offset`, k = `logrows`, E = `FLOAT32_E`. An offset makes values finer than
    arguments. The entries are those of ezkl's own table at hi - z, so that one lookup proves both
    the range of z and the value.
    """
    return constant(_entries(scale, offset, 2**logrows - 8))


def _entries(scale: int, offset: int, count: int) -> list[int]:
    """The first of them."""
    with localcontext() as context:
        context.prec = DIGITS + GUARD
        unit = Decimal(2) ** scale
        step = FLOAT32_E.ln() / unit
        entries = powers(unit * (offset * step).exp(), (-step).exp())
        return [rounded(entry) for entry in itertools.islice(entries, count)]


def recipe_table(recipe: Recipe) -> IntArray:
    """The one table that circuits of `recipe` look up."""
    return exp_ezkl(recipe.exp_scale, recipe.window.high, recipe.window.logrows)


def recipe_bound(recipe: Recipe) -> int:
    """Its largest entry, which is the first: a verifier needs no other."""
    return _entries(recipe.exp_scale, recipe.window.high, 1)[0]


def recipe_lookup(recipe: Recipe) -> Lookup:
    """The same as ezkl asks for it."""
    entries: list[int] = recipe_table(recipe).tolist()
    return lambda argument: entries[recipe.window.high - argument]

"""Which integers a model may store: one rule, which every reader of tensors passes.

A digest says which integers they are, and nothing of whether arithmetic with them is defined. A
bound that is proven from them, a product in float64, a sum in int64 all rest on what stands here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from zkllm.errors import WrongMaterial
from zkllm.exact.specification import Specification
from zkllm.integers import FLOAT64_LIMIT
from zkllm.records import word
from zkllm.tensors import StoredArray


def check_stored(specification: Specification, name: str, values: StoredArray) -> None:
    """Raises `WrongMaterial` unless the tensor `name` of a model may hold `values`.

    Every integer stays below 2^52 in magnitude. EXP falls from above 0 to 0 or more, and as many
    entries as there are positions add up to less than 2^52. GELU's D keeps |gelu(x)| <= |x|:
    0 <= D[u] <= u.
    """
    check_range(f"tensor {word(name)}", [int(values.min()), int(values.max())])
    if any(unit.exp == name for unit in specification.attention):
        _check_exp(name, values, specification.architecture.context)
    if any(unit.gelu == name for unit in specification.mlp):
        _check_gelu(name, values)


def check_range(what: str, values: Iterable[int]) -> None:
    """Raises `WrongMaterial` for an integer of 2^52 or more in magnitude."""
    for value in values:
        if abs(value) >= FLOAT64_LIMIT:
            raise WrongMaterial(f"{what}: expected integers below 2^52 in magnitude, got {value}")


def _check_exp(name: str, table: StoredArray, context: int) -> None:
    if not (table[-1] >= 0 and table[0] > 0 and (table[:-1] >= table[1:]).all()):
        raise WrongMaterial(
            f"tensor {word(name)}: expected a table of EXP, which falls from above 0 to 0 or more"
        )
    if context * int(table[0]) >= FLOAT64_LIMIT:
        raise WrongMaterial(
            f"tensor {word(name)}: expected a table of EXP that {context} positions add up to "
            f"less than 2^52, it begins with {int(table[0])}"
        )


def _check_gelu(name: str, table: StoredArray) -> None:
    beyond = (table < 0) | (table > np.arange(len(table)))
    for u in np.flatnonzero(beyond)[:1]:
        raise WrongMaterial(
            f"tensor {word(name)}: expected a table of GELU with 0 <= D[u] <= u, "
            f"got D[{u}] = {int(table[u])}"
        )

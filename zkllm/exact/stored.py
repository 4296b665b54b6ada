"""Which integers a model may store: one rule, which every reader of tensors passes.

A digest says which integers they are, and nothing of whether arithmetic with them is defined. A
bound that is proven from them, a product in float64, a sum in int64 all rest on what stands here.
"""

from __future__ import annotations

from collections.abc import Iterable

from zkllm.errors import WrongMaterial
from zkllm.exact.specification import Specification
from zkllm.integers import FLOAT64_LIMIT
from zkllm.records import word
from zkllm.tensors import StoredArray


def check_stored(specification: Specification, name: str, values: StoredArray) -> None:
    """Raises `WrongMaterial` unless the tensor `name` of a model may hold `values`.

    Every integer stays below 2^52 in magnitude; for a table the steps that read it have a rule.
    """
    check_range(f"tensor {word(name)}", [int(values.min()), int(values.max())])
    for step in specification.readers.get(name, ()):
        step.check_table(name, values)


def check_range(what: str, values: Iterable[int]) -> None:
    """Raises `WrongMaterial` for an integer of 2^52 or more in magnitude."""
    for value in values:
        if abs(value) >= FLOAT64_LIMIT:
            raise WrongMaterial(f"{what}: expected integers below 2^52 in magnitude, got {value}")

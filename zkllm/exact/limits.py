"""How large the numbers of a specification may be: sizes of its tensors, and integers in them.

Whoever wrote a specification need not have the weights: what it says is held to these limits before
anything is set aside for it, and before its numbers are computed with.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from zkllm.errors import InvalidBundle
from zkllm.integers import FLOAT64_LIMIT
from zkllm.sizes import MAX_SIZES

if TYPE_CHECKING:
    from zkllm.exact.specification import Architecture  # which holds itself to these limits

MAX_TABLE = 1 << 18
"""No table has more entries: GPT-2's have some ten thousand."""


def check_sizes(a: Architecture) -> None:
    """Raises `InvalidBundle` for sizes that do not fit together or that no model has."""
    for name, largest in MAX_SIZES.items():
        least, found = int(name != "first_block"), getattr(a, name)
        if not least <= found <= largest:
            raise InvalidBundle(
                f"spec.json: architecture.{name}: expected {least} to {largest}, got {found}"
            )
    if a.width % a.heads:
        raise InvalidBundle(
            f"spec.json: architecture: expected a width that {a.heads} heads share, got {a.width}"
        )
    if a.first_block + a.blocks > MAX_SIZES["blocks"]:
        raise InvalidBundle(
            f"spec.json: architecture: expected at most {MAX_SIZES['blocks']} blocks, "
            f"got {a.first_block + a.blocks}"
        )


def check_numbers(part: Any, what: str, largest: int = FLOAT64_LIMIT) -> None:
    """Hold every number of `part`, a record, to the limit under which executors are exact.

    The digest says *which* numbers they are; this says that arithmetic with them is defined. The
    limit is `largest` unless the record says another beside its field (`records.below`). Raises
    `InvalidBundle` that names the field.
    """
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        limit = field.metadata.get("below", largest)
        if dataclasses.is_dataclass(value):
            check_numbers(value, f"{what}.{field.name}", largest)
        elif isinstance(value, int) and not 0 <= value < limit:
            raise InvalidBundle(
                f"{what}.{field.name} must be at least 0 and below {limit}, got {value}"
            )

"""What a backend holds every claim to before it computes with it: the bounds of its rows."""

from __future__ import annotations

import numpy as np

from zkllm.backends.base import Claim
from zkllm.errors import ConstraintViolation
from zkllm.exact.specification import Attention, Embed, Head, Mlp, Specification
from zkllm.tensors import IntArray


def check_ranges(specification: Specification, claim: Claim) -> None:
    """Raises `ConstraintViolation` for a boundary that leaves the bound proven for it.

    Likewise for more rows than the context has, and for a first row that only the head may have.
    `verify` has checked that before; no backend may rest on who called it.
    """
    unit = specification.units()[claim.unit]
    context = specification.architecture.context
    if len(claim.inputs) > context:
        raise ConstraintViolation(
            f"{claim.unit}: expected at most {context} rows, got {len(claim.inputs)}"
        )
    if claim.first_row and not isinstance(unit, Head):
        raise ConstraintViolation(f"{claim.unit}: expected the first row 0, got {claim.first_row}")
    bounds = specification.boundary_bounds()
    rows: list[tuple[str, IntArray, int]] = []
    if isinstance(unit, Embed):
        rows = [("output", claim.outputs, bounds[0])]
    elif isinstance(unit, Head):
        rows = [("input", claim.inputs, bounds[-1])]
    else:
        before = input_bound(specification, unit)
        rows = [("input", claim.inputs, before), ("output", claim.outputs, unit.output)]
    for name, values, bound in rows:
        for place in np.argwhere((values > bound) | (values < -bound))[:1]:
            at = tuple(int(i) for i in place)
            raise ConstraintViolation(
                f"{claim.unit}: {name}: expected at most {bound} in magnitude, "
                f"got {int(values[at])} at {list(at)}"
            )


def input_bound(specification: Specification, unit: Attention | Mlp) -> int:
    """The proven bound on the boundary that `unit` reads."""
    order = [
        u for pair in zip(specification.attention, specification.mlp, strict=True) for u in pair
    ]
    (index,) = (i for i, other in enumerate(order) if other is unit)
    return specification.boundary_bounds()[index]

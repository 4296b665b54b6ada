"""What a backend holds every claim to before it computes with it: the bounds of its rows."""

from __future__ import annotations

from zkllm.backends.base import Claim
from zkllm.errors import ConstraintViolation
from zkllm.exact.specification import Specification
from zkllm.operations.unit import Ids, Rows
from zkllm.tensors import IntArray, first_beyond


def check_ranges(specification: Specification, claim: Claim) -> None:
    """Raises `ConstraintViolation` for a boundary that leaves the bound proven for it.

    Likewise for more rows than the context has, and for a first row where the unit gives no ids.
    `verify` has checked that before; no backend may rest on who called it.
    """
    unit = specification.units()[claim.unit]
    context = specification.architecture.context
    if len(claim.inputs) > context:
        raise ConstraintViolation(
            f"{claim.unit}: expected at most {context} rows, got {len(claim.inputs)}"
        )
    if claim.first_row and not isinstance(unit.output, Ids):
        raise ConstraintViolation(f"{claim.unit}: expected the first row 0, got {claim.first_row}")
    rows: list[tuple[str, IntArray, int]] = []
    if isinstance(unit.input, Rows):
        rows.append(("input", claim.inputs, unit.input.bound))
    if isinstance(unit.output, Rows):
        rows.append(("output", claim.outputs, unit.output.bound))
    for name, values, bound in rows:
        beyond = first_beyond(values, bound)
        if beyond:
            raise ConstraintViolation(f"{claim.unit}: {name}: {beyond}")

"""What a specification says of its numbers, as far as the numbers themselves show it.

No equation reads `fractions`, `exp` and `activation`: they tell people what the integers stand for.
Tables and constants follow from them, and can be made again. What cannot be shown here is a claim
of whoever exported the model (`CLAIMED`), which `zkllm export --check` proves with the checkpoint.
"""

from __future__ import annotations

import numpy as np

from zkllm.errors import UntrustedMaterial
from zkllm.exact import format1
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.operations import tables
from zkllm.tensors import IntArray

CLAIMED = ("source", "fractions.residual", "fractions.query", "fractions.key", "fractions.value")
"""What no number of the model shows; of query and key the sum is shown."""
CLAIMED_OF_FRAGMENTS = ("first_block", "vocabulary", "pad_id", "stop_ids")
"""What a fragment says of the model that it was cut out of."""


def claimed(specification: Specification) -> tuple[str, ...]:
    """The fields that nothing proves, `zkllm export --check` excepted."""
    more = CLAIMED_OF_FRAGMENTS if specification.kind == "fragment" else ()
    # ReLU's table is [0] at every scale
    relu = ("fractions.hidden",) if specification.architecture.activation == "relu" else ()
    return CLAIMED + relu + more


def check_meaning(model: ExactModel) -> None:
    """Hold the tables and constants of `model` to what its specification says they are.

    Raises `UntrustedMaterial` that names what differs.
    """
    specification = model.specification
    f, exp, kind = specification.fractions, specification.exp, specification.architecture.activation
    for what, says, follows, of in format1.constants(specification):
        _require(what, says, follows, of)
    _require("exp.argument_bits", exp.argument_bits, f.score, "fractions.score")
    table = model.tensor("table.exp")
    what = f"EXP of {exp.family}({exp.argument_bits}, {exp.value_parameter}, {exp.logrows})"
    _require_table("table.exp", table, exp.make_like(table), what)
    table = model.tensor("table.gelu")
    what = f"that of {kind} with {f.hidden} fraction bits"
    _require_table("table.gelu", table, tables.activation_like(kind, f.hidden, table), what)
    model.forget()


def _require(what: str, says: int, follows: int, of: str) -> None:
    if says != follows:
        raise UntrustedMaterial(f"spec.json: {what}: expected {follows} for {of}, got {says}")


def _require_table(name: str, table: IntArray, made: IntArray | None, what: str) -> None:
    if made is None or not np.array_equal(table, made):
        raise UntrustedMaterial(f"spec.json: {name}: expected {what}, got another table")

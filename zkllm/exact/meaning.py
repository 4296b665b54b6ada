"""What a specification says of its numbers, as far as the numbers themselves show it.

No equation reads `fractions`, `exp` and `activation`: they tell people what the integers stand for.
Tables and constants follow from them, and can be made again. What cannot be shown here is a claim
of whoever exported the model (`CLAIMED`), which `zkllm export --check` proves with the checkpoint.
"""

from __future__ import annotations

import math

import numpy as np

from zkllm.errors import UntrustedMaterial
from zkllm.exact import tables
from zkllm.exact.bounds import norm_gain
from zkllm.exact.format1 import Attention
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.operations.embed.exact import Embed
from zkllm.tensors import IntArray

CLAIMED = ("source", "fractions.residual", "fractions.query", "fractions.key", "fractions.value")
"""What no number of the model shows; of query and key the sum is shown."""
CLAIMED_OF_FRAGMENTS = ("first_block", "vocabulary", "pad_id", "stop_ids")
"""What a fragment says of the model that it was cut out of."""

_MAX_VALUE_BITS = 48
"""Entries stay below 2^50: a sum of e·v could not hold more."""
_TIE = 1e-6
"""More than floats lose here; what is this near to a half is left to exact arithmetic."""


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
    f = specification.fractions
    gain = norm_gain(specification.architecture.width, f.norm)
    for name, unit in specification.units().items():
        if not isinstance(unit, Embed):
            _require(f"{name}.norm.gain", unit.norm.gain, gain, "fractions.norm")
        if isinstance(unit, Attention):
            shift = f.query + f.key - f.score
            _require(f"{name}.score_shift", unit.score_shift, shift, "query, key, score")
    _require("exp.argument_bits", specification.exp.argument_bits, f.score, "fractions.score")
    _check_exp(specification, model.tensor("table.exp"))
    _check_gelu(specification, model.tensor("table.gelu"))
    model.forget()


def _check_exp(specification: Specification, table: IntArray) -> None:
    exp = specification.exp
    a, k = exp.argument_bits, exp.value_parameter
    made: IntArray | None = None
    # Nothing is made that the table which is there could not be: a table may be said to be of
    # any length, and its numbers of any size.
    if exp.family == "free":
        length = math.ldexp((k + 1) * math.log(2), a)
        if not exp.logrows and k <= _MAX_VALUE_BITS and abs(length - len(table)) < 3:
            made = tables.exp_free(a, k)
    else:
        bits = a + math.ldexp(k / math.log(2), -a)
        if bits <= _MAX_VALUE_BITS and len(table) == (1 << exp.logrows) - 8:
            made = tables.exp_ezkl(a, k, exp.logrows)
    what = f"EXP of {exp.family}({a}, {k}, {exp.logrows})"
    _require_table("table.exp", table, made, what)


def _check_gelu(specification: Specification, table: IntArray) -> None:
    activation, fraction = specification.architecture.activation, specification.fractions.hidden
    made: IntArray | None = None
    if activation == "relu":
        made = tables.relu()
    # below a quarter nothing of it is left
    elif fraction >= 2 and _ends_gelu(activation, fraction, len(table) - 1):
        made = (tables.gelu_tanh if activation == "gelu_new" else tables.gelu_erf)(fraction)
    _require_table("table.gelu", table, made, f"that of {activation} with {fraction} fraction bits")


def _ends_gelu(activation: str, fraction: int, last: int) -> bool:
    """Whether `last` is the first index at which the table of `activation` has fallen to 0."""

    def entry(u: int) -> float:
        x = math.ldexp(u, -fraction)
        if activation == "gelu":
            return u * math.erfc(x / math.sqrt(2)) / 2
        return u / (math.exp(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) + 1)

    if not 1 << fraction <= last <= 1 << (fraction + 4):
        return False  # far from 1 to 16, where a float would not hold its exponential
    return entry(last) < 0.5 + _TIE and entry(last - 1) > 0.5 - _TIE


def _require(what: str, says: int, follows: int, of: str) -> None:
    if says != follows:
        raise UntrustedMaterial(f"spec.json: {what}: expected {follows} for {of}, got {says}")


def _require_table(name: str, table: IntArray, made: IntArray | None, what: str) -> None:
    if made is None or not np.array_equal(table, made):
        raise UntrustedMaterial(f"spec.json: {name}: expected {what}, got another table")

"""Units as specification format 1 writes them: four records, and the lists of steps they stand for.

The records are the JSON of `spec.json`: their fields and names never change. Whoever computes,
bounds, draws or proves a unit reads its list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from zkllm.operations.activation.exact import Activation, ActivationStep
from zkllm.operations.attention.exact import Attend, AttentionStep
from zkllm.operations.embed.exact import Embed, EmbedStep
from zkllm.operations.head.exact import HeadStep, Logits
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.norm.exact import Norm, NormStep
from zkllm.operations.step import Dims
from zkllm.operations.unit import Ids, Rows, Unit

if TYPE_CHECKING:
    from zkllm.exact.specification import Architecture  # which holds these records

TABLES: Mapping[str, str] = {"exp": "table.exp", "gelu": "table.gelu"}
"""The name of a table by the field that names it; all units share one."""


@dataclass(frozen=True, slots=True)
class Attention:
    """x + out(attention(norm(x)))."""

    norm: Norm
    query: Linear
    key: Linear
    value: Linear
    score_shift: int
    product: int
    """Bound on the sum of |q·k| terms, rounding included."""
    score: int
    """Bound on |s|."""
    exp: str
    total: int
    """Bound on S at the full context."""
    mixed: int
    """Bound on Σ e·|v| + S at the full context."""
    out: Linear
    output: int
    """Bound on the residual stream after the unit."""


@dataclass(frozen=True, slots=True)
class Mlp:
    """x + project(gelu(expand(norm(x))))."""

    norm: Norm
    expand: Linear
    gelu: str
    project: Linear
    output: int


@dataclass(frozen=True, slots=True)
class Head:
    """arg-max of norm(x)·W + b: raw accumulators, ties to the lowest id."""

    norm: Norm
    weight: str
    bias: str
    logit: int
    """Bound on the sum of the absolute values of all terms of a logit."""


Record: TypeAlias = Embed | Attention | Mlp | Head


def read(name: str, record: Record, a: Architecture, bound: int) -> Unit:
    """The unit that `record` stands for; `bound` is that of the rows that it reads.

    For `embed`, which reads none, it is that of the rows that it gives: whoever reads them holds
    them to it.
    """
    rows, ids = Rows(a.width, bound), Ids(a.vocabulary)
    if isinstance(record, Embed):
        step = EmbedStep("embed", ("ids",), "rows", record, a.vocabulary, a.context, a.width)
        return Unit(name, ids, rows, (step,), "ids", "rows", residual=False)
    norm = NormStep("norm", ("x",), "normal", record.norm, a.width)
    if isinstance(record, Attention):
        return Unit(name, rows, Rows(a.width, record.output), (norm, *_attention(record, a)))
    if isinstance(record, Mlp):
        return Unit(name, rows, Rows(a.width, record.output), (norm, *_mlp(record, a)))
    logits = Logits(record.weight, record.bias, record.logit)
    head = HeadStep("margin", ("normal",), "ids", logits, a.width, a.vocabulary)
    return Unit(name, rows, ids, (norm, head), writes="ids", residual=False)


def _linear(
    name: str, read: str, written: str, numbers: Linear, inner: Dims, outer: Dims
) -> LinearStep:
    return LinearStep(name, (read,), written, numbers, inner, outer)


def _attention(u: Attention, a: Architecture) -> Sequence[LinearStep | AttentionStep]:
    heads = (a.heads, a.width // a.heads)
    attend = Attend(u.score_shift, u.product, u.score, u.exp, u.total, u.mixed, u.value.output)
    read = ("query", "key", "value")
    return (
        _linear("query", "normal", "query", u.query, (a.width,), heads),
        _linear("key", "normal", "key", u.key, (a.width,), heads),
        _linear("value", "normal", "value", u.value, (a.width,), heads),
        AttentionStep("attention", read, "mixed", attend, *heads, a.context),
        _linear("out", "mixed", "change", u.out, heads, (a.width,)),
    )


def _mlp(u: Mlp, a: Architecture) -> Sequence[LinearStep | ActivationStep]:
    gelu = Activation(u.gelu, u.expand.output)
    # The activation gives its input the form in which it is committed to: it is declared first.
    return (
        ActivationStep("gelu", ("hidden",), "active", gelu, (a.inner,)),
        _linear("expand", "normal", "hidden", u.expand, (a.width,), (a.inner,)),
        _linear("project", "active", "change", u.project, (a.inner,), (a.width,)),
    )

"""Units as specification format 1 writes them: four records, and the lists of steps they stand for.

The records are the JSON of `spec.json`: their fields and names never change. Whoever computes,
bounds, draws or proves a unit reads its list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from zkllm.errors import UnsupportedModel
from zkllm.operations.activation.exact import Activation, ActivationStep
from zkllm.operations.attention.exact import Attend, AttentionStep
from zkllm.operations.embed.exact import Embed, EmbedStep
from zkllm.operations.head.exact import HeadStep, Logits
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.norm.draft import gain
from zkllm.operations.norm.exact import Norm, NormStep
from zkllm.operations.step import Dims, Step
from zkllm.operations.unit import Boundary, Ids, Rows, Unit
from zkllm.records import below

if TYPE_CHECKING:
    from zkllm.exact.specification import Architecture, Specification  # which holds them

TABLES: Mapping[str, str] = {"exp": "table.exp", "gelu": "table.gelu"}
"""The name of a table by the field that names it; all units share one."""


@dataclass(frozen=True, slots=True)
class Attention:
    """x + out(attention(norm(x)))."""

    norm: Norm
    query: Linear
    key: Linear
    value: Linear
    score_shift: int = field(metadata=below(62))
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


@dataclass(frozen=True)
class Records:
    """The units of a specification, as its fields."""

    embed: Embed | None
    attention: tuple[Attention, ...]
    mlp: tuple[Mlp, ...]
    head: Head | None

    def named(self, first_block: int) -> dict[str, Record]:
        """All units by name, in the order of the computation."""
        found: dict[str, Record] = {} if self.embed is None else {"embed": self.embed}
        for block, units in enumerate(zip(self.attention, self.mlp, strict=True), first_block):
            found |= zip((f"attention[{block}]", f"mlp[{block}]"), units, strict=True)
        return found if self.head is None else found | {"head": self.head}


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


def write(unit: Unit, a: Architecture) -> Record:
    """The record that stands for `unit`: what `read` makes the same list of.

    Raises `UnsupportedModel` for a list that format 1 cannot say.
    """
    record = _record(unit.steps, unit.output)
    bound = unit.input if isinstance(unit.input, Rows) else unit.output
    if (
        record is None
        or not isinstance(bound, Rows)
        or read(unit.name, record, a, bound.bound) != unit
    ):
        steps = ", ".join(step.name for step in unit.steps)
        raise UnsupportedModel(f"{unit.name}: format 1 has no words for the steps {steps}")
    return record


def arrange(units: Sequence[Unit], a: Architecture) -> dict[str, Any]:
    """The fields of a specification that say `units`, the bound of the first boundary included.

    Raises `UnsupportedModel` for a list of steps that format 1 cannot say.
    """
    records = [write(unit, a) for unit in units]
    first = next((unit.input for unit in units if isinstance(unit.input, Rows)), None)
    return {
        "input": 0 if first is None else first.bound,
        "embed": next((r for r in records if isinstance(r, Embed)), None),
        "attention": tuple(r for r in records if isinstance(r, Attention)),
        "mlp": tuple(r for r in records if isinstance(r, Mlp)),
        "head": next((r for r in records if isinstance(r, Head)), None),
    }


def _record(steps: Sequence[Step], output: Boundary) -> Record | None:
    """The only record that may stand for `steps`."""
    bound = output.bound if isinstance(output, Rows) else 0
    match steps:
        case (EmbedStep() as embed,):
            return embed.numbers
        case (
            NormStep() as norm,
            LinearStep() as query,
            LinearStep() as key,
            LinearStep() as value,
            AttentionStep() as attend,
            LinearStep() as out,
        ):
            n = attend.numbers
            return Attention(
                norm=norm.numbers,
                query=query.numbers,
                key=key.numbers,
                value=value.numbers,
                score_shift=n.shift,
                product=n.product,
                score=n.score,
                exp=n.exp,
                total=n.total,
                mixed=n.mixed,
                out=out.numbers,
                output=bound,
            )
        case (
            NormStep() as norm,
            ActivationStep() as gelu,
            LinearStep() as expand,
            LinearStep() as project,
        ):
            table = gelu.numbers.table
            return Mlp(norm.numbers, expand.numbers, table, project.numbers, bound)
        case (NormStep() as norm, HeadStep() as head):
            logits = head.numbers
            return Head(norm.numbers, logits.weight, logits.bias, logits.logit)
    return None


def constants(specification: Specification) -> Iterator[tuple[str, int, int, str]]:
    """Constants that follow from `fractions`: name, what is said, what follows, and of which."""
    f = specification.fractions
    for name, unit in specification.units().items():
        for step in unit.steps:
            if isinstance(step, NormStep):
                found, follows = step.numbers.gain, gain(step.width, f.norm)
                yield f"{name}.{step.name}.gain", found, follows, "fractions.norm"
            elif isinstance(step, AttentionStep):
                shift = f.query + f.key - f.score
                yield f"{name}.score_shift", step.numbers.shift, shift, "query, key, score"


def tensor_names(name: str, record: Record) -> Iterator[tuple[str, str]]:
    """The tensors of unit `name`: the name that follows from the role of each, and the one it has.

    A text in a record is always the name of a tensor.
    """
    yield from _named(record, f"{name}.logits" if isinstance(record, Head) else name)


def _named(part: Any, place: str) -> Iterator[tuple[str, str]]:
    for entry in dataclasses.fields(part):
        value, expected = getattr(part, entry.name), f"{place}.{entry.name}"
        if isinstance(value, str):
            yield TABLES.get(entry.name, expected), value
        elif dataclasses.is_dataclass(value):
            yield from _named(value, expected)

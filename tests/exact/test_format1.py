"""Format 1's records and the lists of steps that they stand for: each makes the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.exact.test_check import moved, numbers, value_at
from tests.toy import unit as toy
from zkllm.checkpoints import Checkpoint
from zkllm.errors import InvalidBundle, UnsupportedModel
from zkllm.exact import format1
from zkllm.exact.limits import check_numbers
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.exact.specification import Architecture
from zkllm.operations.precision import PRECISIONS
from zkllm.operations.unit import Ids, Rows, Unit

LIMITS = {"shift": 62, "score_shift": 62, "epsilon": 1 << 61, "variance": 1 << 61}
"""What numbers of these names may not reach; all others stay below 2^52 (docs/format.md)."""


@pytest.mark.parametrize("blocks", [None, (1, 2)])
def test_every_unit_is_read_and_written(
    tiny_checkpoint: Checkpoint, blocks: tuple[int, int] | None
) -> None:
    specification, _ = build(tiny_checkpoint, PRECISIONS["wide"], blocks)
    records, units = specification.records, specification.units()
    assert list(records) == list(units)
    for name, record in records.items():
        assert format1.write(units[name], specification.architecture) == record
    fields = format1.arrange(list(units.values()), specification.architecture)
    assert fields == {name: getattr(specification, name) for name in fields}
    assert set(fields) == {"input", *(f.name for f in dataclasses.fields(format1.Records))}


def changed(unit: Unit, place: int, **changes: Any) -> Unit:
    steps = list(unit.steps)
    steps[place] = replace(steps[place], **changes)
    return replace(unit, steps=tuple(steps))


def numbered(unit: Unit, place: int, **changes: Any) -> Unit:
    return changed(unit, place, numbers=replace(unit.steps[place].numbers, **changes))


UNSAID: dict[str, tuple[str, Callable[[Unit], Unit]]] = {
    "no residual": ("mlp[0]", lambda u: replace(u, residual=False)),
    "a residual": ("head", lambda u: replace(u, residual=True)),
    "other names of values": ("mlp[0]", lambda u: replace(u, reads="y")),
    "other names of steps": ("mlp[0]", lambda u: changed(u, 2, name="widen")),
    "another order": ("mlp[0]", lambda u: replace(u, steps=(u.steps[0], *u.steps[:0:-1]))),
    "a step twice": ("mlp[0]", lambda u: replace(u, steps=(*u.steps, u.steps[-1]))),
    "a step less": ("attention[1]", lambda u: replace(u, steps=u.steps[:-1])),
    "no step": ("embed", lambda u: replace(u, steps=())),
    "queries of values": ("attention[1]", lambda u: changed(u, 4, reads=("value", "key", "value"))),
    "wider heads": ("attention[1]", lambda u: changed(u, 4, heads=1, size=32)),
    "a shorter context": ("attention[1]", lambda u: changed(u, 4, context=11)),
    "a bound that is not the value's": ("attention[1]", lambda u: numbered(u, 4, output=1)),
    "a bound that is not the layer's": ("mlp[0]", lambda u: numbered(u, 1, input=1)),
    "a wider input": ("mlp[0]", lambda u: replace(u, input=Rows(33, 1))),
    "ids": ("mlp[0]", lambda u: replace(u, input=Ids(32))),
    "rows": ("head", lambda u: replace(u, output=Rows(29, 1))),
}


@pytest.mark.parametrize("what", UNSAID)
def test_what_it_cannot_say_is_refused(what: str, tiny_model: ExactModel) -> None:
    """Otherwise a list would be stored as another, which is then what is proved."""
    specification, (name, change) = tiny_model.specification, UNSAID[what]
    made = change(specification.units()[name])
    assert made != specification.units()[name]
    with pytest.raises(UnsupportedModel) as caught:
        format1.write(made, specification.architecture)
    assert caught.value.message.startswith(f"{name}: format 1 has no words for ")


def test_an_operation_that_it_does_not_know_is_refused() -> None:
    unit, _ = toy.made()
    a = Architecture(6, 1, 6, 2, 2, 0, 1, "relu")
    with pytest.raises(UnsupportedModel, match=r"^toy: .* steps norm, expand, square, project$"):
        format1.write(unit, a)


@pytest.mark.parametrize("name", ["embed", "attention[0]", "mlp[1]", "head"])
def test_every_number_has_its_limit(name: str, tiny_model: ExactModel) -> None:
    record = tiny_model.specification.records[name]
    for path in numbers(record):
        limit = LIMITS.get(path[-1], 1 << 52)
        by = limit - value_at(record, path)
        check_numbers(moved(record, path, by - 1), "unit")
        with pytest.raises(InvalidBundle, match=rf"{path[-1]} must .* below {limit}, got {limit}$"):
            check_numbers(moved(record, path, by), "unit")

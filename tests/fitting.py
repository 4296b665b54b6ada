"""Models that somebody made: any integers, with the numbers that are proven of them.

Export makes no such models, but nobody has to use it: whoever knows the format can store what it
likes, and write every digest and every bound beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zkllm.errors import UnsupportedModel
from zkllm.exact.check import prove_unit
from zkllm.exact.format1 import Head
from zkllm.exact.graph import compile_units
from zkllm.exact.model import ExactModel, save
from zkllm.exact.specification import Specification, StoredTensor
from zkllm.operations.embed.exact import Embed
from zkllm.operations.norm.exact import Norm, prove
from zkllm.tensors import WIDTHS, IntArray, tensor_digest

Tensors = Mapping[str, IntArray]


def tensors_of(model: ExactModel) -> dict[str, IntArray]:
    return {name: model.tensor(name) for name in model.specification.tensors}


def with_unit(specification: Specification, name: str, unit: Any) -> Specification:
    """`specification` with another unit of this name."""
    if name in ("embed", "head"):
        return replace(specification, **{name: unit})
    kind, index = name.removesuffix("]").split("[")
    units = list(getattr(specification, kind))
    units[int(index)] = unit
    changed: Any = {kind: tuple(units)}
    return replace(specification, **changed)


def with_entry(tensors: Tensors, name: str, place: int, value: int) -> dict[str, IntArray]:
    """`tensors` with one integer of one of them changed."""
    changed = tensors[name].copy()
    changed.reshape(-1)[place] = value
    return {**tensors, name: changed}


def naming(specification: Specification, tensors: Tensors) -> Specification:
    """`specification` with the digests of `tensors`, each in the narrowest type that holds it."""
    stored = {}
    for name, values in tensors.items():
        limits = {dtype: np.iinfo(dtype) for dtype in WIDTHS}
        dtype = next(d for d, i in limits.items() if i.min <= values.min() <= values.max() <= i.max)
        stored[name] = StoredTensor(dtype, values.shape, tensor_digest(values, dtype))
    return replace(specification, tensors=stored)


def fitted(specification: Specification, tensors: Tensors) -> ExactModel:
    """A model of these integers whose bounds are the proven ones; its constants stay.

    Only LayerNorms shift more where they have to. Raises `UnsupportedModel` if a bound leaves the
    exact range, `WrongMaterial` for integers that no model may hold.
    """
    made = naming(specification, tensors)
    bound = made.input
    for name, unit in made.records.items():
        if not isinstance(unit, Embed):
            made = with_unit(made, name, replace(unit, norm=_shifted(made, unit.norm, bound)))
        proven = prove_unit(ExactModel.in_memory(made, tensors), name)
        made = with_unit(made, name, proven)
        if not isinstance(proven, Head):
            bound = proven.output
        if isinstance(proven, Embed):
            made = replace(made, input=bound)
    made.check()
    return ExactModel.in_memory(made, tensors)


def _shifted(specification: Specification, n: Norm, bound: int) -> Norm:
    """`n` with the smallest shift from its own on that keeps V below its limit."""
    width = specification.architecture.width
    for shift in range(n.shift, 62):
        try:
            prove("norm", bound, d=width, shift=shift, epsilon=n.epsilon, gain=n.gain)
        except UnsupportedModel as err:
            if "bound of V is" in err.message:
                continue
        return replace(n, shift=shift)
    return n


def as_read(model: ExactModel) -> ExactModel:
    """The same model, whose integers lie in memory as they do on disk: each in its stored type."""
    read = ExactModel.in_memory(model.specification, tensors_of(model))
    read.integers = read.stored  # type: ignore[method-assign]
    return read


def on_disk(
    specification: Specification, tensors: Tensors, folder: Path, tokenizer: bytes | None
) -> Path:
    """The model in a folder, compiled, as export would leave it."""
    compile_units(save(specification, tensors, tokenizer, folder), folder)
    return folder


def disguised(
    specification: Specification, tensors: Tensors, name: str, place: int, value: int
) -> tuple[Specification, dict[str, IntArray]]:
    """Specification and tensors in which one integer counts for nothing.

    All numbers are those that the other integers prove: so would they be if the measure of this
    one wrapped around to zero, as that of the least int64 does in int64.
    """
    harmless = fitted(specification, with_entry(tensors, name, place, 0)).specification
    hostile = with_entry(tensors, name, place, value)
    return naming(harmless, hostile), hostile

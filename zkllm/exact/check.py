"""The bounds of a specification, proven again: what a policy and its keys may then rest on.

A digest says which numbers a model has; it does not say that they are right. A prover who could
choose a model with too small a bound could let an equation wrap around the field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zkllm.errors import InvalidBundle, UnsupportedModel, UntrustedMaterial
from zkllm.exact import format1
from zkllm.exact.specification import Specification

if TYPE_CHECKING:
    from zkllm.exact.model import ExactModel  # which calls `check_constants` when it is read


def check_constants(specification: Specification) -> None:
    """Prove the bounds of all steps, LayerNorms, that follow from constants, without a weight.

    So nobody who has read a `spec.json` meets a LayerNorm that some executor could not hold. Raises
    `InvalidBundle` for a bound that is not the proven one or that leaves the exact range.
    """
    for name, unit in specification.units().items():
        try:
            for step, proven in unit.prove_constants():
                place = f"{name}.{step.name}"
                for found in _differences(place, step.numbers, proven.numbers, "its constants"):
                    raise InvalidBundle(f"spec.json: {found}")
        except UnsupportedModel as err:
            raise InvalidBundle(f"spec.json: {err.message}") from err


def check_bounds(model: ExactModel) -> None:
    """Prove all bounds from the integers of the weights, as export does; a unit at a time.

    Raises `UntrustedMaterial` for a bound that is not the proven one or that leaves the exact
    range, `WrongMaterial` for integers that no model may hold.
    """
    specification = model.specification
    for name, record in specification.records.items():
        try:
            proven = prove_unit(model, name)
        except UnsupportedModel as err:
            raise UntrustedMaterial(f"spec.json: {err.message}") from err
        for difference in _differences(name, record, proven):
            raise UntrustedMaterial(f"spec.json: {difference}")
        model.forget()
    embed = specification.embed
    if embed is not None and embed.output != specification.input:
        raise UntrustedMaterial(
            f"spec.json: input: the weights prove {embed.output}, it says {specification.input}"
        )


def prove_unit(model: ExactModel, name: str) -> format1.Record:
    """Record `name` with the constants that it has, and the bounds that its integers prove.

    The bound of the rows that it reads is believed. Raises `UnsupportedModel` if one leaves the
    exact range, `WrongMaterial` for integers that no model may hold.
    """
    specification = model.specification
    unit = specification.units()[name]
    for table in unit.tables():
        model.integers(table)  # of which a wrong one is refused first: bounds suppose its form
    proven = unit.prove(model.integers)
    return format1.write(proven, specification.architecture)


def _differences(what: str, claimed: Any, proven: Any, by: str = "the weights") -> Iterator[str]:
    """Every number that is not the proven one."""
    for field in dataclasses.fields(claimed):
        says, found = getattr(claimed, field.name), getattr(proven, field.name)
        if dataclasses.is_dataclass(says):
            yield from _differences(f"{what}.{field.name}", says, found, by)
        elif says != found:
            yield f"{what}.{field.name}: {by} prove {found}, it says {says}"

"""The bounds of a specification, proven again: what a policy and its keys may then rest on.

A digest says which numbers a model has; it does not say that they are right. A prover who could
choose a model with too small a bound could let an equation wrap around the field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zkllm.errors import InvalidBundle, UnsupportedModel, UntrustedMaterial
from zkllm.exact import bounds
from zkllm.exact.format1 import Attention, Head, Mlp, Record
from zkllm.exact.specification import Specification
from zkllm.operations.embed.exact import Embed
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm

if TYPE_CHECKING:
    from zkllm.exact.model import ExactModel  # which calls `check_norms` when it is read


def check_norms(specification: Specification) -> None:
    """Prove the bounds of every LayerNorm: they follow from its constants, without a weight.

    So nobody who has read a `spec.json` meets a LayerNorm that some executor could not hold. Raises
    `InvalidBundle` for a bound that is not the proven one or that leaves the exact range.
    """
    bound = specification.input
    for name, unit in specification.units().items():
        if isinstance(unit, Embed):
            continue
        try:
            proven = _norm(specification, name, unit.norm, bound)
        except UnsupportedModel as err:
            raise InvalidBundle(f"spec.json: {err.message}") from err
        for difference in _differences(f"{name}.norm", unit.norm, proven, "its constants"):
            raise InvalidBundle(f"spec.json: {difference}")
        bound = unit.output if isinstance(unit, Attention | Mlp) else bound


def check_bounds(model: ExactModel) -> None:
    """Prove all bounds from the integers of the weights, as export does; a unit at a time.

    Raises `UntrustedMaterial` for a bound that is not the proven one or that leaves the exact
    range, `WrongMaterial` for integers that no model may hold.
    """
    specification = model.specification
    bound = specification.input
    for name, unit in specification.units().items():
        try:
            proven = prove_unit(model, name, bound)
        except UnsupportedModel as err:
            raise UntrustedMaterial(f"spec.json: {err.message}") from err
        for difference in _differences(name, unit, proven):
            raise UntrustedMaterial(f"spec.json: {difference}")
        bound = unit.output if isinstance(unit, Attention | Mlp) else bound
        model.forget()
    embed = specification.embed
    if embed is not None and embed.output != specification.input:
        raise UntrustedMaterial(
            f"spec.json: input: the weights prove {embed.output}, it says {specification.input}"
        )


def prove_unit(model: ExactModel, name: str, bound: int) -> Record:
    """Record `name` with the constants that it has, and the bounds that its integers prove.

    `bound` is that of the rows that it reads. Raises `UnsupportedModel` if one leaves the exact
    range.
    """
    unit = model.specification.units()[name]
    if isinstance(unit, Embed):
        tokens, positions = model.integers(unit.tokens), model.integers(unit.positions)
        return bounds.embed((unit.tokens, unit.positions), tokens, positions)
    a = model.specification.architecture

    def apply(layer_name: str, x: bounds.Vector) -> tuple[Linear, bounds.Vector]:
        # The head's one layer has accumulators only, which nothing shifts.
        layer: Linear | Head = unit if isinstance(unit, Head) else getattr(unit, layer_name)
        shift = layer.shift if isinstance(layer, Linear) else 0
        tensors = layer.weight, layer.bias
        weight, bias = (model.integers(tensor) for tensor in tensors)
        return bounds.linear(name, layer_name, x, weight, bias, shift, tensors)

    n = _norm(model.specification, name, unit.norm, bound)
    if isinstance(unit, Attention):
        exp = unit.exp, model.tensor(unit.exp)
        return bounds.attention(name, bound, n, apply, a, unit.score_shift, exp)
    if isinstance(unit, Mlp):
        return bounds.mlp(name, bound, n, apply, a, (unit.gelu, model.tensor(unit.gelu)))
    return bounds.head(n, apply, a)


def _norm(specification: Specification, name: str, n: Norm, bound: int) -> Norm:
    """`n` with the constants that it has, and the bounds that these prove."""
    width = specification.architecture.width
    return bounds.norm_at(name, bound, d=width, shift=n.shift, epsilon=n.epsilon, gain=n.gain)


def _differences(what: str, claimed: Any, proven: Any, by: str = "the weights") -> Iterator[str]:
    """Every number that is not the proven one."""
    for field in dataclasses.fields(claimed):
        says, found = getattr(claimed, field.name), getattr(proven, field.name)
        if dataclasses.is_dataclass(says):
            yield from _differences(f"{what}.{field.name}", says, found, by)
        elif says != found:
            yield f"{what}.{field.name}: {by} prove {found}, it says {says}"

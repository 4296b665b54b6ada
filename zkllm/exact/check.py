"""The bounds of a specification, proven again: what a policy and its keys may then rest on.

A digest says which numbers a model has; it does not say that they are right. A prover who could
choose a model with too small a bound could let an equation wrap around the field.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from zkllm.errors import UnsupportedModel, UntrustedMaterial
from zkllm.exact import bounds
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Attention, Embed, Head, Linear, Mlp, Unit


def check_bounds(model: ExactModel) -> None:
    """Prove all bounds from the integers of the weights, as export does; a unit at a time.

    Raises `UntrustedMaterial` for a bound that is not the proven one or that leaves the exact
    range.
    """
    bound = model.specification.input
    for name, unit in model.specification.units().items():
        try:
            proven = _proven(model, name, unit, bound)
        except UnsupportedModel as err:
            raise UntrustedMaterial(f"spec.json: {err.message}") from err
        _require_equal(name, unit, proven)
        bound = unit.output if isinstance(unit, Attention | Mlp) else bound
        model.forget()
    embed = model.specification.embed
    if embed is not None and embed.output != model.specification.input:
        raise UntrustedMaterial(
            f"spec.json: input: the weights prove {embed.output}, "
            f"it says {model.specification.input}"
        )


def _proven(model: ExactModel, name: str, unit: Unit, bound: int) -> Unit:
    """`unit` with the constants that it has and the bounds that its integers prove."""
    if isinstance(unit, Embed):
        tokens, positions = model.tensor(unit.tokens), model.tensor(unit.positions)
        return bounds.embed((unit.tokens, unit.positions), tokens, positions)
    a = model.specification.architecture

    def apply(layer_name: str, x: bounds.Vector) -> tuple[Linear, bounds.Vector]:
        # The head's one layer has accumulators only, which nothing shifts.
        layer: Linear | Head = unit if isinstance(unit, Head) else getattr(unit, layer_name)
        shift = layer.shift if isinstance(layer, Linear) else 0
        tensors = layer.weight, layer.bias
        weight, bias = (model.tensor(tensor) for tensor in tensors)
        return bounds.linear(name, layer_name, x, weight, bias, shift, tensors)

    c = unit.norm
    n = bounds.norm_at(name, bound, d=a.width, shift=c.shift, epsilon=c.epsilon, gain=c.gain)
    if isinstance(unit, Attention):
        exp = unit.exp, model.tensor(unit.exp)
        return bounds.attention(name, bound, n, apply, a, unit.score_shift, exp)
    if isinstance(unit, Mlp):
        return bounds.mlp(name, bound, n, apply, a, (unit.gelu, model.tensor(unit.gelu)))
    return bounds.head(n, apply, a)


def _require_equal(what: str, claimed: Any, proven: Any) -> None:
    """Raises `UntrustedMaterial` that names the first number that differs."""
    for field in dataclasses.fields(claimed):
        says, found = getattr(claimed, field.name), getattr(proven, field.name)
        if dataclasses.is_dataclass(says):
            _require_equal(f"{what}.{field.name}", says, found)
        elif says != found:
            raise UntrustedMaterial(
                f"spec.json: {what}.{field.name}: the weights prove {found}, it says {says}"
            )

"""The inner values of units, as tests look at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.integers import FLOAT64_LIMIT
from zkllm.operations import bounds
from zkllm.operations.attention.exact import Attended, AttentionStep, attention
from zkllm.operations.bounds import Vector
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.norm.draft import chosen
from zkllm.operations.norm.exact import Norm, Normalised, layer_norm, prove
from zkllm.operations.unit import Rows
from zkllm.tensors import IntArray, magnitude


@dataclass(frozen=True)
class AttentionValues:
    """All inner values of an attention unit, heads outermost: [h, T, d_head]."""

    query: IntArray
    key: IntArray
    value: IntArray
    attended: Attended
    output: IntArray
    """[T, d]."""


def attention_values(model: ExactModel, name: str, x: IntArray) -> AttentionValues:
    unit = model.specification.units()[name]
    values = unit.values(x, model.tensor)
    (step,) = (step for step in unit.steps if isinstance(step, AttentionStep))
    q, k, v = (values[read].transpose(1, 0, 2) for read in step.reads)
    inner = attention(q, k, v, shift=step.numbers.shift, table=model.tensor(step.numbers.exp))
    return AttentionValues(q, k, v, inner, x + values[unit.writes])


def normalise(x: IntArray, n: Norm) -> Normalised:
    return layer_norm(x, shift=n.shift, epsilon=n.epsilon, gain=n.gain)


def norm(unit: str, bound: int, *, d: int, fraction: int, epsilon: tuple[int, int]) -> Norm:
    """Constants of a LayerNorm as export chooses them, with the bounds that they prove."""
    n = chosen(bound, d=d, fraction=fraction, epsilon=epsilon)
    return prove(unit, bound, d=d, shift=n.shift, epsilon=n.epsilon, gain=n.gain)


def linear(
    unit: str, name: str, x: Vector, weight: IntArray, bias: IntArray, shift: int
) -> tuple[Linear, Vector]:
    """A linear layer of these integers with its bounds, and what is proven of its output."""
    dims = (weight.shape[0],), (weight.shape[1],)
    step = LinearStep(name, ("x",), "y", Linear("w", "b", shift, 0, 0), *dims)
    proven, output = step.prove(unit, [x], {"w": weight, "b": bias}.__getitem__)
    return proven.numbers, output


Value = tuple[str, int, int]
"""A name, the largest magnitude that was met, and its bound."""


def norm_values(x: IntArray, n: Norm) -> tuple[list[Value], IntArray]:
    got = normalise(x, n)
    squares = max(int((row * row).sum()) for row in got.output)
    sums = magnitude(x.shape[1] * x) + magnitude(np.abs(x).sum(axis=1))
    return [
        ("norm.difference", sums, FLOAT64_LIMIT - 1),
        ("norm.centred", magnitude(got.centred), n.centred),
        ("norm.product", magnitude(got.centred * n.gain) + magnitude(got.sigma), FLOAT64_LIMIT - 1),
        ("norm.variance", magnitude(got.variance), n.variance),
        ("norm.output", magnitude(got.output), n.output),
        ("norm.length", bounds.ceil_sqrt(squares), n.output),
    ], got.output


def input_bound(specification: Specification, name: str) -> int:
    """The proven bound of the rows that unit `name` reads."""
    source = specification.units()[name].input
    assert isinstance(source, Rows)
    return source.bound


def split_heads(x: IntArray, heads: int) -> IntArray:
    """[T, h·d_head] to [h, T, d_head]."""
    tokens, width = x.shape
    return x.reshape(tokens, heads, width // heads).transpose(1, 0, 2)


def join_heads(x: IntArray) -> IntArray:
    """[h, T, d_head] to [T, h·d_head]."""
    heads, tokens, width = x.shape
    return x.transpose(1, 0, 2).reshape(tokens, heads * width)

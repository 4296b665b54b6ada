"""A linear layer as nodes."""

from __future__ import annotations

import math

from zkllm.engines.onnx.builder import Builder, Read, Value
from zkllm.operations.linear.exact import LinearStep


def nodes(builder: Builder, step: LinearStep, read: Read) -> Value:
    """round((x·W + b) / 2^s) [T, *outer] of x [T, *inner]."""
    x, layer = read(step.reads[0]), step.numbers
    flat = x.name
    if len(step.inner) > 1:
        joined = builder.constant([-1, math.prod(step.inner)], "int64")
        flat = builder.op("Reshape", [flat, joined], f"{x.place}/joined")  # [T, n]
    columns = builder.columns(flat, x.place)  # [n, T]
    builder.require(layer.accumulator, layer.weight)
    half = builder.constant(float((1 << layer.shift) >> 1))
    bias = builder.op("Add", [builder.tensor(layer.bias), half], f"{layer.bias}/raised")  # [m]
    product = builder.product(columns, layer.weight)  # [T, m]
    accumulator = builder.op("Add", [product, bias], f"{layer.weight}/accumulator")
    y = builder.round_shift(accumulator, layer.shift, layer.weight)
    if len(step.outer) > 1:
        apart = builder.constant([-1, *step.outer], "int64")
        y = builder.op("Reshape", [y, apart], f"{step.name}/apart")  # [T, *outer]
    return Value(y, layer.output)

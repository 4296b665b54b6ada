"""GELU and ReLU as nodes."""

from __future__ import annotations

from zkllm.engines.onnx.builder import Builder, Read, Value
from zkllm.operations.activation.exact import ActivationStep


def nodes(builder: Builder, step: ActivationStep, read: Read) -> Value:
    """max(x, 0) - D[min(|x|, cap)] of x [T, *dims], of that shape."""
    x, table, place = read(step.reads[0]), step.numbers.table, step.name
    size = builder.op("Abs", [x.name], f"{place}/magnitude")
    cap = builder.constant(float(builder.length(table) - 1))
    capped = builder.op("Min", [size, cap], f"{place}/capped")
    index = builder.cast(capped, f"{place}/index", "int64")
    below = builder.op("Gather", [builder.tensor(table), index], f"{place}/below", axis=0)
    positive = builder.op("Max", [x.name, builder.constant(0.0)], f"{place}/positive")
    return Value(builder.op("Sub", [positive, below], f"{place}/output"), step.numbers.input)

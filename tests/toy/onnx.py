"""Squares as nodes."""

from __future__ import annotations

from tests.toy.exact import SquareStep
from zkllm.engines.onnx.builder import Builder, Read, Value


def nodes(builder: Builder, step: SquareStep, read: Read) -> Value:
    """x² [T, *dims] of x of that shape."""
    x, n = read(step.reads[0]), step.numbers
    builder.require(n.output, "x²")
    return Value(builder.op("Mul", [x.name, x.name], f"{step.name}/output"), n.output)

"""LayerNorm as nodes."""

from __future__ import annotations

import math

from zkllm.engines.onnx.builder import Builder, Read, Value
from zkllm.integers import VARIANCE_LIMIT
from zkllm.operations.norm.exact import Norm, NormStep


def nodes(builder: Builder, step: NormStep, read: Read) -> Value:
    """x̂ [T, d] of x [T, d]."""
    x, n, d, place = read(step.reads[0]), step.numbers, step.width, step.name
    divisor = d << n.shift
    builder.require(2 * d * x.bound + divisor // 2, "d·x - Σx")
    builder.require(n.centred * n.gain + math.isqrt(n.variance) + 1, "c·K")
    spread = builder.op("Mul", [x.name, builder.constant(float(d))], f"{place}/spread")
    total = builder.sum(x.name, f"{place}/sum")  # [T, 1]
    difference = builder.op("Sub", [spread, total], f"{place}/difference")
    half = builder.constant(float(divisor // 2))
    whole = builder.constant(float(divisor))
    centred = builder.round_div(difference, half, whole, f"{place}/centred")  # [T, d]
    root = sigma(builder, variance(builder, centred, n, d, place), place)
    real = builder.cast(root, f"{place}/sigma")  # [T, 1]
    scaled = builder.op("Mul", [centred, builder.constant(float(n.gain))], f"{place}/scaled")
    return Value(builder.round_div_by(scaled, real, f"{place}/output"), n.output)


def variance(builder: Builder, centred: str, n: Norm, d: int, place: str) -> str:
    """V = Σ c² + E in int64 [T, 1], below 2^61: float64 sums of products of 16-bit limbs."""
    builder.require(n.variance, "V", VARIANCE_LIMIT)
    builder.require(d << 32, "the sum of squared limbs")
    top = builder.op("Mul", [centred, builder.constant(2.0**-16)], f"{place}/limb/top")
    high = builder.op("Floor", [top], f"{place}/limb/high")
    base = builder.op("Mul", [high, builder.constant(2.0**16)], f"{place}/limb/base")
    low = builder.op("Sub", [centred, base], f"{place}/limb/low")
    total = builder.constant(n.epsilon, "int64")
    for name, left, right, weight in (
        ("high", high, high, 1 << 32),
        ("mixed", high, low, 1 << 17),
        ("low", low, low, 1),
    ):
        part = f"{place}/variance/{name}"
        products = builder.op("Mul", [left, right], f"{part}/products")  # [T, d]
        real = builder.sum(products, f"{part}/sum")  # [T, 1]
        summed = builder.cast(real, f"{part}/integer", "int64")
        scaled = builder.op("Mul", [summed, builder.constant(weight, "int64")], f"{part}/scaled")
        total = builder.op("Add", [total, scaled], part)
    return total


def sigma(builder: Builder, variance: str, place: str) -> str:
    """isqrt(V) + 1 in int64: the float64 root is off by one at most, which integers mend."""
    place = f"{place}/root"
    real = builder.cast(variance, f"{place}/real")
    guess = builder.op("Sqrt", [real], f"{place}/guess")
    floor = builder.op("Floor", [guess], f"{place}/floor")
    root = builder.cast(floor, f"{place}/integer", "int64")
    square = builder.op("Mul", [root, root], f"{place}/square")
    above = builder.op("Greater", [square, variance], f"{place}/is-above")
    excess = builder.cast(above, f"{place}/excess", "int64")
    lowered = builder.op("Sub", [root, excess], f"{place}/lowered")
    one = builder.constant(1, "int64")
    successor = builder.op("Add", [lowered, one], f"{place}/successor")
    next_square = builder.op("Mul", [successor, successor], f"{place}/next-square")
    below = builder.op("LessOrEqual", [next_square, variance], f"{place}/is-below")
    missing = builder.cast(below, f"{place}/missing", "int64")
    return builder.op("Add", [successor, missing], f"{place}/sigma")

"""Causal attention as nodes, with the keys and values of earlier positions."""

from __future__ import annotations

from zkllm.engines.onnx.builder import Builder, Output, Read, Shape, Value
from zkllm.engines.onnx.ports import PAST
from zkllm.integers import FLOAT64_LIMIT
from zkllm.operations.attention.exact import AttentionStep


def nodes(builder: Builder, step: AttentionStep, read: Read) -> Value:
    """O [T, h, d_head] of q, k, v of that shape.

    Inputs past_key and past_value [h, P, d_head] are those of earlier positions; outputs key and
    value [h, P + T, d_head] are all of them, the earlier first.
    """
    query, *parts = step.reads
    shape: Shape = [step.heads, "P", step.size]
    past = [builder.real_input(f"{PAST}{part}", shape) for part in ("key", "value")]
    q = _heads_first(builder, read(query).name, "query")
    both = []
    for part, name, before in zip(("key", "value"), parts, past, strict=True):
        given = read(name)
        present = _heads_first(builder, given.name, part)
        both.append(builder.op("Concat", [before, present], f"{part}/all", axis=1))
        builder.also(Output(both[-1], part, [step.heads, "P + T", step.size]))
    mixed = _attend(builder, step, q, *both)
    output = builder.op("Transpose", [mixed], "heads/together", perm=[1, 0, 2])  # [T, h, d_head]
    return Value(output, step.numbers.output)


def _heads_first(builder: Builder, x: str, name: str) -> str:
    """[T, h, d_head] to [h, T, d_head]."""
    return builder.op("Transpose", [x], f"{name}/heads", perm=[1, 0, 2])


def _attend(builder: Builder, step: AttentionStep, query: str, key: str, value: str) -> str:
    """The output [h, T, d_head] for the last T of the N = P + T positions of key and value."""
    n = step.numbers
    builder.require(n.product, "q·k")
    builder.require(n.mixed, "the sum of e·v")
    turned = builder.op("Transpose", [query], "query/columns", perm=[0, 2, 1])
    # [h, N, T]: as in `Builder.product`, the larger factor stands on the left
    product = builder.op("MatMul", [key, turned], "score/product")
    product = builder.op("Transpose", [product], "score/rows", perm=[0, 2, 1])  # [h, T, N]
    half = builder.constant(float((1 << n.shift) >> 1))
    raised = builder.op("Add", [product, half], "score/raised")
    score = builder.round_shift(raised, n.shift, "score")
    causal = _causal(builder, query, key)  # [T, N]
    lowest = builder.constant(-float(2 * FLOAT64_LIMIT))  # below every score
    visible = builder.op("Where", [causal, score, lowest], "score/visible")
    last = builder.constant([-1], "int64")
    maximum = builder.op("ReduceMax", [visible, last], "score/maximum", keepdims=1)  # [h, T, 1]
    distance = builder.op("Sub", [maximum, score], "score/distance")
    # z >= 0 at every visible place; the others need an index too, and count as 0 after it
    ends = [builder.constant(0.0), builder.constant(float(builder.length(n.exp) - 1))]
    capped = builder.op("Clip", [distance, *ends], "score/capped")
    index = builder.cast(capped, "exponential/index", "int64")
    found = builder.op("Gather", [builder.tensor(n.exp), index], "exponential/found", axis=0)
    nothing = builder.constant(0.0)
    exponential = builder.op("Where", [causal, found, nothing], "exponential/visible")
    total = builder.sum(exponential, "exponential/total")  # [h, T, 1]
    mixed = builder.op("MatMul", [exponential, value], "mixed/sum")  # [h, T, d_head]
    return builder.round_div_by(mixed, total, "mixed")


def _causal(builder: Builder, query: str, key: str) -> str:
    """Which positions each row sees, bool [T, N]: j <= i, with i from P to N - 1."""
    count = builder.size(query, 1, "causal/count")
    end = builder.size(key, 1, "causal/end")
    start = builder.op("Sub", [end, count], "causal/start")
    rows = builder.range(start, end, "causal/rows")
    columns = builder.range(builder.constant(0, "int64"), end, "causal/columns")
    one_column = builder.constant([-1, 1], "int64")
    upright = builder.op("Reshape", [rows, one_column], "causal/upright")
    return builder.op("LessOrEqual", [columns, upright], "causal/visible")

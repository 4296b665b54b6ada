"""The embedding as nodes."""

from __future__ import annotations

from zkllm.engines.onnx.builder import Builder, Read, Value
from zkllm.engines.onnx.ports import FIRST
from zkllm.operations.embed.exact import EmbedStep


def nodes(builder: Builder, step: EmbedStep, read: Read) -> Value:
    """Rows [T, d] of ids [T], in int64: what its unit gives, as it is.

    Another input, `first_position` [], is where the first id stands.
    """
    ids = read(step.reads[0]).name
    first = builder.input(FIRST, [])
    count = builder.size(ids, 0, f"{ids}/count")
    end = builder.op("Add", [first, count], "positions/end")
    positions = builder.range(first, end, "positions")  # [T]
    rows = []
    for name, index in ((step.numbers.tokens, ids), (step.numbers.positions, positions)):
        gathered = builder.op("Gather", [builder.stored(name), index], f"{name}/rows", axis=0)
        rows.append(builder.cast(gathered, f"{name}/int64", "int64"))  # [T, d]
    return Value(builder.op("Add", rows, "output"), step.numbers.output)

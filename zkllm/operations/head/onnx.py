"""The arg-max of the logits as nodes."""

from __future__ import annotations

from zkllm.engines.onnx.builder import Builder, Output, Read, Value
from zkllm.engines.onnx.ports import LOGITS
from zkllm.operations.head.exact import HeadStep


def nodes(builder: Builder, step: HeadStep, read: Read) -> Value:
    """The ids [T], in int64, of rows [T, d]; the raw logits [T, vocabulary] are given too.

    Ties go to the lowest id on the CPU provider; elsewhere whoever runs it takes the arg-max.
    """
    n, x = step.numbers, read(step.reads[0])
    builder.require(n.logit, "the logits")
    product = builder.product(builder.columns(x.name, x.place), n.weight)  # [T, vocabulary]
    logits = builder.op("Add", [product, builder.tensor(n.bias)], LOGITS)
    ids = builder.op("ArgMax", [logits], "ids", axis=-1, keepdims=0, select_last_index=0)
    builder.also(Output(logits, LOGITS, ["T", step.vocabulary], "float64"))
    return Value(ids, step.vocabulary - 1)

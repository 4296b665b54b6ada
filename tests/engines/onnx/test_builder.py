"""Pieces of a graph: one node a name, outputs in their order."""

from __future__ import annotations

import numpy as np
import pytest

from tests.graphs import open_session
from zkllm.engines.onnx.builder import Builder, Output, Placed, Value
from zkllm.engines.onnx.files import check_allowed
from zkllm.errors import UnsupportedModel
from zkllm.tensors import TensorType


def test_the_same_node_is_there_once() -> None:
    builder = Builder("unit", {})
    x = builder.real_input("x", ["T", 2])
    assert builder.columns(x, "x") == builder.columns(x, "x") == "x/columns"
    model = builder.finish("x/columns", "output", [2, "T"])
    assert [node.name for node in model.graph.node] == ["x/float64", "x/columns", "output"]


def test_another_node_of_the_same_name_is_a_fault() -> None:
    """Of two attentions in one unit, say: the second would read the scores of the first."""
    builder = Builder("unit", {})
    x = builder.real_input("x", ["T", 2])
    builder.op("Abs", [x], "score")
    builder.op("Abs", [x], "score")
    with pytest.raises(ValueError, match=r"^unit: two values are called score$"):
        builder.op("Floor", [x], "score")


def test_a_node_with_the_name_of_a_tensor_is_a_fault() -> None:
    builder = Builder("unit", {"positions": Placed(TensorType("int8", (3,)), 0, 3)})
    first = builder.input("first", [])
    with pytest.raises(ValueError, match=r"^unit: two values are called positions$"):
        builder.range(first, first, "positions")


def test_outputs_stand_in_their_order_and_are_cast_where_they_have_to_be() -> None:
    builder = Builder("unit", {})
    x = builder.input("x", ["T"])
    real = builder.cast(x, "real")
    builder.also(Output(builder.op("Sqrt", [real], "root"), "root", ["T"], "float64"))
    builder.also(Output(real, "again", ["T"]))
    builder.op("Add", [x, x], "output")
    model = builder.finish("output", "output", ["T"])
    check_allowed(model)
    assert [node.name for node in model.graph.node] == ["real", "root", "output", "again"]
    values = np.array([4, 9], dtype=np.int64)
    output, root, again = open_session(model).run(None, {"x": values})
    assert (output.tolist(), root.tolist(), again.tolist()) == ([8, 18], [2.0, 3.0], [4, 9])
    assert (output.dtype, root.dtype, again.dtype) == (np.int64, np.float64, np.int64)


def test_a_bound_that_float64_does_not_hold_is_refused() -> None:
    builder = Builder("unit", {})
    builder.require(2**52 - 1, "x")
    with pytest.raises(UnsupportedModel, match=r"^unit: the proven bound of x is 4503599627370496"):
        builder.require(2**52, "x")


@pytest.mark.parametrize(
    ("name", "place"), [("norm/output/rounded", "norm"), ("mlp[0].w/rows", "mlp[0].w"), ("x", "x")]
)
def test_forms_of_a_value_are_called_after_what_made_it(name: str, place: str) -> None:
    assert Value(name, 1).place == place

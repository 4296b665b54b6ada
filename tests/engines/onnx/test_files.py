"""What graphs may hold: every allowed operator is exact, everything else is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.graphs import open_session
from zkllm.engines.onnx.builder import OPSET
from zkllm.engines.onnx.files import ALLOWED, check_allowed, graph_file_name
from zkllm.errors import UnsupportedModel
from zkllm.tensors import IntArray

TOP = 2**53 - 1
"""The largest magnitude up to which float64 holds every integer."""


# One operator at a time


def real(values: Any) -> Any:
    return np.array(values, dtype=np.float64)


def integer(values: Any) -> IntArray:
    return np.array(values, dtype=np.int64)


RANDOM = np.random.default_rng(7)
REALS = real([0, 1, -1, 2, -2, 3, TOP, -TOP, 2**52 + 1, -(2**52) - 1, 2**31, -(2**31) - 1])
HALVES = real([0.5, -0.5, 1.5, -1.5, -0.0, 2.0**51 + 0.5, -(2.0**51) - 0.5, 0.25, -0.25])
LARGE = integer([0, 1, -1, 2**61, -(2**61), 2**53 + 1, -(2**53) - 1, 2**31, 3037000499, -7])
FACTORS = (
    RANDOM.integers(-(2**20), 2**20, (5, 96)).astype(np.float64),
    RANDOM.integers(-(2**26), 2**26, (96, 17)).astype(np.float64),
)
DIVIDENDS = real([TOP, -TOP, TOP - 1, 10**15 + 1, -(10**15) - 1, 7, -7, 0, 2**52 - 1])
SUMMANDS = RANDOM.integers(-(2**40), 2**40, (3, 4000)).astype(np.float64)
CAST_FROM_INT64 = integer([0, 1, -1, TOP, -TOP, 2**60 + 1, 2**61 - 1, 2**53 + 3])
TABLE = real([5, -6, TOP, -TOP, 0])
INDEX = integer([[4, 0], [2, 3]])

Case = tuple[list[Any], dict[str, Any], Callable[..., Any]]
"""Inputs, attributes, and what Python's integers say."""


def pairwise(operation: Callable[[int, int], int | bool]) -> Callable[[Any, Any], Any]:
    def oracle(left: Any, right: Any) -> Any:
        left, right = np.broadcast_arrays(left, right)
        values = [operation(int(a), int(b)) for a, b in zip(left.flat, right.flat, strict=True)]
        return np.array(values).reshape(left.shape)

    return oracle


def rounded_to_float64(values: Any) -> Any:
    """Python converts integers to floats with correct rounding."""
    return np.array([float(int(v)) for v in values])


def stored_cases(dtype: str) -> dict[tuple[str, str], Case]:
    ends = np.iinfo(dtype)
    values = np.array([ends.min, ends.max, 0, -1, 1], dtype=dtype)
    exact = values if dtype != "int64" else CAST_FROM_INT64
    return {
        ("Cast", f"{dtype} -> float64"): ([exact], {"to": TensorProto.DOUBLE}, rounded_to_float64),
        ("Cast", f"{dtype} -> int64"): (
            [values], {"to": TensorProto.INT64}, lambda v: v.astype(np.int64)
        ),
        ("Gather", f"{dtype}, int64 -> {dtype}"): ([values, INDEX], {"axis": 0}, lambda t, i: t[i]),
    }  # fmt: skip


DIV = ("Div", "float64, float64 -> float64")
CASES: dict[tuple[str, str], Case] = {
    ("Abs", "float64 -> float64"): ([REALS], {}, lambda x: [abs(int(v)) for v in x]),
    ("Add", "float64, float64 -> float64"): (
        [REALS[:6], real([TOP - 1, 1 - TOP, 1, -1, 2, -3])], {}, pairwise(lambda a, b: a + b)
    ),
    ("Add", "int64, int64 -> int64"): ([LARGE, LARGE[::-1]], {}, pairwise(lambda a, b: a + b)),
    ("ArgMax", "float64 -> int64"): (
        [real([[1, 3, 3, 2], [TOP - 1, TOP, TOP, 0], [-0.0, 0.0, -1, 0.0], [-TOP] * 4])],
        {"axis": -1, "keepdims": 0, "select_last_index": 0},
        lambda x: [1, 1, 0, 0],
    ),
    ("Cast", "bool -> int64"): (
        [np.array([True, False])], {"to": TensorProto.INT64}, lambda x: [1, 0]
    ),
    ("Cast", "float64 -> int64"): (
        [np.append(REALS, -0.0)], {"to": TensorProto.INT64}, lambda x: [int(v) for v in x]
    ),
    **stored_cases("int8"),
    **stored_cases("int16"),
    **stored_cases("int32"),
    **stored_cases("int64"),
    ("Clip", "float64, float64, float64 -> float64"): (
        [REALS, real(0), real(2**52)], {}, lambda x, a, b: [min(max(int(v), 0), 2**52) for v in x]
    ),
    ("Concat", "float64, float64 -> float64"): (
        [REALS.reshape(3, 4), np.zeros((3, 0))], {"axis": 1}, lambda a, b: a
    ),
    DIV: (
        [DIVIDENDS[:, None], real([1, 2, 3, 7, 10**6 + 3, 2**31 - 1, 2**52 - 1])],
        {},
        pairwise(lambda a, b: a // b),  # of the floor: see test_the_floor_of_a_quotient
    ),
    ("Floor", "float64 -> float64"): (
        [np.concatenate([REALS, HALVES])], {}, lambda x: [math.floor(v) for v in x]
    ),
    ("Gather", "float64, int64 -> float64"): ([TABLE, INDEX], {"axis": 0}, lambda t, i: t[i]),
    ("Greater", "int64, int64 -> bool"): (
        [LARGE[:, None], np.concatenate([LARGE, LARGE + 1])], {}, pairwise(lambda a, b: a > b)
    ),
    ("LessOrEqual", "int64, int64 -> bool"): (
        [LARGE[:, None], np.concatenate([LARGE, LARGE + 1])], {}, pairwise(lambda a, b: a <= b)
    ),
    ("MatMul", "float64, float64 -> float64"): (
        list(FACTORS), {}, lambda a, b: a.astype(object).astype(int) @ b.astype(int)
    ),
    ("Max", "float64, float64 -> float64"): ([REALS, real(1)], {}, pairwise(max)),
    ("Min", "float64, float64 -> float64"): ([REALS, real(1)], {}, pairwise(min)),
    ("Mul", "float64, float64 -> float64"): (
        [real([2**26 + 1, -(2**26) - 1, 94906265, 3]), real([2**26 - 1, 2**26 - 1, 94906265, -5])],
        {},
        pairwise(lambda a, b: a * b),
    ),
    ("Mul", "int64, int64 -> int64"): (
        [integer([1518500249, -1518500249, 2**29, 0]), integer([1518500249, 1518500249, 2**32, 9])],
        {},
        pairwise(lambda a, b: a * b),
    ),
    ("Range", "int64, int64, int64 -> int64"): (
        [integer(3), integer(8), integer(1)], {}, lambda a, b, c: [3, 4, 5, 6, 7]
    ),
    ("ReduceMax", "float64, int64 -> float64"): (
        [REALS.reshape(3, 4), integer([-1])],
        {"keepdims": 1},
        lambda x, _: [[max(int(v) for v in row)] for row in x],
    ),
    ("ReduceSum", "float64, int64 -> float64"): (
        [SUMMANDS, integer([-1])],
        {"keepdims": 1},
        lambda x, _: [[sum(int(v) for v in row)] for row in x],
    ),
    ("Reshape", "float64, int64 -> float64"): (
        [REALS, integer([-1, 2, 3])], {}, lambda x, _: x.reshape(-1, 2, 3)
    ),
    ("Reshape", "int64, int64 -> int64"): (
        [LARGE, integer([-1, 1])], {}, lambda x, _: x.reshape(-1, 1)
    ),
    ("Shape", "float64 -> int64"): ([np.zeros((3, 0, 5))], {}, lambda x: [3, 0, 5]),
    ("Shape", "int64 -> int64"): ([LARGE], {}, lambda x: [len(x)]),
    ("Sqrt", "float64 -> float64"): (
        # correctly rounded: Python's own square root is
        [real([0, 1, 2, 3, 2**52 - 1, 2.0**61, 94906265.0**2, TOP])],
        {},
        lambda x: [math.sqrt(v) for v in x],
    ),
    ("Sub", "float64, float64 -> float64"): (
        [REALS[:6], real([TOP - 1, 1 - TOP, 1, -1, 2, -3])], {}, pairwise(lambda a, b: a - b)
    ),
    ("Sub", "int64, int64 -> int64"): ([LARGE, LARGE[::-1]], {}, pairwise(lambda a, b: a - b)),
    ("Transpose", "float64 -> float64"): (
        [REALS.reshape(2, 2, 3)], {"perm": [1, 2, 0]}, lambda x: x.transpose(1, 2, 0)
    ),
    ("Where", "bool, float64, float64 -> float64"): (
        [REALS > 0, REALS, real(-(2**53))],
        {},
        lambda c, a, b: [int(v) if v > 0 else -(2**53) for v in a],
    ),
}  # fmt: skip


def one_operator(operator: str, inputs: list[Any], **attributes: Any) -> Any:
    """A model of one node whose inputs are all fed, so that nothing is folded beforehand."""
    names = [f"input{i}" for i in range(len(inputs))]
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape)
        )
        for name, value in zip(names, inputs, strict=True)
    ]
    node = helper.make_node(operator, names, ["output"], **attributes)
    untyped = helper.make_graph([node], "one", values, [onnx.ValueInfoProto(name="output")])
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(untyped, ir_version=8, opset_imports=opset)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def test_every_allowed_operator_has_a_case() -> None:
    assert set(CASES) == ALLOWED


@pytest.mark.parametrize("key", sorted(CASES), ids=" ".join)
def test_an_allowed_operator_is_exact(key: tuple[str, str]) -> None:
    inputs, attributes, oracle = CASES[key]
    model = one_operator(key[0], inputs, **attributes)
    check_allowed(model)
    feeds = {f"input{i}": value for i, value in enumerate(inputs)}
    (got,) = open_session(model).run(None, feeds)
    if key == DIV:
        got = np.floor(got)
    expected = np.array(oracle(*inputs))
    assert got.shape == expected.shape
    assert [int(v) if float(v).is_integer() else v for v in got.flat] == [
        int(v) if float(v).is_integer() else v for v in expected.flat
    ]


@given(st.integers(-TOP, TOP), st.integers(1, TOP))
@example(TOP, 3)
@example(TOP - 1, TOP)
@example(-1, TOP)
@settings(deadline=None)
def test_the_floor_of_a_quotient(n: int, d: int) -> None:
    """floor(a/b) is right while |a| < 2^53: the float64 quotient never reaches the next integer."""
    assert math.floor(np.float64(n) / np.float64(d)) == n // d


def test_why_int64_sums_are_not_allowed() -> None:
    """ONNX Runtime's int64 ReduceSum rounds: the reason for limbs in LayerNorm."""
    values = np.full((1, 1000), 2**51 + 1, dtype=np.int64)
    model = one_operator("ReduceSum", [values, integer([-1])], keepdims=1)
    with pytest.raises(UnsupportedModel, match="ReduceSum"):
        check_allowed(model)


# The allow-list


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("Softmax", [REALS], {}),
        ("Pow", [REALS, real(2)], {}),
        ("LayerNormalization", [REALS, REALS], {}),
        ("Exp", [REALS], {}),
        ("MatMul", [FACTORS[0].astype(np.float32), FACTORS[1].astype(np.float32)], {}),
        ("MatMul", [LARGE[None], LARGE[:, None]], {}),
        ("Cast", [REALS], {"to": TensorProto.FLOAT}),
        ("ReduceSum", [LARGE, integer([-1])], {}),
        ("Div", [LARGE, LARGE + 9], {}),
    ],
)
def test_a_forbidden_operator_is_refused(
    operator: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedModel, match=f"{operator} .*not known to be exact"):
        check_allowed(one_operator(operator, inputs, **attributes))


def add_model() -> Any:
    return one_operator("Add", [REALS, REALS])


def test_another_domain_is_refused() -> None:
    model = add_model()
    model.graph.node[0].domain = "com.microsoft"
    with pytest.raises(UnsupportedModel, match="types do not fit"):
        check_allowed(model)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedModel, match="standard operators of opset 18"):
        check_allowed(model)


def test_another_opset_is_refused() -> None:
    model = add_model()
    model.opset_import[0].version = 17
    with pytest.raises(UnsupportedModel, match="opset 18"):
        check_allowed(model)


def test_functions_are_refused() -> None:
    model = add_model()
    model.functions.append(
        helper.make_function("", "Add", ["a"], ["b"], [], [helper.make_opsetid("", 18)])
    )
    with pytest.raises(UnsupportedModel, match="opset 18"):
        check_allowed(model)


def test_weights_elsewhere_are_refused() -> None:
    model = add_model()
    tensor = TensorProto(name="w", data_type=TensorProto.INT8, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(tensor)
    with pytest.raises(UnsupportedModel, match=r"expected weights in weights.safetensors, got '/e"):
        check_allowed(model)


def test_sparse_weights_are_refused() -> None:
    model = add_model()
    model.graph.sparse_initializer.add()
    with pytest.raises(UnsupportedModel, match="dense"):
        check_allowed(model)


def test_types_that_do_not_fit_are_refused() -> None:
    model = add_model()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(UnsupportedModel, match="types do not fit"):
        check_allowed(model)


def test_an_input_left_out_is_refused() -> None:
    model = one_operator("Clip", [REALS, real(0), real(1)])
    check_allowed(model)
    model.graph.node[0].input[1] = ""
    with pytest.raises(UnsupportedModel, match=r"Clip \(float64, unknown, float64 -> float64\)"):
        check_allowed(model)


def test_an_input_from_nowhere_is_refused() -> None:
    model = add_model()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(UnsupportedModel):
        check_allowed(model)


# Files


def test_file_names() -> None:
    assert graph_file_name("attention[11]") == "attention.11.onnx"
    assert graph_file_name("head") == "head.onnx"

"""Compiled graphs: every allowed operator is exact, everything else is refused, bytes are fixed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from zkllm.checkpoints import Checkpoint
from zkllm.digests import canonical_json, sha256
from zkllm.errors import (
    DigestMismatch,
    InvalidBundle,
    LimitExceeded,
    UnsafePath,
    UnsupportedModel,
)
from zkllm.exact.bounds import norm
from zkllm.exact.graph import (
    ALLOWED,
    check_allowed,
    check_compiled,
    compile_graphs,
    compile_units,
    graph_file_name,
)
from zkllm.exact.model import ExactModel, save
from zkllm.exact.nodes import OPSET, Builder, compile_unit
from zkllm.exact.quantise import PRECISIONS, build
from zkllm.exact.specification import Architecture, Specification
from zkllm.operations.norm.exact import Norm, layer_norm
from zkllm.tensors import IntArray

LEVELS = (
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
)
TOP = 2**53 - 1
"""The largest magnitude up to which float64 holds every integer."""


def open_session(model: Any, level: Any = LEVELS[-1]) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


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
    """ONNX Runtime's int64 ReduceSum rounds: the reason for limbs in `_variance`."""
    values = np.full((1, 1000), 2**51 + 1, dtype=np.int64)
    model = one_operator("ReduceSum", [values, integer([-1])], keepdims=1)
    with pytest.raises(UnsupportedModel, match="ReduceSum"):
        check_allowed(model)


# Operations made of operators


def bare_specification(width: int) -> Specification:
    """A width and nothing else: all that the pieces of a LayerNorm ask for."""
    return Specification(
        format=1, kind="fragment", source=sha256(b""),
        architecture=Architecture(width, 1, 4 * width, 1, 8, 0, 1, "gelu_new"),
        fractions=PRECISIONS["wide"].fractions, exp=PRECISIONS["wide"].exp, input=1, embed=None,
        attention=(), mlp=(), head=None, tensors={}, tokenizer=None, pad_id=0, stop_ids=(),
    )  # fmt: skip


def piece(
    width: int, bound: int, shape: list[int | str], wire: Callable[[Any, str], str], *, real: bool
) -> Any:
    """The model of one builder method: int64 input `x`, its result as int64 `output`."""
    builder = Builder(bare_specification(width), "piece", bound)
    x = builder._input("x", shape)
    result = wire(builder, builder._cast(x, "x/float64") if real else x)
    if real:
        builder._output(result, "output", ["?", "?"])
    else:
        builder._op("Add", [result, builder._constant(0, "int64")], "output")
        builder._declare("output", "int64", ["?", "?"])
    model = builder.finish()
    check_allowed(model)
    return model


@pytest.fixture(scope="module")
def sigma_sessions() -> list[Any]:
    model = piece(8, 1, ["T", 1], lambda b, v: b._sigma(v), real=False)
    return [open_session(model, level) for level in LEVELS]


@given(
    st.one_of(
        st.integers(1, 2**61 - 1),
        st.integers(1, 1518500249).flatmap(
            lambda q: st.sampled_from([q * q - 1 or 1, q * q, q * q + 1])
        ),
    )
)
@example(1)
@example(2**61 - 1)
@example(1518500249**2 - 1)  # float64 rounds it up to the square: the guess is one too many
@example(1518500248**2)
@settings(deadline=None)
def test_sigma(sigma_sessions: list[Any], variance: int) -> None:
    for session in sigma_sessions:
        (got,) = session.run(None, {"x": integer([[variance]])})
        assert got.tolist() == [[math.isqrt(variance) + 1]]


def test_sigma_where_the_guess_is_wrong(sigma_sessions: list[Any]) -> None:
    """Squares less one above 2^53, all rounded up to the square by the conversion to float64."""
    roots = np.arange(1518500249 - 2000, 1518500249, dtype=np.int64)[:, None]
    guesses = np.floor(np.sqrt((roots * roots - 1).astype(np.float64))).astype(np.int64)
    assert (guesses == roots).any()
    for session in sigma_sessions:
        assert np.array_equal(session.run(None, {"x": roots * roots - 1})[0], roots)
        assert np.array_equal(session.run(None, {"x": roots * roots})[0], roots + 1)


def test_sigma_mends_a_guess_that_is_too_low() -> None:
    """A square root that rounds down is not to be had on this machine: make one.

    The factor must differ from 1 in float32 too: ONNX Runtime drops multiplications by less.
    """
    model = piece(8, 1, ["T", 1], lambda b, v: b._sigma(v), real=False)
    for node in model.graph.node:
        if node.op_type == "Sqrt":  # √V, less a little
            node.op_type = "Floor"
            node.input[0] = "low"
    low = helper.make_node("Sqrt", ["norm/root/real"], ["root"])
    less = helper.make_node("Mul", ["root", "factor"], ["low"])
    at = next(i for i, node in enumerate(model.graph.node) if "low" in node.input)
    model.graph.node.insert(at, less)
    model.graph.node.insert(at, low)
    model.graph.initializer.append(numpy_helper.from_array(real(1 - 2.0**-20), "factor"))
    values = integer([[9], [10**6], [1001**2]])
    assert open_session(model).run(None, {"x": values})[0].tolist() == [[4], [1001], [1002]]


def extreme_rows(width: int, bound: int, seed: int = 0) -> IntArray:
    """Rows that reach what bounds allow: constants, spikes, signs, halves, small and random."""
    random = np.random.default_rng(seed)
    spike = np.zeros((4, width), dtype=np.int64)
    spike[0, 0], spike[1, -1], spike[2, width // 2] = bound, -bound, 1
    signs = np.where(np.arange(width) % 2, bound, -bound)[None]
    half = np.where(np.arange(width) < width // 2, bound, -bound)[None]
    return np.concatenate(
        [
            np.full((1, width), bound),
            np.full((1, width), -bound),
            spike,
            signs,
            half,
            bound - spike,
            random.integers(-2, 3, (3, width)),
            random.integers(-bound, bound + 1, (8, width)),
            random.choice(integer([-bound, bound, 0]), (8, width)),
        ]
    ).astype(np.int64)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize(
    ("width", "bound", "epsilon"),
    [(32, 20000, (1, 3)), (64, 2**27, (167, 1)), (96, 2**33, (167, 1)), (768, 2**40, (1, 1))],
)
def test_norm_equals_the_reference(
    width: int, bound: int, epsilon: tuple[int, int], level: Any
) -> None:
    n = norm("test", bound, d=width, fraction=10, epsilon=epsilon)
    assert (n.shift > 0) == (bound > 2**27)
    model = piece(width, bound, ["T", width], lambda b, x: b._norm(x, n), real=True)
    # sums of every residue modulo d, ties of the first division among them
    residues = np.zeros((width, width), dtype=np.int64)
    residues[:, 3] = np.arange(width)
    rows = np.concatenate([extreme_rows(width, bound), residues])
    expected = layer_norm(rows, shift=n.shift, epsilon=n.epsilon, gain=n.gain)
    if n.shift:
        assert int(expected.variance.max()).bit_length() >= 59
    (got,) = open_session(model, level).run(None, {"x": rows})
    assert np.array_equal(got, expected.output)


@pytest.mark.parametrize("width", [16, 128])
def test_variance_near_its_limit(width: int) -> None:
    """V to the last bit, on centred rows of any sign, up to just below 2^61."""
    largest = math.isqrt((2**61 - 2) // width)
    n = Norm(shift=0, epsilon=1, gain=1, centred=largest, variance=2**61 - 1, output=1)
    model = piece(
        width, 1, ["T", width], lambda b, x: b._cast(b._variance(x, n), "V/float64"), real=True
    )
    # the float64 output of this piece would round V: take the integers before it
    model.graph.output[0].name = "norm/variance/low"
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    rows = extreme_rows(width, largest)
    expected = [sum(int(c) ** 2 for c in row) + 1 for row in rows]
    assert max(expected) > 2**61 - 2**35
    for level in LEVELS:
        (got,) = open_session(model, level).run(None, {"x": rows})
        assert got[:, 0].tolist() == expected


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


@pytest.fixture
def compiled(tiny_checkpoint: Checkpoint, tmp_path: Path) -> ExactModel:
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"])
    model = save(specification, tensors, tiny_checkpoint.tokenizer, tmp_path / "model")
    compile_units(model, tmp_path / "model")
    return model


def folder_of(model: ExactModel) -> Path:
    assert model.folder is not None
    return model.folder


def rewrite(model: ExactModel, /, **changes: Any) -> None:
    """Change fields of compiled.json."""
    path = folder_of(model) / "compiled.json"
    path.write_bytes(canonical_json(json.loads(path.read_bytes()) | changes))


def test_file_names() -> None:
    assert graph_file_name("attention[11]") == "attention.11.onnx"
    assert graph_file_name("head") == "head.onnx"


def test_one_file_a_unit_and_a_manifest(compiled: ExactModel) -> None:
    names = {path.name for path in folder_of(compiled).iterdir()}
    assert names == {
        "spec.json", "weights.safetensors", "tokenizer.json", "compiled.json", "embed.onnx",
        "attention.0.onnx", "mlp.0.onnx", "attention.1.onnx", "mlp.1.onnx", "head.onnx",
    }  # fmt: skip
    manifest = json.loads((folder_of(compiled) / "compiled.json").read_bytes())
    assert manifest["format"] == 1
    assert manifest["model"] == compiled.digest
    assert manifest["onnx"] == onnx.__version__
    for name, digest in manifest["files"].items():
        assert sha256((folder_of(compiled) / name).read_bytes()) == digest
    assert list(compile_graphs(compiled.specification)) == list(compiled.specification.units())


GOLDEN = {
    "embed": "sha256:d65675cddc1ea5f6cda1fdd664f1cb31b2dd64ef20cff78db529fb9250640f6b",
    "attention[0]": "sha256:b9031d9ab3ce4b1ea868defd9429b986c7e67dec92868bff446a9d887bf1aeac",
    "mlp[0]": "sha256:468977ccb720d483211b79da14eb367134af701e0283cf6db40e6cb135b7bee1",
    "attention[1]": "sha256:121f323646b443adf04e7c70f3776552aaccefe21c49867221000c0fe1c6e106",
    "mlp[1]": "sha256:26e0510b1ac96462a02891c760d1b4cce9985387346d5ed4d10d0de1175be610",
    "head": "sha256:63b2176400f95a8054efc60203a19cd7b6497ffac40c55ff52c125d96c4ffbb0",
}


def test_the_graphs_of_the_golden_model_keep_their_bytes() -> None:
    """Folders that were exported before hold such files: another order of nodes refuses them."""
    folder = Path(__file__).resolve().parents[1] / "golden" / "v1" / "model"
    graphs = compile_graphs(ExactModel.from_folder(folder).specification)
    assert {name: sha256(data) for name, data in graphs.items()} == GOLDEN


def test_the_bytes_do_not_depend_on_place_or_time(compiled: ExactModel, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    compile_units(compiled, other)
    for path in other.iterdir():
        assert path.read_bytes() == (folder_of(compiled) / path.name).read_bytes()


def test_the_bytes_do_not_depend_on_the_process(compiled: ExactModel, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    code = (
        "import sys; from pathlib import Path; from zkllm.exact.model import ExactModel; "
        "from zkllm.exact.graph import compile_units; "
        "compile_units(ExactModel.from_folder(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(folder_of(compiled)), str(other)]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(root), "PYTHONHASHSEED": "77"})
    for path in other.iterdir():
        assert path.read_bytes() == (folder_of(compiled) / path.name).read_bytes()


def test_graphs_hold_no_weights_but_point_at_them(compiled: ExactModel) -> None:
    weights = (folder_of(compiled) / "weights.safetensors").read_bytes()
    stored = compiled.specification.tensors
    found = set()
    for name, data in compile_graphs(compiled.specification).items():
        assert len(data) < 20_000, name
        for tensor in onnx.load_model_from_string(data).graph.initializer:
            if tensor.external_data:
                place = {entry.key: entry.value for entry in tensor.external_data}
                start, length = int(place["offset"]), int(place["length"])
                dtype = np.dtype(stored[tensor.name].dtype)
                values = np.frombuffer(weights[start : start + length], dtype)
                expected = compiled.tensor(tensor.name)
                assert np.array_equal(values.reshape(expected.shape), expected)
                assert helper.tensor_dtype_to_np_dtype(tensor.data_type) == dtype
                found.add(tensor.name)
    assert found == set(stored)


def test_inputs_and_outputs_are_int64_with_symbolic_tokens(compiled: ExactModel) -> None:
    for name, data in compile_graphs(compiled.specification).items():
        proto = onnx.load_model_from_string(data).graph
        for value in (*proto.input, *proto.output):
            kind = value.type.tensor_type
            assert kind.elem_type == (
                TensorProto.DOUBLE if value.name == "logits" else TensorProto.INT64
            )
        assert name == proto.name
        assert proto.input[0].type.tensor_type.shape.dim[0].dim_param == "T"
        assert all(node.name == node.output[0] for node in proto.node)


def test_constants_are_integers_or_powers_of_two(compiled: ExactModel) -> None:
    """Others could be so near to 1 that an optimiser takes them for 1."""
    for data in compile_graphs(compiled.specification).values():
        for tensor in onnx.load_model_from_string(data).graph.initializer:
            if tensor.data_type == TensorProto.DOUBLE:
                value = float(numpy_helper.to_array(tensor))
                assert value.is_integer() or math.frexp(value)[0] == 0.5, tensor.name


# Files that are compared and never executed


def check(model: ExactModel) -> None:
    check_compiled(model, compile_graphs(model.specification))


def redigest(model: ExactModel) -> None:
    """Let compiled.json name the files that are there."""
    folder = folder_of(model)
    rewrite(model, files={path.name: sha256(path.read_bytes()) for path in folder.glob("*.onnx")})


def test_an_edited_graph_is_refused(compiled: ExactModel) -> None:
    check(compiled)
    path = folder_of(compiled) / "mlp.1.onnx"
    path.write_bytes(path.read_bytes().replace(b"gelu/positive", b"gelu/negative"))
    words = r"^mlp\.1\.onnx: spec\.json compiles to sha256:.*, got sha256:"
    with pytest.raises(DigestMismatch, match=words):
        check(compiled)
    redigest(compiled)
    with pytest.raises(DigestMismatch, match=words):
        check(compiled)


def test_the_graph_of_another_unit_is_refused(compiled: ExactModel) -> None:
    """It is well formed and allowed, and the manifest names it."""
    folder = folder_of(compiled)
    (folder / "mlp.1.onnx").write_bytes((folder / "mlp.0.onnx").read_bytes())
    redigest(compiled)
    with pytest.raises(DigestMismatch, match=r"^mlp\.1\.onnx: spec\.json compiles to"):
        check(compiled)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"surplus": 1},
        {"files": []},
        {"files": {"head.onnx": "sha256:short"}},
        {"model": sha256(b"other")},
    ],
    ids=str,
)
def test_an_edited_manifest_is_refused(compiled: ExactModel, changes: dict[str, Any]) -> None:
    rewrite(compiled, **changes)
    with pytest.raises(DigestMismatch, match=r"^compiled\.json: spec\.json compiles to"):
        check(compiled)


@pytest.mark.parametrize("data", [b"[]", b"3", b"{", b'{"onnx": "1"}'])
def test_a_manifest_that_is_no_canonical_object_is_refused(
    compiled: ExactModel, data: bytes
) -> None:
    (folder_of(compiled) / "compiled.json").write_bytes(data)
    with pytest.raises(InvalidBundle, match=r"^compiled\.json"):
        check(compiled)


def test_a_huge_file_is_refused(compiled: ExactModel) -> None:
    with (folder_of(compiled) / "head.onnx").open("r+b") as file:
        file.truncate(5 << 20)
    with pytest.raises(LimitExceeded, match="4194304 bytes"):
        check(compiled)


def test_a_pipe_is_refused(compiled: ExactModel) -> None:
    path = folder_of(compiled) / "head.onnx"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnsafePath, match="expected a regular file"):
        check(compiled)


def test_compiled_files_need_not_be_there(compiled: ExactModel) -> None:
    (folder_of(compiled) / "head.onnx").unlink()
    check(compiled)
    (folder_of(compiled) / "compiled.json").unlink()
    check(compiled)
    check(ExactModel.in_memory(compiled.specification, {}))


def test_files_of_another_version_of_onnx_are_not_compared(compiled: ExactModel) -> None:
    (folder_of(compiled) / "head.onnx").write_bytes(b"other bytes for the same graph")
    rewrite(compiled, onnx="0.0")
    check(compiled)


# Bounds


def with_norm(specification: Specification, **changes: int) -> Specification:
    first = specification.mlp[0]
    changed = replace(first, norm=replace(first.norm, **changes))
    return replace(specification, mlp=(changed, *specification.mlp[1:]))


def with_attention(specification: Specification, **changes: Any) -> Specification:
    changed = replace(specification.attention[0], **changes)
    return replace(specification, attention=(changed, *specification.attention[1:]))


BEYOND: dict[str, tuple[str, Callable[[Specification], Specification]]] = {
    "d·x": (
        "mlp[0]",
        lambda s: with_attention(s, output=2**52 // (2 * s.architecture.width)),
    ),
    "d·2^t": ("mlp[0]", lambda s: with_norm(s, shift=48)),
    "c·K": ("mlp[0]", lambda s: with_norm(s, gain=2**52 // s.mlp[0].norm.centred + 1)),
    "c·K with σ": (
        "mlp[0]",
        lambda s: with_norm(s, centred=1, gain=2**52 - 2**20, variance=2**41),
    ),
    "V": ("mlp[0]", lambda s: with_norm(s, variance=2**61)),
    "squared limbs": (
        "mlp[0]",
        lambda s: with_attention(
            replace(s, architecture=replace(s.architecture, width=2**20)), output=1
        ),
    ),
    "weight": (
        "mlp[0]",
        lambda s: replace(
            s, mlp=(replace(s.mlp[0], expand=replace(s.mlp[0].expand, accumulator=2**52)),) * 2
        ),
    ),
    "q·k": ("attention[0]", lambda s: with_attention(s, product=2**52)),
    "e·v": ("attention[0]", lambda s: with_attention(s, mixed=2**52)),
    "residual": ("attention[0]", lambda s: with_attention(s, output=2**52)),
    "logits": (
        "head",
        lambda s: replace(s, head=replace(s.head, logit=2**52) if s.head else None),
    ),
}


@pytest.mark.parametrize("case", BEYOND)
def test_a_bound_beyond_float64_is_refused(tiny_model: ExactModel, case: str) -> None:
    unit, change = BEYOND[case]
    words = {"d·2^t": "d·x - Σx", "c·K with σ": "c·K", "V": "bound of V is"}.get(case, case)
    compile_unit(tiny_model.specification, unit)
    with pytest.raises(UnsupportedModel, match=words):
        compile_unit(change(tiny_model.specification), unit)


# Imports


def test_verifying_imports_no_onnx() -> None:
    code = (
        "import sys, zkllm, zkllm.executing, zkllm.verifying; "
        "assert not {'onnx', 'onnxruntime', 'torch'} & set(sys.modules), sys.modules"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(root)})

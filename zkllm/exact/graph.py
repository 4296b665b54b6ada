"""Compiled units: one ONNX file for each, what such a file may hold, and their digests.

`zkllm.exact.nodes` says how the integers are computed; here stands what is written, and what is
refused when it is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from zkllm.digests import Digest, canonical_json, is_digest, parse_canonical_json, sha256
from zkllm.errors import DigestMismatch, InputError, InvalidBundle, UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.exact.nodes import OPSET, WEIGHTS, compile_unit
from zkllm.files import read_limited, unit_file_name, write_atomically

FORMAT = 1
MANIFEST = "compiled.json"
_MAX_MANIFEST = 4 << 20
_MAX_GRAPH = 4 << 20
"""A unit's graph holds no weights: 30 kB is much."""

_FLOAT64 = "float64 -> float64"
_FLOAT64_PAIR = "float64, float64 -> float64"
_INT64_PAIR = "int64, int64 -> int64"
_STORED = ("int8", "int16", "int32", "int64")

ALLOWED: frozenset[tuple[str, str]] = frozenset(
    [
        ("Abs", _FLOAT64),
        ("Add", _FLOAT64_PAIR),
        ("Add", _INT64_PAIR),
        ("ArgMax", "float64 -> int64"),
        ("Cast", "bool -> int64"),
        ("Cast", "float64 -> int64"),
        *(("Cast", f"{stored} -> float64") for stored in _STORED),
        *(("Cast", f"{stored} -> int64") for stored in _STORED),
        ("Clip", "float64, float64, float64 -> float64"),
        ("Concat", _FLOAT64_PAIR),
        ("Div", _FLOAT64_PAIR),
        ("Floor", _FLOAT64),
        ("Gather", "float64, int64 -> float64"),
        *(("Gather", f"{stored}, int64 -> {stored}") for stored in _STORED),
        ("Greater", "int64, int64 -> bool"),
        ("LessOrEqual", "int64, int64 -> bool"),
        ("MatMul", _FLOAT64_PAIR),
        ("Max", _FLOAT64_PAIR),
        ("Min", _FLOAT64_PAIR),
        ("Mul", _FLOAT64_PAIR),
        ("Mul", _INT64_PAIR),
        ("Range", "int64, int64, int64 -> int64"),
        ("ReduceMax", "float64, int64 -> float64"),
        ("ReduceSum", "float64, int64 -> float64"),
        ("Reshape", "float64, int64 -> float64"),
        ("Reshape", _INT64_PAIR),
        ("Shape", "float64 -> int64"),
        ("Shape", "int64 -> int64"),
        ("Sqrt", _FLOAT64),
        ("Sub", _FLOAT64_PAIR),
        ("Sub", _INT64_PAIR),
        ("Transpose", _FLOAT64),
        ("Where", "bool, float64, float64 -> float64"),
    ]
)
"""What an exact graph may hold: operators with the types of their inputs and outputs.

Each has its own test that it is exact. Softmax, Pow, LayerNormalization, int64 sums and anything
in float32 are not here.
"""


def compile_units(model: ExactModel, folder: Path) -> None:
    """Write the ONNX file of every unit of `model` and `compiled.json` into `folder`.

    `folder` is where the weights of the model lie: the graphs refer to them. The bytes depend on
    the model and on onnx's version only. Raises `UnsupportedModel` if a declared bound is too
    large for float64.
    """
    files: dict[str, str] = {}
    for name in model.specification.units():
        graph = compile_unit(model.specification, name)
        check_allowed(graph)
        data = graph.SerializeToString(deterministic=True)
        files[graph_file_name(name)] = sha256(data)
        with write_atomically(folder / graph_file_name(name)) as file:
            file.write(data)
    manifest = {
        "files": files,
        "format": FORMAT,
        "model": model.digest,
        "onnx": onnx.__version__,
    }
    with write_atomically(folder / MANIFEST) as file:
        file.write(canonical_json(manifest))


def graph_file_name(unit: str) -> str:
    """`attention[0]` is compiled to `attention.0.onnx`."""
    return f"{unit_file_name(unit)}.onnx"


def read_compiled(model: ExactModel) -> dict[str, bytes]:
    """The graph of every unit, hashed as it was read and checked against the allow-list.

    Raises `InputError` if the model was not compiled, `DigestMismatch` if the graphs are those of
    another model or were edited, `UnsupportedModel` if one holds what is not known to be exact.
    """
    folder = model.folder
    if folder is None or not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder or 'a model in memory'}: expected {MANIFEST}, found none",
            hint="export the model again, or compile it with zkllm.exact.graph.compile_units",
        )
    files = _read_manifest(model, folder)
    graphs: dict[str, bytes] = {}
    for name in model.specification.units():
        file_name = graph_file_name(name)
        data = read_limited(folder / file_name, _MAX_GRAPH)
        if sha256(data) != files.get(file_name):
            raise DigestMismatch(
                f"{file_name}: expected {files.get(file_name)}, got {sha256(data)}",
                hint="the graph was edited: export the model again",
            )
        try:
            graph = onnx.load_model_from_string(data)
        except Exception as err:  # protobuf raises different classes in its implementations
            raise InvalidBundle(f"{file_name}: not an ONNX model: {str(err)[:80]}") from err
        check_allowed(graph)
        graphs[name] = data
    return graphs


def _read_manifest(model: ExactModel, folder: Path) -> dict[str, Digest]:
    data = read_limited(folder / MANIFEST, _MAX_MANIFEST)
    manifest = parse_canonical_json(data, MANIFEST)
    if (
        not isinstance(manifest, dict)
        or set(manifest) != {"files", "format", "model", "onnx"}
        or manifest["format"] != FORMAT
        or not isinstance(manifest["files"], dict)
        or not all(map(is_digest, manifest["files"].values()))
    ):
        raise InvalidBundle(f"{MANIFEST}: expected format {FORMAT} with the digests of the graphs")
    if manifest["model"] != model.digest:
        raise DigestMismatch(
            f"{MANIFEST}: expected model {model.digest}, got {str(manifest['model'])[:80]}",
            hint="the graphs belong to another model: export it again",
        )
    files: dict[str, Digest] = manifest["files"]
    return files


def check_allowed(graph: Any) -> None:
    """Raise `UnsupportedModel` if the onnx `ModelProto` holds anything that is not `ALLOWED`.

    Also refused: functions, subgraphs, operators of other domains or versions, sparse tensors,
    types that cannot be inferred, and external data anywhere but in weights.safetensors.
    """
    if [(o.domain, o.version) for o in graph.opset_import] != [("", OPSET)] or graph.functions:
        raise UnsupportedModel(f"graph: expected only the standard operators of opset {OPSET}")
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value != WEIGHTS:
                raise UnsupportedModel(
                    f"graph: expected weights in {WEIGHTS}, got {entry.value!r:.60}"
                )
    if graph.graph.sparse_initializer:
        raise UnsupportedModel("graph: expected dense weights, got sparse ones")
    try:
        typed = onnx.shape_inference.infer_shapes(graph, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as err:
        reason = str(err).strip().splitlines()[0][:120]
        raise UnsupportedModel(f"graph: its types do not fit: {reason}") from err
    types = {tensor.name: tensor.data_type for tensor in typed.initializer}
    for value in (*typed.input, *typed.output, *typed.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    for node in typed.node:
        signature = f"{_names(types, node.input)} -> {_names(types, node.output)}"
        if (node.op_type, signature) not in ALLOWED:
            raise UnsupportedModel(
                f"graph: {node.name or 'a node'}: {node.op_type} ({signature}) "
                "is not known to be exact"
            )


def _names(types: dict[str, int], values: Sequence[str]) -> str:
    """The element types of `values` by numpy's names, `unknown` where there is none."""
    names = []
    for value in values:
        kind = types.get(value, onnx.TensorProto.UNDEFINED)
        known = kind in onnx.helper.get_all_tensor_dtypes()
        names.append(str(onnx.helper.tensor_dtype_to_np_dtype(kind)) if known else "unknown")
    return ", ".join(names)

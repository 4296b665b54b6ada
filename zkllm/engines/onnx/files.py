"""What a graph of exact integers may hold, and the files of compiled graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from zkllm.digests import Digest, canonical_json, parse_canonical_json, sha256
from zkllm.engines.onnx.builder import OPSET, WEIGHTS
from zkllm.errors import DigestMismatch, InvalidBundle, UnsupportedModel
from zkllm.files import read_limited, unit_file_name

FORMAT = 1
MANIFEST = "compiled.json"
_MAX_FILE = 4 << 20
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


def graph_file_name(unit: str) -> str:
    """`attention[0]` is compiled to `attention.0.onnx`."""
    return f"{unit_file_name(unit)}.onnx"


def files_of(graphs: Mapping[str, bytes], model: Digest) -> dict[str, bytes]:
    """The files of a compiled model by name, `compiled.json` last."""
    files = {graph_file_name(unit): data for unit, data in graphs.items()}
    manifest = {
        "files": {name: sha256(data) for name, data in files.items()},
        "format": FORMAT,
        "model": model,
        "onnx": onnx.__version__,
    }
    return files | {MANIFEST: canonical_json(manifest)}


def check_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Refuse a folder that holds other `files` of a compiled model.

    Some may be missing, and where another version of onnx wrote them nothing can be compared.
    Raises `DigestMismatch` that names the file.
    """
    if not (folder / MANIFEST).is_file():
        return
    manifest = parse_canonical_json(read_limited(folder / MANIFEST, _MAX_FILE), MANIFEST)
    if not isinstance(manifest, dict):
        raise InvalidBundle(f"{MANIFEST}: expected an object, got {type(manifest).__name__}")
    if manifest.get("onnx") != onnx.__version__:
        return
    for name, expected in files.items():
        path = folder / name
        if path.exists() and (found := read_limited(path, _MAX_FILE)) != expected:
            raise DigestMismatch(
                f"{name}: spec.json compiles to {sha256(expected)}, got {sha256(found)}",
                hint="run needs no compiled file: delete them all, or export the model again",
            )

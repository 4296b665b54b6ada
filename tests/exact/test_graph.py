"""Compiled graphs: their bytes are fixed, their bounds held, and no file of them is executed."""

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
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.graphs import compiled_unit
from zkllm.checkpoints import Checkpoint
from zkllm.digests import canonical_json, sha256
from zkllm.errors import (
    DigestMismatch,
    InvalidBundle,
    LimitExceeded,
    UnsafePath,
    UnsupportedModel,
)
from zkllm.exact.graph import (
    check_compiled,
    compile_graphs,
    compile_units,
)
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification
from zkllm.operations.precision import PRECISIONS

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
    compiled_unit(tiny_model.specification, unit)
    with pytest.raises(UnsupportedModel, match=words):
        compiled_unit(change(tiny_model.specification), unit)


# Imports


def test_verifying_imports_no_onnx() -> None:
    code = (
        "import sys, zkllm, zkllm.executing, zkllm.verifying; "
        "assert not {'onnx', 'onnxruntime', 'torch'} & set(sys.modules), sys.modules"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(root)})

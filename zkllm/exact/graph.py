"""Units compiled: one ONNX model for each list of steps, and the files for other tools.

What is executed is always compiled from the specification, which the model digest names: the files
in the folder, and what `compiled.json` says of them, are names that anybody can give.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zkllm.engines.onnx.builder import Builder, Placed, Value
from zkllm.engines.onnx.files import check_allowed, check_files, files_of
from zkllm.exact.model import ExactModel, tensor_offsets
from zkllm.exact.specification import Specification
from zkllm.files import write_atomically
from zkllm.operations import reading
from zkllm.operations.unit import Rows, Unit
from zkllm.tensors import TensorType


def placed(types: Mapping[str, TensorType]) -> dict[str, Placed]:
    """Where the tensors of a model lie in its weights.safetensors."""
    spans = tensor_offsets(types)
    return {name: Placed(kind, *spans[name]) for name, kind in types.items()}


def compile_unit(unit: Unit, tensors: Mapping[str, Placed]) -> Any:
    """The `ModelProto` of one unit.

    Its input is the value that the unit reads, int64 [T, width] or [T]; its output is `output`
    [T, width] or `ids` [T], in int64. Steps may add inputs and outputs of their own. Raises
    `UnsupportedModel` if a declared bound is too large for float64, or for a step without nodes.
    """
    builder = Builder(unit.name, tensors)
    steps = {step.writes: step for step in unit.order()}
    values = {unit.reads: _given(builder, unit)}

    def read(name: str) -> Value:
        """A value of the unit; the steps behind it add their nodes when it is first asked for."""
        if name not in values:
            step = steps[name]
            values[name] = reading(step, "onnx").nodes(builder, step, read)
        return values[name]

    written = read(unit.writes).name
    if not isinstance(unit.output, Rows):
        return builder.finish(written, "ids", ["T"])
    if unit.residual:
        builder.require(unit.output.bound, "the residual stream")
        written = builder.op("Add", [read(unit.reads).name, written], "output/float64")
    return builder.finish(written, "output", ["T", unit.output.width])


def _given(builder: Builder, unit: Unit) -> Value:
    """What the unit reads: rows [T, width] in float64, or ids [T] in int64."""
    if isinstance(unit.input, Rows):
        rows = builder.real_input(unit.reads, ["T", unit.input.width])
        return Value(rows, unit.input.bound)
    return Value(builder.input(unit.reads, ["T"]), unit.input.vocabulary - 1)


def compile_graphs(specification: Specification) -> dict[str, bytes]:
    """The ONNX model of every unit; the bytes depend on the specification and onnx's version only.

    The graphs hold no weights and refer to weights.safetensors. Raises `UnsupportedModel` if a
    declared bound is too large for float64.
    """
    tensors = placed({name: stored.type for name, stored in specification.tensors.items()})
    graphs: dict[str, bytes] = {}
    for name, unit in specification.units().items():
        graph = compile_unit(unit, tensors)
        check_allowed(graph)
        graphs[name] = graph.SerializeToString(deterministic=True)
    return graphs


def compile_units(model: ExactModel, folder: Path) -> None:
    """Write the ONNX file of every unit of `model` and `compiled.json` into `folder`.

    `folder` is where the weights of the model lie. The files are for other tools: `run` compiles
    the specification itself. Raises `UnsupportedModel` as `compile_graphs` does.
    """
    for name, data in files_of(compile_graphs(model.specification), model.digest).items():
        with write_atomically(folder / name) as file:
            file.write(data)


def check_compiled(model: ExactModel, graphs: Mapping[str, bytes]) -> None:
    """Refuse a folder whose compiled files are not `graphs`, which its specification gives.

    Nobody here executes these files, but whoever handed them out may have meant other tools to.
    Raises as `check_files` does.
    """
    if model.folder is not None:
        check_files(model.folder, files_of(graphs, model.digest))

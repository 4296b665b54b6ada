"""Graphs on ONNX Runtime, for tests that run one by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime

from zkllm.engines.onnx.files import check_allowed
from zkllm.exact.graph import compile_unit, placed
from zkllm.exact.specification import Specification
from zkllm.operations.unit import Unit
from zkllm.tensors import IntArray, StoredArray, TensorType, magnitude_type

LEVELS = (
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
)


def open_session(
    model: Any, level: Any = LEVELS[-1], weights: Mapping[str, StoredArray] | None = None
) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in (weights or {}).values()]
    options.add_external_initializers(list(weights or {}), values)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    session.weights = weights  # which it reads for as long as it is there
    return session


def unit_session(unit: Unit, tensors: Mapping[str, IntArray], level: Any = LEVELS[-1]) -> Any:
    """A session of `unit`, allowed operators only, that reads these weights and tables."""
    types = {name: TensorType(magnitude_type(v), v.shape) for name, v in tensors.items()}
    model = compile_unit(unit, placed(types))
    check_allowed(model)
    read = (*unit.weights(), *unit.tables())
    return open_session(
        model, level, {name: tensors[name].astype(types[name].dtype) for name in read}
    )


def compiled_unit(specification: Specification, name: str) -> Any:
    """The `ModelProto` of one unit of a specification."""
    types = {tensor: stored.type for tensor, stored in specification.tensors.items()}
    return compile_unit(specification.units()[name], placed(types))

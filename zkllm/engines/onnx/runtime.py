"""Graphs open on a device, by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zkllm.engines.onnx.ports import PAST
from zkllm.errors import BackendError
from zkllm.progress import Progress
from zkllm.tensors import StoredArray

Device = Literal["auto", "cpu", "cuda"]
Optimisation = Literal["off", "basic", "extended", "all"]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_INSTALL_CUDA = (
    "pip uninstall onnxruntime, then in a checkout of zkllm: pip install '.[gpu]', "
    "with CUDA 12 and cuDNN 9"
)
_EMULATION = (
    "CUBLAS_EMULATION_STRATEGY",
    "CUBLAS_EMULATION_SPECIAL_VALUES_SUPPORT_MASK",
    "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT",
    "CUBLAS_EMULATE_SINGLE_PRECISION",
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a graph is opened with."""

    graph: bytes
    weights: Mapping[str, StoredArray]
    """The arrays that were hashed, instead of a file that could be another by now."""


@dataclass(frozen=True, slots=True)
class OpenGraph:
    """A graph that is open on a device."""

    session: Any
    inputs: Mapping[str, Sequence[int | str]]
    """Their shapes; a text stands for a dimension that each run chooses."""
    outputs: frozenset[str]

    def past(self) -> dict[str, tuple[int, ...]]:
        """The shapes of what is kept from run to run, by the outputs that give it, at first."""
        return {
            name.removeprefix(PAST): tuple(n if isinstance(n, int) else 0 for n in shape)
            for name, shape in self.inputs.items()
            if name.startswith(PAST)
        }


def open_graphs(
    compiled: Mapping[str, Compiled],
    device: Device,
    threads: int,
    optimisation: Optimisation,
    note: Progress,
) -> tuple[dict[str, OpenGraph], Literal["cpu", "cuda"]]:
    """The graphs by their names, and the device that they really use.

    Raises `BackendError` for one that cannot be opened, or if `device` is missing.
    """
    import onnxruntime

    if device != "cpu":
        reason = f"expected {_CUDA}, onnxruntime offers {onnxruntime.get_available_providers()}"
        if _CUDA in onnxruntime.get_available_providers():
            forbid_emulation()
            try:
                return _open(compiled, _CUDA, threads, optimisation), "cuda"
            except BackendError as err:
                reason = err.message
        if device == "cuda":
            raise BackendError(f"device cuda: {reason}", hint=_INSTALL_CUDA)
        note("device: cpu, because CUDA is not available")
    return _open(compiled, _CPU, threads, optimisation), "cpu"


def _open(
    compiled: Mapping[str, Compiled], provider: str, threads: int, optimisation: Optimisation
) -> dict[str, OpenGraph]:
    import onnxruntime

    # TF32 would cut float32 products; exact graphs have none, and should stay so
    providers = [(_CUDA, {"use_tf32": "0"}), _CPU] if provider == _CUDA else [_CPU]
    graphs: dict[str, OpenGraph] = {}
    for name, unit in compiled.items():
        options = _options(threads, optimisation)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in unit.weights.values()]
        options.add_external_initializers(list(unit.weights), values)
        try:
            session = onnxruntime.InferenceSession(unit.graph, options, providers=providers)
        except Exception as err:  # onnxruntime raises nothing more precise
            reason = str(err).strip().splitlines()[0][:160]
            raise BackendError(f"{name}: ONNX Runtime cannot open it: {reason}") from err
        if provider not in session.get_providers():
            raise BackendError(f"expected {provider}, got {session.get_providers()}")
        inputs = {value.name: tuple(value.shape) for value in session.get_inputs()}
        outputs = frozenset(value.name for value in session.get_outputs())
        graphs[name] = OpenGraph(session, inputs, outputs)
    return graphs


def _options(threads: int, optimisation: Optimisation) -> Any:
    """The options of one session."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = {
        "off": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[optimisation]
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # failures are raised; the library never prints
    # every unit has its own threads, of which only one unit's work at a time
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def providers() -> list[str]:
    """What the installed ONNX Runtime can execute on."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def forbid_emulation() -> None:
    """Keep cuBLAS from emulating float64 in fixed point, which need not be exact.

    Changes the environment of this process; it has no effect on a cuBLAS that is already in use.
    """
    for variable in _EMULATION:
        os.environ.pop(variable, None)
    os.environ["CUBLAS_EMULATE_DOUBLE_PRECISION"] = "0"

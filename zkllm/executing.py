"""Exact models on ONNX Runtime: one session for each unit, the same integers on every device."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zkllm.errors import BackendError, InputError, LimitExceeded
from zkllm.exact import reference
from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.model import ExactModel
from zkllm.extras import require_packages
from zkllm.operations.embed.exact import Embed
from zkllm.operations.head.exact import arg_max
from zkllm.progress import Progress, silent
from zkllm.tensors import IntArray, StoredArray, magnitude

Device = Literal["auto", "cpu", "cuda"]
Optimisation = Literal["off", "basic", "extended", "all"]
Past = tuple[IntArray, IntArray]
"""Keys and values [h, P, d_head] of the positions before, for one attention unit."""

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
_SELF_TEST_ROWS = 3
_SELF_TEST_SEED = 20260102


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What a session is made of."""

    graph: bytes
    weights: Mapping[str, StoredArray]
    """The arrays that were hashed, instead of a file that could be another by now."""


class Executor:
    """The units of an exact model, ready to run.

    It executes what the model digest names and nothing else: graphs that are compiled from the
    specification here and now, out of operators that are known to be exact, and weights as they
    were hashed. One unit of each kind is compared with the numpy reference on random rows at the
    proven bounds.
    """

    def __init__(
        self,
        model: ExactModel,
        device: Device = "auto",
        *,
        threads: int = 0,
        optimisation: Optimisation = "all",
        note: Progress = silent,
    ) -> None:
        """Open `model` on `device`; `threads` = 0 leaves their number to the runtime.

        `auto` takes CUDA if it is there and else tells `note` that it takes the CPU. Raises
        `UnsupportedModel` for bounds that float64 does not hold, `DigestMismatch` for edited
        weights or compiled files, `BackendError` if the device is missing or does not compute
        exactly.
        """
        require_packages("onnx", "onnxruntime")
        # both take a second to import: only those who execute wait for it
        from zkllm.exact.graph import check_compiled, compile_graphs

        self._specification = model.specification
        graphs = compile_graphs(model.specification)
        check_compiled(model, graphs)
        self._units = self._specification.units()
        # The sessions read these arrays for as long as they are there.
        self._weights = {name: model.stored(name) for name in model.specification.tensors}
        compiled = {
            name: _Compiled(
                graph, {n: self._weights[n] for n in self._specification.tensors_of(name)}
            )
            for name, graph in graphs.items()
        }
        self._sessions, self.device = _open(compiled, device, threads, optimisation, note)
        self._self_test(model)

    def embed(self, ids: IntArray, first_position: int = 0) -> IntArray:
        """[T] to [T, d], the first id standing at `first_position`.

        Raises `InputError` for an id outside the vocabulary or a position outside the context.
        """
        a = self._specification.architecture
        if ids.ndim != 1 or not len(ids):
            raise InputError(f"token ids: expected a row of at least one, got {list(ids.shape)}")
        if int(ids.min()) < 0 or int(ids.max()) >= a.vocabulary:
            raise InputError(
                f"token ids: expected 0 to {a.vocabulary - 1}, "
                f"got {int(ids.min())} to {int(ids.max())}"
            )
        if first_position < 0 or first_position + len(ids) > a.context:
            raise InputError(
                f"positions: expected 0 to {a.context - 1}, "
                f"got {first_position} to {first_position + len(ids) - 1}"
            )
        feeds = {"ids": ids, "first_position": np.array(first_position, dtype=np.int64)}
        return self._run("embed", ["output"], feeds)[0]

    def attention(self, name: str, x: IntArray, past: Past | None = None) -> tuple[IntArray, Past]:
        """[T, d] to [T, d] after the positions of `past`; also all keys and values, past first.

        Raises `LimitExceeded` if `x` leaves its proven bound, `InputError` for a wrong shape.
        """
        self._check_rows(name, x)
        if past is None:
            a = self._specification.architecture
            nothing = np.zeros((a.heads, 0, a.width // a.heads), dtype=np.int64)
            past = (nothing, nothing)
        feeds = {"x": x, "past_key": past[0], "past_value": past[1]}
        output, key, value = self._run(name, ["output", "key", "value"], feeds)
        return output, (key, value)

    def mlp(self, name: str, x: IntArray) -> IntArray:
        """[T, d] to [T, d]; raises as `attention` does."""
        self._check_rows(name, x)
        return self._run(name, ["output"], {"x": x})[0]

    def head(self, x: IntArray) -> IntArray:
        """[n, d] to the arg-max ids [n], ties to the lowest; raises as `attention` does."""
        self._check_rows("head", x)
        if self.device == "cpu":
            return self._run("head", ["ids"], {"x": x})[0]
        # CUDA's arg-max promises nothing about ties
        return arg_max(self._run("head", ["logits"], {"x": x})[0])

    def run(self, x: IntArray) -> list[IntArray]:
        """All boundaries of one pass: `x` is ids [T] for a text model, rows [T, d] for a fragment.

        The first is the input of the first block, then comes the output of every block unit.
        """
        rows = x if self._specification.embed is None else self.embed(x)
        return [rows, *self._blocks(rows, {})]

    def decode(
        self, prompt_ids: Sequence[int], count: int, stop_ids: Sequence[int] = ()
    ) -> list[int]:
        """Up to `count` ids after the prompt, greedily; the last may be one of `stop_ids`.

        Keys and values of earlier positions are kept. Raises `InputError` if the positions do not
        fit the context, or for a fragment.
        """
        if self._specification.head is None:
            raise InputError("a fragment has no head: it cannot generate tokens")
        if count < 1:
            raise InputError(f"new tokens: expected at least 1, got {count}")
        context = self._specification.architecture.context
        if len(prompt_ids) + count - 1 > context:
            raise InputError(
                f"prompt of {len(prompt_ids)} tokens and {count} new ones: at most {context} "
                f"positions expected, got {len(prompt_ids) + count - 1}"
            )
        past: dict[str, Past] = {}
        generated: list[int] = []
        pending, position = np.array(prompt_ids, dtype=np.int64), 0
        while True:
            rows = self._blocks(self.embed(pending, position), past)[-1]
            generated.append(int(self.head(rows[-1:])[0]))
            if len(generated) == count or generated[-1] in stop_ids:
                return generated
            position += len(pending)
            pending = np.array(generated[-1:], dtype=np.int64)

    def _blocks(self, rows: IntArray, past: dict[str, Past]) -> list[IntArray]:
        """The output of every block unit for `rows`; `past` is extended by their positions."""
        boundaries: list[IntArray] = []
        for name, unit in self._units.items():
            if isinstance(unit, Attention):
                rows, past[name] = self.attention(name, rows, past.get(name))
            elif isinstance(unit, Mlp):
                rows = self.mlp(name, rows)
            else:
                continue
            boundaries.append(rows)
        return boundaries

    def _check_rows(self, name: str, x: IntArray) -> None:
        width = self._specification.architecture.width
        if x.ndim != 2 or x.shape[1] != width or not len(x):
            raise InputError(f"{name}: expected rows [T, {width}], got {list(x.shape)}")
        largest = magnitude(x)
        bound = self._specification.input_bound(name)
        if largest > bound:
            # beyond the bound a float64 sum may round: a wrong integer, and no one would notice
            raise LimitExceeded(
                f"{name}: expected rows within ±{bound}, got {largest} in magnitude"
            )

    def _run(self, name: str, outputs: list[str], feeds: dict[str, IntArray]) -> list[IntArray]:
        try:
            results: list[IntArray] = self._sessions[name].run(outputs, feeds)
        except Exception as err:  # onnxruntime raises nothing more precise
            reason = str(err).strip().splitlines()[0][:160]
            raise BackendError(f"{name}: ONNX Runtime failed on {self.device}: {reason}") from err
        return results

    def _self_test(self, model: ExactModel) -> None:
        """Compare one unit of each kind with the reference on random rows at the bounds.

        Raises `BackendError` where they differ: a device, a driver or an optimiser that rounds.
        """
        # a model of its own: its cache of int64 weights goes when the test is over
        fresh = ExactModel(self._specification, model.folder) if model.folder else model
        random = np.random.default_rng(_SELF_TEST_SEED)
        a = self._specification.architecture
        tokens = min(_SELF_TEST_ROWS, a.context)
        tested: set[type] = set()
        for name, unit in self._units.items():
            if type(unit) in tested:
                continue
            tested.add(type(unit))
            if isinstance(unit, Embed):
                x = random.integers(0, a.vocabulary, tokens)
                got = self.embed(x)
            else:
                bound = self._specification.input_bound(name)
                x = random.integers(-bound, bound + 1, (tokens, a.width))
                if isinstance(unit, Head):
                    got = self.head(x)
                else:
                    got = (
                        self.attention(name, x)[0]
                        if isinstance(unit, Attention)
                        else self.mlp(name, x)
                    )
            expected = reference.run_unit(fresh, name, x)
            fresh.forget()
            if not np.array_equal(expected, got):
                place = tuple(int(i) for i in np.argwhere(expected != got)[0])
                raise BackendError(
                    f"{name} on {self.device}: expected {int(expected[place])} at {list(place)}, "
                    f"got {int(got[place])}",
                    hint="this device does not compute exactly: use --device cpu",
                )


def _open(
    compiled: Mapping[str, _Compiled],
    device: Device,
    threads: int,
    optimisation: Optimisation,
    note: Progress,
) -> tuple[dict[str, Any], Literal["cpu", "cuda"]]:
    """Sessions by unit, and the device that they really use."""
    import onnxruntime

    if device != "cpu":
        reason = f"expected {_CUDA}, onnxruntime offers {onnxruntime.get_available_providers()}"
        if _CUDA in onnxruntime.get_available_providers():
            forbid_emulation()
            try:
                return _sessions(compiled, _CUDA, threads, optimisation), "cuda"
            except BackendError as err:
                reason = err.message
        if device == "cuda":
            raise BackendError(f"device cuda: {reason}", hint=_INSTALL_CUDA)
        note("device: cpu, because CUDA is not available")
    return _sessions(compiled, _CPU, threads, optimisation), "cpu"


def _sessions(
    compiled: Mapping[str, _Compiled], provider: str, threads: int, optimisation: Optimisation
) -> dict[str, Any]:
    import onnxruntime

    # TF32 would cut float32 products; exact graphs have none, and should stay so
    providers = [(_CUDA, {"use_tf32": "0"}), _CPU] if provider == _CUDA else [_CPU]
    sessions: dict[str, Any] = {}
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
        sessions[name] = session
    return sessions


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

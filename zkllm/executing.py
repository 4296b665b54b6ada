"""Exact models on ONNX Runtime: one graph for each unit, the same integers on every device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from zkllm.engines.onnx.ports import FIRST, LOGITS, PAST
from zkllm.engines.onnx.runtime import Compiled, Device, Optimisation, open_graphs
from zkllm.errors import BackendError, InputError, LimitExceeded
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.extras import require_packages
from zkllm.operations.unit import Ids, Rows, Unit
from zkllm.progress import Progress, silent
from zkllm.tensors import IntArray, magnitude

_SELF_TEST_ROWS = 3
_SELF_TEST_SEED = 20260102


@dataclass(frozen=True, slots=True)
class Past:
    """What a unit keeps of the positions before, so that they are not computed again."""

    positions: int = 0
    kept: Mapping[str, IntArray] = field(default_factory=dict)
    """By the outputs of its graph; keys and values of attention [h, P, d_head], say."""


class Executor:
    """The units of an exact model, ready to run.

    It executes what the model digest names and nothing else: graphs that are compiled from the
    specification here and now, out of operators that are known to be exact, and weights as they
    were hashed. One unit of each form is compared with the numpy reference on random rows at the
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
        # a model of its own: the caller's does not keep what was read for the graphs
        own = ExactModel(self._specification, model.folder) if model.folder else model
        # The graphs read these arrays for as long as they are there.
        self._weights = {name: own.stored(name) for name in self._specification.tensors}
        compiled = {
            name: Compiled(graphs[name], {n: self._weights[n] for n in _tensors_of(unit)})
            for name, unit in self._units.items()
        }
        self._graphs, self.device = open_graphs(compiled, device, threads, optimisation, note)
        self._self_test(own)
        own.forget()

    def run_unit(self, name: str, x: IntArray, past: Past | None = None) -> tuple[IntArray, Past]:
        """What unit `name` gives for `x`, and what it keeps of all positions, those of `past` too.

        Both `x` and the result are ids [T] or rows [T, d], as the unit's boundaries say. Raises
        `InputError` for another shape, an id outside the vocabulary or a position outside the
        context, `LimitExceeded` for rows that leave their proven bound, `BackendError` if the
        runtime fails.
        """
        unit, graph = self._units[name], self._graphs[name]
        past = past or Past()
        _check_input(unit, x)
        feeds = {unit.reads: x}
        keeps = graph.past()
        if keeps or FIRST in graph.inputs:
            # what is proven of sums over positions holds within the context
            self._check_positions(past.positions, len(x))
        if FIRST in graph.inputs:
            feeds[FIRST] = np.array(past.positions, dtype=np.int64)
        for part, shape in keeps.items():
            feeds[PAST + part] = past.kept.get(part, np.zeros(shape, dtype=np.int64))
        if isinstance(unit.output, Rows):
            (output, *kept) = self._run(name, ["output", *keeps], feeds)
        elif self.device == "cpu" or LOGITS not in graph.outputs:
            (output, *kept) = self._run(name, ["ids", *keeps], feeds)
        else:
            # CUDA's arg-max promises nothing about ties; numpy takes the first of the largest
            (logits, *kept) = self._run(name, [LOGITS, *keeps], feeds)
            output = np.argmax(logits, axis=-1).astype(np.int64)
        return output, Past(past.positions + len(x), dict(zip(keeps, kept, strict=True)))

    def run(self, x: IntArray) -> list[IntArray]:
        """All boundaries of one pass: `x` is ids [T] for a text model, rows [T, d] for a fragment.

        The first is the input of the first block, then comes the output of every block unit.
        """
        first = next(iter(self._units.values()))
        return [*([x] if isinstance(first.input, Rows) else []), *self._boundaries(x, {})]

    def decode(
        self, prompt_ids: Sequence[int], count: int, stop_ids: Sequence[int] = ()
    ) -> list[int]:
        """Up to `count` ids after the prompt, greedily; the last may be one of `stop_ids`.

        What units keep of earlier positions is not computed again. Raises `InputError` if the
        positions do not fit the context, or for a fragment.
        """
        head = next((n for n, unit in self._units.items() if isinstance(unit.output, Ids)), None)
        if head is None:
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
        pending = np.array(prompt_ids, dtype=np.int64)
        while True:
            rows = self._boundaries(pending, past)[-1]
            ids, _ = self.run_unit(head, rows[-1:])
            generated.append(int(ids[0]))
            if len(generated) == count or generated[-1] in stop_ids:
                return generated
            pending = ids

    def _boundaries(self, x: IntArray, past: dict[str, Past]) -> list[IntArray]:
        """The rows that the units give one after the other; `past` is extended by them."""
        boundaries: list[IntArray] = []
        for name, unit in self._units.items():
            if isinstance(unit.output, Rows):
                x, past[name] = self.run_unit(name, x, past.get(name))
                boundaries.append(x)
        return boundaries

    def _check_positions(self, first: int, count: int) -> None:
        context = self._specification.architecture.context
        if first < 0 or first + count > context:
            raise InputError(
                f"positions: expected 0 to {context - 1}, got {first} to {first + count - 1}"
            )

    def _run(self, name: str, outputs: list[str], feeds: dict[str, IntArray]) -> list[IntArray]:
        try:
            results: list[IntArray] = self._graphs[name].session.run(outputs, feeds)
        except Exception as err:  # onnxruntime raises nothing more precise
            reason = str(err).strip().splitlines()[0][:160]
            raise BackendError(f"{name}: ONNX Runtime failed on {self.device}: {reason}") from err
        return results

    def _self_test(self, model: ExactModel) -> None:
        """Compare one unit of each form with the reference on random rows at the bounds.

        Raises `BackendError` where they differ: a device, a driver or an optimiser that rounds.
        """
        random = np.random.default_rng(_SELF_TEST_SEED)
        tokens = min(_SELF_TEST_ROWS, self._specification.architecture.context)
        tested: set[tuple[type, ...]] = set()
        for name, unit in self._units.items():
            form = (type(unit.input), *map(type, unit.steps), type(unit.output))
            if form in tested:
                continue
            tested.add(form)
            if isinstance(unit.input, Ids):
                x = random.integers(0, unit.input.vocabulary, tokens)
            else:
                bound = unit.input.bound
                x = random.integers(-bound, bound + 1, (tokens, unit.input.width))
            got, _ = self.run_unit(name, x)
            expected = reference.run_unit(model, name, x)
            if not np.array_equal(expected, got):
                place = tuple(int(i) for i in np.argwhere(expected != got)[0])
                raise BackendError(
                    f"{name} on {self.device}: expected {int(expected[place])} at {list(place)}, "
                    f"got {int(got[place])}",
                    hint="this device does not compute exactly: use --device cpu",
                )


def _tensors_of(unit: Unit) -> tuple[str, ...]:
    """The weights and tables that its graph reads."""
    return (*unit.weights(), *unit.tables())


def _check_input(unit: Unit, x: IntArray) -> None:
    """Raises `InputError` or `LimitExceeded` for what the unit does not take."""
    if isinstance(unit.input, Ids):
        if x.ndim != 1 or not len(x):
            raise InputError(f"token ids: expected a row of at least one, got {list(x.shape)}")
        if int(x.min()) < 0 or int(x.max()) >= unit.input.vocabulary:
            raise InputError(
                f"token ids: expected 0 to {unit.input.vocabulary - 1}, "
                f"got {int(x.min())} to {int(x.max())}"
            )
        return
    width, bound = unit.input.width, unit.input.bound
    if x.ndim != 2 or x.shape[1] != width or not len(x):
        raise InputError(f"{unit.name}: expected rows [T, {width}], got {list(x.shape)}")
    largest = magnitude(x)
    if largest > bound:
        # beyond the bound a float64 sum may round: a wrong integer, and no one would notice
        raise LimitExceeded(
            f"{unit.name}: expected rows within ±{bound}, got {largest} in magnitude"
        )

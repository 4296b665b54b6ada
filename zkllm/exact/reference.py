"""Units in numpy: the executor that is right where others differ, and the core of `replay`."""

from __future__ import annotations

from zkllm.errors import UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.operations.step import Chooser
from zkllm.operations.unit import Ids, Rows
from zkllm.tensors import IntArray


def run_unit(model: ExactModel, name: str, x: IntArray) -> IntArray:
    """The output of unit `name` for the input `x`: ids [T] for embed, rows [T, d] for the rest."""
    return model.specification.units()[name].run(x, model.integers)


def forward(model: ExactModel, x: IntArray) -> list[IntArray]:
    """All boundaries: `x` is ids [T] for a text model, rows [T, d] for a fragment."""
    boundaries = [] if model.specification.embed is not None else [x]
    for unit in model.specification.units().values():
        if isinstance(unit.output, Rows):
            x = unit.run(x, model.integers)
            boundaries.append(x)
    return boundaries


def logits(model: ExactModel, x: IntArray) -> IntArray:
    """All raw accumulators [n, vocabulary] of the head, for the fidelity report."""
    for unit in model.specification.units().values():
        values = {unit.reads: x}
        for step in unit.order() if isinstance(unit.output, Ids) else ():
            given = [values[name] for name in step.reads]
            if isinstance(step, Chooser):
                return step.logits(given, model.integers)
            values[step.writes] = step.run(given, model.integers)
    raise UnsupportedModel("a fragment has no head")

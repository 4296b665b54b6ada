"""An operation is added to graphs by `onnx.py` beside its record, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.graphs import LEVELS, unit_session
from tests.toy import unit as toy
from tests.toy.exact import SquareStep
from zkllm.errors import UnsupportedModel
from zkllm.exact.graph import compile_unit, placed
from zkllm.tensors import TensorType, magnitude_type


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_a_unit_with_it_equals_numpy(level: Any) -> None:
    unit, tensors = toy.made()
    session = unit_session(unit, tensors, level)
    for x in (toy.rows(9), toy.rows(1)):
        expected = unit.run(x, tensors.__getitem__)
        assert np.abs(expected - x).max() > 1000, "the toy changes nothing"
        (got,) = session.run(None, {"x": x})
        assert np.array_equal(got, expected)


def test_its_values_lie_within_their_proven_bounds() -> None:
    unit, tensors = toy.made()
    values = unit.values(toy.rows(50), tensors.__getitem__)
    for step in unit.steps:
        found = int(np.abs(values[step.writes]).max())
        assert 0 < found <= step.numbers.output, step.name


def test_its_bound_is_held_to_float64() -> None:
    unit, tensors = toy.made()
    steps = tuple(
        replace(step, numbers=replace(step.numbers, output=2**52))
        if isinstance(step, SquareStep)
        else step
        for step in unit.steps
    )
    types = {name: TensorType(magnitude_type(v), v.shape) for name, v in tensors.items()}
    with pytest.raises(UnsupportedModel, match=r"^toy: the proven bound of x² is 4503599627370496"):
        compile_unit(replace(unit, steps=steps), placed(types))


def test_a_step_without_nodes_cannot_be_said() -> None:
    """A missing file says so: here, where no `onnx.py` stands beside the record."""
    unit, tensors = toy.made()
    elsewhere = type("Elsewhere", (SquareStep,), {"__module__": "tests.golden.exact"})
    steps = tuple(
        elsewhere(**vars(step)) if isinstance(step, SquareStep) else step for step in unit.steps
    )
    words = "^square: onnx has no words for the operation golden$"
    with pytest.raises(UnsupportedModel, match=words):
        compile_unit(
            replace(unit, steps=steps),
            placed({name: TensorType("int64", v.shape) for name, v in tensors.items()}),
        )

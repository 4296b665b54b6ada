"""Activations on ONNX Runtime, where the table ends and far from there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import LEVELS, unit_session
from zkllm.operations.activation.exact import Activation, ActivationStep
from zkllm.operations.unit import Rows, Unit


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize("table", [[0], [0, 1, 2, 1, 0], [2**40, 3, 0]], ids=str)
def test_every_place_of_the_table_and_beyond(table: list[int], level: Any) -> None:
    tensors = {"table": np.array(table, dtype=np.int64)}
    step = ActivationStep("gelu", ("x",), "active", Activation("table", 2**51), (5,))
    unit = Unit("unit", Rows(5, 2**51), Rows(5, 2**51), (step,), writes="active", residual=False)
    ends = [0, 1, len(table) - 1, len(table), 2**51]
    x = np.array([ends, [-n for n in ends], [2, -2, 3, -3, 7]], dtype=np.int64)
    (got,) = unit_session(unit, tensors, level).run(None, {"x": x})
    assert np.array_equal(got, unit.run(x, tensors.__getitem__))

"""Constants that ezkl keeps in float32."""

from __future__ import annotations

import numpy as np
import pytest

from zkllm.engines.ezkl import readings
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.expressions import integers
from zkllm.engines.ezkl.recipe import Window
from zkllm.errors import UnsupportedModel

WINDOW = Window(6, 4)


def no_exp(_: int) -> int:
    raise AssertionError


@pytest.mark.parametrize("factor", [1, (1 << 40) + 1, (1 << 80) + (1 << 31) + 1])
def test_large_constants_are_added_in_parts(factor: int) -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (2,), 10)
    big = integers([123456789123 * factor, -987654321987 * factor])
    total = x + big
    parts = [node.detail for node in circuit.expressions if node.operation == "constant"]
    assert all(int(np.float32(v)) == v for part in parts for v in part.ravel().tolist())
    values = readings.honest(circuit, {"x": np.array([1, 2])}, no_exp)
    assert values[total].tolist() == [123456789123 * factor + 1, -987654321987 * factor + 2]


@pytest.mark.parametrize("value", [1 << 127, -(1 << 200) - 1, 1 << 2000])
def test_a_constant_that_no_float32_holds(value: int) -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (1,), 10)
    for use in (x.__add__, x.__sub__, x.__mul__):
        with pytest.raises(UnsupportedModel, match="must fit a float32 exactly"):
            use(value)


def test_a_factor_that_float32_rounds_is_refused() -> None:
    circuit = Circuit(WINDOW, 1)
    x = circuit.public_input("x", (1,), 10)
    with pytest.raises(UnsupportedModel, match="must fit a float32 exactly, got 16777217"):
        x * ((1 << 24) + 1)

"""A linear layer on ONNX Runtime, whatever form its rows have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import LEVELS, unit_session
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.unit import Rows, Unit


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize("shift", [0, 1, 9])
def test_rows_apart_and_together_again(shift: int, level: Any) -> None:
    """Seven channels to two by three heads and back; half of the first sums are ties."""
    random = np.random.default_rng(1)
    tensors = {
        "a.weight": random.integers(-(2**15), 2**15, (7, 6)),
        "a.bias": random.integers(-(2**40), 2**40, 6),
        "b.weight": random.integers(-128, 128, (6, 7)),
        "b.bias": random.integers(-9, 9, 7),
    }
    tensors["a.weight"][:, ::2] = (1 << shift) >> 1
    first = Linear("a.weight", "a.bias", shift, 2**45, 2**45 >> shift)
    second = Linear("b.weight", "b.bias", shift, 2**51, 2**51 >> shift)
    steps = (
        LinearStep("a", ("x",), "apart", first, (7,), (2, 3)),
        LinearStep("b", ("apart",), "change", second, (2, 3), (7,)),
    )
    unit = Unit("unit", Rows(7, 2**20), Rows(7, 2**51), steps)
    x = random.integers(-(2**20), 2**20 + 1, (5, 7))
    session = unit_session(unit, tensors, level)
    for rows in (x, x[:1]):
        (got,) = session.run(None, {"x": rows})
        assert np.array_equal(got, unit.run(rows, tensors.__getitem__))

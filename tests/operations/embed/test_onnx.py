"""The embedding on ONNX Runtime, from any position on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import LEVELS, unit_session
from zkllm.operations.embed.exact import Embed, EmbedStep
from zkllm.operations.unit import Ids, Rows, Unit


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_rows_at_any_position(level: Any) -> None:
    random = np.random.default_rng(0)
    tensors = {
        "embed.tokens": random.integers(-(2**31), 2**31, (11, 3)),
        "embed.positions": random.integers(-(2**7), 2**7, (6, 3)),
    }
    step = EmbedStep(
        "embed", ("ids",), "rows", Embed("embed.tokens", "embed.positions", 2**32), 11, 6, 3
    )
    unit = Unit("embed", Ids(11), Rows(3, 2**32), (step,), "ids", "rows", residual=False)
    ids = np.array([10, 0, 3, 3, 7, 10])
    expected = unit.run(ids, tensors.__getitem__)
    session = unit_session(unit, tensors, level)
    for start in range(6):
        first = np.array(start, dtype=np.int64)
        (got,) = session.run(None, {"ids": ids[start:], "first_position": first})
        assert np.array_equal(got, expected[start:])

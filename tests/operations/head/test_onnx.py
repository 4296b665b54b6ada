"""The head on ONNX Runtime: ids, ties, and the logits for devices that break them otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import LEVELS, unit_session
from zkllm.operations.head.exact import HeadStep, Logits
from zkllm.operations.unit import Ids, Rows, Unit


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_ids_and_logits(level: Any) -> None:
    random = np.random.default_rng(0)
    weight = random.integers(-9, 10, (5, 12))
    weight[:, 6:] = weight[:, 5::-1]  # every logit twice
    bias = random.integers(-9, 10, 12)
    bias[6:] = bias[5::-1]
    tensors = {"weight": weight, "bias": bias}
    step = HeadStep("margin", ("x",), "ids", Logits("weight", "bias", 2**40), 5, 12)
    unit = Unit("head", Rows(5, 2**30), Ids(12), (step,), writes="ids", residual=False)
    x = random.integers(-(2**30), 2**30 + 1, (40, 5))
    x[0] = 0
    ids, logits = unit_session(unit, tensors, level).run(["ids", "logits"], {"x": x})
    assert np.array_equal(ids, unit.run(x, tensors.__getitem__))
    assert np.array_equal(logits, x @ weight + bias)
    assert ids.max() < 6
    assert len(set(ids.tolist())) > 2

"""The executor runs a unit of any steps, and finds a device that computes them otherwise."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.toy import onnx
from tests.toy import unit as toy
from zkllm.engines.onnx.builder import Value
from zkllm.errors import BackendError, LimitExceeded
from zkllm.exact import reference
from zkllm.executing import Executor


def test_a_unit_that_no_format_has_runs() -> None:
    model = toy.model()
    executor = Executor(model, "cpu", threads=1)
    x = toy.rows(9)
    expected = reference.run_unit(model, "toy", x)
    assert not np.array_equal(expected, x)
    got, past = executor.run_unit("toy", x)
    assert np.array_equal(got, expected)
    assert (past.positions, past.kept) == (9, {})
    given, after = executor.run(x)
    assert np.array_equal(given, x)
    assert np.array_equal(after, expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_its_rows_are_held_to_their_bound(sign: int) -> None:
    executor = Executor(toy.model(), "cpu", threads=1)
    x = np.full((1, toy.WIDTH), sign * toy.BOUND)
    executor.run_unit("toy", x)
    x[0, 3] += sign
    words = f"toy: expected rows within ±{toy.BOUND}, got {toy.BOUND + 1} in magnitude"
    with pytest.raises(LimitExceeded, match=f"^{re.escape(words)}$"):
        executor.run_unit("toy", x)


def test_nodes_that_compute_something_else_fail_the_self_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def doubled(builder: Any, step: Any, read: Any) -> Value:
        x = read(step.reads[0])
        return Value(builder.op("Add", [x.name, x.name], "square/output"), step.numbers.output)

    monkeypatch.setattr(onnx, "nodes", doubled)
    with pytest.raises(BackendError, match=r"^toy on cpu: expected"):
        Executor(toy.model(), "cpu", threads=1)

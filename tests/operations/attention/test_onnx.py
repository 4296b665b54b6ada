"""Attention on ONNX Runtime: heads of any size, and keys and values that are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.graphs import LEVELS, unit_session
from zkllm.operations.attention.exact import Attend, AttentionStep
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.step import Dims
from zkllm.operations.unit import Rows, Unit
from zkllm.tensors import IntArray

CONTEXT = 9
BOUND = 1000


def made(size: int, seed: int = 0) -> tuple[Unit, dict[str, IntArray]]:
    """Seven channels, two heads of `size`: no architecture says that they are as wide together."""
    random = np.random.default_rng(seed)
    tensors: dict[str, IntArray] = {"exp": np.array([1000, 600, 300, 100, 20, 1, 0])}
    largest = 7 * 9 * BOUND + 50

    def layer(name: str, reads: str, writes: str, inner: Dims, outer: Dims) -> LinearStep:
        shape = int(np.prod(inner)), int(np.prod(outer))
        tensors[f"{name}.weight"] = random.integers(-9, 10, shape)
        tensors[f"{name}.bias"] = random.integers(-50, 51, shape[1])
        numbers = Linear(f"{name}.weight", f"{name}.bias", 0, 2**40, largest)
        return LinearStep(name, (reads,), writes, numbers, inner, outer)

    heads = (2, size)
    attend = Attend(24, size * largest**2, 2**30, "exp", CONTEXT * 1000, 2**45, largest)
    steps = (
        layer("query", "x", "query", (7,), heads),
        layer("key", "x", "key", (7,), heads),
        layer("value", "x", "value", (7,), heads),
        AttentionStep("attention", ("query", "key", "value"), "mixed", attend, *heads, CONTEXT),
        layer("out", "mixed", "change", heads, (7,)),
    )
    return Unit("unit", Rows(7, BOUND), Rows(7, 2**41), steps), tensors


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize("size", [1, 5])
def test_it_equals_numpy_at_once_and_piece_by_piece(size: int, level: Any) -> None:
    unit, tensors = made(size)
    session = unit_session(unit, tensors, level)
    x = np.random.default_rng(2).integers(-BOUND, BOUND + 1, (CONTEXT, 7))
    expected = unit.values(x, tensors.__getitem__)
    rows = unit.run(x, tensors.__getitem__)
    for cuts in ([CONTEXT], [4, CONTEXT], list(range(1, CONTEXT + 1))):
        key = value = np.zeros((2, 0, size), dtype=np.int64)
        start, pieces = 0, []
        for end in cuts:
            feeds = {"x": x[start:end], "past_key": key, "past_value": value}
            piece, key, value = session.run(["output", "key", "value"], feeds)
            pieces.append(piece)
            start = end
        assert np.array_equal(np.concatenate(pieces), rows)
        assert np.array_equal(key, expected["key"].transpose(1, 0, 2))
        assert np.array_equal(value, expected["value"].transpose(1, 0, 2))


def test_the_rows_look_at_several_places() -> None:
    """Otherwise the comparison above would prove little."""
    unit, tensors = made(5)
    x = np.random.default_rng(2).integers(-BOUND, BOUND + 1, (CONTEXT, 7))
    found = unit.values(x, tensors.__getitem__)
    distances = {
        int(np.abs(found["mixed"][-1, head] - found["value"][:, head]).sum(axis=-1).min())
        for head in range(2)
    }
    assert min(distances) > 0, "the last row is a copy of one value"


def test_what_a_unit_calls_its_values_is_no_matter() -> None:
    """Nor the order in which its steps are declared: the keys that a graph keeps are its own."""
    unit, tensors = made(5)
    other = {"query": "a", "key": "b", "value": "c"}
    steps = [
        replace(
            step,
            reads=tuple(other.get(name, name) for name in step.reads),
            writes=other.get(step.writes, step.writes),
        )
        for step in unit.steps
    ]
    renamed = Unit("unit", unit.input, unit.output, tuple(steps[::-1]))
    x = np.random.default_rng(3).integers(-BOUND, BOUND + 1, (4, 7))
    nothing = np.zeros((2, 0, 5), dtype=np.int64)
    feeds = {"x": x, "past_key": nothing, "past_value": nothing}
    (got,) = unit_session(renamed, tensors).run(["output"], feeds)
    assert np.array_equal(got, unit.run(x, tensors.__getitem__))

"""Open graphs: what they ask for, and an environment in which products are exact."""

from __future__ import annotations

import os

import pytest

from zkllm.engines.onnx import runtime
from zkllm.engines.onnx.builder import Builder, Output, Shape
from zkllm.engines.onnx.runtime import Compiled, OpenGraph, forbid_emulation, open_graphs
from zkllm.errors import BackendError
from zkllm.progress import silent


def two_caches() -> bytes:
    """x [T] is given back, and what is kept of it twice."""
    builder = Builder("unit", {})
    x = builder.real_input("x", ["T"])
    shapes: dict[str, Shape] = {"left": [2, "P", 3], "right": ["P"]}
    for part, first in shapes.items():
        before = builder.real_input(f"past_{part}", first)
        builder.also(Output(before, part, first))
    data: bytes = builder.finish(x, "output", ["T"]).SerializeToString()
    return data


def test_what_is_kept_is_known_from_the_inputs() -> None:
    graphs, device = open_graphs({"unit": Compiled(two_caches(), {})}, "cpu", 1, "all", silent)
    graph = graphs["unit"]
    assert device == "cpu"
    assert graph.inputs == {"x": ("T",), "past_left": (2, "P", 3), "past_right": ("P",)}
    assert graph.outputs == {"output", "left", "right"}
    assert graph.past() == {"left": (2, 0, 3), "right": (0,)}
    assert OpenGraph(None, {"x": ("T",)}, frozenset()).past() == {}


def test_a_graph_that_is_none_is_refused() -> None:
    with pytest.raises(BackendError, match=r"^unit: ONNX Runtime cannot open it: "):
        open_graphs({"unit": Compiled(b"no graph", {})}, "cpu", 1, "all", silent)


def test_emulation_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in runtime._EMULATION:
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("CUBLAS_EMULATE_DOUBLE_PRECISION", "1")
    forbid_emulation()
    left = {name: value for name, value in os.environ.items() if name.startswith("CUBLAS_")}
    assert left == {"CUBLAS_EMULATE_DOUBLE_PRECISION": "0"}
    assert "CUBLAS_EMULATION_STRATEGY" in runtime._EMULATION

"""A unit with the toy between operations of the package, and its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.toy.exact import Square, SquareStep
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification, StoredTensor
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.norm.exact import Norm, NormStep
from zkllm.operations.step import Dims
from zkllm.operations.unit import Rows, Unit
from zkllm.tensors import IntArray, tensor_digest

WIDTH = 6
BOUND = 5000


def made() -> tuple[Unit, dict[str, IntArray]]:
    """x + project(expand(norm(x))²), with proven bounds; inner values have two dimensions."""
    random = np.random.default_rng(7)
    tensors: dict[str, IntArray] = {}

    def layer(
        name: str, reads: str, writes: str, inner: Dims, outer: Dims, shift: int
    ) -> LinearStep:
        n, m = int(np.prod(inner)), int(np.prod(outer))
        weight, bias = f"toy.{name}.weight", f"toy.{name}.bias"
        tensors[weight] = random.integers(-100, 101, (n, m))
        tensors[bias] = random.integers(-1000, 1001, m)
        return LinearStep(name, (reads,), writes, Linear(weight, bias, shift, 0, 0), inner, outer)

    steps = (
        NormStep("norm", ("x",), "normal", Norm(0, 5, 157, 0, 0, 0), WIDTH),
        layer("expand", "normal", "wide", (WIDTH,), (2, 5), 6),
        SquareStep("square", ("wide",), "squared", Square(0, 0), (2, 5)),
        layer("project", "squared", "change", (2, 5), (WIDTH,), 9),
    )
    unit = Unit("toy", Rows(WIDTH, BOUND), Rows(WIDTH, 0), steps)
    return unit.prove(tensors.__getitem__), tensors


def model() -> ExactModel:
    """A model of this unit alone, in memory; its list stands where a format's would be read."""
    unit, tensors = made()
    golden = (Path(__file__).resolve().parents[1] / "golden/v1/model/spec.json").read_bytes()
    stored = {
        name: StoredTensor("int16", values.shape, tensor_digest(values, "int16"))
        for name, values in tensors.items()
    }
    specification = replace(Specification.from_bytes(golden), tensors=stored)
    vars(specification)["_units"] = {unit.name: unit}
    return ExactModel.in_memory(specification, tensors)


def rows(tokens: int) -> IntArray:
    """Rows within the bound, at the bound among them."""
    x = np.random.default_rng(3).integers(-BOUND, BOUND + 1, (tokens, WIDTH))
    x[0] = [BOUND, -BOUND] * (WIDTH // 2)
    return x

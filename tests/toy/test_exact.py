"""An operation that the package does not have is computed, bounded and drafted in lists."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.exact import oracle
from tests.toy import unit as toy
from tests.toy.draft import SquareDraft
from tests.toy.exact import Square, SquareStep
from zkllm.errors import UnsupportedModel
from zkllm.exact import reference
from zkllm.operations.bounds import uniform, vector
from zkllm.operations.draft import Sketch
from zkllm.operations.linear.draft import LinearDraft
from zkllm.operations.norm.draft import NormDraft
from zkllm.operations.unit import Rows
from zkllm.tensors import IntArray

STEP = SquareStep("square", ("x",), "change", Square(0, 0), (2,))


def nothing(name: str) -> IntArray:
    raise KeyError(name)


def test_the_reference_is_what_python_computes() -> None:
    unit, tensors = toy.made()
    x = toy.rows(4)
    norm, expand, _, project = (step.numbers for step in unit.steps)
    expected = []
    for row in x.tolist():
        normal = oracle.layer_norm(row, norm.shift, norm.epsilon, norm.gain)[-1]
        wide = linear(normal, tensors, "expand", expand.shift)
        change = linear([n * n for n in wide], tensors, "project", project.shift)
        expected.append([a + b for a, b in zip(row, change, strict=True)])
    assert reference.run_unit(toy.model(), "toy", x).tolist() == expected


def linear(row: list[int], tensors: dict[str, IntArray], name: str, shift: int) -> list[int]:
    weight, bias = (tensors[f"toy.{name}.{part}"].tolist() for part in ("weight", "bias"))
    return [oracle.rounded(n, 2**shift) for n in oracle.sums([row], weight, bias)[0]]


def test_bounds_of_its_entries_follow_it() -> None:
    given = vector([3, 5], 5)
    proven, value = STEP.prove("unit", [given], nothing)
    assert proven.numbers == Square(5, 25)
    assert (value.entries, value.norm) == ([9, 25], 27)


def test_what_leaves_the_exact_range_is_refused() -> None:
    STEP.prove("unit", [uniform(2, (1 << 26) - 1)], nothing)
    with pytest.raises(
        UnsupportedModel, match=r"^unit: the proven bound of x² is 4503599627370496"
    ):
        STEP.prove("unit", [uniform(2, 1 << 26)], nothing)
    proven = replace(STEP, numbers=Square(1 << 31, 0))
    with pytest.raises(UnsupportedModel, match=r"^unit: .* of x², as provers confine it"):
        proven.require_room("unit", 0)


def test_floats_become_a_unit_of_it() -> None:
    """A sketch with its draft in it is quantised as every other, and proven by the same loop."""
    random = np.random.default_rng(5)
    wide, narrow = random.normal(0, 0.3, (6, 10)), random.normal(0, 0.2, (10, 6))
    bias, more = random.normal(0, 0.1, 10), random.normal(0, 0.1, 6)
    inner = (2, 5)
    sketch = Sketch(
        "toy",
        (
            NormDraft("norm", ("x",), "normal", 6, Fraction(1, 10**5), 10, 10),
            LinearDraft("expand", ("normal",), "wide", wide, bias, (6,), inner, 10, 8, 12),
            SquareDraft("square", ("wide",), "squared", inner),
            LinearDraft("project", ("squared",), "change", narrow, more, inner, (6,), 16, 10, 12),
        ),
    )
    tensors: dict[str, IntArray] = {}
    unit = sketch.quantise(Rows(6, 1 << 12), tensors)
    assert unit.prove(tensors.__getitem__) == unit
    assert set(tensors) == set(unit.weights())
    x = random.normal(0, 1, (4, 6))
    normal = x - x.mean(axis=1, keepdims=True)
    normal /= np.sqrt((normal**2).mean(axis=1, keepdims=True) + 1e-5)
    expected = x + (normal @ wide + bias) ** 2 @ narrow + more
    got = unit.run(np.rint(x * 1024).astype(np.int64), tensors.__getitem__) / 1024
    assert np.abs(got - expected).max() < 0.02

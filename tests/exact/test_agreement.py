"""A number that `check_bounds` accepts is one with which every executor gives the same integers.

Constants follow from no weight: whoever makes a model chooses them. Each is moved through its range
while all bounds are fitted to it. Then it is refused, or Python's integers, numpy, ONNX Runtime
and the prover agree, on rows at the bounds, and the verifier believes the proof.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.backends.sumcheck.forging import STATEMENT, small_model
from tests.exact.test_extremes import extreme_inputs, require_true, with_an_idle_weight
from tests.fitting import fitted, tensors_of, with_unit
from zkllm.backends.base import Claim, Pin
from zkllm.backends.replay import ReplayBackend
from zkllm.backends.sumcheck.backend import SumcheckBackend
from zkllm.errors import UnsupportedModel, WrongMaterial
from zkllm.exact import reference
from zkllm.exact.check import check_bounds, check_constants
from zkllm.exact.model import ExactModel
from zkllm.executing import Executor
from zkllm.tensors import IntArray

SHIFTS = (0, 33, 47, 48, 57, 61)
SIZES = (0, 1, 2**31, 2**47, 2**52 - 1)
CONSTANTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("attention[0]", "norm.shift"): SHIFTS,
    ("attention[0]", "norm.epsilon"): (*SIZES, 2**60 + 1, 2**61 - 1),
    ("attention[0]", "norm.gain"): SIZES,
    ("attention[0]", "query.shift"): SHIFTS,
    ("attention[1]", "score_shift"): SHIFTS,
    ("attention[0]", "out.shift"): SHIFTS,
    ("mlp[0]", "norm.shift"): SHIFTS,
    ("mlp[1]", "norm.gain"): SIZES,
    ("mlp[0]", "expand.shift"): SHIFTS,
    ("mlp[1]", "project.shift"): SHIFTS,
    ("head", "norm.shift"): SHIFTS,
    ("head", "norm.gain"): SIZES,
}
TABLES: dict[str, tuple[str, Callable[[], IntArray]]] = {
    "one exponential": ("table.exp", lambda: np.array([1])),
    "one large exponential": ("table.exp", lambda: np.array([2**40])),
    "no fall": ("table.exp", lambda: np.full(9, 3)),
    "a sudden end": ("table.exp", lambda: np.array([2**30, 0])),
    "the longest": ("table.exp", lambda: np.arange(2**18, 0, -1)),
    "no gelu": ("table.gelu", lambda: np.array([0])),
    "the most that gelu may take away": ("table.gelu", lambda: np.arange(300)),
}


def outcome(model: ExactModel, unit: str) -> str:
    """`true` if all agree about `unit` of a model that is accepted."""
    check_constants(model.specification)
    check_bounds(model)
    require_true(model, unit)
    x = extreme_inputs(model, unit)
    y = reference.run_unit(model, unit, x)
    executor = Executor(model, "cpu")
    assert np.array_equal(executor.run_unit(unit, x)[0], y)
    claim = Claim(unit, x, y, STATEMENT)
    assert ReplayBackend().verify(claim, b"", model, Pin({}), None).words == "recomputed"
    backend = SumcheckBackend()
    assert backend.unsupported(model.specification, unit) == ""
    proof = backend.prove(model, claim, None)
    assert backend.verify(claim, proof, model, Pin({}), None).details["soundness_bits"] >= 100
    return "true"


def moved(part: Any, path: list[str], value: int) -> Any:
    name, *rest = path
    return replace(part, **{name: moved(getattr(part, name), rest, value) if rest else value})


def tried(make: Callable[[], ExactModel], unit: str) -> str:
    try:
        model = make()
    except (UnsupportedModel, WrongMaterial):
        return "refused"
    return outcome(model, unit)


@pytest.mark.parametrize(("unit", "path"), CONSTANTS, ids=str)
def test_a_constant_is_refused_or_everybody_agrees(unit: str, path: str) -> None:
    base = small_model()
    outcomes = {}
    for value in CONSTANTS[unit, path]:
        changed = moved(base.specification.records[unit], path.split("."), value)
        specification = with_unit(base.specification, unit, changed)
        made = functools.partial(fitted, specification, tensors_of(base))
        outcomes[value] = tried(made, unit)
    assert set(outcomes.values()) == {"true", "refused"}, outcomes


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_refused_or_everybody_agrees(name: str) -> None:
    base = small_model()
    tensor, table = TABLES[name]
    unit = "attention[0]" if tensor == "table.exp" else "mlp[0]"
    tensors = tensors_of(base) | {tensor: table().astype(np.int64)}
    assert tried(lambda: fitted(base.specification, tensors), unit) == "true"


TOGETHER: dict[str, tuple[dict[str, int], dict[str, IntArray]]] = {
    "a long row of small sigma": (
        {"norm.epsilon": 2**60, "norm.gain": 2**36, "query.shift": 40, "key.shift": 40},
        {"attention[0].value.weight": np.zeros((6, 6), dtype=np.int64)},
    ),
    "a long table of coarse scores": (
        {"score_shift": 46},
        {"table.exp": np.arange(2**18, 0, -1)},
    ),
    "queries and keys that are large in turn": (
        {"norm.gain": 1, "query.shift": 0, "key.shift": 0, "value.shift": 0},
        {
            "attention[0].query.bias": np.array([2**38, 0, 0, 0, 0, 0]),
            "attention[0].key.bias": np.array([0, 2**38, 0, 0, 0, 0]),
        },
    ),
}
"""Numbers that float64 and numpy hold, and no window of a prover does."""


@pytest.mark.parametrize("name", TOGETHER)
def test_what_only_provers_cannot_hold_is_refused(name: str) -> None:
    base = small_model()
    numbers, tensors = TOGETHER[name]
    unit: Any = base.specification.records["attention[0]"]
    for path, value in numbers.items():
        unit = moved(unit, path.split("."), value)
    specification = with_unit(base.specification, "attention[0]", unit)
    with pytest.raises(UnsupportedModel, match="as provers confine it is"):
        fitted(specification, tensors_of(base) | tensors)


def test_an_idle_weight_is_no_matter_to_anybody() -> None:
    assert outcome(with_an_idle_weight(small_model()), "mlp[0]") == "true"

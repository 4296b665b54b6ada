"""The extremes of every type in every tensor: refused by form, refused by the bounds, or true.

True means that the bounds hold, and that numpy computes what Python's integers do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.backends.sumcheck.forging import small_model
from tests.exact import oracle
from tests.fitting import as_read, fitted, tensors_of, with_entry, with_unit
from tests.inner import linear as proven_linear
from zkllm.errors import UnsupportedModel, WrongMaterial
from zkllm.exact import reference
from zkllm.exact.check import prove_unit
from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.model import ExactModel
from zkllm.operations import bounds
from zkllm.operations.embed.exact import Embed, EmbedStep
from zkllm.tensors import IntArray, magnitude

WIDTHS = (8, 16, 32, 64)
EXTREMES = sorted(
    {
        *(sign * (1 << (bits - 1)) for bits in WIDTHS for sign in (-1, 1) if sign * bits < 64),
        *(sign * ((1 << (bits - 1)) - 1) for bits in WIDTHS for sign in (-1, 1)),
        *(sign * value for value in (2**52, 2**52 - 1, 2**53) for sign in (-1, 1)),
    }
)
"""The least integer of every type, the largest and its negative, and what lies around 2^52."""
LIMIT = 2**52


def units_by_tensor(model: ExactModel) -> dict[str, list[str]]:
    """Which units read which tensor."""
    found: dict[str, list[str]] = {name: [] for name in model.specification.tensors}
    for name, unit in model.specification.records.items():
        layers: list[Any] = {
            Embed: lambda u: [u.tokens, u.positions],
            Attention: lambda u: [*both(u.query, u.key, u.value, u.out), u.exp],
            Mlp: lambda u: [*both(u.expand, u.project), u.gelu],
            Head: lambda u: [u.weight, u.bias],
        }[type(unit)](unit)
        for tensor in layers:
            found[tensor].append(name)
    return found


def both(*layers: Any) -> list[str]:
    return [name for layer in layers for name in (layer.weight, layer.bias)]


def extreme_inputs(model: ExactModel, name: str) -> IntArray:
    """Rows at the bound of what unit `name` reads; ids of all tokens in turn for embed."""
    specification = model.specification
    a = specification.architecture
    if name == "embed":
        return np.arange(a.context) % a.vocabulary
    names = [n for n in specification.units() if n != "embed"]
    bound = specification.boundary_bounds()[names.index(name)]
    random = np.random.default_rng(7)
    rows = random.integers(-bound, bound + 1, (a.context, a.width))
    rows[0], rows[1], rows[2, 1:] = bound, 0, -bound
    rows[3] = np.where(np.arange(a.width) % 2, bound, -bound)
    return rows


def require_true(model: ExactModel, name: str) -> None:
    """Unit `name` gives what Python's integers give, within the bounds that were proven."""
    specification = model.specification
    x = extreme_inputs(model, name)
    expected = oracle.run_unit(
        specification, lambda tensor: model.tensor(tensor).tolist(), name, x.tolist()
    )
    unit = specification.records[name]
    for made in (model, as_read(model)):
        if isinstance(unit, Head):
            best = [row.index(max(row)) for row in expected]
            assert reference.logits(made, x).tolist() == expected
            assert reference.run_unit(made, name, x).tolist() == best
        else:
            assert reference.run_unit(made, name, x).tolist() == expected
    assert prove_unit(as_read(model), name) == unit
    bound = unit.logit if isinstance(unit, Head) else unit.output
    assert oracle.largest(expected) <= bound


def with_an_idle_weight(model: ExactModel) -> ExactModel:
    """One hidden value of the first MLP is always 0, and its weight the largest there is."""
    tensors, unit = tensors_of(model), model.specification.mlp[0]
    for name in (unit.expand.weight, unit.expand.bias):
        tensors[name] = tensors[name].copy()
        tensors[name][..., 3] = 0
    changed = replace(unit, expand=replace(unit.expand, shift=0))
    specification = with_unit(model.specification, "mlp[0]", changed)
    width = specification.architecture.width
    return fitted(specification, with_entry(tensors, unit.project.weight, 3 * width, LIMIT - 1))


@pytest.mark.parametrize("tensor", small_model().specification.tensors)
def test_every_extreme_in_every_tensor(tensor: str) -> None:
    model = small_model()
    tensors, specification = tensors_of(model), model.specification
    last = tensors[tensor].size - 1
    outcomes: Counter[str] = Counter()
    for value in EXTREMES:
        for place in {0, last // 2, last}:
            changed = with_entry(tensors, tensor, place, value)
            try:
                made = fitted(specification, changed)
            except WrongMaterial:
                outcomes["form"] += 1
                # tables have a form of their own
                assert abs(value) >= LIMIT or tensor.startswith("table."), (value, place)
                continue
            except UnsupportedModel:
                outcomes["bounds"] += 1
                assert abs(value) < LIMIT
                continue
            outcomes["true"] += 1
            for name in units_by_tensor(model)[tensor]:
                require_true(made, name)
    assert outcomes["form"]
    assert outcomes["true"]
    if not tensor.startswith("table."):
        assert outcomes["bounds"]


def test_a_weight_that_never_counts_may_be_large() -> None:
    """What it is multiplied with is always zero: bounds hold, and everybody computes it."""
    made = with_an_idle_weight(small_model())
    assert magnitude(made.tensor(made.specification.mlp[0].project.weight)) == LIMIT - 1
    require_true(made, "mlp[0]")


# What is proven of sums

INTEGERS = (
    st.integers(-9, 9)
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from(EXTREMES)
    | st.sampled_from([sign * 2**k for k in range(64) for sign in (-1, 1) if sign * 2**k < 2**63])
)
"""Any integers of 64 bits, small ones, extremes, and powers of two whose squares wrap to zero."""


@st.composite
def matrices(draw: st.DrawFn) -> list[list[int]]:
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    row = st.lists(INTEGERS, min_size=m, max_size=m)
    return draw(st.lists(row, min_size=n, max_size=n))


def narrowest_type(array: IntArray) -> str:
    """The narrowest type that holds `array`, its least integer as well."""
    limits = {f"int{bits}": np.iinfo(f"int{bits}") for bits in WIDTHS}
    return next(d for d, i in limits.items() if i.min <= array.min() <= array.max() <= i.max)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32])
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_sums_of_the_ends_of_every_type(
    kind: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_ROOM", 8)
    limits = np.iinfo(kind)
    weight = [[int(limits.min), int(limits.max), -1] for _ in range(rows)]
    array, entries = np.array(weight, dtype=kind), list(range(rows))
    assert magnitude(array) == oracle.largest(weight)
    assert bounds.square_sums(array) == oracle.square_sums(weight)
    assert bounds.absolute_sums(array, entries) == oracle.absolute_sums(weight, entries)


@given(matrices(), st.data())
@example([[-(2**63)]], None)
@example([[2**32, 1], [1, 2**31]], None)
@example([[2**62], [2**62]], None)
def test_sums_are_those_of_python(weight: list[list[int]], data: st.DataObject | None) -> None:
    array = np.array(weight, dtype=np.int64)
    entries = [1] * len(weight)
    if data is not None:
        entry = st.integers(0, 2**52) | st.sampled_from([0, 1, 2**40])
        entries = data.draw(st.lists(entry, min_size=len(weight), max_size=len(weight)))
    for made in (array, array.astype(narrowest_type(array))):
        assert magnitude(made) == oracle.largest(weight)
        assert bounds.square_sums(made) == oracle.square_sums(weight)
        assert bounds.absolute_sums(made, entries) == oracle.absolute_sums(weight, entries)


@given(matrices(), st.integers(0, 61), st.data())
def test_linear_bounds_are_those_of_python(
    weight: list[list[int]], shift: int, data: st.DataObject
) -> None:
    n, m = len(weight), len(weight[0])
    bias = data.draw(st.lists(INTEGERS, min_size=m, max_size=m))
    entries = data.draw(st.lists(st.integers(0, 2**30), min_size=n, max_size=n))
    norm = data.draw(st.integers(0, 2**31))
    accumulator, outputs, length = oracle.linear_bounds(weight, bias, shift, entries, norm)

    def proven() -> tuple[Any, bounds.Vector]:
        x = bounds.vector(entries, norm)
        w, b = np.array(weight, dtype=np.int64), np.array(bias, dtype=np.int64)
        return proven_linear("unit", "layer", x, w, b, shift)

    if accumulator >= LIMIT:
        with pytest.raises(UnsupportedModel, match=f"accumulator is {accumulator} "):
            proven()
        return
    layer, output = proven()
    assert (layer.accumulator, layer.output) == (accumulator, max(outputs))
    assert (output.entries, output.norm) == (outputs, length)


@given(matrices(), matrices())
@example([[-(2**63)]], [[0]])
def test_the_bound_of_the_embedding_is_that_of_python(
    tokens: list[list[int]], positions: list[list[int]]
) -> None:
    both = oracle.largest(tokens) + oracle.largest(positions)
    arrays = {"t": np.array(tokens, dtype=np.int64), "p": np.array(positions, dtype=np.int64)}
    step = EmbedStep("embed", ("ids",), "rows", Embed("t", "p", 0), 1, 1, 1)
    if both >= LIMIT:
        with pytest.raises(UnsupportedModel, match=f"embedding is {both} "):
            step.prove("embed", [], arrays.__getitem__)
    else:
        assert step.prove("embed", [], arrays.__getitem__)[0].numbers.output == both

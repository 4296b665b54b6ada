"""A search that tries to break the proven bounds, and refusals that name what they refuse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.inner import attention_values, norm, normalise
from tests.inner import linear as proven_linear
from zkllm.checkpoints import Checkpoint
from zkllm.errors import UnsupportedModel
from zkllm.exact import reference
from zkllm.exact.format1 import Attention, Mlp
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.integers import FLOAT64_LIMIT, VARIANCE_LIMIT, require
from zkllm.operations import bounds
from zkllm.operations.activation.exact import gelu
from zkllm.operations.attention.exact import attention, join_heads
from zkllm.operations.linear.exact import Linear, linear
from zkllm.operations.norm.exact import Norm
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import IntArray, magnitude

Floats = npt.NDArray[np.float64]
Value = tuple[str, int, int]
"""A name, the largest magnitude that was met, and its bound."""


# Everything a unit computes, beside its bound


def linear_values(
    model: ExactModel, name: str, layer: Linear, x: IntArray
) -> tuple[list[Value], IntArray]:
    weight, bias = model.tensor(layer.weight), model.tensor(layer.bias)
    terms = np.abs(x) @ np.abs(weight) + np.abs(bias) + ((1 << layer.shift) >> 1)
    y = linear(x, weight, bias, shift=layer.shift)
    return [
        (f"{name}.accumulator", magnitude(terms), layer.accumulator),
        (f"{name}.output", magnitude(y), layer.output),
    ], y


def norm_values(x: IntArray, n: Norm) -> tuple[list[Value], IntArray]:
    got = normalise(x, n)
    squares = max(int((row * row).sum()) for row in got.output)
    sums = magnitude(x.shape[1] * x) + magnitude(np.abs(x).sum(axis=1))
    return [
        ("norm.difference", sums, FLOAT64_LIMIT - 1),
        ("norm.centred", magnitude(got.centred), n.centred),
        ("norm.product", magnitude(got.centred * n.gain) + magnitude(got.sigma), FLOAT64_LIMIT - 1),
        ("norm.variance", magnitude(got.variance), n.variance),
        ("norm.output", magnitude(got.output), n.output),
        ("norm.length", bounds.ceil_sqrt(squares), n.output),
    ], got.output


def attention_bounds(model: ExactModel, name: str, x: IntArray) -> list[Value]:
    unit, got = model.specification.units()[name], attention_values(model, name, x)
    assert isinstance(unit, Attention)
    values, normalised = norm_values(x, unit.norm)
    for layer in ("query", "key", "value"):
        values += linear_values(model, layer, getattr(unit, layer), normalised)[0]
    half = (1 << unit.score_shift) >> 1
    products = np.abs(got.query) @ np.abs(got.key).swapaxes(1, 2) + half
    inner = got.attended
    mixed = inner.exponential @ np.abs(got.value) + inner.total[..., None]
    joined = join_heads(inner.output)
    return [
        *values,
        ("product", magnitude(products), unit.product),
        ("score", magnitude(inner.score), unit.score),
        ("total", magnitude(inner.total), unit.total),
        ("mixed", magnitude(mixed), unit.mixed),
        ("attended", magnitude(inner.output), unit.value.output + 1),
        *linear_values(model, "out", unit.out, joined)[0],
        ("output", magnitude(got.output), unit.output),
    ]


def mlp_bounds(model: ExactModel, name: str, x: IntArray) -> list[Value]:
    unit = model.specification.units()[name]
    assert isinstance(unit, Mlp)
    values, normalised = norm_values(x, unit.norm)
    expanded, hidden = linear_values(model, "expand", unit.expand, normalised)
    activated = gelu(hidden, model.tensor(unit.gelu))
    return [
        *values,
        *expanded,
        ("gelu", magnitude(activated), unit.expand.output),
        *linear_values(model, "project", unit.project, activated)[0],
        ("output", magnitude(reference.run_unit(model, name, x)), unit.output),
    ]


# Rows that are made to break bounds


def rows_along(directions: Floats, bound: int) -> IntArray:
    """Rows of the residual stream along `directions` [n, d], as long as `bound` allows.

    For each direction: itself, its signs alone, and both again turned round.
    """
    scale = np.abs(directions).max(axis=1, keepdims=True)
    scaled = directions / np.where(scale > 0, scale, 1)
    both = np.concatenate([scaled, np.sign(scaled)])
    return np.rint(np.concatenate([both, -both]) * bound).astype(np.int64)


def plain_rows(width: int, bound: int) -> IntArray:
    """Rows that need no weights: outlier channels, constants, noise."""
    random = np.random.default_rng(5)
    noise = random.integers(-bound, bound + 1, (24, width))
    quiet = random.integers(-(bound // 100) - 1, bound // 100 + 2, (24, width))
    quiet[:, [3, 17]] = random.choice([-bound, bound], (24, 2))  # a hundred times the others
    return np.concatenate(
        [
            bound * np.eye(width, dtype=np.int64),
            bound * (1 - 2 * np.eye(width, dtype=np.int64)),
            np.zeros((1, width), dtype=np.int64),
            np.full((1, width), bound),
            noise,
            quiet,
        ]
    )


def attention_rows(model: ExactModel, unit: Attention, bound: int) -> IntArray:
    """Aligned with columns of W_q, W_k, W_v, and with what they make together."""
    heads = model.specification.architecture.heads
    q, k, v, out = (
        model.tensor(layer.weight).astype(np.float64)
        for layer in (unit.query, unit.key, unit.value, unit.out)
    )
    width = len(q) // heads
    directions = [q.T, k.T, v.T, (v @ out).T]
    for start in range(0, len(q), width):
        part = slice(start, start + width)
        left, _, right = np.linalg.svd(q[:, part] @ k[:, part].T)
        directions += [left.T[:4], right[:4], np.linalg.svd(v[:, part])[0].T[:2]]
    return np.concatenate(
        [rows_along(np.concatenate(directions), bound), plain_rows(len(q), bound)]
    )


def mlp_rows(model: ExactModel, unit: Mlp, bound: int) -> IntArray:
    """Aligned with columns of W_fc, then climbing to the largest outputs of the whole unit."""
    expand = model.tensor(unit.expand.weight).astype(np.float64)
    project = model.tensor(unit.project.weight).astype(np.float64)
    climbing = np.concatenate([project.T, -project.T]) @ expand.T  # one row for each output
    goals = np.concatenate([project.T, -project.T])
    for _ in range(8):
        active = climbing @ expand > 0
        climbing = (active * goals) @ expand.T
        climbing /= np.linalg.norm(climbing, axis=1, keepdims=True)
    return np.concatenate(
        [rows_along(np.concatenate([expand.T, climbing]), bound), plain_rows(len(expand), bound)]
    )


def sequences(rows: IntArray, length: int) -> Iterator[IntArray]:
    """All `rows` in runs of `length`, in order and shuffled."""
    for order in (np.arange(len(rows)), np.random.default_rng(6).permutation(len(rows))):
        for start in range(0, len(rows), length):
            yield rows[order[start : start + length]]


@pytest.fixture(scope="module", params=["wide", "ezkl"])
def model(request: pytest.FixtureRequest, tiny_checkpoint: Checkpoint) -> ExactModel:
    return ExactModel.in_memory(*build(tiny_checkpoint, PRECISIONS[request.param]))


def worst(runs: Iterator[list[Value]]) -> dict[str, float]:
    """The largest fraction of its bound that each value came to; fails beyond 1."""
    fractions: dict[str, float] = {}
    for values in runs:
        for name, met, bound in values:
            assert met <= bound, f"{name} reaches {met}, its proven bound is {bound}"
            fractions[name] = max(fractions.get(name, 0), met / bound)
    return fractions


@pytest.mark.parametrize("index", [0, 1])
def test_no_input_breaks_the_bounds_of_attention(model: ExactModel, index: int) -> None:
    specification = model.specification
    unit = specification.attention[index]
    bound = specification.boundary_bounds()[2 * index]
    rows = attention_rows(model, unit, bound)
    context = specification.architecture.context
    name = f"attention[{index}]"
    fractions = worst(attention_bounds(model, name, x) for x in sequences(rows, context))
    # The search has teeth: it comes close where the bound is a single Cauchy-Schwarz.
    for value in ("norm.length", "query.output", "key.output", "value.output", "attended"):
        assert fractions[value] > 0.9, value
    assert fractions["out.output"] > 0.2
    assert fractions["score"] > 0.08


@pytest.mark.parametrize("index", [0, 1])
def test_no_input_breaks_the_bounds_of_mlp(model: ExactModel, index: int) -> None:
    specification = model.specification
    unit = specification.mlp[index]
    rows = mlp_rows(model, unit, specification.boundary_bounds()[2 * index + 1])
    fractions = worst(iter([mlp_bounds(model, f"mlp[{index}]", rows)]))
    assert fractions["expand.output"] > 0.9
    assert fractions["project.output"] > 0.04


def test_no_input_breaks_the_bounds_of_embedding_and_head(model: ExactModel) -> None:
    specification = model.specification
    assert specification.embed is not None
    assert specification.head is not None
    vocabulary = specification.architecture.vocabulary
    for token in range(vocabulary):
        ids = np.full(specification.architecture.context, token)
        x = reference.run_unit(model, "embed", ids)
        assert magnitude(x) <= specification.embed.output == specification.input
    unit = specification.head
    weight, bias = model.tensor(unit.weight), model.tensor(unit.bias)
    bound = specification.boundary_bounds()[-1]
    along = rows_along(weight.T.astype(np.float64), bound)
    rows = np.concatenate([along, plain_rows(len(weight), bound)])
    values, normalised = norm_values(rows, unit.norm)
    terms = magnitude(np.abs(normalised) @ np.abs(weight) + np.abs(bias))
    fractions = worst(iter([[*values, ("logit", terms, unit.logit)]]))
    assert fractions["logit"] > 0.9


def test_prompts_stay_inside_the_bounds(model: ExactModel, demo_model: ExactModel) -> None:
    random = np.random.default_rng(1)
    for some in (model, demo_model):
        specification = some.specification
        architecture = specification.architecture
        for _ in range(5):
            ids = random.integers(0, architecture.vocabulary, architecture.context)
            boundaries = reference.forward(some, ids)
            for x, bound in zip(boundaries, specification.boundary_bounds(), strict=True):
                assert magnitude(x) <= bound
            inner = zip(boundaries, list(specification.units())[1:-1], strict=False)
            worst(
                (mlp_bounds if name.startswith("mlp") else attention_bounds)(some, name, x)
                for x, name in inner
            )


def test_heads_may_attend_to_different_rows() -> None:
    """‖o‖₂ is not bounded by any one row of values, only by their columns: see `quantise`."""
    large, peak = 1000, 1 << 20
    v = np.array([[[large], [0]], [[0], [large]]])  # head 0 is large in row 0, head 1 in row 1
    q, k = np.array([[[1], [1]]] * 2), np.array([[[peak], [0]], [[0], [peak]]])
    o = attention(q, k, v, shift=0, table=np.array([1 << 10, 0])).output
    assert (o[:, 1] == large).all()
    longest_row = max(int((row * row).sum()) for row in join_heads(v))
    assert int((o[:, 1] ** 2).sum()) == 2 * longest_row


# LayerNorm

NORMS = st.tuples(
    st.integers(1, 12),  # d
    st.integers(1, 1 << 45) | st.integers(1, 50),  # bound
    st.integers(0, 12),  # fraction
    st.fractions(0, 1).filter(bool) | st.just(Fraction(1, 100_000)),
)


@given(NORMS, st.data())
@example((4, 1 << 40, 10, Fraction(1, 10**5)), None)
def test_norm(case: tuple[int, int, int, Fraction], data: Any) -> None:
    d, bound, fraction, epsilon = case
    n = norm(
        "unit", bound, d=d, fraction=fraction, epsilon=(epsilon.numerator, epsilon.denominator)
    )
    # K = round(√d·2^g)
    assert (2 * n.gain - 1) ** 2 <= 4 * d * 4**fraction <= (2 * n.gain + 1) ** 2
    # E = max(1, round(d·ε/4^t)), and t the least that proves V < 2^61
    for shift in (n.shift, n.shift - 1) if n.shift else (n.shift,):
        constant = max(1, math.floor(d * epsilon / 4**shift + Fraction(1, 2)))
        largest = d * (math.ceil(Fraction(bound, 2**shift)) + Fraction(1, 2)) ** 2 + constant
        assert (largest < VARIANCE_LIMIT) == (shift == n.shift)
        assert shift != n.shift or n.variance == math.ceil(largest)
    assert n.epsilon == max(1, math.floor(d * epsilon / 4**n.shift + Fraction(1, 2)))
    if data is None:
        row = [bound, bound, -bound, -bound]  # Σ(x - μ)² = d·B², the most there is
    else:
        entry = st.sampled_from([-bound, bound]) | st.integers(-bound, bound)
        row = data.draw(st.lists(entry, min_size=d, max_size=d))
    for name, met, limit in norm_values(np.array([row]), n)[0]:
        assert met <= limit, name


def test_the_variance_bound_is_nearly_reached() -> None:
    n = norm("unit", 1 << 20, d=4, fraction=10, epsilon=(1, 10**5))
    x = np.array([[1, 1, -1, -1]]) << 20
    assert n.shift == 0
    assert int(normalise(x, n).variance[0]) > 0.99 * n.variance


@pytest.mark.parametrize(
    ("bound", "fraction", "message"),
    [
        (1 << 50, 10, r"^mlp\[3\]: the proven bound of d·x - Σx is 90071992\d{8} \(2\^53\), the "),
        (1 << 46, 24, r"^mlp\[3\]: the proven bound of c·K is \d+ \(2\^\d+\), the limit is 2\^52"),
    ],
)
def test_a_norm_beyond_the_exact_range_is_refused(bound: int, fraction: int, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message) as caught:
        norm("mlp[3]", bound, d=4, fraction=fraction, epsilon=(1, 10**5))
    assert "fraction bits" in caught.value.hint


# Linear layers


@given(
    weight=st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2), min_size=2, max_size=2),
    bias=st.lists(st.integers(-30, 30), min_size=2, max_size=2),
    shift=st.integers(0, 3),
    entries=st.lists(st.integers(0, 5), min_size=2, max_size=2),
    length=st.integers(0, 8),
)
def test_linear_bounds_every_row_there_is(
    weight: list[list[int]], bias: list[int], shift: int, entries: list[int], length: int
) -> None:
    w, b = np.array(weight), np.array(bias)
    layer, output = proven_linear("unit", "layer", bounds.vector(entries, length), w, b, shift)
    half = (1 << shift) >> 1
    for row in itertools.product(*(range(-n, n + 1) for n in entries)):
        if sum(n * n for n in row) > length * length:
            continue
        x = np.array([row])
        assert magnitude(np.abs(x) @ np.abs(w) + np.abs(b) + half) <= layer.accumulator
        y = linear(x, w, b, shift=shift)[0]
        assert all(abs(int(n)) <= limit for n, limit in zip(y, output.entries, strict=True))
        assert magnitude(y) <= layer.output == max(output.entries)
        assert int((y * y).sum()) <= output.norm**2
    assert (layer.weight, layer.bias, layer.shift) == ("w", "b", shift)


def test_linear_bounds_are_not_loose() -> None:
    """Cauchy-Schwarz where the norm is short, absolute values where the entries are."""
    w, b = np.array([[3], [4]]), np.array([7])
    short, _ = proven_linear("u", "l", bounds.vector([100, 100], 10), w, b, 0)
    small, _ = proven_linear("u", "l", bounds.vector([1, 2], 100), w, b, 0)
    assert (short.accumulator, small.accumulator) == (5 * 10 + 7, 3 + 8 + 7)
    rounded, _ = proven_linear("u", "l", bounds.vector([100, 100], 10), w, b, 3)
    assert (rounded.accumulator, rounded.output) == (50 + 7 + 4, 61 // 8 + 1)


def test_rounding_counts_in_the_length_of_a_row() -> None:
    """Sixty-four halves are rounded up to a row of length 8, twice as long as before."""
    w, b = np.ones((1, 64), dtype=np.int64), np.zeros(64, dtype=np.int64)
    _, output = proven_linear("u", "l", bounds.vector([1], 1), w, b, 1)
    y = linear(np.array([[1]]), w, b, shift=1)
    assert int((y * y).sum()) == 64
    assert output.norm == 8


def test_sums_beyond_int64_are_exact() -> None:
    weight = np.array([[2**40, 1], [2**40, 1]])
    assert bounds.square_sums(weight) == [2**81, 2]
    assert bounds.square_sums(weight >> 8) == [2**65, 0]  # int64 would wrap around to zero
    assert bounds.square_sums(weight >> 20) == [2**41, 0]
    entries = [2**40, 2**39]
    assert bounds.absolute_sums(-weight, entries) == [2**80 + 2**79, 2**40 + 2**39]
    assert bounds.absolute_sums(weight >> 20, [3, 1]) == [2**22, 0]


@given(st.integers(0, 10**40))
@example(0)
@example(2**104)
@example(2**104 + 1)
def test_ceil_sqrt(n: int) -> None:
    root = bounds.ceil_sqrt(n)
    assert (root - 1) ** 2 < n <= root * root or n == root == 0


def test_an_accumulator_beyond_float64_is_refused() -> None:
    x = bounds.vector([1 << 30], 1 << 30)
    weight = np.array([[1 << 22]])
    with pytest.raises(
        UnsupportedModel,
        match=r"^mlp\[1\]: the proven bound of project's accumulator is "
        r"4503599627370497 \(2\^52\), the limit is 2\^52",
    ):
        proven_linear("mlp[1]", "project", x, weight, np.array([1]), 0)
    below = proven_linear("mlp[1]", "project", x, weight - 1, np.array([1]), 0)
    assert below[0].accumulator < FLOAT64_LIMIT


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"^head: the weights of logits .* for 2 more"):
        proven_linear(
            "head",
            "logits",
            bounds.vector([1], 1),
            np.eye(1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            -2,
        )


def test_require_names_all_it_knows() -> None:
    assert require(15, 16, "head", "x") == 15
    message = r"^head: the proven bound of x is 17 \(2\^4\), the limit is 2\^4$"
    with pytest.raises(UnsupportedModel, match=message):
        require(17, 16, "head", "x")
    with pytest.raises(UnsupportedModel):
        require(16, 16, "head", "x")

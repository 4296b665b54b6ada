"""A search that tries to break the proven bounds of whole models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from tests.inner import Value, attention_values, join_heads, norm_values
from zkllm.checkpoints import Checkpoint
from zkllm.exact import reference
from zkllm.exact.format1 import Attention, Mlp
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.operations.activation.exact import gelu
from zkllm.operations.linear.exact import Linear, linear
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import IntArray, magnitude

Floats = npt.NDArray[np.float64]


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


def attention_bounds(model: ExactModel, name: str, x: IntArray) -> list[Value]:
    unit, got = model.specification.records[name], attention_values(model, name, x)
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
    unit = model.specification.records[name]
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

"""LayerNorm on ONNX Runtime, and its pieces near their limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tests.graphs import LEVELS, open_session, unit_session
from tests.inner import norm
from zkllm.engines.onnx.builder import Builder
from zkllm.engines.onnx.files import check_allowed
from zkllm.operations.norm.exact import Norm, NormStep, layer_norm
from zkllm.operations.norm.onnx import sigma, variance
from zkllm.operations.unit import Rows, Unit
from zkllm.tensors import IntArray


def integer(values: Any) -> IntArray:
    return np.array(values, dtype=np.int64)


def sigma_model() -> Any:
    """σ [T, 1] of V [T, 1], both int64."""
    builder = Builder("sigma", {})
    x = builder.input("x", ["T", 1])
    model = builder.finish(sigma(builder, x, "norm"), "output", ["T", 1])
    check_allowed(model)
    return model


@pytest.fixture(scope="module")
def sigma_sessions() -> list[Any]:
    return [open_session(sigma_model(), level) for level in LEVELS]


@given(
    st.one_of(
        st.integers(1, 2**61 - 1),
        st.integers(1, 1518500249).flatmap(
            lambda q: st.sampled_from([q * q - 1 or 1, q * q, q * q + 1])
        ),
    )
)
@example(1)
@example(2**61 - 1)
@example(1518500249**2 - 1)  # float64 rounds it up to the square: the guess is one too many
@example(1518500248**2)
@settings(deadline=None)
def test_sigma(sigma_sessions: list[Any], variance: int) -> None:
    for session in sigma_sessions:
        (got,) = session.run(None, {"x": integer([[variance]])})
        assert got.tolist() == [[math.isqrt(variance) + 1]]


def test_sigma_where_the_guess_is_wrong(sigma_sessions: list[Any]) -> None:
    """Squares less one above 2^53, all rounded up to the square by the conversion to float64."""
    roots = np.arange(1518500249 - 2000, 1518500249, dtype=np.int64)[:, None]
    guesses = np.floor(np.sqrt((roots * roots - 1).astype(np.float64))).astype(np.int64)
    assert (guesses == roots).any()
    for session in sigma_sessions:
        assert np.array_equal(session.run(None, {"x": roots * roots - 1})[0], roots)
        assert np.array_equal(session.run(None, {"x": roots * roots})[0], roots + 1)


def test_sigma_mends_a_guess_that_is_too_low() -> None:
    """A square root that rounds down is not to be had on this machine: make one.

    The factor must differ from 1 in float32 too: ONNX Runtime drops multiplications by less.
    """
    model = sigma_model()
    for node in model.graph.node:
        if node.op_type == "Sqrt":  # √V, less a little
            node.op_type = "Floor"
            node.input[0] = "low"
    low = helper.make_node("Sqrt", ["norm/root/real"], ["root"])
    less = helper.make_node("Mul", ["root", "factor"], ["low"])
    at = next(i for i, node in enumerate(model.graph.node) if "low" in node.input)
    model.graph.node.insert(at, less)
    model.graph.node.insert(at, low)
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 - 2.0**-20), "factor"))
    values = integer([[9], [10**6], [1001**2]])
    assert open_session(model).run(None, {"x": values})[0].tolist() == [[4], [1001], [1002]]


def extreme_rows(width: int, bound: int, seed: int = 0) -> IntArray:
    """Rows that reach what bounds allow: constants, spikes, signs, halves, small and random."""
    random = np.random.default_rng(seed)
    spike = np.zeros((4, width), dtype=np.int64)
    spike[0, 0], spike[1, -1], spike[2, width // 2] = bound, -bound, 1
    signs = np.where(np.arange(width) % 2, bound, -bound)[None]
    half = np.where(np.arange(width) < width // 2, bound, -bound)[None]
    return np.concatenate(
        [
            np.full((1, width), bound),
            np.full((1, width), -bound),
            spike,
            signs,
            half,
            bound - spike,
            random.integers(-2, 3, (3, width)),
            random.integers(-bound, bound + 1, (8, width)),
            random.choice(integer([-bound, bound, 0]), (8, width)),
        ]
    ).astype(np.int64)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize(
    ("width", "bound", "epsilon"),
    [(32, 20000, (1, 3)), (64, 2**27, (167, 1)), (96, 2**33, (167, 1)), (768, 2**40, (1, 1))],
)
def test_norm_equals_the_reference(
    width: int, bound: int, epsilon: tuple[int, int], level: Any
) -> None:
    n = norm("test", bound, d=width, fraction=10, epsilon=epsilon)
    assert (n.shift > 0) == (bound > 2**27)
    step = NormStep("norm", ("x",), "normal", n, width)
    boundaries = Rows(width, bound), Rows(width, n.output)
    unit = Unit("test", *boundaries, (step,), writes="normal", residual=False)
    # sums of every residue modulo d, ties of the first division among them
    residues = np.zeros((width, width), dtype=np.int64)
    residues[:, 3] = np.arange(width)
    rows = np.concatenate([extreme_rows(width, bound), residues])
    expected = layer_norm(rows, shift=n.shift, epsilon=n.epsilon, gain=n.gain)
    if n.shift:
        assert int(expected.variance.max()).bit_length() >= 59
    (got,) = unit_session(unit, {}, level).run(None, {"x": rows})
    assert np.array_equal(got, expected.output)


@pytest.mark.parametrize("width", [16, 128])
def test_variance_near_its_limit(width: int) -> None:
    """V to the last bit, on centred rows of any sign, up to just below 2^61."""
    largest = math.isqrt((2**61 - 2) // width)
    n = Norm(shift=0, epsilon=1, gain=1, centred=largest, variance=2**61 - 1, output=1)
    builder = Builder("variance", {})
    x = builder.real_input("x", ["T", width])
    model = builder.finish(variance(builder, x, n, width, "norm"), "V", ["T", 1])
    check_allowed(model)
    rows = extreme_rows(width, largest)
    expected = [sum(int(c) ** 2 for c in row) + 1 for row in rows]
    assert max(expected) > 2**61 - 2**35
    for level in LEVELS:
        (got,) = open_session(model, level).run(None, {"x": rows})
        assert got[:, 0].tolist() == expected

"""Folding: the same function of the floats, rounded once."""

from __future__ import annotations

import numpy as np

from zkllm.architectures.folding import fold_norm


def test_folding_moves_the_affine_part() -> None:
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(5, 3)), random.normal(size=3)
    gamma, beta, x = random.normal(size=(3, 5))
    folded, moved = fold_norm(weight, bias, gamma, beta)
    np.testing.assert_allclose(x @ folded + moved, (gamma * x + beta) @ weight + bias, rtol=1e-12)


def test_folding_rounds_a_sum_once() -> None:
    """A BLAS that adds in its own order would lose the small terms between the large ones."""
    weight = np.array([[1e16], [1.0], [-1e16], [1.0]])
    _, moved = fold_norm(weight, np.array([0.5]), np.ones(4), np.ones(4))
    assert moved.tolist() == [2.5]

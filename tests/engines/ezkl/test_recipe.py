"""The window of a recipe, and the table that it looks up."""

from __future__ import annotations

import pytest

from zkllm.engines.ezkl import recipe
from zkllm.engines.ezkl.exp import recipe_table
from zkllm.engines.ezkl.recipe import Window
from zkllm.errors import BackendError
from zkllm.tensors import magnitude_type, tensor_digest

WINDOW = Window(6, 4)


def test_window_fills_its_table() -> None:
    window = recipe.load("attention").window
    assert (window.low, window.high, window.size) == (-16135, 240, 16376)
    assert window.low == window.high - (2**14 - 9)
    assert window.low in window
    assert window.low - 1 not in window
    assert window.high + 1 not in window


@pytest.mark.parametrize("logrows", [6, 9, 14])
@pytest.mark.parametrize("high", [0, 10, 240])
def test_step_gives_exactly_the_remainders(logrows: int, high: int) -> None:
    window = Window(logrows, high)
    for divisor in range(1, 300):
        step = window.step(divisor)
        if step:
            held = [n for n in range(window.low, high + 1) if n % step == 0]
            assert len(held) == divisor
            assert held[0] == step * window.first_multiple(step)


def test_one_lookup_serves_the_shifts_of_the_recipe() -> None:
    window = recipe.load("attention").window
    assert [s for s in range(20) if window.step(1 << s)] == list(range(1, 11))


def test_limbs() -> None:
    size = WINDOW.size
    expected = {0: 1, size - 1: 1, size: 2, size**2 - 1: 2, size**2: 3}
    assert {limit: WINDOW.limbs(limit) for limit in expected} == expected


def test_exp_digest_of_the_recipe() -> None:
    chosen = recipe.load("attention")
    table = recipe_table(chosen)
    assert tensor_digest(table, magnitude_type(table)) == chosen.exp_digest


def test_unknown_recipe() -> None:
    with pytest.raises(BackendError, match=r"expected a recipe mlp\.toml, found none"):
        recipe.load("mlp")

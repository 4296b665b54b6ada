"""A head through ezkl: constraints by `mock`, equations by their demanded sides."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.head import HeadShape, head
from tests.engines.ezkl.circuits import Compiled, Override, bump, forge, small_recipe
from zkllm.engines.ezkl import readings
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import Lookup, recipe_lookup, recipe_table
from zkllm.engines.ezkl.expressions import FIELD
from zkllm.operations.attention.exact import attention
from zkllm.tensors import IntArray

Public = dict[str, IntArray]


@pytest.fixture(scope="module")
def small() -> tuple[Circuit, Public, Lookup]:
    """A head of 4 positions and 4 dimensions."""
    chosen = small_recipe()
    random = np.random.default_rng(3)
    query, key, value = (random.integers(-60, 61, (4, 1, 4)) for _ in range(3))
    heads = [tensor.transpose(1, 0, 2) for tensor in (query, key, value)]
    output = attention(*heads, shift=4, table=recipe_table(chosen)).output.transpose(1, 0, 2)
    shape = HeadShape(tokens=4, width=4, shift=4, bound=60, score=1100)
    built = head(shape, chosen, output)
    return built, {"q": query, "k": key, "v": value}, recipe_lookup(chosen)


@pytest.fixture(scope="module")
def compiled_head(
    small: tuple[Circuit, Public, Lookup], tmp_path_factory: pytest.TempPathFactory
) -> Compiled:
    return Compiled.of(small[0], small_recipe(), tmp_path_factory.mktemp("head"))


def test_head_equals_the_reference(
    small: tuple[Circuit, Public, Lookup], compiled_head: Compiled
) -> None:
    built, public, exp = small
    flat = readings.flat_inputs(built, readings.honest(built, public, exp))
    assert compiled_head.outputs(flat) == readings.demanded(built, public)
    assert compiled_head.accepts(flat)


@pytest.mark.parametrize(
    ("hint", "override"),
    [
        ("maximum.0", bump((3, 0), 1)),
        ("maximum.0", bump((3, 0), -1)),
        ("argument", bump((4, 0), -1)),
        ("mixed.half.0", bump((2, 0, 0), 1)),
        ("mixed.0", bump((3, 0, 1), 1)),
        ("mixed.0", bump((3, 0, 1), -1)),
        ("beyond.0", bump((4, 0), 1)),
        ("mixed.0", lambda honest, _: honest * pow(3, -1, FIELD) % FIELD),
    ],
)
def test_ezkl_refuses_dishonest_hints(
    small: tuple[Circuit, Public, Lookup],
    compiled_head: Compiled,
    hint: str,
    override: Override,
) -> None:
    """Either a constraint fails, or an output is not what the verifier demands."""
    built, public, exp = small
    values = forge(built, public, exp, {hint: override})
    flat = readings.flat_inputs(built, values)
    violated = set(readings.violations(built, values))
    assert violated
    refused = not compiled_head.accepts(flat)
    assert refused or compiled_head.outputs(flat) != readings.demanded(built, public)
    # mock sees ranges, the verifier equations: each of them by the right one
    assert refused == bool(violated & {check.name for check in built.ranges})

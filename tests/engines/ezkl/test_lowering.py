"""ezkl's own reading of circuits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engines.ezkl.circuits import Compiled, forge, small_recipe
from zkllm.engines.ezkl import readings
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import recipe_lookup
from zkllm.engines.ezkl.expressions import FIELD, integers
from zkllm.errors import BackendError
from zkllm.tensors import IntArray


def test_the_window_is_enforced_at_both_ends(tmp_path_factory: pytest.TempPathFactory) -> None:
    """This is what all rests on; an ezkl that places its tables in another way must fail here."""
    chosen = small_recipe()
    window = chosen.window
    circuit = Circuit(window, 256)
    circuit.public_input("x", (1,), 10)
    argument = circuit.hint("argument", (2,), lambda _: integers([0, 0]))
    circuit.demand("e", circuit.exp(argument), 256)
    compiled = Compiled.of(circuit, chosen, tmp_path_factory.mktemp("window"))
    for value, inside in (
        (window.low, True),
        (window.high, True),
        (window.low - 1, False),
        (window.high + 1, False),
        (pow(2, -1, FIELD), False),
    ):
        assert compiled.accepts([0, 0, value]) == inside, value


def test_every_operation_is_lowered(tmp_path_factory: pytest.TempPathFactory) -> None:
    """ezkl computes what `evaluate` says, for each operation and on labels of both kinds."""
    chosen = small_recipe()
    circuit = Circuit(chosen.window, 256)
    x = circuit.public_input("x", (2, 3), 1000)
    hint = circuit.hint("h", (2, 3), lambda v: -(abs(v[x]) % 7))
    exponential = circuit.exp(hint)
    circuit.demand("affine", (x * 5 + hint - 77) * hint - x)
    circuit.demand("mixed labels", exponential * x + hint - 9)
    circuit.demand("labels meet", exponential + 3 - hint)
    circuit.demand("moved", circuit.concat([x.gather([1, 0, 1]), exponential]).reshape(3, 5))
    circuit.demand("dot", circuit.einsum("ab,cb->ac", exponential, x))
    weights = circuit.constant(integers([[1, -2], [3, 4], [-5, 6]]))
    circuit.demand("matmul", circuit.einsum("ab,bc->ac", x, weights))
    circuit.demand("folds", exponential.sum() + hint.sum() * 1 + x.product())
    y = circuit.public_input("y", (8,), 1000)
    for _ in range(6):  # equal constants must not be merged
        circuit.demand("again", y * 5 + (-77))
    circuit.in_window("range", hint * 2)
    public = {"x": np.array([[4, -5, 6], [-7, 8, 12]]), "y": np.arange(8)}
    values = forge(circuit, public, recipe_lookup(chosen), {})
    compiled = Compiled.of(circuit, chosen, tmp_path_factory.mktemp("operations"))
    assert compiled.settings["required_range_checks"] == []
    assert compiled.settings["einsum_params"]["total_einsum_col_size"] == 0
    sides = [int(v) for e in circuit.equations for v in values[e.expression].ravel()]
    flat = readings.flat_inputs(circuit, values)
    assert compiled.outputs(flat) == [*_twice(public), 0, *sides]
    assert compiled.accepts(flat)


def _twice(public: dict[str, IntArray]) -> list[int]:
    return [2 * int(value) for tensor in public.values() for value in tensor.ravel()]


def test_a_constant_that_cannot_be_told_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    chosen = small_recipe()
    circuit = Circuit(chosen.window, 256)
    x = circuit.public_input("x", (1,), 10)
    for _ in range(2):
        circuit.demand("x", x + 3)
    with pytest.raises(BackendError, match="a constant is used too often with tensors of shape"):
        Compiled.of(circuit, chosen, tmp_path_factory.mktemp("constants"))

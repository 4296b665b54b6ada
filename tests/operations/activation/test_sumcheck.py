from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.sumcheck.circuits import Kind, Staged, Value, both, put, shifted
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.operations.activation.exact import Activation, ActivationStep
from zkllm.operations.activation.exact import gelu as exact_gelu
from zkllm.tensors import IntArray, magnitude

ROWS = [1, 3, 37, 64, 65]
LIMBS = [4, 16]


GELU = np.array([0, 3, 5, 6, 5, 3, 1, 0])
RELU = np.array([0])


def gelu_alone(
    model: ExactModel, hidden: IntArray, table: IntArray, limb: int = 8, kind: Kind = "its own"
) -> Staged:
    bound = max(1, magnitude(hidden))
    stored = ExactModel.in_memory(model.specification, {"t": table})
    step = ActivationStep("gelu", ("x",), "y", Activation("t", bound), hidden.shape[1:])
    y = exact_gelu(hidden, table)
    return Staged(step, stored, {"x": Value(hidden, bound, kind), "y": Value(y, bound, kind)}, limb)


def require_values(staged: Staged) -> None:
    """`fill` gives what the reference computes, and columns make up what is read and written."""
    witness, g = staged.circuit.witness(), staged.equations
    hidden, found = (staged.values[name].integers for name in ("x", "y"))
    assert (witness.integers(g.input.value) == hidden).all()
    assert (witness.integers(g.output.value) == found).all()
    assert magnitude(hidden) <= g.input.largest


@pytest.mark.parametrize("table", [GELU, RELU], ids=["gelu", "relu"])
@pytest.mark.parametrize("rows", ROWS)
def test_gelus_are_accepted(rows: int, table: IntArray, tiny_model: ExactModel) -> None:
    hidden = np.random.default_rng(rows).integers(-300, 301, (rows, 12))
    staged = gelu_alone(tiny_model, hidden, table)
    require_values(staged)
    staged.circuit.accept()


@pytest.mark.parametrize("table", [GELU, RELU], ids=["gelu", "relu"])
@pytest.mark.parametrize("limb", LIMBS)
def test_every_number_has_a_gelu(table: IntArray, limb: int, tiny_model: ExactModel) -> None:
    """All that are near the table, where it ends, and at both ends of the window."""
    hidden = np.array([*range(-9, 10), -(2**20), 2**20])[None]
    staged = gelu_alone(tiny_model, hidden, table, limb)
    require_values(staged)
    staged.circuit.accept()


@settings(max_examples=50, deadline=None)
@given(
    hidden=st.lists(st.integers(-(1 << 30), 1 << 30) | st.integers(-12, 12), min_size=1),
    limb=st.integers(1, 16),
)
def test_a_gelu_is_the_references(hidden: list[int], limb: int, tiny_model: ExactModel) -> None:
    require_values(gelu_alone(tiny_model, np.array(hidden)[None], GELU, limb))


@pytest.fixture(scope="module")
def gelu(tiny_model: ExactModel) -> Staged:
    return gelu_alone(tiny_model, np.array([[5, -5, 0], [40, -40, 7]]), GELU)


def test_the_positive_part_is_the_positive_part(gelu: Staged) -> None:
    circuit, g = gelu.circuit, gelu.equations
    for place, wrong in [((0, 0), 0), ((0, 1), 5), ((0, 2), 1), ((1, 0), 41), ((1, 1), -40)]:
        circuit.refuse("gelu", put(g.positive, place, wrong))
    circuit.refuse("gelu", put(g.sign, (0, 0), 1))
    circuit.refuse("gelu", put(g.sign, (0, 1), 0))


def test_a_sign_is_zero_or_one(gelu: Staged) -> None:
    """positive = (1 - sign)·magnitude holds for every sign."""
    circuit, g = gelu.circuit, gelu.equations
    for sign in (2, -1):
        circuit.refuse(
            "gelu", both(put(g.sign, (0, 0), sign), put(g.positive, (0, 0), 5 - 5 * sign))
        )


def test_the_sign_of_zero_is_free(gelu: Staged) -> None:
    circuit, g = gelu.circuit, gelu.equations
    replace(circuit, spoil=put(g.sign, (0, 2), 1)).accept()


def test_the_index_is_the_magnitude_up_to_the_end_of_the_table(gelu: Staged) -> None:
    """index + excess is the magnitude still, and the entry is that of the index."""
    circuit, g = gelu.circuit, gelu.equations
    for place, index in [((0, 0), 5), ((0, 1), 5), ((1, 0), 7), ((1, 2), 7)]:
        circuit.refuse(
            "gelu",
            both(
                put(g.index, place, index - 1),
                put(g.entry, place, int(GELU[index - 1])),
                shifted(g.excess, place, 1),
            ),
        )


def test_an_entry_is_that_of_the_table(gelu: Staged) -> None:
    circuit, g = gelu.circuit, gelu.equations
    with pytest.raises(ConstraintViolation, match=r"gelu: index: .* table gelu, got 5 at \[0, 0\]"):
        replace(circuit, spoil=put(g.entry, (0, 0), 4)).witness()


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_value_of_another_form_that_could_wrap_is_refused(
    name: str, tiny_model: ExactModel
) -> None:
    staged = gelu_alone(tiny_model, np.array([[5, -5, 0]]), GELU, kind="public")
    far = replace(staged.values[name], bound=1 << 64)
    side = {"x": "input", "y": "output"}[name]
    with pytest.raises(UnsupportedModel, match=f"gelu: {side} could wrap"):
        Staged(staged.step, staged.circuit.weights, {**staged.values, name: far})

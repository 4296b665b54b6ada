"""Units of any steps: their order, what is proven of them, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.toy import unit as toy
from zkllm.errors import UnsupportedModel, WrongMaterial
from zkllm.operations.activation.exact import Activation, ActivationStep
from zkllm.operations.attention.exact import Attend, AttentionStep
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.norm.exact import Norm, NormStep
from zkllm.operations.step import Step
from zkllm.operations.unit import Ids, Rows, Unit
from zkllm.tensors import IntArray

NORM = NormStep("norm", ("x",), "normal", Norm(0, 1, 2000, 0, 0, 0), 4)


def layer(name: str, reads: str, writes: str, shift: int = 0, bias: int = 0) -> LinearStep:
    numbers = Linear(f"{name}.weight", f"{name}.bias", shift, 0, bias)
    return LinearStep(name, (reads,), writes, numbers, (4,), (4,))


def tensors(*layers: str, **more: IntArray) -> dict[str, IntArray]:
    made = {f"{name}.weight": np.eye(4, dtype=np.int64) for name in layers}
    return made | {f"{name}.bias": np.zeros(4, dtype=np.int64) for name in layers} | more


def unit(*steps: Step, residual: bool = True) -> Unit:
    return Unit("unit", Rows(4, 1000), Rows(4, 0), steps, residual=residual)


# Order


def test_steps_are_computed_as_soon_as_what_they_read_is_there() -> None:
    gelu = ActivationStep("gelu", ("hidden",), "change", Activation("table", 0), (4,))
    declared = NORM, gelu, layer("expand", "normal", "hidden")
    assert [step.name for step in unit(*declared).order()] == ["norm", "expand", "gelu"]
    with pytest.raises(ValueError, match=r"^unit: nothing writes what gelu reads$"):
        unit(NORM, gelu).order()


@pytest.mark.parametrize("name", ["x", "elsewhere"])
def test_what_a_unit_gives_is_written_by_a_step(name: str) -> None:
    """What is given is not: it would be given as it is."""
    whole = unit(NORM, layer("project", "normal", "change"))
    assert [step.name for step in whole.order()] == ["norm", "project"]
    with pytest.raises(ValueError, match=rf"^unit: nothing writes {name}$"):
        replace(whole, writes=name).order()


def test_two_steps_have_two_names() -> None:
    """By its name a step finds its equations: of two, one would never be checked."""
    first, second = layer("layer", "x", "hidden"), layer("layer", "hidden", "change")
    with pytest.raises(ValueError, match=r"^unit: two steps are called layer$"):
        unit(first, second).order()
    assert unit(first, replace(second, name="other")).order()


@pytest.mark.parametrize("value", ["x", "hidden"])
def test_a_value_is_written_once(value: str) -> None:
    """What is given counts as written: nobody may put another in its place."""
    steps = layer("one", "x", "hidden"), layer("two", "hidden", value)
    with pytest.raises(ValueError, match=rf"^unit: two writes {value}, which is there before$"):
        unit(*steps, layer("last", "hidden", "change")).order()


# What is proven


def test_a_proof_keeps_constants_and_order() -> None:
    made, given = toy.made()
    assert made.prove(given.__getitem__) == made
    claimed = replace(made, output=Rows(made.input.width, 1))  # type: ignore[union-attr]
    assert claimed.prove(given.__getitem__) == made


def test_the_bound_of_a_residual_counts_both_of_its_parts() -> None:
    given = tensors("out").__getitem__
    alone = unit(layer("out", "x", "change"), residual=False).prove(given)
    assert alone.output == Rows(4, 1000)
    assert unit(layer("out", "x", "change")).prove(given).output == Rows(4, 2000)
    wide = replace(unit(layer("out", "x", "change")), input=Rows(4, 1 << 51))
    with pytest.raises(UnsupportedModel, match=r"^unit: the proven bound of the residual stream"):
        wide.prove(given)


def test_constants_are_proven_without_a_weight() -> None:
    """Of what rests on weights nothing is said, whoever reads it."""
    after = replace(NORM, name="after", reads=("hidden",), writes="change")
    steps = NORM, layer("expand", "normal", "hidden"), after
    ((step, proven),) = unit(*steps).prove_constants()
    assert (step, proven.numbers.output) == (NORM, 2001)


def test_ids_are_given_as_they_are() -> None:
    made = unit(layer("out", "x", "change"), residual=False)
    made = replace(made, input=Ids(7), output=Ids(9))
    given = {"out.weight": np.ones((1, 4), dtype=np.int64), "out.bias": np.zeros(4, dtype=np.int64)}
    proven = made.prove(given.__getitem__)
    assert proven.output == Ids(9)
    assert proven.steps[0].numbers.output == 6


# Forms that others give to a value


def test_a_value_in_the_form_of_its_reader_has_room_there() -> None:
    """The reader confines its input to the end of its table; 2^45 times that is too much."""
    gelu = ActivationStep("gelu", ("hidden",), "change", Activation("table", 0), (4,))
    given = tensors("expand", table=np.zeros(1 << 18, dtype=np.int64)).__getitem__
    unit(NORM, gelu, layer("expand", "normal", "hidden", 44), residual=False).prove(given)
    with pytest.raises(UnsupportedModel, match=r"^unit: .* of expand·2\^s, as provers confine it"):
        unit(NORM, gelu, layer("expand", "normal", "hidden", 45), residual=False).prove(given)


def test_what_is_added_to_a_residual_has_room_there() -> None:
    """It is confined by what both ends may be: 2^45 times 2^18 is too much."""
    out = layer("out", "x", "change", 45)
    given = tensors("out").__getitem__
    with pytest.raises(UnsupportedModel, match=r"^unit: .* of out·2\^s, as provers confine it"):
        replace(unit(out), input=Rows(4, 1 << 17)).prove(given)
    replace(unit(out, residual=False), input=Rows(4, 1 << 17)).prove(given)
    replace(unit(out), input=Rows(4, 1 << 16)).prove(given)


@pytest.mark.parametrize("residual", [True, False])
def test_a_form_that_a_step_cannot_give_is_refused(residual: bool) -> None:
    """A LayerNorm gives what it writes a form of its own; a residual would give it another."""
    made = unit(replace(NORM, writes="change"), residual=residual)
    if not residual:
        assert made.prove(tensors().__getitem__).output == Rows(4, 2001)
        return
    with pytest.raises(UnsupportedModel, match=r"^unit: what norm writes has a form of its own$"):
        made.prove(tensors().__getitem__)


def test_a_table_without_a_rule_is_refused() -> None:
    with pytest.raises(WrongMaterial, match=r"^tensor table: norm reads no table$"):
        NORM.check_table("table", np.zeros(1, dtype=np.int64))


# Heads that look at different rows


def test_attention_to_rows_of_a_norm_is_bounded_by_their_entries() -> None:
    """A LayerNorm bounds the length of a row, but heads may look at a different row each.

    The last row looks with its first head at the first row and with its second at the second:
    their halves together are longer than any row is.
    """
    attend = AttentionStep(
        "attention", ("normal",) * 3, "mixed", Attend(0, 0, 0, "exp", 0, 0, 0), 2, 2, 3
    )
    out = LinearStep("out", ("mixed",), "change", Linear("w", "b", 0, 0, 0), (4,), (1,))
    split = _Split("split", ("normal",), "heads", None)
    attend = replace(attend, reads=("heads",) * 3)
    given = {
        "exp": np.array([1 << 10, 0]),
        "w": np.array([[1], [-1], [1], [-1]]),
        "b": np.zeros(1, dtype=np.int64),
    }
    made = unit(NORM, split, attend, out, residual=False).prove(given.__getitem__)
    x = np.array([[1000, -1000, 0, 0], [0, 0, 1000, -1000], [500, -500, 500, -500]])
    found = int(made.run(x, given.__getitem__)[-1, 0])
    assert found > 2 * (made.steps[0].numbers.output + 1), "no length of one row explains this"
    assert found <= made.steps[-1].numbers.output


class _Split(NormStep):
    """Rows as heads: the same numbers, and the same said of them."""

    def __init__(self, name: str, reads: tuple[str, ...], writes: str, numbers: None) -> None:
        super().__init__(name, reads, writes, NORM.numbers, 4)

    def run(self, given, tensor):  # type: ignore[no-untyped-def]
        return given[0].reshape(len(given[0]), 2, 2)

    def prove(self, unit, given, tensor):  # type: ignore[no-untyped-def]
        return self, given[0]

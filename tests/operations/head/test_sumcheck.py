from dataclasses import replace

import numpy as np
import pytest

from tests.engines.sumcheck.circuits import Spoil, Staged, Value, require_refused, shifted
from zkllm.engines.sumcheck.field import MODULUS
from zkllm.engines.sumcheck.protocol import make_proof
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.operations.head.exact import HeadStep, Logits, arg_max

BOUND = 200


class Choosing(Staged):
    """The arg-max of random rows, alone in a plan; `ids` are the right ones unless given."""

    def __init__(
        self,
        model: ExactModel,
        rows: int,
        *,
        width: int = 12,
        vocabulary: int = 37,
        limb: int = 8,
        ids: tuple[int, ...] | None = None,
        level: bool = False,
    ) -> None:
        random = np.random.default_rng(rows + vocabulary)
        self.x = random.integers(-BOUND, BOUND + 1, (rows, width))
        weight = random.integers(-9, 10, (width, vocabulary)) * (not level)
        bias = random.integers(-99, 100, vocabulary) * (not level)
        self.logits = self.x @ weight + bias
        self.ids = ids or tuple(int(i) for i in np.argmax(self.logits, axis=1))
        step = head_step(BOUND * 9 * width + 99, width, vocabulary)
        self.model = ExactModel.in_memory(model.specification, {"w": weight, "b": bias})
        values = {
            "x": Value(self.x, BOUND, "committed"),
            "ids": Value(np.array(self.ids), vocabulary - 1, "public"),
        }
        super().__init__(step, self.model, values, limb)
        self.margins = self.equations


def head_step(logit: int, width: int = 12, vocabulary: int = 37) -> HeadStep:
    return HeadStep("margin", ("x",), "ids", Logits("w", "b", logit), width, vocabulary)


@pytest.mark.parametrize("rows", [1, 3, 37])
def test_margins_are_what_the_chosen_logit_is_ahead_of_each_other(
    rows: int, tiny_model: ExactModel
) -> None:
    choosing = Choosing(tiny_model, rows)
    assert choosing.ids == tuple(arg_max(choosing.logits))
    margin = choosing.circuit.witness().integers(choosing.margins.margin.value)
    for i, chosen in enumerate(choosing.ids):
        for j, logit in enumerate(choosing.logits[i]):
            assert margin[i, j] == choosing.logits[i, chosen] - logit - (j < chosen) >= 0


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("rows", [1, 3, 37, 64, 65])
def test_the_arg_max_is_accepted(rows: int, committed: bool, tiny_model: ExactModel) -> None:
    Choosing(tiny_model, rows).circuit.accept(committed=committed)


@pytest.mark.parametrize("limb", [4, 16])
@pytest.mark.parametrize(("width", "vocabulary"), [(1, 1), (32, 64), (12, 65)])
def test_heads_of_any_shape_are_accepted(
    width: int, vocabulary: int, limb: int, tiny_model: ExactModel
) -> None:
    Choosing(tiny_model, 3, width=width, vocabulary=vocabulary, limb=limb).circuit.accept()


def test_a_tie_goes_to_the_lowest_id(tiny_model: ExactModel) -> None:
    Choosing(tiny_model, 3, level=True, ids=(0, 0, 0)).circuit.accept()
    message = (
        r"^head: row 1 has the arg-max 0, the claim says 2: token 0 has the logit 0, "
        r"the claimed one 0$"
    )
    with pytest.raises(ConstraintViolation, match=message):
        Choosing(tiny_model, 3, level=True, ids=(0, 2, 5)).circuit.witness()


@pytest.mark.parametrize("row", [0, 2])
def test_another_token_has_no_witness(row: int, tiny_model: ExactModel) -> None:
    ids = list(Choosing(tiny_model, 3).ids)
    best, ids[row] = ids[row], (ids[row] + 1) % 37
    wrong = Choosing(tiny_model, 3, ids=tuple(ids))
    with pytest.raises(
        ConstraintViolation, match=f"row {row} has the arg-max {best}, .*{ids[row]}"
    ):
        wrong.circuit.witness()


# Each check


@pytest.fixture(scope="module")
def choosing(tiny_model: ExactModel) -> Choosing:
    return Choosing(tiny_model, 3)


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
def test_margins_are_checked(committed: bool, choosing: Choosing) -> None:
    for place in [(0, 0), (2, 36)]:
        spoils: list[Spoil] = [
            shifted(choosing.margins.margin, place, 1),
            shifted(choosing.number("x"), (place[0], 3), 1),
        ]
        for spoil in spoils:
            choosing.circuit.refuse("margin", spoil, committed=committed)


@pytest.mark.parametrize("said", ["margin: bias", "margin: weight"])
def test_what_is_selected_of_the_weights_is_shown(said: str, choosing: Choosing) -> None:
    choosing.circuit.refuse_lie(said, said)


@pytest.mark.parametrize(("name", "label"), [("w", "margin: weight"), ("b", "margin: bias")])
def test_other_weights_are_refused(name: str, label: str, choosing: Choosing) -> None:
    tensors = {name: choosing.model.tensor(name).copy() for name in "wb"}
    tensors[name].reshape(-1)[3] += 1
    other = ExactModel.in_memory(choosing.model.specification, tensors)
    context = choosing.circuit.context()
    proof = make_proof(choosing.circuit, context)
    require_refused(label, replace(choosing.circuit, weights=other), proof, context)


def test_the_margins_of_other_ids_are_refused(choosing: Choosing, tiny_model: ExactModel) -> None:
    """Honest margins, checked as if they were those of other tokens."""
    ids = choosing.ids[1:] + choosing.ids[:1]
    assert ids != choosing.ids
    other = Choosing(tiny_model, 3, ids=ids)
    mixed = replace(choosing.circuit, examine=other.margins.check)
    mixed.refuse("margin", lambda _: None)


def test_an_equal_logit_at_a_lower_id_is_refused(tiny_model: ExactModel) -> None:
    """All margins are zero: they are those of the lowest id, and of no other."""
    level = Choosing(tiny_model, 1, level=True, ids=(0,))
    other = Choosing(tiny_model, 1, level=True, ids=(5,))
    replace(level.circuit, examine=other.margins.check).refuse("margin", lambda _: None)


@pytest.mark.parametrize("logit", [1 << 62, (MODULUS - 1 - (1 << 63)) // 2 + 1])
def test_margins_that_could_wrap_are_refused(logit: int, choosing: Choosing) -> None:
    Staged(head_step(1 << 60), choosing.model, choosing.values)
    with pytest.raises(UnsupportedModel, match="margin could wrap"):
        Staged(head_step(logit), choosing.model, choosing.values)


def test_hidden_ids_are_refused(choosing: Choosing) -> None:
    hidden = replace(choosing.values["ids"], kind="committed")
    with pytest.raises(UnsupportedModel, match="margin: token ids are public"):
        Staged(choosing.step, choosing.model, {**choosing.values, "ids": hidden})


@pytest.mark.parametrize("wrong", [-1, 37, 64 + 5])
def test_an_id_that_is_no_token_is_refused(wrong: int, choosing: Choosing) -> None:
    """Modulo a power of two it would be one."""
    message = rf"margin: id 0 must lie in 0\.\.36, got {wrong}$"
    with pytest.raises(ConstraintViolation, match=message):
        Choosing(choosing.model, 3, ids=(wrong, 1, 2))

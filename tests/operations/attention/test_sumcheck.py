from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.sumcheck.circuits import Spoil, Staged, Stored, Value, both, put, shifted
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.operations.attention.exact import Attend, Attended, AttentionStep
from zkllm.operations.attention.exact import attention as exact_attention
from zkllm.tensors import IntArray

EXP = np.array([64, 40, 25, 15, 9, 6, 4, 2, 1, 0])
BOUND = 300


class Attending(Staged):
    """Attention of random q, k, v [T, h, d_head], alone in a plan."""

    def __init__(
        self,
        model: ExactModel,
        rows: int,
        *,
        heads: int = 2,
        size: int = 6,
        shift: int = 13,
        limb: int = 8,
        table: IntArray = EXP,
        largest: int = BOUND,
    ) -> None:
        random = np.random.default_rng(rows + shift)
        self.q, self.k, self.v = random.integers(-largest, largest + 1, (3, rows, heads, size))
        self.shift, self.table = shift, table
        score = (size * BOUND**2 >> shift) + 1
        step = attention_step(shift=shift, score=score, value=BOUND, heads=heads, size=size)
        stored = ExactModel.in_memory(model.specification, {"exp": table})
        given = {"q": self.q, "k": self.k, "v": self.v}
        values = {name: Value(integers, BOUND, "committed") for name, integers in given.items()}
        output = step.run(list(given.values()), stored.integers)
        assert (output == self.expected().output.transpose(1, 0, 2)).all()
        values["o"] = Value(output, BOUND, "its own")
        super().__init__(step, stored, values, limb)
        self.attention = self.equations
        self.numbers = [self.number(name) for name in "qkv"]

    def expected(self) -> Attended:
        heads = [x.transpose(1, 0, 2) for x in (self.q, self.k, self.v)]
        return exact_attention(*heads, shift=self.shift, table=self.table)


def attention_step(
    *, shift: int, score: int, value: int, heads: int = 2, size: int = 6
) -> AttentionStep:
    """Its bounds on sums are of no use to the equations."""
    numbers = Attend(shift, 1, score, "exp", 1, 1, value)
    return AttentionStep("attention", ("q", "k", "v"), "o", numbers, heads, size, 65)


# The equations, in integers


def require_attended(attending: Attending) -> None:
    """The witness satisfies all equations in integers, and is what the reference computes."""
    a, witness = attending.attention, attending.circuit.witness()
    maximum, index, entry, excess, marker, total, half, odd, output, low, high = (
        witness.integers(value)
        for value in (
            *(a.maximum.value, a.index, a.entry, a.excess.value, a.marker, a.total),
            *(a.half.value, a.odd.value, attending.number("o").value, a.low.value, a.high.value),
        )
    )
    rest = np.zeros_like(index) if a.rest is None else witness.integers(a.rest.value)
    expected, cap, shift = attending.expected(), len(EXP) - 1, attending.shift
    causal = np.broadcast_to(np.tri(len(attending.q), dtype=bool), index.shape)
    products = np.einsum("ihc,jhc->hij", attending.q, attending.k)
    # (1) to (6), on and below the diagonal
    score = maximum[:, :, None] - index - excess
    assert (score == expected.score)[causal].all()
    line = products + (1 << shift) // 2 - score * (1 << shift) - rest
    assert not line[causal].any()
    assert ((rest >= 0) & (rest < 1 << shift)).all()
    assert not (excess * (cap - index)).any()
    assert not (marker * (index + excess))[causal].any()
    assert min(index.min(), excess.min()) >= 0
    assert (entry == EXP[index])[causal].all()
    # above it, and along rows
    assert not entry[~causal].any()
    assert not marker[~causal].any()
    assert (marker.sum(2) == 1).all()
    assert (entry.sum(2) == total).all()
    assert (total == 2 * half + odd).all()
    assert ((odd == 0) | (odd == 1)).all()
    assert (maximum == expected.maximum).all()
    # the output
    mixed = np.einsum("hij,jhc->ihc", entry, attending.v)
    divisor = total.T[:, :, None]
    assert (mixed + half.T[:, :, None] == output * divisor + low).all()
    assert (low + high == divisor - 1).all()
    assert min(low.min(), high.min()) >= 0


@pytest.mark.parametrize("shift", [0, 1, 13])
@pytest.mark.parametrize("rows", [1, 3, 12])
def test_the_equations_of_attention_hold_in_integers(
    rows: int, shift: int, tiny_model: ExactModel
) -> None:
    largest = BOUND if shift > 1 else 2
    require_attended(Attending(tiny_model, rows, shift=shift, largest=largest))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_equations_of_attention_hold_for_any_scores(
    data: st.DataObject, tiny_model: ExactModel
) -> None:
    rows, heads, size = (data.draw(st.integers(1, n)) for n in (5, 3, 4))
    attending = Attending(
        tiny_model,
        rows,
        heads=heads,
        size=size,
        shift=data.draw(st.integers(0, 16)),
        limb=data.draw(st.integers(1, 16)),
        largest=data.draw(st.integers(0, BOUND)),
    )
    require_attended(attending)


@pytest.mark.parametrize("rows", [1, 2, 3, 37, 64, 65])
def test_attention_is_accepted(rows: int, tiny_model: ExactModel) -> None:
    Attending(tiny_model, rows, heads=2 if rows < 40 else 1).circuit.accept()


@pytest.mark.parametrize("limb", [4, 16])
@pytest.mark.parametrize("shift", [0, 1, 13])
@pytest.mark.parametrize(("heads", "size"), [(1, 1), (3, 4), (2, 16)])
def test_attention_of_any_shape_is_accepted(
    heads: int, size: int, shift: int, limb: int, tiny_model: ExactModel
) -> None:
    Attending(tiny_model, 5, heads=heads, size=size, shift=shift, limb=limb).circuit.accept()


@pytest.mark.parametrize("table", [np.array([1]), np.array([7, 3])], ids=str)
def test_a_table_may_end_anywhere(table: IntArray, tiny_model: ExactModel) -> None:
    Attending(tiny_model, 5, table=table).circuit.accept()


def test_equal_scores_are_accepted(tiny_model: ExactModel) -> None:
    attending = Attending(tiny_model, 5, largest=0)
    attending.circuit.accept()
    # any maximum may be marked, and marks need not be 0 or 1 as long as they add up to 1
    marker = attending.attention.marker
    for marks in [(0, 0, 1), (2, -1, 0)]:
        spoil = both(*(put(marker, (1, 2, j), mark) for j, mark in enumerate(marks)))
        replace(attending.circuit, spoil=spoil).accept()


# Each check


@pytest.fixture(scope="module")
def attending(tiny_model: ExactModel) -> Attending:
    return Attending(tiny_model, 5)


def place_of(attending: Attending, low: int, high: int) -> tuple[int, int, int]:
    """A causal cell, its row's maximum elsewhere, whose index lies in low .. high."""
    witness = attending.circuit.witness()
    index = witness.integers(attending.attention.index)
    marker = witness.integers(attending.attention.marker)
    inside = (index >= low) & (index <= high) & (marker == 0) & np.tri(5, dtype=bool)
    h, i, j = np.argwhere(inside)[-1]
    return int(h), int(i), int(j)


def moved(attending: Attending, row: tuple[int, int], to: int) -> Spoil:
    """The marker of a row stands at another place."""

    def spoil(witness: Witness) -> None:
        marker = witness.integers(attending.attention.marker)
        marker[row] = 0
        marker[(*row, to)] = 1
        witness.store(attending.attention.marker, marker)

    return spoil


def test_a_score_is_the_rounded_product(attending: Attending) -> None:
    a, circuit = attending.attention, attending.circuit
    place = place_of(attending, 1, 9)
    circuit.refuse("attention: cells", shifted(a.excess, place, 1))
    assert a.rest is not None
    circuit.refuse("attention: cells", shifted(a.rest, place, 1))
    circuit.refuse("attention: cells", shifted(a.maximum, place[:2], 1))
    for number in attending.numbers[:2]:
        h, i, _ = place
        circuit.refuse("attention: cells", shifted(number, (i, h, 0), 1))


def test_an_index_is_the_distance_up_to_the_end_of_the_table(attending: Attending) -> None:
    """index + excess is the distance still, and the exponential is that of the index."""
    a, circuit = attending.attention, attending.circuit
    place = place_of(attending, 1, len(EXP) - 2)
    index = int(circuit.witness().integers(a.index)[place])
    less = both(
        put(a.index, place, index - 1),
        put(a.entry, place, int(EXP[index - 1])),
        shifted(a.excess, place, 1),
    )
    circuit.refuse("attention: cells", less)


def test_a_mark_stands_at_a_maximum(attending: Attending) -> None:
    h, i, j = place_of(attending, 1, 9)
    attending.circuit.refuse("attention: cells", moved(attending, (h, i), j))


def test_no_mark_stands_above_the_diagonal(attending: Attending) -> None:
    attending.circuit.refuse("attention: cells", moved(attending, (1, 0), 4))


@pytest.mark.parametrize("place", [(0, 0, 1), (1, 3, 4), (1, 0, 4)])
def test_nothing_later_is_attended_to(place: tuple[int, int, int], attending: Attending) -> None:
    attending.circuit.refuse("attention: cells", put(attending.attention.entry, place, 1))


def test_above_the_diagonal_scores_are_whatever_they_are(attending: Attending) -> None:
    a = attending.attention
    spoil = both(
        put(a.index, (0, 1, 3), 77),
        shifted(a.excess, (0, 1, 3), 5),
        shifted(a.excess, (1, 0, 1), 9),
    )
    replace(attending.circuit, spoil=spoil).accept()


def test_products_are_those_that_scores_are_made_of(attending: Attending) -> None:
    attending.circuit.refuse_lie("attention: product", "attention: cells")


def test_products_are_those_of_the_committed_keys(
    tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is computed with other keys than those that are committed to."""
    attending = Attending(tiny_model, 5)
    committed = attending.k
    attending.k = committed + 1
    output = attending.expected().output.transpose(1, 0, 2)
    lies = {"k": attending.k, "o": output}
    attending.values = dict(attending.values) | {
        name: replace(attending.values[name], integers=integers) for name, integers in lies.items()
    }
    products = np.einsum("ihc,jhc->hij", attending.q, attending.k)
    monkeypatch.setattr(attending.attention, "_products", lambda _: products)

    def spoil(witness: Witness) -> None:
        witness.store_number(attending.numbers[1], committed)

    attending.circuit.refuse("attention: products", spoil)


def test_a_row_has_a_maximum(attending: Attending) -> None:
    def spoil(witness: Witness) -> None:
        marker = witness.integers(attending.attention.marker)
        marker[1, 2] *= 0
        witness.store(attending.attention.marker, marker)

    def doubled(witness: Witness) -> None:
        witness.store(attending.attention.marker, 2 * witness.integers(attending.attention.marker))

    attending.circuit.refuse("attention: one maximum", spoil)
    attending.circuit.refuse("attention: one maximum", doubled)


def test_totals_and_their_halves(attending: Attending) -> None:
    a, circuit = attending.attention, attending.circuit
    total = int(circuit.witness().integers(a.total)[1, 3])
    two_more = both(put(a.total, (1, 3), total + 2), shifted(a.half, (1, 3), 1))
    circuit.refuse("attention: total", two_more)
    circuit.refuse("attention: half of total", shifted(a.half, (1, 3), 1))
    circuit.refuse("attention: half of total", shifted(a.odd, (1, 3), 1 - 2 * (total % 2)))


def test_the_mixed_values_are_shown(attending: Attending) -> None:
    attending.circuit.refuse_lie("attention: mixed", "attention: mixed")


def test_outputs_are_rounded_quotients(attending: Attending) -> None:
    a, circuit = attending.attention, attending.circuit
    place = (4, 1, 5)
    circuit.refuse("attention: output", shifted(attending.number("o"), place, 1))
    circuit.refuse("attention: output", shifted(attending.numbers[2], (0, 1, 5), 1))
    low = int(circuit.witness().integers(a.low.value)[place])
    step = 1 if low == 0 else -1
    other = both(shifted(a.low, place, step), shifted(a.high, place, -step))
    circuit.refuse("attention: output", other)
    circuit.refuse("attention: output remainder", shifted(a.high, place, step))


def test_an_exponential_is_that_of_the_table(attending: Attending) -> None:
    a = attending.attention
    h, i, j = place = place_of(attending, 1, 9)
    entry = int(attending.circuit.witness().integers(a.entry)[place])
    with pytest.raises(ConstraintViolation, match=rf"attention: index: .* at \[{h}, {i}, {j}\]"):
        replace(attending.circuit, spoil=put(a.entry, place, entry + 1)).witness()


# Nothing wraps


@pytest.mark.parametrize(
    ("what", "bounds"),
    [
        ("score", {"query": 1 << 31, "key": 1 << 31}),
        # the bound of a score times 2^sh is 2^63, its windows are wider
        ("score", {"score": 1 << 50, "shift": 13}),
        ("total", {"entry": 1 << 60}),
        ("output", {"entry": 1 << 40, "value": 1 << 20}),
    ],
)
def test_attention_that_could_wrap_is_refused(what: str, bounds: dict[str, int]) -> None:
    def make(
        query: int = 100,
        key: int = 100,
        value: int = 100,
        entry: int = 64,
        score: int = 100,
        shift: int = 3,
    ) -> None:
        zeros = np.zeros((5, 2, 6), dtype=np.int64)
        bounds = {"q": query, "k": key, "v": value}
        stored = Stored(exp=np.array([entry, 0]))
        step = attention_step(shift=shift, score=score, value=value)
        values = {name: Value(zeros, bound, "committed") for name, bound in bounds.items()}
        Staged(step, stored, values, limb=16)

    make()
    with pytest.raises(UnsupportedModel, match=f"attention: {what} could wrap"):
        make(**bounds)

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.engines.sumcheck.plain import (
    P,
    Pair,
    Source,
    array,
    eq,
    eq_all,
    inner,
    minus,
    pair,
    pairs,
    plus,
    point_pairs,
    times,
)
from zkllm.engines.sumcheck import commitment, multilinear, opening
from zkllm.engines.sumcheck.commitment import ROW, VECTOR, Shape
from zkllm.engines.sumcheck.committed import (
    CommittedVector,
    EncodedMatrix,
    EncodedRow,
    merkle_layers,
)
from zkllm.engines.sumcheck.field import MODULUS, Ext, Words, dot, root_of_unity
from zkllm.engines.sumcheck.multilinear import Coordinates, Dims, Point
from zkllm.engines.sumcheck.opening import Vector
from zkllm.engines.sumcheck.party import Ledger, Owed, linear_form_at
from zkllm.engines.sumcheck.plan import Plan, cells
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ProofRejected
from zkllm.exact.model import ExactModel

COLUMNS: dict[str, Dims] = {"b": (3, 37), "a": (5,), "c": (1,), "d": (64,), "e": (65, 2)}


class Column:
    """Columns of random field elements, and claims about them."""

    def __init__(self, columns: dict[str, Dims], seed: int = 0) -> None:
        source = Source(seed)
        self.plan = Plan(8)
        for name, dims in columns.items():
            self.plan.column(name, dims)
        self.values = {name: source.values(int(np.prod(d))) for name, d in columns.items()}
        self.layout = self.plan.layout()
        vector = np.zeros(self.plan.size(), dtype=np.uint64)
        for name, places in self.layout.items():
            values: Any = array(self.values[name]).reshape(columns[name])
            for place in places:
                span = slice(place.offset, place.offset + (1 << place.block.bits))
                vector[span] = cells(values, place)
        self.vector = vector
        self.points: list[tuple[str, Point]] = [
            (name, tuple(source.point((n - 1).bit_length()) for n in dims))
            for name, dims in [*columns.items(), *columns.items()]
        ]

    def value(self, name: str, point: Point) -> Pair:
        """By the definition of an extension."""
        weights = eq_all(self.plan.columns[name], [point_pairs(r) for r in point])
        return inner(self.values[name], weights.values())

    def claims(self) -> list[Owed]:
        return [
            Owed(
                name,
                linear_form_at(self.plan.columns[name], point),
                Ext(*self.value(name, point)),
            )
            for name, point in self.points
        ]


def shown(
    columns: Column,
    committed: CommittedVector,
    model: ExactModel,
    claims: list[Owed] | None = None,
) -> Verifier:
    """What a verifier does that reads what the prover of these claims sent."""
    claims = columns.claims() if claims is None else claims
    vector = Vector("columns", columns.layout, len(columns.vector), committed.root())
    prover = Prover(Witness(Plan(8)), model, None)
    ledger = Ledger(list(claims))
    opening.show_claims(prover, ledger, vector, committed)
    ledger.require_empty()
    verifier = Verifier(columns.plan, model, None, prover.proof)
    verifier.ledger = Ledger(list(claims))
    opening.show_claims(verifier, verifier.ledger, vector, None)
    verifier.finish()
    return verifier


def committed_to(columns: Column) -> CommittedVector:
    return CommittedVector(columns.vector, columns.layout)


@pytest.mark.parametrize(
    "columns",
    [{"a": (1,)}, {"a": (3,)}, {"a": (64,)}, {"a": (65,), "b": (37, 12)}, COLUMNS],
    ids=str,
)
def test_true_claims_are_shown(columns: dict[str, Dims], tiny_model: ExactModel) -> None:
    made = Column(columns)
    verifier = shown(made, committed_to(made), tiny_model)
    assert verifier.soundness_bits() > 100


def test_the_prover_evaluates_what_it_committed_to() -> None:
    columns = Column(COLUMNS)
    committed = committed_to(columns)
    for claim in columns.claims():
        assert committed.evaluate(claim.column, claim.linear_form) == claim.value


@pytest.mark.parametrize("wrong", range(2 * len(COLUMNS)))
def test_each_claim_counts(wrong: int, tiny_model: ExactModel) -> None:
    columns = Column(COLUMNS)
    claims = columns.claims()
    claims[wrong] = replace(claims[wrong], value=claims[wrong].value + 1)
    with pytest.raises(ProofRejected, match="columns: batch does not hold"):
        shown(columns, committed_to(columns), tiny_model, claims)


def test_wrong_claims_do_not_make_up_for_each_other(tiny_model: ExactModel) -> None:
    columns = Column(COLUMNS)
    first, second, *rest = columns.claims()
    claims = [replace(first, value=first.value + 1), replace(second, value=second.value - 1), *rest]
    with pytest.raises(ProofRejected, match="columns: batch does not hold"):
        shown(columns, committed_to(columns), tiny_model, claims)


def test_the_weight_of_a_batch_is_the_sum_of_its_linear_forms() -> None:
    columns = Column(COLUMNS)
    source = Source(1)
    claims = columns.claims()
    factors = [Ext(*source.pair()) for _ in claims]
    point = source.point((len(columns.vector) - 1).bit_length())
    along = [eq(i, point_pairs(point)) for i in range(len(columns.vector))]
    expected: list[Pair] = []
    for claim, factor in zip(claims, factors, strict=True):
        for place, (scale, local) in zip(
            columns.layout[claim.column], claim.linear_form, strict=True
        ):
            for i in range(1 << place.block.bits):
                weight = times(pair(factor), pair(scale), eq(i, point_pairs(local)))
                expected.append(times(weight, along[place.offset + i]))
    found = opening.batch_weight(columns.layout, claims, factors, point)
    assert pair(found) == plus(*expected)


def test_challenges_are_drawn_after_what_they_depend_on(tiny_model: ExactModel) -> None:
    columns = Column({"a": (37,)})
    verifier = shown(columns, committed_to(columns), tiny_model)
    assert [label for label, _ in verifier.errors] == [
        *("columns: gamma", "columns: batch", "columns: rows", "columns: columns"),
    ]


# Levels: a long row is committed to and opened in its turn


LEVELS = (Shape(5, 6, 1, VECTOR), Shape(4, 4, 2, ROW), Shape(4, 2, 2, ROW))
"""Of a vector of 300 values, which would by itself be opened by a row that is sent."""


@pytest.fixture(params=[1, 2, 3], ids="{} levels".format)
def levels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Openings of so many levels."""
    count: int = request.param
    monkeypatch.setattr(commitment, "levels_of", lambda _: LEVELS[:count])
    return count


def test_true_claims_are_shown_on_every_level(levels: int, tiny_model: ExactModel) -> None:
    columns = Column({"a": (300,)})
    verifier = shown(columns, committed_to(columns), tiny_model)
    names = ["columns", "columns row", "columns row row"][:levels]
    assert [label for label, _ in verifier.errors if label.endswith("columns")] == [
        f"{name}: columns" for name in names
    ]


def test_levels_of_their_own_accord(tiny_model: ExactModel) -> None:
    columns = Column({"a": (40, 2000)})
    assert len(commitment.levels_of(80_000)) == 2
    columns.points = [("a", tuple(tuple(map(Ext, r)) for r in ([0, 1, 0, 0, 0, 1], [1] * 11)))]
    with pytest.raises(ProofRejected, match="columns: batch does not hold"):
        shown(columns, committed_to(columns), tiny_model, claims=[wrong(columns)])
    shown(columns, committed_to(columns), tiny_model)


def wrong(columns: Column) -> Owed:
    (claim,) = columns.claims()
    return Owed(claim.column, claim.linear_form, claim.value + 1)


def test_the_weight_of_a_row_is_the_sum_of_its_linear_forms() -> None:
    source = Source(0)
    low, at = source.point(3), source.point(3)
    indices, scales = [5, 0, 31, 5], [Ext(*source.pair()) for _ in range(5)]
    omega = root_of_unity(5)
    weights = []
    for j in range(8):
        powers = [
            times(pair(s), pow(omega, k * j, P)) for s, k in zip(scales[1:], indices, strict=True)
        ]
        weights.append(plus(times(pair(scales[0]), eq(j, point_pairs(low))), *powers))
    expected = inner(weights, [eq(j, point_pairs(at)) for j in range(8)])
    assert pair(opening.row_weight(low, indices, scales, 5, at)) == expected
    row = array(source.pairs(8))
    made, table = EncodedRow(row, Shape(2, 2, 2, ROW)).row_tables(
        low, indices, [Ext(1), *scales[1:]], 5
    )
    assert np.array_equal(made, row)
    first = minus((1, 0), pair(scales[0]))
    for j in range(8):
        shifted = times(first, eq(j, point_pairs(low)))
        assert pairs(table[j]) == [plus(weights[j], shifted)]


# Provers that lie about one thing; honest in all else


class Lies:
    """Functions through which the messages of a prover pass before they are sent, by level."""

    def __init__(self) -> None:
        self.value: Callable[[Ext], Ext] = lambda value: value
        self.row: Callable[[Words], Words] = lambda row: row
        self.columns: dict[int, Callable[[bytes], bytes]] = {}
        self.encoded: dict[int, Callable[[Words], Words]] = {}
        self.committed: dict[int, Callable[[Words], Words]] = {}
        self.left: dict[int, Callable[[Ext], Ext]] = {}


class Lying(EncodedRow):
    """A matrix of some level, which its prover lies about."""

    def __init__(self, words: Words, shape: Shape, lies: Lies, level: int) -> None:
        EncodedMatrix.__init__(self, words, shape)
        self.lies, self.level = lies, level
        if level in lies.encoded:
            self._encoded = lies.encoded[level](self._encoded)
            self._tree = commitment.MerkleTree(merkle_layers(self._encoded))

    def combined_row(self, factors: Words) -> Words:
        return self.lies.row(super().combined_row(factors))

    def opened_columns(self, indices: Sequence[int]) -> bytes:
        data = super().opened_columns(indices)
        return self.lies.columns.get(self.level, lambda same: same)(data)

    def commit(self, factors: Words, shape: Shape) -> EncodedRow:
        level = self.level + 1
        row = EncodedMatrix.combined_row(self, factors)
        row = self.lies.committed.get(level, lambda same: same)(row)
        honest = EncodedRow(row, shape)
        lying = Lying(honest._words, shape, self.lies, level)
        lying._row = row
        return lying

    def value_at(self, point: Coordinates) -> Ext:
        return self.lies.left.get(self.level, lambda same: same)(super().value_at(point))


class LyingVector(CommittedVector):
    def __init__(self, columns: Column, lies: Lies) -> None:
        super().__init__(columns.vector, columns.layout)
        self.lies = lies
        self.matrix = Lying(self._rows, self.shape, lies, 0)

    def value_at(self, point: Coordinates) -> list[Ext]:
        low, high = point[: self.shape.log_columns], point[self.shape.log_columns :]
        outer = np.ascontiguousarray(multilinear.eq_table(high)[: self.shape.rows])
        row = EncodedMatrix.combined_row(self.matrix, outer)
        return [self.lies.value(dot(row, multilinear.eq_table(low)))]


@pytest.fixture
def lies() -> Lies:
    return Lies()


def refuse(lies: Lies, model: ExactModel, message: str) -> None:
    columns = Column({"a": (300,)})
    with pytest.raises(ProofRejected, match=message):
        shown(columns, LyingVector(columns, lies), model)


def changed(place: int) -> Callable[[bytes], bytes]:
    """One byte is another; the element remains canonical."""
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def added(place: int) -> Callable[[Words], Words]:
    """One element of a row is another."""

    def change(row: Words) -> Words:
        row = row.copy()
        row[place, 0] = (int(row[place, 0]) + 1) % P
        return row

    return change


NAMES = ["columns", "columns row", "columns row row"]


def test_a_prover_without_lies_is_believed(levels: int, lies: Lies, tiny_model: ExactModel) -> None:
    columns = Column({"a": (300,)})
    shown(columns, LyingVector(columns, lies), tiny_model)


@pytest.mark.usefixtures("levels")
def test_the_value_at_the_point_is_the_batchs(lies: Lies, tiny_model: ExactModel) -> None:
    lies.value = lambda value: value + 1
    refuse(lies, tiny_model, "columns: batch does not hold")


def test_the_row_that_is_sent_has_the_value(
    levels: int, lies: Lies, tiny_model: ExactModel
) -> None:
    lies.row = added(3)
    refuse(lies, tiny_model, f"^sumcheck: {NAMES[levels - 1]}: value does not hold")


def test_the_row_that_is_sent_is_that_of_the_columns(
    levels: int, lies: Lies, tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the check of its value switched off, a wrong row meets the check of the columns."""
    lies.row = added(3)
    without(monkeypatch, f"{NAMES[levels - 1]}: value")
    refuse(lies, tiny_model, f"^sumcheck: {NAMES[levels - 1]}: columns does not hold")


def test_a_committed_row_is_that_of_the_columns(
    levels: int, lies: Lies, tiny_model: ExactModel
) -> None:
    """A row that is another than the one that the columns above it give."""
    if levels > 1:
        lies.committed[levels - 1] = added(3)
        refuse(lies, tiny_model, f"^sumcheck: {NAMES[levels - 1]}: batch does not hold")


def test_the_value_of_a_committed_row_is_its_batchs(
    levels: int, lies: Lies, tiny_model: ExactModel
) -> None:
    if levels > 1:
        lies.left[levels - 1] = lambda value: value + 1
        refuse(lies, tiny_model, f"^sumcheck: {NAMES[levels - 1]}: batch does not hold")


def without(monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    """A verifier that does not ask for one thing."""
    honest = Verifier.refuse

    def refuse(self: Verifier, label: str) -> None:
        if label != guard:
            honest(self, label)

    monkeypatch.setattr(Verifier, "refuse", refuse)


@pytest.mark.parametrize("query", [0, -1])
@pytest.mark.parametrize("part", ["value", "path", "node"])
def test_each_opened_column_is_one_of_the_tree(
    query: int, part: str, levels: int, lies: Lies, tiny_model: ExactModel
) -> None:
    shape = LEVELS[levels - 1]
    cap = 32 << shape.log_cap
    start = cap + (query % shape.code.queries) * shape.piece_bytes
    place = {"value": start, "path": start + shape.piece_bytes - 1, "node": cap - 1}[part]
    if part == "path" and shape.log_length == shape.log_cap:
        place = start
    lies.columns[levels - 1] = changed(place)
    refuse(lies, tiny_model, f"^sumcheck: {NAMES[levels - 1]}: paths does not hold")


def test_opened_columns_are_those_of_the_root_and_not_only_of_each_other(
    levels: int, lies: Lies, tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check of paths, columns that were chosen afterwards are believed."""
    shape, name = LEVELS[levels - 1], NAMES[levels - 1]
    root = bytearray(32)

    def forged(data: bytes) -> bytes:
        return bytes(root) + data[32:]

    lies.columns[levels - 1] = forged
    refuse(lies, tiny_model, f"^sumcheck: {name}: paths does not hold")
    without(monkeypatch, f"{name}: paths")
    columns = Column({"a": (300,)})
    shown(columns, LyingVector(columns, lies), tiny_model)
    assert shape.opening_bytes > 32


def test_a_code_word_that_is_none_is_refused(
    levels: int, lies: Lies, tiny_model: ExactModel
) -> None:
    """Every column of the tree is another matrix's, so that some are wrong whatever is opened."""
    lies.encoded[levels - 1] = lambda encoded: np.concatenate(
        [encoded[:1] ^ np.uint64(1), encoded[1:]]
    )
    refuse(lies, tiny_model, f"^sumcheck: {NAMES[levels - 1]}: columns does not hold")


def test_opened_values_are_canonical(tiny_model: ExactModel, lies: Lies) -> None:
    """p stands for zero in a tree over zeros: all equations hold modulo p."""
    columns = Column({"a": (300,)})
    columns.vector[:] = 0
    columns.values["a"] = [0] * 300
    lies.encoded[0] = lambda encoded: np.full_like(encoded, MODULUS)
    with pytest.raises(ProofRejected, match="a field element is not below p"):
        shown(columns, LyingVector(columns, lies), tiny_model)


def test_a_root_of_another_vector_is_refused(tiny_model: ExactModel) -> None:
    columns, other = Column(COLUMNS), Column(COLUMNS, seed=1)
    committed = committed_to(columns)
    committed.matrix.root = committed_to(other).matrix.root  # type: ignore[method-assign]
    with pytest.raises(ProofRejected, match="columns: paths does not hold"):
        shown(columns, committed, tiny_model)

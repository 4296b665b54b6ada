from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.backends.sumcheck.plain import (
    P,
    Pair,
    Source,
    array,
    eq,
    eq_all,
    inner,
    pair,
    plus,
    point_pairs,
    times,
)
from zkllm.backends.sumcheck import commitment, opening
from zkllm.backends.sumcheck.field import MODULUS, Ext, Words
from zkllm.backends.sumcheck.opening import Vector
from zkllm.backends.sumcheck.party import Ledger, Opening, functional_at
from zkllm.backends.sumcheck.plan import Plan, cells
from zkllm.backends.sumcheck.prover import CommittedVector, Prover, merkle_layers
from zkllm.backends.sumcheck.shapes import Coordinates, Dims, Point
from zkllm.backends.sumcheck.verifier import Verifier
from zkllm.backends.sumcheck.witness import Witness
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
            values = array(self.values[name]).reshape(columns[name])
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

    def claims(self) -> list[Opening]:
        return [
            Opening(
                name,
                functional_at(self.plan.columns[name], point),
                Ext(*self.value(name, point)),
            )
            for name, point in self.points
        ]


def shown(
    columns: Column,
    committed: CommittedVector,
    model: ExactModel,
    claims: list[Opening] | None = None,
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
        assert committed.evaluate(claim.column, claim.functional) == claim.value


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


def test_the_weight_of_a_batch_is_the_sum_of_its_functionals() -> None:
    columns = Column(COLUMNS)
    source = Source(1)
    claims = columns.claims()
    factors = [Ext(*source.pair()) for _ in claims]
    point = source.point((len(columns.vector) - 1).bit_length())
    along = [eq(i, point_pairs(point)) for i in range(len(columns.vector))]
    expected: list[Pair] = []
    for claim, factor in zip(claims, factors, strict=True):
        for place, (scale, local) in zip(
            columns.layout[claim.column], claim.functional, strict=True
        ):
            for i in range(1 << place.block.bits):
                weight = times(pair(factor), pair(scale), eq(i, point_pairs(local)))
                expected.append(times(weight, along[place.offset + i]))
    found = opening.batch_weight(columns.layout, claims, factors, point)
    assert pair(found) == plus(*expected)


def test_challenges_are_drawn_after_what_they_depend_on(tiny_model: ExactModel) -> None:
    columns = Column({"a": (37,)})
    verifier = shown(columns, committed_to(columns), tiny_model)
    labels = [label for label, _ in verifier.errors]
    assert labels == [
        *("columns: gamma", "columns: batch", "columns: mixing", "columns: columns"),
    ]


# Provers that lie about one thing; honest in all else


class Lying(CommittedVector):
    """A committed vector whose messages pass through a function before they are sent."""

    def __init__(self, columns: Column) -> None:
        super().__init__(columns.vector, columns.layout)
        self.value: Callable[[Ext], Ext] = lambda value: value
        self.rows: list[Callable[[bytes], bytes]] = []
        self.columns: Callable[[bytes], bytes] = lambda data: data

    def value_at(self, point: Coordinates) -> list[Ext]:
        return [self.value(value) for value in super().value_at(point)]

    def combined_row(self, factors: Words) -> bytes:
        row = super().combined_row(factors)
        return self.rows.pop(0)(row) if self.rows else row

    def opened_columns(self, indices: Sequence[int]) -> bytes:
        return self.columns(super().opened_columns(indices))

    def commit_again(self, encoded: Words) -> None:
        """Another code word, and its tree."""
        self._encoded = encoded
        self._tree = commitment.MerkleTree(merkle_layers(encoded))


@pytest.fixture
def lying() -> tuple[Column, Lying]:
    columns = Column({"a": (300,)})
    return columns, Lying(columns)


def changed(place: int) -> Callable[[bytes], bytes]:
    """One byte is another; the element remains canonical."""
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def honest(data: bytes) -> bytes:
    return data


def test_the_value_at_the_point_is_the_batchs(
    lying: tuple[Column, Lying], tiny_model: ExactModel
) -> None:
    lying[1].value = lambda value: value + 1
    with pytest.raises(ProofRejected, match="columns: batch does not hold"):
        shown(*lying, tiny_model)


def test_the_value_row_has_the_value(lying: tuple[Column, Lying], tiny_model: ExactModel) -> None:
    lying[1].rows = [honest, changed(16 * 3)]
    with pytest.raises(ProofRejected, match="columns: value does not hold"):
        shown(*lying, tiny_model)


def test_the_mixed_row_is_that_of_the_columns(
    lying: tuple[Column, Lying], tiny_model: ExactModel
) -> None:
    lying[1].rows = [changed(16 * 3)]
    with pytest.raises(ProofRejected, match="columns: columns does not hold"):
        shown(*lying, tiny_model)


def test_the_value_row_is_that_of_the_columns(
    lying: tuple[Column, Lying], tiny_model: ExactModel
) -> None:
    """A value row that has the value, and is another: e_0·eq_1 - e_1·eq_0 is added to it."""
    columns, committed = lying
    low: list[Coordinates] = []
    original = committed.value_at

    def watched(point: Coordinates) -> list[Ext]:
        low.append(point[: committed.shape.log_columns])
        return original(point)

    def shifted(data: bytes) -> bytes:
        row = np.frombuffer(data, dtype="<u8").astype(np.uint64).reshape(-1, 2)
        weights = [eq(j, point_pairs(low[0])) for j in range(2)]
        first = plus((int(row[0, 0]), int(row[0, 1])), weights[1])
        second = plus((int(row[1, 0]), int(row[1, 1])), times(P - 1, weights[0]))
        row[0], row[1] = first, second
        return row.astype("<u8").tobytes()

    committed.value_at = watched  # type: ignore[method-assign]
    committed.rows = [honest, shifted]
    with pytest.raises(ProofRejected, match="columns: columns does not hold"):
        shown(columns, committed, tiny_model)


@pytest.mark.parametrize("query", [0, 159])
@pytest.mark.parametrize("part", ["value", "path"])
def test_each_opened_column_is_one_of_the_tree(
    query: int, part: str, lying: tuple[Column, Lying], tiny_model: ExactModel
) -> None:
    shape = lying[1].shape
    length = 8 * shape.rows + 32 * shape.log_length
    lying[1].columns = changed(query * length + (0 if part == "value" else length - 1))
    with pytest.raises(ProofRejected, match="columns: columns does not hold"):
        shown(*lying, tiny_model)


def test_a_code_word_that_is_none_is_refused(tiny_model: ExactModel) -> None:
    """Every column of the tree is another vector's, so that some are wrong whatever is opened."""
    columns, committed = Column({"a": (300,)}), Lying(Column({"a": (300,)}))
    encoded = committed._encoded.copy()
    encoded[0] ^= np.uint64(1)
    committed.commit_again(encoded)
    with pytest.raises(ProofRejected, match="columns: columns does not hold"):
        shown(columns, committed, tiny_model)


def test_opened_values_are_canonical(tiny_model: ExactModel) -> None:
    """p stands for zero in a tree over zeros: all equations hold modulo p."""
    columns = Column({"a": (300,)})
    columns.vector[:] = 0
    columns.values["a"] = [0] * 300
    committed = Lying(columns)
    committed.commit_again(np.full_like(committed._encoded, MODULUS))
    with pytest.raises(ProofRejected, match="a field element is not below p"):
        shown(columns, committed, tiny_model)


def test_a_root_of_another_vector_is_refused(tiny_model: ExactModel) -> None:
    columns, other = Column(COLUMNS), Column(COLUMNS, seed=1)
    committed = committed_to(columns)
    committed.root = committed_to(other).root  # type: ignore[method-assign]
    with pytest.raises(ProofRejected, match="columns: columns does not hold"):
        shown(columns, committed, tiny_model)

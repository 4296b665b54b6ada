"""Weights that stay small integers are proved as words of the field are, byte for byte."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.engines.sumcheck.plain import Source
from zkllm.engines.sumcheck import opening, weights
from zkllm.engines.sumcheck.committed import CommittedVector
from zkllm.engines.sumcheck.field import ONE, Ext, Words, powers, to_field
from zkllm.engines.sumcheck.multilinear import Dims, variables
from zkllm.engines.sumcheck.opening import Vector
from zkllm.engines.sumcheck.party import Ledger, Owed, Summed, Tabled, linear_form_at
from zkllm.engines.sumcheck.plan import Plan, cells
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.rounds import ProductRounds
from zkllm.engines.sumcheck.weights import CommittedWeights, commit_weights
from zkllm.engines.sumcheck.witness import Witness
from zkllm.exact.model import ExactModel
from zkllm.tensors import StoredArray

Kinds = Mapping[str, tuple[Dims, Any]]

LAYER: Kinds = {"w": ((96, 160), np.int16), "b": ((160,), np.int32)}
MIXED: Kinds = {
    "a": ((65, 3), np.int8),
    "b": ((37, 12), np.int64),
    "c": ((200, 33), np.int16),
    "d": ((1,), np.int64),
    "e": ((3, 5, 7), np.int32),
    "f": ((64, 64), np.int64),
}
CASES: dict[str, Kinds] = {
    "one": {"a": ((1,), np.int16)},
    "few": {"a": ((3,), np.int64), "b": ((2,), np.int8)},
    "layer": LAYER,
    "mixed": MIXED,
    "tall": {"t": ((1031, 9), np.int16), "p": ((16, 9), np.int32)},
}


class Tensors:
    """Tensors of the ends of their types, and two claims about each."""

    def __init__(self, kinds: Kinds, seed: int = 0) -> None:
        source = Source(seed)
        self.plan = Plan(8)
        self.values: dict[str, StoredArray] = {}
        self.claims: list[Owed] = []
        for name, (dims, kind) in kinds.items():
            self.plan.weight(name, dims)
            limits = np.iinfo(kind)
            ends = [int(n) for n in (limits.min, limits.max, limits.min + 1, -1, 0, 7)]
            flat = [source.choice(ends) for _ in range(int(np.prod(dims)))]
            self.values[name] = np.array(flat, dtype=kind).reshape(dims)
        for name, (dims, _) in (*kinds.items(), *kinds.items()):
            point = tuple(source.point(variables(n)) for n in dims)
            # what is said of them counts for nothing here: the prover shows what there is
            self.claims.append(Owed(name, linear_form_at(dims, point), source.point(1)[0]))
        self.length = sum(values.size for values in self.values.values())

    def integers(self, name: str) -> StoredArray:
        return self.values[name]

    def as_words(self) -> CommittedVector:
        layout = self.plan.weights_layout()
        vector = np.zeros(self.length, dtype=np.uint64)
        for name, places in layout.items():
            for place in places:
                span = slice(place.offset, place.offset + (1 << place.block.bits))
                vector[span] = to_field(cells(self.values[name], place))
        return CommittedVector(vector, layout)


def sent(tensors: Tensors, committed: Tabled | Summed, model: ExactModel) -> bytes:
    """What a prover sends to show all claims."""
    prover = Prover(Witness(Plan(8)), model, None)
    layout = tensors.plan.weights_layout()
    vector = Vector("weights", layout, tensors.length, committed.root())
    opening.show_claims(prover, Ledger(list(tensors.claims)), vector, committed)
    return prover.proof


@pytest.mark.parametrize("low", [0, 1, 3, 6, 12])
@pytest.mark.parametrize("name", CASES)
def test_what_is_sent_is_what_words_send(
    name: str, low: int, tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "LOW", low)
    monkeypatch.setattr(weights, "_BATCH", 3)
    tensors = Tensors(CASES[name])
    committed, words = commit_weights(tensors.plan, tensors), tensors.as_words()
    assert isinstance(committed, Summed)
    assert not isinstance(committed, Tabled)
    assert committed.root() == words.root()
    assert sent(tensors, committed, tiny_model) == sent(tensors, words, tiny_model)


@pytest.mark.parametrize("low", [0, 2, 5])
@pytest.mark.parametrize("name", CASES)
def test_every_message_is_that_of_the_long_tables(
    name: str, low: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for challenges that leave nothing of one half."""
    monkeypatch.setattr(weights, "LOW", low)
    tensors = Tensors(CASES[name], 1)
    source = Source(2)
    factors = powers(source.point(1)[0], len(tensors.claims))
    committed = commit_weights(tensors.plan, tensors)
    short = committed.batch_rounds(tensors.claims, factors)
    tables: list[Words] = tensors.as_words().batch_tables(tensors.claims, factors)
    long = ProductRounds((tensors.length,), tables, [(ONE, (0, 1))])
    for challenge in (*source.point(variables(tensors.length) - 1), Ext(0))[::-1]:
        if not variables(tensors.length):
            break
        assert short.message(2) == long.message(2)
        short.bind(challenge)
        long.bind(challenge)


def test_rows_lie_in_the_widest_type_of_what_is_in_them() -> None:
    tensors = Tensors(MIXED)
    committed = commit_weights(tensors.plan, tensors)
    rows = committed.shape.rows
    runs = committed._small.runs
    assert [row for found, _ in runs for row in range(found.start, found.stop)] == list(range(rows))
    kinds = [values.dtype for _, values in runs]
    assert all(first != second for first, second in itertools.pairwise(kinds))
    assert len(kinds) > 1
    for name, places in tensors.plan.weights_layout().items():
        for place in places:
            found = committed._small.block(place)
            assert found.itemsize >= tensors.values[name].itemsize
            assert (found == cells(tensors.values[name], place)).all()


def test_a_weight_takes_the_memory_of_its_type_beside_its_encoding() -> None:
    tensors = Tensors(LAYER)
    committed = commit_weights(tensors.plan, tensors)
    assert isinstance(committed, CommittedWeights)
    cells_of_rows = sum(values.size for _, values in committed._small.runs)
    assert sum(values.nbytes for _, values in committed._small.runs) < 3 * cells_of_rows
    assert committed.matrix._encoded.nbytes == 32 * cells_of_rows

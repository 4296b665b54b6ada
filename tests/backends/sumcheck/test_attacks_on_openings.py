"""Provers that commit to one thing and show another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.backends.sumcheck.forging import (
    LyingProver,
    Tolerant,
    Trial,
    deaf_to,
    other_quotient,
    refused,
)
from zkllm.engines.sumcheck import commitment, protocol
from zkllm.engines.sumcheck.commitment import HASH, ROW, VECTOR, MerkleTree, Shape
from zkllm.engines.sumcheck.committed import CommittedVector, EncodedRow, merkle_layers
from zkllm.engines.sumcheck.field import MODULUS, Ext, Words
from zkllm.engines.sumcheck.multilinear import Coordinates, eq
from zkllm.engines.sumcheck.opening import batch_weight, row_weight
from zkllm.engines.sumcheck.party import Ledger, Owed
from zkllm.engines.sumcheck.protocol import Circuit
from zkllm.engines.sumcheck.rounds import Fractions
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.errors import ProofRejected

UNIT = "mlp[0]"


@dataclass
class Mixed:
    """What is committed to, summed, evaluated, combined and opened may be several vectors."""

    committed: CommittedVector
    summed: CommittedVector
    evaluated: CommittedVector
    combined: CommittedVector

    def root(self) -> bytes:
        return self.committed.root()

    def batch_tables(self, claims: Sequence[Owed], factors: Sequence[Ext]) -> list[Words]:
        return self.summed.batch_tables(claims, factors)

    def value_at(self, point: Coordinates) -> list[Ext]:
        return self.evaluated.value_at(point)

    @property
    def matrix(self) -> Mixed:
        return self

    def combined_row(self, factors: Words) -> Words:
        return self.combined.matrix.combined_row(factors)

    def opened_columns(self, indices: Sequence[int]) -> bytes:
        return self.committed.matrix.opened_columns(indices)

    def commit(self, factors: Words, shape: Shape) -> EncodedRow:
        return EncodedRow(self.combined_row(factors), shape)


def noise(honest: CommittedVector) -> CommittedVector:
    """A commitment to something else, of the same shape."""
    random = np.random.default_rng(0)
    vector = random.integers(0, MODULUS, len(honest.vector), dtype=np.uint64)
    return CommittedVector(vector, honest._layout)


def mixed(*parts: str) -> Callable[[LyingProver, Circuit], Mixed]:
    """`parts` are of what was committed to, all others of what the claims are about."""

    def commit(prover: LyingProver, _: Circuit) -> Mixed:
        honest = prover.committed
        assert honest is not None
        other = noise(honest)
        names = ("summed", "evaluated", "combined")
        return Mixed(other, *(other if name in parts else honest for name in names))

    return commit


@pytest.mark.parametrize(
    ("parts", "label"),
    [
        ((), "columns: columns"),
        (("combined",), "columns: value"),
        (("evaluated", "combined"), "columns: batch"),
        (("summed", "evaluated", "combined"), "columns: batch"),
    ],
)
def test_claims_about_another_vector_than_the_committed_one(
    parts: tuple[str, ...], label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(UNIT, commit=mixed(*parts))
    with refused(label):
        trial.verify()
    deaf_to(label)(trial, monkeypatch)
    trial.verify()


class OtherTree(Mixed):
    """The root is one vector's, the opened columns are another's, and so may the cap be."""

    def __init__(self, honest: CommittedVector, *, own_cap: bool) -> None:
        super().__init__(noise(honest), honest, honest, honest)
        self.own_cap = own_cap

    def opened_columns(self, indices: Sequence[int]) -> bytes:
        opened = self.combined.matrix.opened_columns(indices)
        if self.own_cap:
            return opened
        size = HASH << self.committed.shape.log_cap
        return super().opened_columns(indices)[:size] + opened[size:]


@pytest.mark.parametrize("own_cap", [True, False])
def test_columns_that_the_root_does_not_have(
    own_cap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(prover: LyingProver, _: Circuit) -> OtherTree:
        assert prover.committed is not None
        return OtherTree(prover.committed, own_cap=own_cap)

    trial = Trial(UNIT, commit=commit)
    with refused("columns: paths"):
        trial.verify()
    deaf_to("columns: paths")(trial, monkeypatch)
    trial.verify()


# One witness for the equations, another for the lookups


def inside(prover: LyingProver) -> Tolerant:
    """The prover's witness, but every remainder lies in its window."""
    witness = Tolerant(prover.plan, dict(prover.witness.columns))
    number = prover.plan.numbers["project: remainder"]
    witness.store_number(number, witness.integers(number.value) % (1 << number.bits))
    witness.count_lookups()
    return witness


class TwoFaced:
    """Claims of the equations are about the prover's witness, those of lookups about another."""

    def __init__(self, prover: Any) -> None:
        witness = inside(prover)
        self.prover, self.honest = prover, prover.fraction_tree
        self.looked_up = CommittedVector(witness.committed(), prover.plan.layout())
        prover.counted = witness
        prover.fraction_tree = self.fraction_tree

    def fraction_tree(self, alpha: Ext, beta: Ext, gamma: Ext) -> Fractions:
        """From here on all claims are those of the lookups."""
        self.prover.committed = self.looked_up
        return self.honest(alpha, beta, gamma)


def forgery(commit: Callable[[LyingProver, Circuit], Any]) -> Trial:
    """An output that is off by one, and its remainder by a divisor."""
    lies = {"project": other_quotient(1, remainder="goes")}
    return Trial(UNIT, lies=lies, commit=commit)


def believed(trial: Trial) -> None:
    """A false claim is."""
    assert not np.array_equal(trial.verify().outputs, trial.honest.outputs)


def commit_to_lookups(prover: LyingProver, _: Circuit) -> CommittedVector:
    return TwoFaced(prover).looked_up


def commit_to_equations(prover: LyingProver, _: Circuit) -> CommittedVector:
    committed = prover.committed
    assert committed is not None
    TwoFaced(prover)
    return committed


@pytest.mark.parametrize("commit", [commit_to_lookups, commit_to_equations])
def test_a_range_check_that_is_not_one_of_the_witness(
    commit: Callable[[LyingProver, Circuit], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = forgery(commit)
    with refused("columns: batch"):
        trial.verify()
    deaf_to("columns: batch")(trial, monkeypatch)
    believed(trial)


class Listening:
    """What the sumchecks of a prover end in."""

    def __init__(self, prover: Any) -> None:
        self.honest, prover.rounds = prover.rounds, self.rounds

    def rounds(self, label: str, *rest: Any) -> tuple[Any, Ext]:
        point, self.reached = self.honest(label, *rest)
        return point, self.reached


def fitted(row: Words, value: Ext, true: Ext, low: Coordinates) -> Words:
    """The row, changed in one place so that it has `value` at `low`."""
    lacking = (value - true) * eq(0, low).inverse()
    row[0] = (Ext.from_words(row[0]) + lacking).to_words()
    return row


class Fitted(Mixed):
    """The value that fits false claims is sent, and a row that fits the value.

    The values of `depth` - 1 rows that are committed to are made to fit as well.
    """

    heard: Listening
    depth: int

    def __init__(self, prover: LyingProver, depth: int) -> None:
        super().__init__(*[TwoFaced(prover).looked_up] * 4)
        self.heard, self.depth = Listening(prover), depth

    def batch_tables(self, claims: Sequence[Owed], factors: Sequence[Ext]) -> list[Words]:
        self.claims, self.factors = list(claims), list(factors)
        return super().batch_tables(claims, factors)

    def value_at(self, point: Coordinates) -> list[Ext]:
        weight = batch_weight(self.committed._layout, self.claims, self.factors, point)
        self.value = self.heard.reached * weight.inverse()
        (self.true,), self.point = super().value_at(point), point
        return [self.value]

    def combined_row(self, factors: Words) -> Words:
        low = self.point[: self.committed.shape.log_columns]
        return fitted(super().combined_row(factors), self.value, self.true, low)

    def commit(self, factors: Words, shape: Shape) -> EncodedRow:
        row = self.combined_row(factors)
        return FittedRow(row, shape, self) if self.depth > 1 else EncodedRow(row, shape)


class FittedRow(EncodedRow):
    """As `Fitted`, for a row that is committed to."""

    heard: Listening
    depth: int

    def __init__(self, row: Words, shape: Shape, above: Fitted | FittedRow) -> None:
        super().__init__(row, shape)
        self.heard, self.depth = above.heard, above.depth - 1

    def row_tables(self, *what: Any) -> list[Words]:
        low, indices, scales, length = what
        self.weighed = low, indices, scales, length
        return super().row_tables(*what)

    def value_at(self, point: Coordinates) -> Ext:
        self.value = self.heard.reached * row_weight(*self.weighed, point).inverse()
        self.true, self.point = super().value_at(point), point
        return self.value

    def combined_row(self, factors: Words) -> Words:
        low = self.point[: self._shape.log_columns]
        return fitted(super().combined_row(factors), self.value, self.true, low)

    def commit(self, factors: Words, shape: Shape) -> EncodedRow:
        row = self.combined_row(factors)
        return FittedRow(row, shape, self) if self.depth > 1 else EncodedRow(row, shape)


def three_levels(length: int) -> tuple[Shape, ...]:
    """Two rows of the opening of a short vector are committed to."""
    first = Shape(((length - 1) >> 6) + 1, 6, 1, VECTOR)
    return first, Shape(8, 3, 2, ROW), Shape(4, 1, 2, ROW)


@pytest.mark.parametrize(
    ("levels", "depth", "label"),
    [
        (1, 1, "columns: columns"),
        (3, 1, "columns row: batch"),
        (3, 2, "columns row row: batch"),
        (3, 3, "columns row row: columns"),
    ],
)
def test_a_row_that_fits_false_claims(
    levels: int, depth: int, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the opened columns can show it, in the last level that it fits."""
    if levels > 1:
        monkeypatch.setattr(commitment, "levels_of", three_levels)
    Trial(UNIT).verify()

    def commit(prover: LyingProver, _: Circuit) -> Fitted:
        return Fitted(prover, depth)

    trial = forgery(commit)
    with refused(label):
        trial.verify()
    deaf_to(label)(trial, monkeypatch)
    believed(trial)


@pytest.mark.parametrize("share", [2, 4])
def test_rows_that_are_no_code_words(share: int) -> None:
    """One column in `share` is spoiled after the rows were encoded."""

    def commit(prover: LyingProver, _: Circuit) -> CommittedVector:
        committed = prover.committed
        assert committed is not None
        encoded = committed.matrix._encoded
        encoded[:, ::share] = (encoded[:, ::share] + 1) % MODULUS
        committed.matrix._tree = MerkleTree(merkle_layers(encoded))
        return committed

    with refused("columns: columns"):
        Trial(UNIT, commit=commit).verify()


def test_opened_words_are_below_p() -> None:
    """Zeros of the encoded matrix may not be opened as p, though the tree is one of such words."""

    def commit(prover: LyingProver, _: Circuit) -> Mixed:
        honest = prover.committed
        assert honest is not None
        zeros = CommittedVector(np.zeros_like(honest.vector), {})
        zeros.matrix._encoded[:] = MODULUS
        zeros.matrix._tree = MerkleTree(merkle_layers(zeros.matrix._encoded))
        return Mixed(zeros, honest, honest, honest)

    with pytest.raises(ProofRejected, match="a field element is not below p"):
        Trial(UNIT, commit=commit).verify()


# The ledger


def test_claims_that_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "show_claims", lambda *_: None)
    with pytest.raises(ProofRejected, match=r"^sumcheck: \d+ claims were never shown$"):
        Trial(UNIT).verify()
    monkeypatch.setattr(Ledger, "require_empty", lambda _: None)
    believed(forgery(commit_to_lookups))


@pytest.mark.parametrize("ledger", ["ledger", "weights_ledger"])
def test_a_claim_that_is_left_in_a_ledger(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One claim of those that are made is kept from being shown."""
    honest = Ledger.take

    def all_but_one(self: Ledger) -> list[Owed]:
        claims = honest(self)
        self.open = claims[1:2]
        return claims

    trial = Trial(UNIT, committed=True)
    trial.verify()
    monkeypatch.setattr(Ledger, "take", all_but_one)
    other = "weights_ledger" if ledger == "ledger" else "ledger"
    finish = Verifier.finish

    def finish_other(self: Verifier) -> None:
        getattr(self, other).open.clear()
        finish(self)

    monkeypatch.setattr(Verifier, "finish", finish_other)
    with pytest.raises(ProofRejected, match="1 claims were never shown"):
        trial.verify()

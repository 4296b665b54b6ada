"""The two parties of the protocol, and what they do alike: messages, ledger, sumchecks.

Each step of the protocol is written once, for a `Party`. The prover sends where the verifier
reads, and the verifier checks where the prover passes on. Whoever reads `operations` reads both.
"""

from __future__ import annotations

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np

from zkllm.engines.sumcheck import multilinear
from zkllm.engines.sumcheck.commitment import Shape
from zkllm.engines.sumcheck.field import (
    CANONICAL_BYTES,
    MODULUS,
    SIZE,
    ZERO,
    Ext,
    Words,
)
from zkllm.engines.sumcheck.multilinear import Coordinates, Dims, Point
from zkllm.engines.sumcheck.plan import Combination, Plan, Slot
from zkllm.engines.sumcheck.transcript import Transcript
from zkllm.errors import ProofRejected
from zkllm.tensors import IntArray, StoredArray

LinearForm: TypeAlias = tuple[tuple[Ext, Coordinates], ...]
"""A linear form on a column: factor and local point of every block, in the order of its blocks."""
Monomial: TypeAlias = tuple[Ext, tuple[int, ...]]
"""A factor and the indices of at most three tables that it multiplies."""

MakeTables: TypeAlias = Callable[[], list[Words]]
"""Makes the prover's tables of a sumcheck."""


class Weights(Protocol):
    """Whoever gives the integers of weights and tables: an exact model, or what stands for it."""

    def integers(self, name: str, /) -> StoredArray:
        """The tensor `name`, in any signed type; raises an `Error` if it is missing or another."""
        ...


class Rounds(Protocol):
    """The prover's side of a sumcheck between two rounds."""

    def message(self, degree: int) -> list[Ext]:
        """The round polynomial at 0, 2 and, for degree 3, at 3."""
        ...

    def bind(self, challenge: Ext) -> None:
        """Go on with the next variable set to `challenge`."""
        ...


class LayerRounds(Rounds, Protocol):
    """The prover's side of the sumcheck over one layer of fractions."""

    def children(self) -> list[Ext]:
        """p0, p1, q0 - 1, q1 - 1 at the bound point, after the last round."""
        ...


class Matrix(Protocol):
    """The prover's side of one committed matrix."""

    def root(self) -> bytes:
        """What is sent for it."""
        ...

    def combined_row(self, factors: Words) -> Words:
        """Σ factors[i]·row_i, shape [C, 2], over rows of words."""
        ...

    def opened_columns(self, indices: Sequence[int]) -> bytes:
        """The nodes at which paths end, then encoded columns, each with its path."""
        ...

    def commit(self, factors: Words, shape: Shape) -> CommittedRow:
        """A combined row as a matrix of its own."""
        ...


class CommittedRow(Matrix, Protocol):
    """A combined row that is committed to."""

    def row_tables(
        self, low: Coordinates, indices: Sequence[int], scales: Sequence[Ext], log_length: int
    ) -> list[Words]:
        """The row, and the weights of which `opening.row_weight` is the extension."""
        ...

    def value_at(self, point: Coordinates) -> Ext:
        """The value of the row at `point`."""
        ...


class Opener(Protocol):
    """The prover's side of a committed vector: `Tabled` or `Summed`."""

    @property
    def matrix(self) -> Matrix:
        """The vector, cut into rows."""
        ...

    def root(self) -> bytes:
        """What is sent for it, the root of its matrix."""
        ...

    def value_at(self, point: Coordinates) -> list[Ext]:
        """The one value of the committed vector at `point`."""
        ...


@runtime_checkable
class Tabled(Opener, Protocol):
    """A vector that is summed over as it is."""

    def batch_tables(self, claims: Sequence[Owed], factors: Sequence[Ext]) -> list[Words]:
        """The committed vector and the weights Σ factor·form, of its length."""
        ...


@runtime_checkable
class Summed(Opener, Protocol):
    """A vector with a way of its own to sum over it."""

    def batch_rounds(self, claims: Sequence[Owed], factors: Sequence[Ext]) -> Rounds:
        """The sumcheck over the committed vector and the weights Σ factor·form."""
        ...


class FractionTree(Protocol):
    """The prover's binary tree of fractions; layer 0 holds the leaves."""

    def root(self) -> list[Ext]:
        """Numerator and denominator, less 1, of the whole sum."""
        ...

    def layer(self, level: int, point: Coordinates, factor: Ext) -> LayerRounds:
        """The sumcheck that reduces the parents of `level` at `point` to their children."""
        ...


def message_of(state: Rounds | None, degree: int) -> list[Ext]:
    """What the prover sends; the verifier has no state and never asks."""
    return [] if state is None else state.message(degree)


@dataclass(frozen=True, slots=True)
class Owed:
    """A claim that a column has a value under a linear form."""

    column: str
    linear_form: LinearForm
    value: Ext


@dataclass(slots=True)
class Ledger:
    """The claims that are not yet shown. A proof that ends with an open one is refused."""

    open: list[Owed] = field(default_factory=list)

    def enter(self, claim: Owed) -> None:
        self.open.append(claim)

    def take(self) -> list[Owed]:
        """All open claims, for whoever shows them."""
        claims, self.open = self.open, []
        return claims

    def require_empty(self) -> None:
        """Raises `ProofRejected` if a claim is open."""
        if self.open:
            raise ProofRejected(f"sumcheck: {len(self.open)} claims were never shown")


def linear_form_at(dims: Dims, point: Point) -> LinearForm:
    """Evaluation at `point`, block by block: eq of the block's address, and the low variables."""
    result = []
    for block in multilinear.blocks(dims):
        factor = Ext(1)
        for start, log, r in zip(block.starts, block.logs, point, strict=True):
            factor = factor * multilinear.eq(start >> log, r[log:])
        local = multilinear.flatten(
            tuple(r[:log] for log, r in zip(block.logs, point, strict=True))
        )
        result.append((factor, local))
    return tuple(result)


def slots_at(slots: Sequence[Slot], point: Coordinates) -> LinearForm:
    """The blocks of a flat vector at a point of that vector."""
    return tuple(
        (
            multilinear.eq(slot.offset >> slot.block.bits, point[slot.block.bits :]),
            point[: slot.block.bits],
        )
        for slot in slots
    )


class Party(ABC):
    """Prover or verifier of one unit.

    Weights are held, and then both parties read them from `weights`; or they are committed to, and
    `weights_root` is the root of that commitment, which the verifier got from its policy.
    """

    def __init__(self, plan: Plan, weights: Weights, weights_root: bytes | None) -> None:
        self.plan = plan
        self.weights = weights
        self.weights_root = weights_root
        self.transcript = Transcript()
        self.ledger = Ledger()
        """Claims about the columns of the unit."""
        self.weights_ledger = Ledger()
        """Claims about committed weights."""
        self.errors: list[tuple[str, float]] = []
        """What every challenge adds to the soundness error."""
        self._known: dict[tuple[str, Point], Ext] = {}

    @abstractmethod
    def exchange(self, label: str, make: Callable[[], Sequence[Ext]], count: int) -> list[Ext]:
        """`count` elements that the prover makes and sends and the verifier reads; absorbed."""

    @abstractmethod
    def held(self, make: Callable[[], Ext]) -> Ext:
        """A value that follows from what both sides hold: it is never sent.

        Only the verifier makes it. What depends on it must only be required, not said.
        """

    @abstractmethod
    def require_equal(self, label: str, left: Ext, right: Ext) -> None:
        """Refuse unless both sides of an equation are equal."""

    @abstractmethod
    def require_nonzero(self, label: str, value: Ext) -> None:
        """Refuse zero."""

    @abstractmethod
    def require_hashes(self, label: str, hold: Callable[[], bool]) -> None:
        """Refuse unless hashes `hold`; only the verifier makes them.

        They are of bytes that everybody may see, and no equation over the field.
        """

    @abstractmethod
    def exchange_bytes(self, label: str, make: Callable[[], bytes], length: int) -> bytes:
        """`length` bytes, absorbed like everything that is sent."""

    @abstractmethod
    def evaluate(self, column: str, linear_form: LinearForm) -> Ext:
        """The value of a column, for the prover; the verifier never calls this."""

    @abstractmethod
    def integers(self, combination: Combination) -> IntArray:
        """The integers of a combination, for the prover's tables; the verifier never asks."""

    @abstractmethod
    def begin(self, dims: Dims, tables: MakeTables, monomials: list[Monomial]) -> Rounds | None:
        """The prover's state of a sumcheck; nothing for the verifier."""

    @abstractmethod
    def fraction_tree(self, alpha: Ext, beta: Ext, gamma: Ext) -> FractionTree | None:
        """The prover's fractions of all lookups and tables; nothing for the verifier."""

    def exchange_words(self, label: str, make: Callable[[], bytes], count: int) -> Words:
        """`count` elements as an array [count, 2]."""
        data = self.exchange_bytes(label, make, CANONICAL_BYTES * count)
        words = np.frombuffer(data, dtype="<u8").astype(np.uint64).reshape(-1, 2)
        if (words >= np.uint64(MODULUS)).any():
            raise ProofRejected("sumcheck: a field element is not below p")
        return words

    def count_error(self, label: str, numerator: int) -> None:
        """Note that a challenge misleads with probability numerator/|F| at most."""
        self.errors.append((label, numerator / SIZE))

    def challenge(self, label: str, degree: int) -> Ext:
        """A challenge at which some nonzero polynomial of `degree` could vanish."""
        self.count_error(label, degree)
        return self.transcript.challenge(label)

    def point(self, label: str, dims: Dims) -> Point:
        """A random point of a tensor of `dims`."""
        counts = [multilinear.variables(n) for n in dims]
        self.count_error(label, sum(counts))
        values = iter(self.transcript.challenges(label, sum(counts)))
        return tuple(tuple(next(values) for _ in range(count)) for count in counts)

    def claim(self, column: str, linear_form: LinearForm) -> Ext:
        """The value of `column` under `linear_form`, entered into the ledger."""
        make = functools.partial(self._evaluated, column, linear_form)
        (value,) = self.exchange(f"value of {column}", make, 1)
        self.ledger.enter(Owed(column, linear_form, value))
        return value

    def _evaluated(self, column: str, linear_form: LinearForm) -> list[Ext]:
        return [self.evaluate(column, linear_form)]

    def tensor(self, name: str) -> StoredArray:
        """A weight of the model in the shape in which the unit uses it, in any signed type."""
        return self.weights.integers(name).reshape(self.plan.weights[name])

    def public(self, make: Callable[[], IntArray], point: Point) -> Ext:
        """The extension at `point` of integers that both sides know."""
        return self.held(lambda: multilinear.value_at(make(), point))

    def weight(self, name: str, point: Point) -> Ext:
        """The extension of a weight at `point`: evaluated if held, else claimed and entered."""

        def evaluated() -> Ext:
            return multilinear.value_at(self.tensor(name), point)

        if self.weights_root is None:
            return self.held(evaluated)
        (value,) = self.exchange(f"weight {name}", lambda: [evaluated()], 1)
        linear_form = linear_form_at(self.plan.weights[name], point)
        self.weights_ledger.enter(Owed(name, linear_form, value))
        return value

    def value(self, combination: Combination, point: Point) -> Ext:
        """The extension of a combination of columns at `point`; columns are claimed once."""
        result = multilinear.ones_at(combination.dims, point) * (combination.constant % MODULUS)
        for column, factor in combination.terms.items():
            if (column, point) not in self._known:
                linear_form = linear_form_at(combination.dims, point)
                self._known[column, point] = self.claim(column, linear_form)
            result = result + self._known[column, point] * (factor % MODULUS)
        return result

    def require_zero(self, label: str, combination: Combination, point: Point) -> None:
        """Refuse unless a combination of columns, zero everywhere, is zero at `point`."""
        self.require_equal(label, self.value(combination, point), ZERO)

    def sumcheck(
        self,
        label: str,
        dims: Dims,
        total: Ext,
        tables: MakeTables,
        monomials: list[Monomial],
    ) -> tuple[Point, Ext]:
        """Reduce Σ over all places of Σ monomials = `total` to a point and the value there.

        `tables` gives arrays of shape `dims`, or `dims` + (2,) for the extension; only the prover
        calls it. The caller must check the value that comes back against the tables' extensions.
        """
        degree = max(len(factors) for _, factors in monomials)
        return self.rounds(label, dims, total, self.begin(dims, tables, monomials), degree)

    def rounds(
        self, label: str, dims: Dims, total: Ext, state: Rounds | None, degree: int
    ) -> tuple[Point, Ext]:
        """The rounds of a sumcheck of `degree`, whatever the summand."""
        count = sum(multilinear.variables(n) for n in dims)
        self.count_error(label, degree * count)
        message = functools.partial(message_of, state, degree)
        bound = []
        for _ in range(count):
            at = self.exchange(f"{label}: round", message, degree)
            challenge = self.transcript.challenge(f"{label}: bind")
            # The value at 1 is not sent: it is what the claim leaves.
            total = interpolate([at[0], total - at[0], *at[1:]], challenge)
            if state is not None:
                state.bind(challenge)
            bound.append(challenge)
        return multilinear.unflatten(tuple(bound), dims), total

    def soundness_bits(self) -> float:
        """-log2 of the sum of all errors; where there is none, as if one challenge had one."""
        return -math.log2(max(sum(error for _, error in self.errors), 1 / SIZE))


_INVERSES: Final = (0, *(pow(k, -1, MODULUS) for k in range(1, 4)))
"""Of the numbers that steps of an interpolation divide by."""


def interpolate(values: Sequence[Ext], x: Ext) -> Ext:
    """The polynomial through (0, values[0]), (1, values[1]), ... at x, for up to four values.

    By Newton's differences: Σ Δ_k·x(x - 1)...(x - k + 1)/k!, by Horner's rule.
    """
    differences, heads = list(values), []
    while differences:
        heads.append(differences[0])
        differences = [b - a for a, b in itertools.pairwise(differences)]
    result = heads.pop()
    for k in reversed(range(len(heads))):
        result = result * ((x - k) * _INVERSES[k + 1]) + heads[k]
    return result


def encode_elements(elements: Sequence[Ext]) -> bytes:
    """Both coordinates of each, little endian."""
    return b"".join(e.a.to_bytes(8, "little") + e.b.to_bytes(8, "little") for e in elements)


def decode_elements(data: bytes) -> list[Ext]:
    """Raises `ProofRejected` for a coordinate that is not below p."""
    result = []
    for start in range(0, len(data), CANONICAL_BYTES):
        a = int.from_bytes(data[start : start + 8], "little")
        b = int.from_bytes(data[start + 8 : start + 16], "little")
        if a >= MODULUS or b >= MODULUS:
            raise ProofRejected("sumcheck: a field element is not below p")
        result.append(Ext(a, b))
    return result

"""The two parties of the protocol, and what they do alike: messages, ledger, sumchecks.

Each step of the protocol is written once, for a `Party`. The prover sends where the verifier
reads, and the verifier checks where the prover passes on. Whoever reads `operations` reads both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from zkllm.backends.sumcheck import shapes
from zkllm.backends.sumcheck.field import (
    CANONICAL_BYTES,
    MODULUS,
    SIZE,
    ZERO,
    Ext,
    Words,
)
from zkllm.backends.sumcheck.plan import Combination, Place, Plan
from zkllm.backends.sumcheck.shapes import Coordinates, Dims, Point
from zkllm.backends.sumcheck.transcript import Transcript
from zkllm.errors import ProofRejected

Functional: TypeAlias = tuple[tuple[Ext, Coordinates], ...]
"""A linear form on a column: factor and local point of every block, in the order of its blocks."""
Monomial: TypeAlias = tuple[Ext, tuple[int, ...]]
"""A factor and the indices of at most three tables that it multiplies."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A claim that a column has a value under a functional."""

    column: str
    functional: Functional
    value: Ext


@dataclass(slots=True)
class Ledger:
    """The claims that are not yet shown. A proof that ends with an open one is refused."""

    open: list[Opening] = field(default_factory=list)

    def enter(self, claim: Opening) -> None:
        self.open.append(claim)

    def take(self) -> list[Opening]:
        """All open claims, for whoever shows them."""
        claims, self.open = self.open, []
        return claims

    def require_empty(self) -> None:
        """Raises `ProofRejected` if a claim is open."""
        if self.open:
            raise ProofRejected(f"sumcheck: {len(self.open)} claims were never shown")


def functional_at(dims: Dims, point: Point) -> Functional:
    """Evaluation at `point`, block by block: eq of the block's address, and the low variables."""
    result = []
    for block in shapes.blocks(dims):
        factor = Ext(1)
        for start, log, r in zip(block.starts, block.logs, point, strict=True):
            factor = factor * shapes.eq(start >> log, r[log:])
        local = shapes.flatten(
            tuple(r[:log] for log, r in zip(block.logs, point, strict=True))
        )
        result.append((factor, local))
    return tuple(result)


def places_at(places: Sequence[Place], point: Coordinates) -> Functional:
    """The blocks of a flat vector at a point of that vector."""
    return tuple(
        (
            shapes.eq(place.offset >> place.block.bits, point[place.block.bits :]),
            point[: place.block.bits],
        )
        for place in places
    )


class Party(ABC):
    """Prover or verifier of one unit."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.transcript = Transcript()
        self.ledger = Ledger()
        self.errors: list[tuple[str, float]] = []
        """What every challenge adds to the soundness error."""
        self._known: dict[tuple[str, Point], Ext] = {}

    @abstractmethod
    def exchange(self, label: str, make: Callable[[], Sequence[Ext]], count: int) -> list[Ext]:
        """`count` elements that the prover makes and sends and the verifier reads; absorbed."""

    @abstractmethod
    def require(self, label: str, difference: Callable[[], Ext]) -> None:
        """Refuse unless `difference` is zero; only the verifier computes it."""

    @abstractmethod
    def evaluate(self, column: str, functional: Functional) -> Ext:
        """The value of a column, for the prover; the verifier never calls this."""

    @abstractmethod
    def round_message(self, state: object, degree: int) -> list[Ext]:
        """The next round polynomial of a sumcheck at 0, 2, 3."""

    @abstractmethod
    def begin(self, dims: Dims, tables: Callable[[], list[Words]], monomials: list[Monomial]) -> object:
        """The prover's state of a sumcheck; nothing for the verifier."""

    @abstractmethod
    def bind(self, state: object, challenge: Ext) -> object:
        """The state after the next variable is bound."""

    def count_error(self, label: str, numerator: int) -> None:
        """Note that a challenge misleads with probability numerator/|F| at most."""
        self.errors.append((label, numerator / SIZE))

    def challenge(self, label: str, degree: int) -> Ext:
        """A challenge at which some nonzero polynomial of `degree` could vanish."""
        self.count_error(label, degree)
        return self.transcript.challenge(label)

    def point(self, label: str, dims: Dims) -> Point:
        """A random point of a tensor of `dims`."""
        counts = [shapes.variables(n) for n in dims]
        self.count_error(label, sum(counts))
        values = iter(self.transcript.challenges(label, sum(counts)))
        return tuple(tuple(next(values) for _ in range(count)) for count in counts)

    def claim(self, label: str, column: str, functional: Functional) -> Ext:
        """The value of `column` under `functional`, entered into the ledger."""
        (value,) = self.exchange(label, lambda: [self.evaluate(column, functional)], 1)
        self.ledger.enter(Opening(column, functional, value))
        return value

    def value(self, combination: Combination, point: Point) -> Ext:
        """The extension of a combination of columns at `point`; columns are claimed once."""
        result = shapes.ones_at(combination.dims, point) * (combination.constant % MODULUS)
        for column, factor in combination.terms.items():
            if (column, point) not in self._known:
                functional = functional_at(combination.dims, point)
                self._known[column, point] = self.claim(f"value of {column}", column, functional)
            result = result + self._known[column, point] * (factor % MODULUS)
        return result

    def sumcheck(
        self,
        label: str,
        dims: Dims,
        total: Ext,
        tables: Callable[[], list[Words]],
        monomials: list[Monomial],
    ) -> tuple[Point, Ext]:
        """Reduce Σ over all places of Σ monomials = `total` to a point and the value there.

        `tables` gives arrays of shape `dims`, or `dims` + (2,) for the extension; only the prover
        calls it. The caller must check the value that comes back against the tables' extensions.
        """
        degree = max(len(factors) for _, factors in monomials)
        state = self.begin(dims, tables, monomials)
        rounds = sum(shapes.variables(n) for n in dims)
        self.count_error(label, degree * rounds)
        bound = []
        for _ in range(rounds):
            challenge, total = self.round(label, state, degree, total)
            state = self.bind(state, challenge)
            bound.append(challenge)
        return shapes.unflatten(tuple(bound), dims), total

    def round(self, label: str, state: object, degree: int, claim: Ext) -> tuple[Ext, Ext]:
        """One round: the challenge and the round polynomial there."""
        at = self.exchange(f"{label}: round", lambda: self.round_message(state, degree), degree)
        challenge = self.transcript.challenge(f"{label}: bind")
        # The value at 1 is not sent: it is what the claim leaves.
        return challenge, interpolate([at[0], claim - at[0], *at[1:]], challenge)

    def soundness_bits(self) -> float:
        """-log2 of the sum of all errors."""
        return -math.log2(sum(error for _, error in self.errors))


def interpolate(values: Sequence[Ext], x: Ext) -> Ext:
    """The polynomial through (0, values[0]), (1, values[1]), ... at x."""
    result = ZERO
    for i, value in enumerate(values):
        numerator, denominator = value, 1
        for j in range(len(values)):
            if j != i:
                numerator = numerator * (x - j)
                denominator = denominator * (i - j) % MODULUS
        result = result + numerator * pow(denominator, -1, MODULUS)
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

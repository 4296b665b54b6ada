"""Sections 3 and 7: what the prover sends, what is drawn, and sumchecks.

Section 14: what each challenge may mislead the verifier with is added up as it is drawn.
"""

from __future__ import annotations

from fractions import Fraction
from math import prod

from tests.independent.field import ORDER, ZERO, Element, P, canonical_words, log, pairs, require
from tests.independent.tensors import Dims, Point, deal, unflatten
from tests.independent.transcript import Transcript


class Conversation:
    def __init__(self, proof: bytes) -> None:
        self.transcript = Transcript()
        self.proof = proof
        self.read = 0
        self.errors: dict[str, Fraction] = {}
        """What the challenges of each label may mislead with, in all."""

    def receive(self, label: str, size: int) -> bytes:
        data = self.proof[self.read : self.read + size]
        require(len(data) == size, f"evidence ends within {label}")
        self.read += size
        self.transcript.absorb(label, data)
        return data

    def send(self, label: str, n: int) -> list[Element]:
        return pairs(canonical_words(self.receive(label, 16 * n)))

    def send_one(self, label: str) -> Element:
        return self.send(label, 1)[0]

    def end(self) -> None:
        require(self.read == len(self.proof), "evidence goes on after the last step")

    def count(self, label: str, error: Fraction) -> None:
        self.errors[label] = self.errors.get(label, Fraction(0)) + error

    def draw(self, label: str, error: int) -> Element:
        """One challenge, which misleads with a probability of error / |F| at most."""
        self.count(label, Fraction(error, ORDER))
        return self.transcript.challenges(label, 1)[0]

    def draw_point(self, label: str, dims: Dims) -> Point:
        variables = sum(map(log, dims))
        self.count(label, Fraction(variables, ORDER))
        return deal(self.transcript.challenges(label, variables), dims)

    def sumcheck(
        self, label: str, dims: Dims, total: Element, degree: int
    ) -> tuple[Point, Element]:
        bound = []
        for _ in range(sum(map(log, dims))):
            at_0, *others = self.send(f"{label}: round", degree)
            r = self.draw(f"{label}: bind", degree)
            total = interpolate([at_0, total - at_0, *others], r)
            bound.append(r)
        return unflatten(bound, dims), total


def interpolate(values: list[Element], r: Element) -> Element:
    """The polynomial that has these values at 0, 1, ..., at r."""
    places = range(len(values))
    result = ZERO
    for k, value in enumerate(values):
        others = [j for j in places if j != k]
        scale = pow(prod(k - j for j in others), -1, P)
        result += prod((r - j for j in others), start=value * scale)
    return result

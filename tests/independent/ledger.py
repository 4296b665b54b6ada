"""Section 9: the ledger; section 12: how weights are known."""

from __future__ import annotations

from collections.abc import Mapping

from tests.independent.conversation import Conversation
from tests.independent.field import ZERO, Element, require
from tests.independent.opening import open_vector, shortest
from tests.independent.plan import Combination, layout, length
from tests.independent.tensors import (
    Dims,
    Functional,
    Point,
    all_ones,
    eq,
    extension,
    functional,
    same,
)


class Ledger:
    """Claims about one committed vector, the cells of the tensors in `dims`."""

    def __init__(
        self, talk: Conversation, name: str, label: str, dims: Mapping[str, Dims], root: bytes
    ) -> None:
        self.talk = talk
        self.name = name
        self.label = label
        self.dims = dims
        self.root = root
        self.claims: list[tuple[str, Functional, Element]] = []

    def claim(self, tensor: str, at: Functional) -> Element:
        value = self.talk.send_one(f"{self.label} {tensor}")
        self.claims.append((tensor, at, value))
        return value

    def close(self) -> None:
        """All claims become one, and that one is opened."""
        tensors = list(self.dims.values())
        offsets = dict(zip(self.dims, layout(tensors), strict=True))
        gamma = self.talk.draw(f"{self.name}: gamma", len(self.claims))
        total = ZERO
        for _, _, value in reversed(self.claims):
            total = total * gamma + value
        (z,), total = self.talk.sumcheck(f"{self.name}: batch", (length(tensors),), total, 2)
        value = self.talk.send_one(f"{self.name}: value")
        weight = ZERO
        for tensor, at, _ in reversed(self.claims):
            weight *= gamma
            for (f, local), offset in zip(at, offsets[tensor], strict=True):
                bits = len(local)
                weight += f * eq(offset >> bits, z[bits:]) * same(local, z[:bits])
        require(total == value * weight, f"{self.name}: batch")
        _, levels = shortest(length(tensors))
        open_vector(self.talk, self.name, levels, self.root, z, value)


class Columns(Ledger):
    """The ledger of the columns; a value that was sent is not sent again."""

    def __init__(self, talk: Conversation, dims: Mapping[str, Dims], root: bytes) -> None:
        super().__init__(talk, "columns", "value of", dims, root)
        self.known: dict[tuple[str, Point], Element] = {}

    def value(self, combination: Combination, point: Point) -> Element:
        value = combination.constant * all_ones(combination.dims, point)
        for column, factor in combination.terms.items():
            if (column, point) not in self.known:
                at = functional(combination.dims, point)
                self.known[column, point] = self.claim(column, at)
            value += factor * self.known[column, point]
        return value


class Committed(Ledger):
    """Weights of which the verifier knows a commitment."""

    def __init__(self, talk: Conversation, dims: Mapping[str, Dims], root: bytes) -> None:
        super().__init__(talk, "weights", "weight", dims, root)

    def value(self, tensor: str, point: Point) -> Element:
        return self.claim(tensor, functional(self.dims[tensor], point))


class Held:
    """Weights that the verifier has."""

    def __init__(self, dims: Mapping[str, Dims], tensors: Mapping[str, list[int]]) -> None:
        self.dims = dims
        self.tensors = tensors

    def value(self, tensor: str, point: Point) -> Element:
        return extension(self.tensors[tensor], self.dims[tensor], point)

    def close(self) -> None:
        """There is nothing to show."""

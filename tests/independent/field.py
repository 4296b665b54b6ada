"""Section 2: notation and fields."""

from __future__ import annotations

from typing import NamedTuple

P = 2**64 - 2**32 + 1
ORDER = P * P
"""|F|"""
GENERATOR = 7
"""Of the multiplicative group of F_p; no square, so that X² = 7 makes a field."""


class Refused(Exception):
    """The verifier does not believe the claim."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Refused(what)


class Element(NamedTuple):
    """a + b·X of F; integers on either side of an operation stand for themselves mod p."""

    a: int
    b: int

    def __add__(self, other):
        c, d = element(other)
        return Element((self.a + c) % P, (self.b + d) % P)

    def __sub__(self, other):
        c, d = element(other)
        return Element((self.a - c) % P, (self.b - d) % P)

    def __rsub__(self, other):
        return element(other) - self

    def __neg__(self):
        return 0 - self

    def __mul__(self, other):
        a, b = self
        if isinstance(other, int):
            return Element(a * other % P, b * other % P)
        c, d = other
        return Element((a * c + GENERATOR * b * d) % P, (a * d + b * c) % P)

    __radd__ = __add__
    __rmul__ = __mul__


def element(value: Element | int) -> Element:
    return value if isinstance(value, Element) else Element(value % P, 0)


ZERO, ONE = Element(0, 0), Element(1, 0)


def u32(n: int) -> bytes:
    return n.to_bytes(4, "little")


def u64(n: int) -> bytes:
    return n.to_bytes(8, "little")


def words_of(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]


def canonical_words(data: bytes) -> list[int]:
    words = words_of(data)
    require(all(word < P for word in words), "a coordinate that is not below p")
    return words


def pairs(words: list[int]) -> list[Element]:
    """Elements of F, two words each."""
    return [Element(a, b) for a, b in zip(words[::2], words[1::2], strict=True)]


def log(n: int) -> int:
    """⌈log n⌉"""
    return (n - 1).bit_length()


def window(n: int) -> int:
    return max(1, n.bit_length())

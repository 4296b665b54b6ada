"""Section 3: transcript."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import count, islice

from tests.independent.field import Element, P, u32, u64, words_of


def digest(data: bytes) -> bytes:
    """H"""
    return sha256(data).digest()


class Transcript:
    """One chain of hashes over everything that was said."""

    def __init__(self) -> None:
        self.state = digest(b"zkllm/sumcheck/v1")

    def absorb(self, label: str, data: bytes) -> None:
        name = label.encode()
        item = u32(len(name)) + name + u64(len(data)) + data
        self.state = digest(self.state + b"\x00" + item)

    def words(self, label: str) -> Iterator[int]:
        self.state = digest(self.state + b"\x02" + label.encode())
        state = self.state
        blocks = (digest(state + b"\x01" + u64(k)) for k in count())
        return (word for block in blocks for word in words_of(block))

    def challenges(self, label: str, n: int) -> list[Element]:
        words = (word for word in self.words(label) if word < P)
        return [Element(next(words), next(words)) for _ in range(n)]

    def indices(self, label: str, n: int, k: int) -> list[int]:
        return [word % 2**k for word in islice(self.words(label), n)]

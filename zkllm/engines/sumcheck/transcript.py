"""The transcript: a hash chain over everything that was said, from which challenges are drawn.

One sha256 state. Every item enters with its label and both lengths, so that no two sequences of
items share a preimage; a challenge enters the chain as well, so that order matters. A byte after
the state says what is hashed: an item, a challenge, or a block of a challenge's words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from zkllm.engines.sumcheck.field import MODULUS, Ext

_START = b"zkllm/sumcheck/v1"
_ITEM, _BLOCK, _CHALLENGE = b"\x00", b"\x01", b"\x02"


class Transcript:
    """Absorbs labelled bytes and yields challenges."""

    def __init__(self) -> None:
        self._state = hashlib.sha256(_START).digest()

    def absorb(self, label: str, data: bytes) -> None:
        """Let everything that follows depend on `data`."""
        name = label.encode()
        head = len(name).to_bytes(4, "little") + name + len(data).to_bytes(8, "little")
        self._state = hashlib.sha256(self._state + _ITEM + head + data).digest()

    def challenge(self, label: str) -> Ext:
        """One uniform element of the extension."""
        return self.challenges(label, 1)[0]

    def challenges(self, label: str, count: int) -> list[Ext]:
        """`count` independent elements of the extension."""
        words = self._words(label)
        # A word at or above p is passed over: taken modulo p, small values would be likelier.
        uniform = (word for word in words if word < MODULUS)
        return [Ext(next(uniform), next(uniform)) for _ in range(count)]

    def indices(self, label: str, count: int, logarithm: int) -> list[int]:
        """`count` independent numbers below 2^logarithm, at most 2^64; they may repeat."""
        words = self._words(label)
        return [next(words) & ((1 << logarithm) - 1) for _ in range(count)]

    def _words(self, label: str) -> Iterator[int]:
        self._state = state = hashlib.sha256(self._state + _CHALLENGE + label.encode()).digest()

        def stream() -> Iterator[int]:
            counter = 0
            while True:
                block = hashlib.sha256(state + _BLOCK + counter.to_bytes(8, "little")).digest()
                for start in range(0, 32, 8):
                    yield int.from_bytes(block[start : start + 8], "little")
                counter += 1

        return stream()

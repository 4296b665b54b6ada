"""Section 6: commitment and opening."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

from tests.independent.conversation import Conversation
from tests.independent.field import (
    GENERATOR,
    ONE,
    ORDER,
    Element,
    P,
    canonical_words,
    log,
    pairs,
    require,
    u64,
)
from tests.independent.tensors import Coordinates, dot, eqs, same
from tests.independent.transcript import digest


class Code(NamedTuple):
    inverse_rate: int
    """n / C"""
    opened: int
    """Q"""
    width: int
    """w"""


VECTOR = Code(4, 168, 1)
ROW = Code(16, 124, 2)
CAP = 7
LARGEST_ROW = 17


class Level(NamedTuple):
    code: Code
    rows: int
    """R"""
    c: int

    @property
    def log_n(self) -> int:
        return self.c + log(self.code.inverse_rate)

    @property
    def omega(self) -> int:
        return pow(GENERATOR, (P - 1) >> self.log_n, P)

    @property
    def cap(self) -> int:
        return min(CAP, self.log_n)

    @property
    def column_bytes(self) -> int:
        return 8 * self.rows * self.code.width

    @property
    def opened_bytes(self) -> int:
        """A column and its path."""
        return self.column_bytes + 32 * (self.log_n - self.cap)

    @property
    def columns_bytes(self) -> int:
        return 32 * 2**self.cap + self.code.opened * self.opened_bytes


@cache
def shortest(length: int, code: Code = VECTOR) -> tuple[int, list[Level]]:
    """The bytes of the shortest opening of a vector, and its levels."""
    best = None
    for c in range(min(log(length), LARGEST_ROW) + 1):
        level = Level(code, -(-length // 2**c), c)
        rest, levels = 16 * 2**c, []
        if level.rows > 1:
            deeper, further = shortest(2**c, ROW)
            committed = 32 + 16 * (2 * c + 1) + deeper
            if committed < rest:
                rest, levels = committed, further
        size = level.columns_bytes + rest
        if best is None or size < best[0]:
            best = size, [level, *levels]
    return best


def commit(vector: list[int]) -> bytes:
    """The root of a vector of values in F_p, each row evaluated at every point by itself."""
    level = shortest(len(vector))[1][0]
    padded = vector + [0] * (level.rows * 2**level.c - len(vector))
    rows = [padded[i : i + 2**level.c] for i in range(0, len(padded), 2**level.c)]
    points = [pow(level.omega, k, P) for k in range(2**level.log_n)]
    columns = [b"".join(u64(evaluate(row, x)) for row in rows) for x in points]
    return merkle_root([digest(b"\x00" + column) for column in columns])


def open_vector(
    talk: Conversation,
    name: str,
    levels: list[Level],
    root: bytes,
    z: Coordinates,
    value: Element,
) -> None:
    """The vector under this root has this value at the point z."""
    level, *deeper = levels
    low, high = z[: level.c], z[level.c :]
    if not deeper:
        row = talk.send(f"{name}: row", 2**level.c)
        require(dot(eqs(2**level.c, low), row) == value, f"{name}: a row of another value")
        coordinates = [list(words) for words in zip(*row, strict=True)]
        for x, combined in open_columns(talk, name, level, root, high):
            encoded = Element(*(evaluate(words, x) for words in coordinates))
            require(encoded == combined, f"{name}: a column that is not of the row")
        return
    row_name = f"{name} row"
    row_root = talk.receive(f"{row_name}: commitment", 32)
    opened = open_columns(talk, name, level, root, high)
    gamma = talk.draw(f"{row_name}: gamma", level.code.opened)
    total, factor = value, ONE
    for _, combined in opened:
        factor *= gamma
        total += factor * combined
    (y,), total = talk.sumcheck(f"{row_name}: batch", (2**level.c,), total, 2)
    value = talk.send_one(f"{row_name}: value")
    weight, factor = same(low, y), ONE
    for x, _ in opened:
        factor *= gamma
        weight += factor * powers_at(y, x)
    require(total == value * weight, f"{row_name}: batch")
    open_vector(talk, row_name, deeper, row_root, y, value)


def open_columns(
    talk: Conversation, name: str, level: Level, root: bytes, high: Coordinates
) -> list[tuple[int, Element]]:
    """(ω^k, s_k) for the k of every opened column."""
    code = level.code
    talk.count(f"{name}: high", Fraction(log(level.rows) * 2**level.log_n, ORDER))
    missed = Fraction(code.inverse_rate + 1, 2 * code.inverse_rate)
    talk.count(f"{name}: columns", missed**code.opened)
    ks = talk.transcript.indices(f"{name}: columns", code.opened, level.log_n)
    data = talk.receive(f"{name}: columns", level.columns_bytes)
    cap, rest = hashes(data[: 32 * 2**level.cap]), data[32 * 2**level.cap :]
    require(merkle_root(cap) == root, f"{name}: the cap does not give the root")
    rows = eqs(level.rows, high)
    opened = []
    for q, k in enumerate(ks):
        piece = rest[q * level.opened_bytes : (q + 1) * level.opened_bytes]
        column, path = piece[: level.column_bytes], hashes(piece[level.column_bytes :])
        node = digest(b"\x00" + column)
        for i, sibling in enumerate(path):
            node = parent(sibling, node) if k >> i & 1 else parent(node, sibling)
        require(node == cap[k >> len(path)], f"{name}: a path that does not lead to the cap")
        words = canonical_words(column)
        entries = words if code.width == 1 else pairs(words)
        opened.append((pow(level.omega, k, P), dot(rows, entries)))
    return opened


def hashes(data: bytes) -> list[bytes]:
    return [data[i : i + 32] for i in range(0, len(data), 32)]


def parent(left: bytes, right: bytes) -> bytes:
    return digest(b"\x01" + left + right)


def merkle_root(nodes: list[bytes]) -> bytes:
    while len(nodes) > 1:
        nodes = [parent(*pair) for pair in zip(nodes[::2], nodes[1::2], strict=True)]
    return nodes[0]


def evaluate(coefficients: list[int], x: int) -> int:
    """A polynomial over F_p, the lowest coefficient first, at x."""
    result = 0
    for coefficient in reversed(coefficients):
        result = (result * x + coefficient) % P
    return result


def powers_at(y: Coordinates, x: int) -> Element:
    """The extension of 1, x, x², ... at y: Π_i (1 + y_i·(x^(2^i) - 1))."""
    result = ONE
    for r in y:
        result = result * (1 + r * (x - 1))
        x = x * x % P
    return result

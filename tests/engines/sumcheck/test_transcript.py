"""The transcript: everything that is said changes every later challenge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from zkllm.engines.sumcheck import transcript as module
from zkllm.engines.sumcheck.field import MODULUS, Ext
from zkllm.engines.sumcheck.transcript import Transcript

Item = tuple[str, bytes]

# For other implementations: what `test_known_answers` draws.
KNOWN = [
    "9235a6140719de20b78d0ccb244a5729",
    "ee641420a4707f7bb36f48b969420dc5",
    "e211295fe3b927f6787d5de31baecde9",
    "800cac31656c206895e86129085b6ebe",
    "b573daae1ed1dc8129cad9887c208a0c",
]
INDICES = [6633, 4615, 4622, 6325, 7593, 2275]


def after(*items: Item) -> Ext:
    """The challenge that follows these items."""
    transcript = Transcript()
    for label, data in items:
        transcript.absorb(label, data)
    return transcript.challenge("check")


class Chain:
    """The hash chain written anew, from its description."""

    def __init__(self) -> None:
        self.state = hashlib.sha256(b"zkllm/sumcheck/v1").digest()

    def absorb(self, label: bytes, data: bytes) -> None:
        lengths = len(label).to_bytes(4, "little"), len(data).to_bytes(8, "little")
        item = b"\x00" + lengths[0] + label + lengths[1] + data
        self.state = hashlib.sha256(self.state + item).digest()

    def words(self, label: bytes, count: int) -> list[int]:
        self.state = hashlib.sha256(self.state + b"\x02" + label).digest()
        blocks = b"".join(
            hashlib.sha256(self.state + b"\x01" + k.to_bytes(8, "little")).digest()
            for k in range(count)
        )
        return [int.from_bytes(blocks[8 * k : 8 * k + 8], "little") for k in range(count)]


def test_equals_its_description() -> None:
    transcript, chain = Transcript(), Chain()
    transcript.absorb("é", b"\x01\x02")
    chain.absorb("é".encode(), b"\x01\x02")
    words = chain.words(b"several", 14)
    assert all(word < MODULUS for word in words)
    assert transcript.challenges("several", 7) == [
        Ext(words[2 * k], words[2 * k + 1]) for k in range(7)
    ]
    transcript.absorb("", b"")
    chain.absorb(b"", b"")
    words = chain.words(b"places", 9)
    assert transcript.indices("places", 9, 10) == [word % 1024 for word in words]


def test_known_answers() -> None:
    transcript = Transcript()
    assert hexadecimal(transcript.challenge("first")) == KNOWN[0]
    transcript.absorb("protocol", bytes(range(32)))
    transcript.absorb("empty", b"")
    assert [hexadecimal(x) for x in transcript.challenges("point", 3)] == KNOWN[1:4]
    assert transcript.indices("columns", 6, 13) == INDICES
    assert hexadecimal(transcript.challenge("last")) == KNOWN[4]


def hexadecimal(element: Ext) -> str:
    """Both coordinates as on the wire."""
    return (element.a.to_bytes(8, "little") + element.b.to_bytes(8, "little")).hex()


BASE: list[Item] = [("one", b"abc"), ("two", b""), ("three", b"\x00\x00")]


@pytest.mark.parametrize("item", range(len(BASE)))
@pytest.mark.parametrize(
    "change",
    [
        lambda label, data: (label + "x", data),
        lambda label, data: (label[:-1], data),
        lambda label, data: (label, data + b"\x00"),
        lambda label, data: (label, b"\x00" + data),
        lambda label, data: (label + "\x00", data),
        lambda label, data: (label[:-1], label[-1:].encode() + data),
        lambda label, data: (label + data.decode(), b"") if data else (label, b"x"),
        lambda label, data: (data.decode(), label.encode()),
    ],
)
def test_a_changed_item_changes_the_challenge(
    item: int, change: Callable[[str, bytes], Item]
) -> None:
    changed = list(BASE)
    changed[item] = change(*BASE[item])
    assert changed != BASE
    assert after(*changed) != after(*BASE)


def test_every_bit_of_an_item_changes_the_challenge() -> None:
    data = bytes(range(40))
    seen = {after(("item", data))}
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        seen.add(after(("item", bytes(flipped))))
    assert len(seen) == 1 + 8 * len(data)


@pytest.mark.parametrize(
    "items",
    [
        [BASE[1], BASE[0], BASE[2]],
        [BASE[0], BASE[1]],
        [*BASE, ("", b"")],
        [("", b""), *BASE],
        [BASE[0], BASE[1], BASE[1], BASE[2]],
        # two items with the bytes of one
        [("one", b"a"), ("one", b"bc"), *BASE[1:]],
        [("onetwo", b"abc"), BASE[2]],
    ],
)
def test_order_and_number_of_items_change_the_challenge(items: list[Item]) -> None:
    assert after(*items) != after(*BASE)


def test_an_item_cannot_hold_the_encoding_of_two() -> None:
    second = b"\x00" + (1).to_bytes(4, "little") + b"b" + (1).to_bytes(8, "little") + b"y"
    assert after(("a", b"x"), ("b", b"y")) != after(("a", b"x" + second))


def test_an_item_cannot_stand_for_a_challenge() -> None:
    with_challenge = Transcript()
    with_challenge.challenge("x")
    for label, data in (("challenge", b"x"), ("x", b""), ("", b"x")):
        with_item = Transcript()
        with_item.absorb(label, data)
        assert with_item.challenge("check") != with_challenge.challenge("check")


def test_labels_of_challenges_count() -> None:
    assert Transcript().challenge("a") != Transcript().challenge("b")


def test_every_challenge_is_new() -> None:
    transcript = Transcript()
    drawn = [transcript.challenge("same") for _ in range(50)]
    drawn += transcript.challenges("same", 50)
    assert len(set(drawn)) == 100


def test_earlier_challenges_change_later_ones() -> None:
    first, second = Transcript(), Transcript()
    first.challenge("x")
    assert first.challenge("y") != second.challenge("y")


def test_the_same_words_give_the_same_challenges() -> None:
    assert after(*BASE) == after(*BASE)


def test_no_challenges_are_a_step_as_well() -> None:
    transcript = Transcript()
    assert transcript.challenges("none", 0) == []
    assert transcript.challenge("x") != Transcript().challenge("x")


class Hashing:
    """A stand-in for hashlib whose blocks of words are given."""

    def __init__(self, words: list[int]) -> None:
        self._data = b"".join(word.to_bytes(8, "little") for word in words)

    def sha256(self, data: bytes) -> Hashing:
        self._asked = data
        return self

    def digest(self) -> bytes:
        if self._asked[32:33] != b"\x01":
            return bytes(32)
        k = int.from_bytes(self._asked[33:41], "little")
        return self._data[32 * k : 32 * k + 32]


def test_words_above_the_modulus_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [MODULUS, 5, 2**64 - 1, MODULUS - 1, MODULUS + 1, 0, 3, 4]
    monkeypatch.setattr(module, "hashlib", Hashing(words))
    assert Transcript().challenges("x", 2) == [Ext(5, MODULUS - 1), Ext(0, 3)]


@pytest.mark.parametrize("logarithm", [0, 1, 13, 64])
def test_indices_are_below_their_limit(logarithm: int) -> None:
    drawn = Transcript().indices("x", 400, logarithm)
    assert len(drawn) == 400
    assert all(0 <= index < 2**logarithm for index in drawn)
    if logarithm <= 1:
        assert set(drawn) == set(range(2**logarithm))
    else:
        # both halves are met, and hardly any index twice
        assert {index >> (logarithm - 1) for index in drawn} == {0, 1}
        assert len(set(drawn)) > 350

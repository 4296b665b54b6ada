"""Tokenizers spell or refuse; what a tokenizer.json adds to that is left out."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as Raw

from tests.conftest import ALPHABET, character_tokenizer
from zkllm.errors import InputError
from zkllm.exact.model import ExactModel
from zkllm.tokenization import Tokenizer, parse


def test_there_and_back(tiny_model: ExactModel) -> None:
    tokenizer = Tokenizer(tiny_model)
    ids = tokenizer.encode("a cat.\n")
    assert tokenizer.decode(ids) == "a cat.\n"
    assert len(ids) == 7


@pytest.mark.parametrize("text", ["a€", "A", "\ud800", "a\0"])
def test_what_cannot_be_spelled(text: str, tiny_model: ExactModel) -> None:
    with pytest.raises(InputError, match=r"cannot spell|not valid Unicode"):
        Tokenizer(tiny_model).encode(text)


def test_truncation_and_padding_are_switched_off() -> None:
    """Either would change the ids of a prompt without a word."""
    raw = Raw.from_buffer(character_tokenizer(ALPHABET))
    raw.enable_truncation(max_length=2)
    raw.enable_padding(length=50)
    assert len(raw.encode("abcd").ids) == 50
    tokenizer = parse(raw.to_str().encode(), len(ALPHABET))
    assert tokenizer.encode("abcd").ids == [0, 1, 2, 3]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"version":"1.0"}'])
def test_what_is_no_tokenizer(data: bytes) -> None:
    with pytest.raises(InputError, match=r"tokenizer.json: not a tokenizer"):
        parse(data, 10)


def test_a_tokenizer_of_another_model() -> None:
    with pytest.raises(InputError, match="at most 10 tokens expected, got 29"):
        parse(character_tokenizer(ALPHABET), 10)


def test_an_id_that_the_model_has_no_row_for() -> None:
    """So few tokens that they would fit, but for one of their ids."""
    data = character_tokenizer(ALPHABET).replace(b'"b":1,', b'"b":29,')
    with pytest.raises(InputError, match="ids below 29 expected, got 29"):
        parse(data, 29)
    assert parse(data, 30).encode("ab").ids == [0, 29]

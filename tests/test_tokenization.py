"""Tokenizers spell or refuse, as transformers would, and the same every time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import Tokenizer as Raw
from tokenizers import models

from tests.conftest import ALPHABET, character_tokenizer
from tests.tokenizer_kinds import KINDS, PROMPTS, byte_level, changed, characters, sentencepiece
from zkllm.errors import InputError
from zkllm.exact.model import ExactModel
from zkllm.tokenization import Tokenizer, parse, room


def opened(raw: Raw, rows: int | None = None) -> Tokenizer:
    """`raw` as the tokenizer of a model with a row for every id, or with so many `rows`."""
    vocabulary = max(raw.get_vocab().values()) + 1 if rows is None else rows
    return Tokenizer.from_bytes(raw.to_str().encode(), vocabulary)


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """transformers' tokenizer over the same tokenizer.json."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        from transformers import PreTrainedTokenizerFast

        path = tmp_path_factory.mktemp("fast") / "tokenizer.json"

        def make(raw: Raw) -> Any:
            raw.save(str(path))
            return PreTrainedTokenizerFast(tokenizer_file=str(path))

        yield make


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_text_are_those_of_transformers(kind: str, fast: Any) -> None:
    """Every prompt is run as transformers would, or refused because transformers cannot."""
    raw = KINDS[kind]()
    theirs, ours = fast(raw), opened(raw)
    vocabulary = sorted(raw.get_vocab().values())
    chance = random.Random(kind)
    for prompt in PROMPTS:
        try:
            ids = ours.encode(prompt)
        except InputError:
            try:
                expected = theirs(prompt)["input_ids"]
            except Exception as failure:
                assert "Missing [UNK]" in str(failure)  # noqa: PT017 - theirs is any Exception
            else:
                assert expected == []
            continue
        assert list(ids) == theirs(prompt)["input_ids"], repr(prompt)
        before = theirs.decode(ids)
        for _ in range(4):
            generated = chance.choices(vocabulary, k=chance.randrange(1, 6))
            after = theirs.decode([*ids, *generated])
            if after.startswith(before):
                assert before + ours.completion(ids, generated) == after
            else:
                with pytest.raises(InputError, match="has no text for the completion"):
                    ours.completion(ids, generated)


def test_the_first_word_keeps_its_space() -> None:
    """Decoded alone, it would lose it: `Hellothe`."""
    raw = KINDS["unigram, always"]()
    tokenizer, the = opened(raw), raw.token_to_id("▁the")
    assert the is not None
    ids = tokenizer.encode("hello")
    assert tokenizer.decode([the, the]) == "the the"
    assert tokenizer.completion(ids, [the, the]) == " the the"


def test_half_a_character_may_be_generated() -> None:
    tokenizer = opened(byte_level())
    ids, more = tokenizer.encode("hello"), tokenizer.encode("é")
    assert tokenizer.completion(ids, more[:1]) == "\ufffd"
    assert tokenizer.completion(ids, more) == "é"


def test_a_decoder_that_takes_back_what_it_said() -> None:
    """SentencePiece's bytes: a half character makes the whole ones before it unreadable, too."""
    tokenizer = opened(sentencepiece())
    ids, more = tokenizer.encode("日"), tokenizer.encode("本")[-3:]
    assert tokenizer.completion(ids, more) == "本"
    with pytest.raises(InputError, match="has no text for the completion") as caught:
        tokenizer.completion(ids, more[:2])
    assert "ask for more tokens" in caught.value.hint


def test_there_and_back(tiny_model: ExactModel) -> None:
    tokenizer = Tokenizer(tiny_model)
    ids = tokenizer.encode("a cat.\n")
    assert tokenizer.decode(ids) == "a cat.\n"
    assert len(ids) == 7


@pytest.mark.parametrize("text", ["a€", "A", "\ud800", "a\0"])
def test_what_cannot_be_spelled(text: str, tiny_model: ExactModel) -> None:
    with pytest.raises(InputError, match=r"cannot spell|not valid Unicode"):
        Tokenizer(tiny_model).encode(text)


def test_a_token_that_the_model_has_no_row_for() -> None:
    """A padding token is often added and the model not resized; nobody writes it in a prompt."""
    raw = byte_level()
    raw.add_special_tokens(["[PAD]"])
    tokenizer = opened(raw, rows=263)
    assert tokenizer.encode("hello") == (raw.token_to_id("hello"),)
    with pytest.raises(InputError, match=r"token 263, '\[PAD\]', for which the model has no"):
        tokenizer.encode("hello [PAD]")
    assert tokenizer.ids()[-1] == 262


def test_a_prompt_far_longer_than_its_tokens() -> None:
    """`run` refuses what no verifier would read."""
    tokenizer = opened(KINDS["lower case, NFKC, stripped"]())
    assert len(tokenizer.encode(" " * (room(1) - 1) + "a")) == 1
    with pytest.raises(InputError, match="at most 65664 characters expected for 1 tokens"):
        tokenizer.encode(" " * room(1) + "a")


@pytest.mark.parametrize("kind", ["byte level", "unigram, always", "SentencePiece", "characters"])
def test_what_fits_a_few_tokens_is_cheap_to_encode(kind: str) -> None:
    """The limit bounds memory: most is asked by one token for each byte of each character."""
    code = (
        "import resource, sys, tests.tokenizer_kinds as kinds\n"
        "from zkllm.tokenization import parse, room\n"
        f"tokenizer = parse(kinds.KINDS[{kind!r}]().to_str().encode(), 1 << 20)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "tokenizer.encode('\U0001f600' * room(1))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 256  # MiB


# tokenizer.json


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


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (byte_level(dropout=0.1), "model.dropout must be null, got 0.1"),
        (
            Raw(models.WordPiece({"a": 0}, unk_token="a", max_input_chars_per_word=10**6)),
            "model.max_input_chars_per_word must be at most 256, got 1000000",
        ),
    ],
)
def test_what_is_not_the_same_every_time(raw: Raw, message: str) -> None:
    with pytest.raises(InputError, match=f"^tokenizer.json: {message}"):
        parse(raw.to_str().encode(), 1000)


def test_a_token_as_long_as_a_book() -> None:
    """Quadratic work for a unigram model, whose prompt is a few of these."""
    with pytest.raises(InputError, match="tokens of at most 512 characters expected, got 513"):
        parse(characters().to_str().replace('"a":1,', f'"{"a" * 513}":1,').encode(), 1000)


def test_a_file_that_its_vocabulary_does_not_account_for() -> None:
    """Sixty megabytes of steps that change nothing take the library five gigabytes."""
    steps = [{"type": "NFC"}] * 100_000
    value = json.loads(characters().to_str())
    value["normalizer"] = {"type": "Sequence", "normalizers": steps}
    data = json.dumps(value).encode()
    vocabulary = 1000
    limit = (1 << 20) + 256 * vocabulary
    with pytest.raises(InputError, match=f"at most {limit} bytes .* 1000 tokens, got {len(data)}"):
        parse(data, vocabulary)
    value["normalizer"]["normalizers"] = steps[:1000]
    parse(json.dumps(value).encode(), vocabulary)


def test_two_tokens_with_one_id() -> None:
    """Which of them a text has would be another in every process."""
    data = characters().to_str().replace('"a":1,', '"a":2,').encode()
    assert {Raw.from_buffer(data).decode([2]) for _ in range(64)} == {"a", "b"}
    with pytest.raises(InputError, match="one token for each id expected, got 'a' and 'b' for 2"):
        parse(data, 1000)


def test_chance_is_chance() -> None:
    """What the refusals above are about: the same text, other ids."""
    drawn = byte_level(dropout=0.5)
    assert len({tuple(drawn.encode("hello the hello").ids) for _ in range(50)}) > 1


def test_an_added_token_with_another_id_than_the_library_gives() -> None:
    """Where the vocabulary has holes, the library counts on from its size."""
    added = {"id": 82, "content": "[A]", "special": True, "normalized": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    data = json.dumps(json.loads(KINDS["holes"]().to_str()) | {"added_tokens": [added | flags]})
    assert Raw.from_str(data).token_to_id("[A]") == 28
    with pytest.raises(InputError, match=r"'\[A\]' has id 82, but the library gives it 28"):
        parse(data.encode(), 1000)


DOUBLING: dict[str, dict[str, Any]] = {
    "normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"},
    "pre_tokenizer": {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    },
    "decoder": {"type": "Replace", "pattern": {"Regex": ""}, "content": "a"},
}


@pytest.mark.parametrize("part", DOUBLING)
def test_steps_that_double_a_text(part: str) -> None:
    """Forty lines of tokenizer.json that would make a terabyte of one character."""
    kind, steps = {
        "normalizer": ("Sequence", "normalizers"),
        "pre_tokenizer": ("Sequence", "pretokenizers"),
        "decoder": ("Sequence", "decoders"),
    }[part]
    raw = changed(characters(), **{part: {"type": kind, steps: [DOUBLING[part]] * 40}})
    with pytest.raises(InputError, match=f"tokenizer.json: {part}: expected to make a text"):
        parse(raw.to_str().encode(), 1000)


def test_a_template_that_repeats_a_text() -> None:
    template = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2000,
        "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
        "special_tokens": {},
    }
    raw = changed(characters(), post_processor=template)
    with pytest.raises(InputError, match=r"tokenizer.json: post_processor: expected"):
        parse(raw.to_str().encode(), 1000)


@pytest.mark.parametrize("depth", [200, 30_000])
def test_a_deep_file(depth: int) -> None:
    nested = '{"type":"Sequence","normalizers":[' * depth + "]}" * depth
    data = characters().to_str().replace('"normalizer":null', f'"normalizer":{nested}')
    with pytest.raises(InputError, match=r"^tokenizer.json: not a tokenizer: .*recursion limit"):
        parse(data.encode(), 1000)


def test_a_number_that_python_does_not_read() -> None:
    """The library skips what it does not know."""
    raw = characters()
    raw.enable_truncation(max_length=3)
    data = raw.to_str().replace('"truncation":{', '"truncation":{"more":1' + "0" * 5000 + ",")
    with pytest.raises(InputError, match=r"^tokenizer.json: not JSON: Exceeds the limit"):
        parse(data.encode(), 1000)


def test_a_panic_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Rust would write its own report, with a backtrace, to file 2."""
    raw = changed(characters(), decoder={"type": "Strip", "content": "a", "start": 9, "stop": 9})
    with pytest.raises(InputError, match=r"cannot decode its tokens: index out of bounds"):
        opened(raw).decode([1])
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_what_others_write_to_stderr_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    from zkllm.tokenization import _guarded

    with _guarded(""):
        os.write(2, b"said meanwhile")
    assert capfd.readouterr().err == "said meanwhile"

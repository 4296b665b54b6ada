"""What lies beside tokenizer.json: it may not change what a prompt is, as transformers sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Raw
from tokenizers import decoders, models, pre_tokenizers

from tests.tokenizer_kinds import END, KINDS, PROMPTS, byte_level, sentencepiece
from zkllm.errors import InputError, UnsupportedModel
from zkllm.tokenization import Tokenizer
from zkllm.vetting import check_round_trip, check_settings

PLAIN = {"content": END, "lstrip": False, "rstrip": False, "normalized": False}
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
GPT2 = {"tokenizer_class": "GPT2Tokenizer"}
Files = dict[str, Any]


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Raw, Files], Any]:
    """Write a folder and open it as `transformers` does."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    def make(raw: Raw, files: Files) -> Any:
        raw.save(str(tmp_path / "tokenizer.json"))
        for name, content in ({"config": {"model_type": "gpt2"}} | files).items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return AutoTokenizer.from_pretrained(str(tmp_path))

    return make


def opened(raw: Raw) -> Tokenizer:
    return Tokenizer.from_bytes(raw.to_str().encode(), max(raw.get_vocab().values()) + 1)


def differing(raw: Raw, other: Any) -> list[str]:
    """The prompts of which `other` makes other ids than `raw`."""
    return [p for p in PROMPTS if p and raw.encode(p).ids != other(p)["input_ids"]]


AGREED: dict[str, tuple[str, Files]] = {
    "none": ("byte level", {}),
    "GPT-2's own": (
        "byte level",
        {
            "tokenizer_config": GPT2
            | {
                "model_max_length": 1024,
                "add_prefix_space": False,
                "add_bos_token": False,
                "errors": "replace",
                "pad_token": None,
                "clean_up_tokenization_spaces": True,
                "bos_token": PLAIN | {"single_word": False, "__type": "AddedToken"},
                "eos_token": END,
                "unk_token": END,
                "added_tokens_decoder": {"262": PLAIN | {"single_word": False, "special": True}},
            }
        },
    ),
    "a space before": (
        "byte level, space before",
        {"tokenizer_config": GPT2 | {"add_prefix_space": True}},
    ),
    "BOS is tokenizer.json's": (
        "byte level",
        {"tokenizer_config": GPT2 | {"add_bos_token": True, "add_eos_token": True}},
    ),
    "no BOS is tokenizer.json's": (
        "byte level, BOS by template",
        {"tokenizer_config": FAST | {"add_bos_token": False}},
    ),
    "SentencePiece": (
        "SentencePiece",
        {
            "tokenizer_config": FAST
            | {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        },
    ),
    "older files": (
        "byte level",
        {
            "tokenizer_config": FAST,
            "special_tokens_map": {"eos_token": END, "bos_token": PLAIN | {"single_word": False}},
            "added_tokens": {END: 262},
        },
    ),
    "older files beside a newer key": (
        "byte level",
        {
            "tokenizer_config": FAST | {"added_tokens_decoder": {}},
            "special_tokens_map": {"pad_token": "<pad>"},
            "added_tokens": {"[X]": 300},
        },
    ),
    "WordPiece": (
        "WordPiece",
        {
            "tokenizer_config": FAST
            | {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
        },
    ),
}


@pytest.mark.parametrize("name", AGREED)
def test_settings_that_change_nothing(
    name: str, theirs: Callable[[Raw, Files], Any], tmp_path: Path
) -> None:
    kind, files = AGREED[name]
    raw = KINDS[kind]()
    assert differing(raw, theirs(raw, files)) == []
    check_settings(tmp_path, opened(raw))


REFUSED: dict[str, tuple[str, Files, str]] = {
    "add_prefix_space": (
        "byte level",
        {"tokenizer_config": GPT2 | {"add_prefix_space": True}},
        "add_prefix_space must be false as in tokenizer.json, got true",
    ),
    "add_prefix_space by default": (
        "byte level, space before",
        {"tokenizer_config": GPT2},
        "add_prefix_space must be true as in tokenizer.json, got false",
    ),
    "split_special_tokens": (
        "byte level",
        {"tokenizer_config": FAST | {"split_special_tokens": True}},
        "split_special_tokens must be false as in tokenizer.json, got true",
    ),
    "tokenizer_class": (
        "byte level, lower case",
        {"tokenizer_config": GPT2},
        "tokenizer_class must be PreTrainedTokenizerFast for a tokenizer.json that is more than a",
    ),
    "pad_token": (
        "added tokens",
        {"tokenizer_config": FAST | {"pad_token": "the"}},
        "pad_token 'the' must be an added token of tokenizer.json, it is none",
    ),
    "additional_special_tokens": (
        "byte level",
        {"tokenizer_config": FAST | {"additional_special_tokens": ["##a"]}},
        "additional_special_tokens '##a' must be an added token",
    ),
    "extra_special_tokens": (
        "byte level",
        {"tokenizer_config": FAST | {"extra_special_tokens": {"image_token": "##a"}}},
        "extra_special_tokens '##a' must be an added token",
    ),
    "added_tokens_decoder": (
        "byte level",
        {
            "tokenizer_config": FAST
            | {
                "added_tokens_decoder": {
                    "262": PLAIN | {"lstrip": True, "single_word": False, "special": True}
                }
            }
        },
        r"lstrip of '<\|endoftext\|>' must be false as in tokenizer.json, got true",
    ),
    "special_tokens_map": (
        "byte level",
        {"special_tokens_map": {"pad_token": {"content": "<unk>"}}},
        "special_tokens_map.json: pad_token '<unk>' must be",
    ),
    "added_tokens": (
        "byte level",
        {"tokenizer_config": FAST, "added_tokens": {"<unk>": 263}},
        "added_tokens.json: token '<unk>' must be",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_would_change_ids(
    name: str, theirs: Callable[[Raw, Files], Any], tmp_path: Path
) -> None:
    kind, files, message = REFUSED[name]
    raw = KINDS[kind]()
    assert differing(raw, theirs(raw, files)), "transformers makes nothing else of it"
    with pytest.raises(UnsupportedModel, match=message):
        check_settings(tmp_path, opened(raw))


def test_lower_case_is_said_twice(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(UnsupportedModel, match=r"do_lower_case must be true as in tokenizer.json"):
        check_settings(tmp_path, opened(KINDS["WordPiece"]()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "tokenizer_config.json: not JSON"),
        (b"\xff", "tokenizer_config.json: not JSON"),
        (b"[" * 100_000, "tokenizer_config.json: not JSON"),
        (b"[]", "tokenizer_config.json: expected an object, got list"),
        (b'{"do_lower_case": 1, "do_lower_case": true}', "not JSON: duplicate key 'do_lower_case'"),
        (b'{"added_tokens_decoder": {"1": 2}}', "added_tokens_decoder.1: no object"),
        (b'{"added_tokens_decoder": {"1": {}}}', "added_tokens_decoder 'None' must be"),
        (b'{"pad_token": {"content": [1]}}', r"pad_token '\[1\]' must be an added token"),
        (b'{"extra_special_tokens": [[1], 2]}', r"extra_special_tokens '\[1\]' must be"),
    ],
)
def test_malformed_settings_are_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        check_settings(tmp_path, opened(byte_level()))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_goes_round(kind: str) -> None:
    check_round_trip(opened(KINDS[kind]()))


def test_what_comes_out_otherwise_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever chance a later release of the library brings in."""
    tokenizer = opened(sentencepiece())
    drawn = iter(range(1000))
    monkeypatch.setattr(tokenizer, "encode", lambda _: (1, 2 + next(drawn) % 7))
    with pytest.raises(UnsupportedModel, match=r"expected the same for .* each time, got \[1, 2\]"):
        check_round_trip(tokenizer)


def test_a_tokenizer_without_tokens() -> None:
    with pytest.raises(UnsupportedModel, match="spelled again: it has no tokens"):
        check_round_trip(Tokenizer.from_bytes(b'{"model": {"vocab": {}, "merges": []}}', 10))


def test_a_round_trip_encodes_no_text_that_steps_made_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 tokens of half a million characters each: minutes, before a policy is refused."""
    raw = Raw(models.WordLevel({"a" * (512 - i): i for i in range(100)}, unk_token="a" * 512))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Replace("a", "b" * 1024)
    encode = Tokenizer.encode

    def short(self: Tokenizer, text: str, *more: Any) -> tuple[int, ...]:
        assert len(text) <= 64
        return encode(self, text, *more)

    monkeypatch.setattr(Tokenizer, "encode", short)
    with pytest.raises(UnsupportedModel, match=r"its steps made 524288 characters of a few tokens"):
        check_round_trip(opened(raw))

"""tokenizer.json from vocab.json and merges.txt: the ids of `transformers.GPT2Tokenizer`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.checkpoints.reference import transformers
from zkllm.checkpoints import bpe
from zkllm.checkpoints.files import Folder
from zkllm.errors import Error

END = "<|endoftext|>"
TEXTS = (
    "the quick brown fox",
    "Hi <|endoftext|>é",
    " <a> the<b><x> [PAD]",
    "héllo  wörld\n\n 123",
    "x<e1> y<e2><pad>z",
    "a<a>a <a> b",
    "don't  you'll THE\t",
    "🙂 e\u0301 日本語",
)


def trained() -> tuple[dict[str, int], list[str]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    text = "the quick brown fox jumps over the lazy dog, don't you think? héllo wörld 123 123 "
    tokenizer.train_from_iterator([text * 5], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [" ".join(pair) for pair in model["merges"]]


VOCABULARY, MERGES = trained()
N = len(VOCABULARY)


def marked(content: str, **marks: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
    return {"content": content} | plain | marks


def write(folder: Path, **files: Any) -> Folder:
    """vocab.json and merges.txt, and `files`, with `_` for the dot in their names."""
    usual = {
        "vocab_json": VOCABULARY | {END: N},
        "merges_txt": "#version: 0.2\n" + "\n".join(MERGES) + "\n",
    }
    for name, content in (usual | files).items():
        path = folder / ".".join(name.rsplit("_", 1))
        text = content if isinstance(content, str) else json.dumps(content)
        if content is not None:
            path.write_bytes(text.encode())
    return Folder(folder)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"merges_txt": "#version: 0.2\r\n" + "\r\n".join(MERGES) + "\r\n"},
        {"merges_txt": "\n".join(MERGES)},
        {"merges_txt": "#version: 0.2\n"},
        {"vocab_json": VOCABULARY},
        {"vocab_json": {t: i + (i > 99) for t, i in VOCABULARY.items()} | {END: 100}},
        {"vocab_json": {t: i + 7 * (i > 99) for t, i in VOCABULARY.items()}},
        {
            "special_tokens_map_json": {
                "bos_token": END,
                "eos_token": marked(END, rstrip=True, normalized=True),
                "pad_token": "[PAD]",
            }
        },
        {
            "added_tokens_json": {"<b>": N + 2, "<a>": N + 1},
            "special_tokens_map_json": {"additional_special_tokens": ["<b>"]},
        },
        {
            "added_tokens_json": {"<a>": N + 1},
            "special_tokens_map_json": {"pad_token": marked("<a>", single_word=True)},
        },
        {
            "tokenizer_config_json": {
                "added_tokens_decoder": {
                    str(N): marked(END, normalized=True) | {"special": True},
                    str(N + 1): marked("<x>", lstrip=True, rstrip=True) | {"special": False},
                }
            }
        },
        {"tokenizer_config_json": {"add_prefix_space": True, "tokenizer_class": "GPT2Tokenizer"}},
        {"tokenizer_config_json": {"add_bos_token": True}},
        {"tokenizer_config_json": {"add_bos_token": True, "add_eos_token": True}},
        {
            "tokenizer_config_json": {
                "bos_token": marked(END, normalized=True) | {"__type": "AddedToken"},
                "unk_token": END,
                "model_max_length": 1024,
            }
        },
        {"tokenizer_config_json": {"extra_special_tokens": ["<e1>", "<e2>"], "pad_token": "<pad>"}},
    ],
)
def test_ids_are_those_of_transformers(tmp_path: Path, files: dict[str, Any]) -> None:
    ours = Tokenizer.from_buffer(bpe.from_folder(write(tmp_path, **files), {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
        for text in TEXTS:
            for special in (True, False):
                ids = ours.encode(text, add_special_tokens=special).ids
                assert ids == theirs(text, add_special_tokens=special)["input_ids"]
                plain = {"skip_special_tokens": False}
                said = theirs.decode(ids, clean_up_tokenization_spaces=False, **plain)
                assert ours.decode(ids, **plain) == said
    assert ours.get_vocab(with_added_tokens=True) == theirs.get_vocab()


def test_bytes_follow_from_the_files_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    turned = dict(reversed((VOCABULARY | {END: N}).items()))
    first = write(tmp_path / "a")
    second = write(tmp_path / "b", vocab_json=turned)
    assert bpe.from_folder(first, {}) == bpe.from_folder(second, {})
    assert first.digests.keys() == {"vocab.json", "merges.txt"}


def repeat(first: dict[str, int]) -> str:
    return json.dumps(first)[:-1] + ', "a": 5}'


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"merges_txt": None}, "expected merges.txt, found none"),
        ({"vocab_json": None}, "expected vocab.json, found none"),
        ({"vocab_json": [1]}, "vocab.json: expected an object"),
        ({"vocab_json": repeat(VOCABULARY)}, "vocab.json: not JSON: duplicate key 'a'"),
        ({"vocab_json": VOCABULARY | {END: 3}}, "vocab.json: .* must have an id of its own, got 3"),
        ({"vocab_json": VOCABULARY | {END: -1}}, "must have an id of its own, got -1"),
        ({"vocab_json": VOCABULARY | {END: True}}, "must have an id of its own, got True"),
        ({"vocab_json": VOCABULARY | {END: 1.0}}, "must have an id of its own, got 1.0"),
        ({"vocab_json": VOCABULARY | {END: 1 << 80}}, "must have an id of its own, got 1208925"),
        ({"vocab_json": VOCABULARY | {"\ud800": N}}, r"vocab.json: .ud800 is not valid Unicode"),
        ({"merges_txt": "#version: 0.2\nt h e\n"}, "merges.txt: line 2 must be two tokens"),
        ({"merges_txt": "t\n"}, "merges.txt: line 1 must be two tokens"),
        ({"merges_txt": "t  h\n"}, "merges.txt: line 1 must be two tokens"),
        ({"merges_txt": "q z\n"}, "line 1 must be two tokens of vocab.json that make a third"),
        ({"added_tokens_json": {"<a>": N + 5}}, f"<a> must have the id {N + 1}, got {N + 5}"),
        ({"added_tokens_json": {"<a>": "1"}}, "added_tokens.json: <a> must have an id, got '1'"),
        ({"added_tokens_json": {"the": N + 1}}, "the added token the must have the id"),
        ({"added_tokens_json": {"": N + 1}}, "added_tokens.json: expected a token, got ''"),
        ({"special_tokens_map_json": {"pad_token": 7}}, "pad_token: expected a token, got 7"),
        (
            {"special_tokens_map_json": {"pad_token": marked("p") | {"lstrip": 1}}},
            "pad_token: lstrip must be true or false, got 1",
        ),
        (
            {"special_tokens_map_json": {"additional_special_tokens": "<a>"}},
            "additional_special_tokens must be a list of tokens, got '<a>'",
        ),
        (
            {"tokenizer_config_json": {"added_tokens_decoder": {"x": marked("<a>")}}},
            "added_tokens_decoder must be tokens by id",
        ),
        (
            {"tokenizer_config_json": {"added_tokens_decoder": {str(N + 1): "<a>", "٣": "<b>"}}},
            "added_tokens_decoder must be tokens by id",
        ),
        (
            {"tokenizer_config_json": {"tokenizer_class": "CLIPTokenizer"}},
            "must be those of GPT2Tokenizer, got tokenizer_class 'CLIPTokenizer'",
        ),
        ({"tokenizer_config_json": {"add_prefix_space": 1}}, "add_prefix_space must be true or"),
        ({"tokenizer_config_json": {"split_special_tokens": True}}, "split_special_tokens must be"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    with pytest.raises(Error, match=message) as caught:
        bpe.from_folder(write(tmp_path, **files), {})
    assert caught.value.exit_code == 4
    assert len(caught.value.message.splitlines()) == 1


def test_the_configuration_may_name_the_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(Error, match="got tokenizer_class 'BertTokenizer'"):
        bpe.from_folder(write(tmp_path), {"tokenizer_class": "BertTokenizer"})

"""What an export asks of a tokenizer before anything is spent: that prompts can be run with it.

The tokenizer of a model is tokenizer.json alone. What transformers would apply over it, from the
files beside it, has to say the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zkllm.checkpoints.files import Folder
from zkllm.errors import InputError, UnsupportedModel
from zkllm.records import word
from zkllm.tokenization import Tokenizer

_MAX_SETTINGS = 16 << 20
_TRIED = 64
_LONGEST_TEXT = 64
"""Characters of a token that is tried: nobody's tokens are all longer."""
_MOST_IDS = 1024
"""Of a text that is as short."""
_BUDGET = 1 << 18
"""Ids and characters that all trials may make: steps of strangers may make many of a few."""
_END = "<|endoftext|>"
_REBUILT = ("GPT2Tokenizer", "GPT2TokenizerFast")
"""Classes of which transformers takes the vocabulary from tokenizer.json and little else."""
_REBUILT_WITH: Mapping[str, Any] = {
    "add_prefix_space": False,
    "bos_token": _END,
    "eos_token": _END,
    "unk_token": _END,
}
"""What these classes take a missing key for."""
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_FLAGS = ("lstrip", "rstrip", "normalized", "single_word", "special")
_SAVE_AGAIN = "save it as transformers reads it: PreTrainedTokenizerFast, then save_pretrained"

Json = Mapping[str, Any]


def check_round_trip(tokenizer: Tokenizer) -> None:
    """Take tokens to text, the text to ids, and these with one token more to a completion.

    Raises `UnsupportedModel` if no token of the vocabulary can be part of a prompt, or if it comes
    out otherwise a second time.
    """
    tokens = tokenizer.ids()
    sample = tokens[:: -(-len(tokens) // _TRIED)] if tokens else []
    reason = "it has no tokens"
    found, spent = False, 0
    for token in sample:
        if spent > _BUDGET:
            reason = f"its steps made {spent} characters of a few tokens"
            break
        try:
            text = tokenizer.decode([token])
            spent += len(text)
            if len(text) > _LONGEST_TEXT:
                raise InputError(f"at most {_LONGEST_TEXT} characters expected, got {len(text)}")
            first, second = (_spoken(tokenizer, text, sample) for _ in range(2))
        except InputError as err:
            reason = err.message
            continue
        if first != second:
            raise UnsupportedModel(
                f"tokenizer.json: expected the same for '{word(text)}' each time, got "
                f"{list(first[0])} and {list(second[0])}"
            )
        found = True
        spent += 2 * (len(first[0]) + sum(map(len, first[1])))
    if not found:
        raise UnsupportedModel(f"tokenizer.json: no token can be read and spelled again: {reason}")


def _spoken(
    tokenizer: Tokenizer, text: str, sample: list[int]
) -> tuple[tuple[int, ...], list[str]]:
    """The ids of `text`, and its completions by those tokens of `sample` that can complete it."""
    ids = tokenizer.encode(text)
    if len(ids) > _MOST_IDS:
        raise InputError(f"at most {_MOST_IDS} ids expected, got {len(ids)}")
    completions = []
    reason = InputError("no completion")
    for token in sample[:: -(-len(sample) // 8)]:
        try:
            completions.append(tokenizer.completion(ids, [token]))
        except InputError as err:
            reason = err
    if not completions:
        raise reason
    return ids, completions


def check_settings(folder: Path, tokenizer: Tokenizer) -> None:
    """Hold the files of `folder` that transformers reads beside tokenizer.json against it.

    Raises `UnsupportedModel` that names the key by which another prompt, or the same with other
    ids, would be run; `InputError` for a file that is no JSON object.
    """
    files = Folder(folder)
    settings = _read(files, "tokenizer_config.json")
    parts = tokenizer.parts()
    if settings.get("split_special_tokens"):
        raise _other("split_special_tokens", False, settings["split_special_tokens"])
    if settings.get("tokenizer_class") in _REBUILT:
        _check_rebuilt(parts)
        settings = {**_REBUILT_WITH, **settings}
    _check_steps(settings, parts)
    _check_tokens(files, settings, {token["content"]: token for token in parts["added_tokens"]})


def _check_rebuilt(parts: Json) -> None:
    """GPT2Tokenizer is a byte-level BPE, whatever else tokenizer.json says."""
    first, last = parts["pre_tokenizer"] or {}, parts["decoder"] or {}
    model = parts["model"]
    if (
        parts["normalizer"] is not None
        or (first.get("type"), last.get("type"), model["type"]) != ("ByteLevel", "ByteLevel", "BPE")
        or not first.get("use_regex", True)
        or model.get("continuing_subword_prefix")
        or model.get("end_of_word_suffix")
        or model.get("ignore_merges")
    ):
        raise UnsupportedModel(
            "tokenizer_config.json: tokenizer_class must be PreTrainedTokenizerFast for a "
            "tokenizer.json that is more than a byte-level BPE, got GPT2Tokenizer",
            hint="transformers builds GPT2Tokenizer anew from its vocabulary: name the class that "
            "the model was trained with",
        )


def _check_steps(settings: Json, parts: Json) -> None:
    """Settings that transformers writes into the steps of a tokenizer."""
    for step in _steps(parts["pre_tokenizer"]):
        if step["type"] == "ByteLevel" and "add_prefix_space" in settings:
            _same("add_prefix_space", step["add_prefix_space"], settings)
    for step in _steps(parts["normalizer"]):
        if step["type"] == "BertNormalizer":
            _same("do_lower_case", step["lowercase"], settings)
            _same("strip_accents", step["strip_accents"], settings)
            _same("tokenize_chinese_chars", step["handle_chinese_chars"], settings)


def _check_tokens(files: Folder, settings: Json, added: Mapping[str, Json]) -> None:
    """Tokens that transformers would add, or find in a text in another way."""
    for key, value in _tokens(settings):
        _known("tokenizer_config.json", key, value, added)
    decoder = settings.get("added_tokens_decoder")
    if not isinstance(decoder, dict):
        # the older files count only where the newer key is missing
        for key, value in _tokens(_read(files, "special_tokens_map.json")):
            _known("special_tokens_map.json", key, value, added)
        for token in _read(files, "added_tokens.json"):
            _known("added_tokens.json", "token", token, added)
        return
    for key, fields in decoder.items():
        if not isinstance(fields, dict):
            raise InputError(f"tokenizer_config.json: added_tokens_decoder.{word(key)}: no object")
        _known("tokenizer_config.json", "added_tokens_decoder", fields, added)
        content = fields["content"]
        for flag in _FLAGS:
            if flag in fields and fields[flag] != added[content][flag]:
                raise UnsupportedModel(
                    f"tokenizer_config.json: {flag} of '{word(content)}' must be "
                    f"{json.dumps(added[content][flag])} as in tokenizer.json, "
                    f"got {json.dumps(fields[flag]):.40}",
                    hint=_SAVE_AGAIN,
                )


def _tokens(settings: Json) -> Iterator[tuple[str, Any]]:
    """The special tokens that `settings` name, each with its key."""
    for key, value in settings.items():
        if key.endswith("_token") and isinstance(value, str | dict):
            yield key, value
        elif key in _LISTS and isinstance(value, dict | list):
            many = list(value.values()) if isinstance(value, dict) else value
            yield from ((key, token) for token in many or [])


def _known(file: str, key: str, token: Any, added: Mapping[str, Json]) -> None:
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str) or content not in added:
        raise UnsupportedModel(
            f"{file}: {word(key)} '{word(str(content))}' must be an added token of tokenizer.json, "
            "it is none",
            hint=_SAVE_AGAIN,
        )


def _same(key: str, expected: Any, settings: Json) -> None:
    if key in settings and settings[key] != expected:
        raise _other(key, expected, settings[key])


def _other(key: str, expected: Any, got: Any) -> UnsupportedModel:
    return UnsupportedModel(
        f"tokenizer_config.json: {key} must be {json.dumps(expected)} as in tokenizer.json, "
        f"got {json.dumps(got):.40}",
        hint="one of the two files is not that of this model",
    )


def _steps(part: Any) -> Iterator[Json]:
    """The steps of a normalizer or pre-tokenizer, sequences taken apart."""
    if not isinstance(part, dict):
        return
    inner = part.get("normalizers") or part.get("pretokenizers")
    if inner is None:
        yield part
    for step in inner or ():
        yield from _steps(step)


def _read(files: Folder, name: str) -> Json:
    """The object in the file `name`, or an empty one if there is no file."""
    return files.json(name, _MAX_SETTINGS) if files.has(name) else {}

"""tokenizer.json made of vocab.json and merges.txt, as checkpoints had them before 2020.

It is what `transformers.GPT2Tokenizer` builds of the same files, written by hand: its bytes are
part of the exact model, so they may not depend on the release of a library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from zkllm.checkpoints.files import MAX_TOKENIZER, Folder
from zkllm.errors import InputError, UnsupportedModel
from zkllm.records import word

_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
_END = "<|endoftext|>"
_NAMED: Mapping[str, str | None] = {
    "bos_token": _END,
    "eos_token": _END,
    "unk_token": _END,
    "sep_token": None,
    "pad_token": None,
    "cls_token": None,
    "mask_token": None,
}
"""Special tokens by their roles, with GPT-2's own."""
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_ID = re.compile("0|[1-9][0-9]{0,7}")
_MARKS = ("single_word", "lstrip", "rstrip", "normalized")


def from_folder(files: Folder, config: Mapping[str, Any]) -> bytes:
    """tokenizer.json of vocab.json and merges.txt in a folder, with the tokens added to them.

    Raises `InputError` for a file that is missing or malformed, `UnsupportedModel` for the files
    of another tokenizer.
    """
    settings = _optional(files, "tokenizer_config.json")
    named = settings.get("tokenizer_class", config.get("tokenizer_class"))
    if named is not None and named not in _CLASSES:
        raise UnsupportedModel(
            f"{files.path}: vocab.json and merges.txt without tokenizer.json must be those of "
            f"GPT2Tokenizer, got tokenizer_class {named!r:.40}",
            hint="save the fast tokenizer, which writes tokenizer.json",
        )
    for key in ("add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens"):
        if not isinstance(settings.get(key, False), bool):
            raise InputError(
                f"tokenizer_config.json: {key} must be true or false, got {settings[key]!r:.40}"
            )
    if settings.get("split_special_tokens"):
        raise UnsupportedModel("tokenizer_config.json: split_special_tokens must be false")
    vocabulary = _vocabulary(files)
    merges = _merges(files, vocabulary)
    decoder = settings.get("added_tokens_decoder")
    if decoder is None:
        settings |= _optional(files, "special_tokens_map.json")
    added, roles = _added(files, settings, decoder)
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": settings.get("add_prefix_space", False),
        "trim_offsets": True,
        "use_regex": True,
    }
    tokens = _placed(vocabulary, added)
    ids = vocabulary | {token["content"]: token["id"] for token in tokens}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": _template(settings, roles, ids),
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted(vocabulary.items(), key=lambda item: item[1])),
            "merges": merges,
        },
    }
    return json.dumps(content, ensure_ascii=False, indent=2).encode()


def _optional(files: Folder, name: str) -> dict[str, Any]:
    return files.json(name) if files.has(name) else {}


def _vocabulary(files: Folder) -> dict[str, int]:
    vocabulary = files.json("vocab.json", MAX_TOKENIZER)
    owner: dict[int, str] = {}
    for token, index in vocabulary.items():
        if type(index) is not int or not 0 <= index < 1 << 24 or index in owner:
            raise InputError(
                f"{files.path}/vocab.json: {word(token)} must have an id of its own, "
                f"got {index!r:.40}"
            )
        owner[index] = token
        _require_text(token, "vocab.json")
    return vocabulary


def _require_text(token: str, name: str) -> None:
    try:
        token.encode()
    except UnicodeEncodeError as err:
        raise InputError(f"{name}: {word(token)} is not valid Unicode") from err


def _merges(files: Folder, vocabulary: Mapping[str, int]) -> list[list[str]]:
    """Pairs in the order of the file, whose first line may say its version."""
    try:
        text = files.read("merges.txt", MAX_TOKENIZER).decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise InputError(f"{files.path}/merges.txt: not UTF-8 at byte {err.start}") from err
    merges = []
    for number, line in enumerate(text.split("\n"), 1):
        pair = line.removesuffix("\r").split(" ")
        if line.startswith("#version") or pair == [""]:
            continue
        if len(pair) != 2 or any(part not in vocabulary for part in (*pair, "".join(pair))):
            raise InputError(
                f"{files.path}/merges.txt: line {number} must be two tokens of vocab.json that "
                f"make a third, got {word(line)}"
            )
        merges.append(pair)
    return merges


def _added(
    files: Folder, settings: Mapping[str, Any], decoder: Any
) -> tuple[list[tuple[int | None, dict[str, Any]]], dict[str, str]]:
    """Tokens beside the vocabulary, with their ids if a file says them, and those with a role."""
    special: dict[str, Any] = {}
    roles: dict[str, str] = {}
    for role, default in _NAMED.items():
        value = settings.get(role, default)
        if value is not None:
            token = _token(value, role, special=True)
            special.setdefault(token["content"], token)
            roles[role] = token["content"]
    for key in _LISTS:
        values = settings.get(key) or []
        if not isinstance(values, list | dict):
            raise InputError(f"{key} must be a list of tokens, got {values!r:.40}")
        for value in values.values() if isinstance(values, dict) else values:
            token = _token(value, key, special=True)
            special.setdefault(token["content"], token)
    found: dict[str, tuple[int | None, dict[str, Any]]] = {}
    if decoder is not None:
        if not isinstance(decoder, dict) or not all(map(_ID.fullmatch, decoder)):
            raise InputError("tokenizer_config.json: added_tokens_decoder must be tokens by id")
        for key in sorted(decoder, key=int):
            token = _token(decoder[key], "added_tokens_decoder", special=False)
            token["special"] |= token["content"] in special
            found[token["content"]] = int(key), token
    else:
        listed = _optional(files, "added_tokens.json")
        for content, index in listed.items():
            if type(index) is not int or not 0 <= index < 1 << 24:
                raise InputError(
                    f"added_tokens.json: {word(content)} must have an id, got {index!r:.40}"
                )
        for content in sorted(listed, key=lambda content: listed[content]):
            token = _token(content, "added_tokens.json", special=content in special)
            found[content] = listed[content], token
    for content, token in special.items():
        found.setdefault(content, (None, token))
    return list(found.values()), roles


def _token(value: Any, where: str, *, special: bool) -> dict[str, Any]:
    """An added token as tokenizer.json has it, but for its id."""
    fields = {"content": value} if isinstance(value, str) else value
    content = fields.get("content") if isinstance(fields, dict) else None
    if not isinstance(content, str) or not content:
        raise InputError(f"{where}: expected a token, got {value!r:.60}")
    _require_text(content, where)
    special = special or fields.get("special", False) is True
    token: dict[str, Any] = {"content": content}
    for mark in _MARKS:
        given = fields.get(mark, not special if mark == "normalized" else False)
        if not isinstance(given, bool):
            raise InputError(f"{where}: {mark} must be true or false, got {given!r:.40}")
        token[mark] = given
    return token | {"special": special}


def _placed(
    vocabulary: Mapping[str, int], added: list[tuple[int | None, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """`added` with ids: those of the vocabulary, else the next that are free, in order."""
    free = max(vocabulary.values(), default=-1) + 1
    placed = []
    for said, token in added:
        index = vocabulary.get(token["content"])
        if index is None:
            index, free = free, free + 1
        if said is not None and said != index:
            raise InputError(
                f"the added token {word(token['content'])} must have the id {index}, got {said}",
                hint="added tokens follow those of vocab.json without a gap",
            )
        placed.append({"id": index} | token)
    return sorted(placed, key=lambda token: token["id"])


def _template(
    settings: Mapping[str, Any], roles: Mapping[str, str], ids: Mapping[str, int]
) -> dict[str, Any] | None:
    """The post-processor that puts the special tokens beside a text, if any are to be."""
    ends = [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")]
    before, after = (
        [roles[role]] if settings.get(key) and role in roles else [] for key, role in ends
    )
    if not before and not after:
        return None

    def pieces(kind: str, place: int) -> Iterator[dict[str, Any]]:
        yield from ({"SpecialToken": {"id": token, "type_id": place}} for token in before)
        yield {"Sequence": {"id": kind, "type_id": place}}
        yield from ({"SpecialToken": {"id": token, "type_id": place}} for token in after)

    return {
        "type": "TemplateProcessing",
        "single": list(pieces("A", 0)),
        "pair": [*pieces("A", 0), *pieces("B", 1)],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in before + after
        },
    }

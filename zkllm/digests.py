"""Digests, canonical JSON and domain separation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any, NewType

from zkllm.errors import InvalidBundle

Digest = NewType("Digest", str)
"""`sha256:` followed by 64 lower-case hex digits."""

_PREFIX = "sha256:"
_DEPTH = 16


def sha256(data: bytes | memoryview) -> Digest:
    """The digest of `data` as it is, without a domain: for files that other tools can hash too."""
    return Digest(_PREFIX + hashlib.sha256(data).hexdigest())


def sha256_file(path: Path) -> Digest:
    """The digest of the file at `path`, read in pieces."""
    with path.open("rb") as file:
        return sha256_stream(file)


def sha256_stream(file: BufferedReader) -> Digest:
    """The digest of what is left to read in `file`, read in pieces."""
    return Digest(_PREFIX + hashlib.file_digest(file, "sha256").hexdigest())


def tagged(domain: str, *data: bytes | memoryview) -> Digest:
    """H(domain, data...): the domain is length-prefixed, so that no two share a preimage.

    Several pieces hash as their concatenation: a caller that needs their borders writes lengths.
    """
    label = domain.encode()
    state = hashlib.sha256(len(label).to_bytes(2, "little") + label)
    for piece in data:
        state.update(piece)
    return Digest(_PREFIX + state.hexdigest())


def is_digest(value: object) -> bool:
    """Whether `value` has the one spelling of a digest."""
    return (
        isinstance(value, str)
        and len(value) == len(_PREFIX) + 64
        and value.startswith(_PREFIX)
        and all(c in "0123456789abcdef" for c in value[len(_PREFIX) :])
    )


def canonical_json(value: Any) -> bytes:
    """The one encoding of `value`: sorted keys, no spaces, ASCII, integers only.

    Raises `TypeError` for a float or any other type that has no canonical form.
    """
    _only_exact(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii")


def parse_canonical_json(data: bytes, what: str) -> Any:
    """Parse `data` and insist that it is canonical: what was hashed can be read in one way only.

    Raises `InvalidBundle` for duplicate keys, floats, NaN, deep nesting, lone surrogates, or any
    byte that `canonical_json` would not have written.
    """
    try:
        _limit_depth(data, what)
        value = json.loads(
            data.decode("ascii"),
            object_pairs_hook=unique,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_small_integer,
        )
        # An escaped half of a surrogate pair is text that no one could print or encode.
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeDecodeError, ValueError, RecursionError) as err:
        reason = str(err).splitlines()[0][:120]
        raise InvalidBundle(f"{what} is not strict JSON: {reason}") from err
    if canonical_json(value) != data:
        raise InvalidBundle(
            f"{what} is not canonical JSON: expected sorted keys and no white space"
        )
    return value


def _limit_depth(data: bytes, what: str) -> None:
    depth = deepest = 0
    in_text = escaped = False
    for byte in data:
        if in_text:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_text = False
        elif byte == 0x22:
            in_text = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            deepest = max(deepest, depth)
            if deepest > _DEPTH:
                raise InvalidBundle(f"{what} is nested deeper than {_DEPTH} levels")
        elif byte in (0x5D, 0x7D):
            depth -= 1


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these fields, for a parser of JSON; raises `ValueError` for a repeated one."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError(f"duplicate key {repeated(name for name, _ in pairs)[:40]!r}")
    return result


def repeated(names: Iterable[str]) -> str:
    """The first of `names` that was there before; empty if none was. Takes linear time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _refuse_number(text: str) -> None:
    raise ValueError(f"expected integers only, got {text[:20]}")


def _small_integer(text: str) -> int:
    if len(text) > 40:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _only_exact(value: Any) -> None:
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, list | tuple):
        for item in value:
            _only_exact(item)
    elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for item in value.values():
            _only_exact(item)
    else:
        raise TypeError(f"no canonical form for {type(value).__name__}")

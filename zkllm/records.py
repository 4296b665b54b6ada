"""Records: frozen dataclasses to JSON and back, with nothing unknown, missing or mistyped."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from zkllm.digests import Digest, is_digest
from zkllm.errors import InputError, InvalidBundle

T = TypeVar("T")


def word(text: str) -> str:
    """`text`, a name that someone else chose, for a message: one line, cut after a digest."""
    return ascii(text)[1:-1][:80]


def expect(kind: type[T], value: Any, what: str) -> T:
    """`value` if it is a `kind`, which a boolean is only of `bool`.

    Raises `InputError` that names `what`: the type of an argument is checked once, at the surface.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{what}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def require_fields(
    record: Any, expected: Mapping[str, object], what: str, says: str, hint: str
) -> None:
    """Raises `InputError` for a field of `record` that is none of those `expected`.

    It is what the artefact `what` says of itself, as `says` introduces it: nobody has to believe
    it, but to work with one that is said to be of something else would be in vain.
    """
    for name, value in expected.items():
        found = getattr(record, name)
        if found != value:
            raise InputError(
                f"{what}: {name}: {says} {word(str(found))}, expected {value}", hint=hint
            )


def below(limit: int) -> Mapping[str, int]:
    """What the field of a record says of its numbers: that they are at least 0 and below `limit`.

    Goes into `dataclasses.field(metadata=...)`; `exact.limits` holds numbers to it.
    """
    return {"below": limit}


def to_json(value: Any) -> Any:
    """`value`, a record or a collection of records, as plain JSON values."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: to_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of the fields of a record."""
    return typing.get_type_hints(kind)


def from_json(kind: Any, value: Any, what: str) -> Any:
    """Build `kind` (dataclass, tuple, dict, union, literal, str or int) from parsed JSON.

    Raises `InvalidBundle` for an unknown, missing or mistyped field.
    """
    origin = typing.get_origin(kind)
    if kind is Digest:
        if not is_digest(value):
            raise InvalidBundle(f"{what}: expected a sha256 digest, got {value!r:.40}")
        return value
    if kind is int or kind is str:
        if type(value) is not kind:
            raise InvalidBundle(f"{what}: expected {kind.__name__}, got {type(value).__name__}")
        return value
    if origin is Literal:
        if type(value) is not str or value not in typing.get_args(kind):
            allowed = ", ".join(typing.get_args(kind))
            raise InvalidBundle(f"{what}: expected one of {allowed}, got {value!r:.40}")
        return value
    # `Digest | None` is a typing.Union, because a NewType is no class; other unions are not.
    if origin in (types.UnionType, typing.Union):
        (inner,) = (a for a in typing.get_args(kind) if a is not type(None))
        return None if value is None else from_json(inner, value, what)
    if origin is tuple:
        if not isinstance(value, list):
            raise InvalidBundle(f"{what}: expected a list, got {type(value).__name__}")
        item = typing.get_args(kind)[0]
        return tuple(from_json(item, v, f"{what}[{i}]") for i, v in enumerate(value))
    if not isinstance(value, dict):
        raise InvalidBundle(f"{what}: expected an object, got {type(value).__name__}")
    if origin is dict:
        item = typing.get_args(kind)[1]
        return {key: from_json(item, v, f"{what}.{word(key)}") for key, v in value.items()}
    hints = _hints(kind)
    if set(value) != set(hints):
        odd = min(set(value) ^ set(hints))
        state = "unknown" if odd in value else "missing"
        raise InvalidBundle(f"{what}: {state} field {word(odd)}")
    fields = {name: from_json(hint, value[name], f"{what}.{name}") for name, hint in hints.items()}
    return kind(**fields)

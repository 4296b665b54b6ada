"""Digests have one spelling, domains do not collide, and JSON can be read in one way only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkllm.digests import (
    canonical_json,
    is_digest,
    parse_canonical_json,
    sha256,
    sha256_file,
    tagged,
)
from zkllm.errors import InvalidBundle

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**38), 10**38) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def test_sha256_is_the_known_vector() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256(b"") == f"sha256:{empty}"
    assert sha256(memoryview(b"abc")) == "sha256:" + hashlib.sha256(b"abc").hexdigest()


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000  # more than one buffer
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == sha256(data)


def test_tagged_writes_the_length_of_the_domain_first() -> None:
    preimage = b"\x0c\x00" + b"zkllm/key/v1" + b"ab"
    assert tagged("zkllm/key/v1", b"a", b"b") == sha256(preimage)
    assert tagged("zkllm/key/v1", b"ab") == sha256(preimage)


def test_no_two_domains_share_a_preimage() -> None:
    assert tagged("a", b"bc") != tagged("ab", b"c")
    assert tagged("a", b"") != tagged("", b"a")


@pytest.mark.parametrize(
    "value",
    [
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "SHA256:" + "0" * 64,
        "0" * 71,
        "sha256:" + "0" * 63 + "\n",
        "sha256:" + "٠" * 64,
        b"sha256:" + b"0" * 64,
        None,
    ],
)
def test_a_digest_has_one_spelling(value: object) -> None:
    assert is_digest(sha256(b""))
    assert not is_digest(value)


@given(VALUES)
def test_canonical_json_comes_back(value: object) -> None:
    data = canonical_json(value)
    assert parse_canonical_json(data, "value") == value
    assert json.loads(data) == value
    assert data.isascii()


def test_canonical_json_sorts_and_has_no_spaces() -> None:
    assert canonical_json({"b": [1, True, None], "a": "é"}) == b'{"a":"\\u00e9","b":[1,true,null]}'


@pytest.mark.parametrize("value", [1.0, float("nan"), {1: 2}, b"x", {"a": [0.5]}, {1, 2}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="no canonical form"):
        canonical_json(value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":2}', "duplicate key 'a'"),
        (b'{"x":{"a":1,"a":1}}', "duplicate key 'a'"),
        (b"1.0", "expected integers only, got 1.0"),
        (b"1e3", "expected integers only, got 1e3"),
        (b"NaN", "expected integers only, got NaN"),
        (b"-Infinity", "expected integers only, got -Infinity"),
        (b"1" * 41, "an integer of 41 digits"),
        (b"[" * 17 + b"]" * 17, "nested deeper than 16"),
        (b'{"a":' * 100_000, "nested deeper than 16"),
        (b'"\xc3\xa9"', "not strict JSON"),
        (b'"\\ud800"', "not strict JSON"),
        (b'{"\\udfff":1}', "not strict JSON"),
        (b"{} {}", "not strict JSON"),
        (b"", "not strict JSON"),
        (b'{"b":1,"a":2}', "not canonical"),
        (b'{"a": 1}', "not canonical"),
        (b"[1,2]\n", "not canonical"),
        (b"-0", "not canonical"),
        (b'"\\u0061"', "not canonical"),
        (b'"\\u00E9"', "not canonical"),
        (b'"\\/"', "not canonical"),
    ],
)
def test_anything_but_canonical_json_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidBundle, match=f"^spec.json .*{reason}") as caught:
        parse_canonical_json(data, "spec.json")
    assert len(str(caught.value).splitlines()) == 1


def test_brackets_in_text_are_not_depth() -> None:
    data = canonical_json(["[" * 50 + '"\\' + "{" * 50] * 3)
    assert parse_canonical_json(data, "value")
    assert parse_canonical_json(b"[" * 16 + b"]" * 16, "value") is not None

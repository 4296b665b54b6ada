"""Policies are read strictly and written so that they read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zkllm.digests import Digest
from zkllm.errors import InputError, UnsupportedVersion
from zkllm.policy import Policy

DIGEST = Digest("sha256:" + "ab" * 32)
POLICY = Policy(
    model=DIGEST,
    units={"attention[0]": "ezkl", "mlp[0]": "replay"},
    keys={"attention[0]": {"vk.key": DIGEST, "srs": DIGEST}},
)


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        replace(POLICY, insecure_srs=True),
        replace(POLICY, freshness="unbound", bundle_versions=(1, 2)),
        replace(POLICY, freshness="required", units=dict(POLICY.units) | {"embed": "sumcheck"}),
        replace(POLICY, keys={}),
    ],
)
def test_reads_back(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(policy.to_toml())
    assert Policy.from_file(path) == policy


def test_an_insecure_srs_is_said_in_words() -> None:
    assert "INSECURE" in replace(POLICY, insecure_srs=True).to_toml()
    assert "srs =" not in POLICY.to_toml()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("format = 2", "format = 3", "policy format 1 or 2, got 3"),
        ("format = 2", "format = 0", "policy format 1 or 2, got 0"),
        ("format = 2", "", "policy format 1 or 2, got None"),
        (f'model = "{DIGEST}"', 'model = "sha256:12"', "model: expected a sha256 digest"),
        (f'model = "{DIGEST}"', "", "model: expected a sha256 digest, got None"),
        ('"ezkl"', '"magic"', "expected one of replay, ezkl, sumcheck, got 'magic'"),
        (
            '"requested"',
            '"no"',
            "freshness: expected one of required, requested, unbound, got 'no'",
        ),
        (
            '"requested"',
            "true",
            "freshness: expected one of required, requested, unbound, got True",
        ),
        ('"requested"', '["required"]', "freshness: expected one of"),
        ('freshness = "requested"', "require_fresh = true", "unknown field require_fresh"),
        ('freshness = "requested"', "lax = true", "unknown field lax"),
        ('"requested"', '"required"', "expected a unit by sumcheck, .* found only ezkl and replay"),
        ("bundle_versions = [1]", "bundle_versions = []", "at least one version"),
        ("bundle_versions = [1]", 'bundle_versions = ["1"]', "a list of integers"),
        ("[units]", 'srs = "any"\n[units]', "srs: expected 'insecure-development'"),
        ('[keys."attention[0]"]', '[keys."mlp[7]"]', "no such entry in units"),
        (f'"srs" = "{DIGEST}"', '"srs" = "x"', "expected sha256 digests"),
        (f'"vk.key" = "{DIGEST}"\n"srs" = "{DIGEST}"\n', "", "expected at least one digest"),
        ("[units]", "[units", "not TOML"),
        ('"attention[0]" = "ezkl"\n"mlp[0]" = "replay"', "", "units: expected a table"),
    ],
)
def test_refusals(old: str, new: str, match: str, tmp_path: Path) -> None:
    text = POLICY.to_toml()
    assert old in text
    path = tmp_path / "policy.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises((InputError, UnsupportedVersion), match=match) as caught:
        Policy.from_file(path)
    assert str(path) in caught.value.message


FIRST = POLICY.to_toml().replace("format = 2", "format = 1")


@pytest.mark.parametrize(
    ("field", "freshness"),
    [
        ("require_fresh = true", "required"),
        ("require_fresh = false", "requested"),
        ("", "requested"),
    ],
)
def test_format_1_reads_on(field: str, freshness: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    text = FIRST.replace('freshness = "requested"', field).replace('"replay"', '"sumcheck"')
    path.write_text(text)
    assert Policy.from_file(path).freshness == freshness


@pytest.mark.parametrize(
    ("field", "match"),
    [
        ('freshness = "unbound"', "unknown field freshness"),
        ("require_fresh = 1", "require_fresh: expected true or false, got 1"),
        ("require_fresh = true", "freshness: expected a unit by sumcheck"),
    ],
)
def test_format_1_is_read_strictly(field: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(FIRST.replace('freshness = "requested"', field))
    with pytest.raises(InputError, match=match):
        Policy.from_file(path)


def test_format_2_without_the_field(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.to_toml().replace('freshness = "requested"', ""))
    assert Policy.from_file(path).freshness == "requested"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Policy.from_file(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("format = 2", "format = {}"),
        (f'"{DIGEST}"', "{}"),
        ('"requested"', "{}"),
        ('"requested"', "[{}]"),
        ("bundle_versions = [1]", "bundle_versions = [1, {}]"),
        ("bundle_versions = [1]", "bundle_versions = [{{a = {}}}]"),
        ("[units]", "srs = {}\n[units]"),
        ('"ezkl"', "{}"),
    ],
)
def test_integers_that_python_does_not_print(old: str, new: str, tmp_path: Path) -> None:
    """In base 16 they may be as long as the file is."""
    path = tmp_path / "policy.toml"
    text = POLICY.to_toml()
    assert old in text
    path.write_text(text.replace(old, new.format("0x" + "f" * 5000), 1))
    with pytest.raises(InputError, match="an integer of 20000 bits, at most 64"):
        Policy.from_file(path)


@pytest.mark.parametrize("field", ["format", "model", "units", "srs", "keys.embed", "other"])
@pytest.mark.parametrize("depth", [50, 400, 900, 20_000])
def test_deep_keys_are_refused_in_a_line(tmp_path: Path, field: str, depth: int) -> None:
    path = tmp_path / "policy.toml"
    lines = [line for line in POLICY.to_toml().splitlines() if not line.startswith(field)]
    path.write_text("\n".join([".".join([field] + ["a"] * depth) + " = 1", *lines]))
    with pytest.raises((InputError, UnsupportedVersion)) as caught:
        Policy.from_file(path)
    assert len(caught.value.message) < 300


def test_deep_keys_cost_nothing(tmp_path: Path) -> None:
    """tomllib alone takes minutes for this file."""
    path = tmp_path / "policy.toml"
    path.write_text(".".join(["a"] * 400_000) + " = 1\n")
    with pytest.raises(InputError, match="nested too deeply"):
        Policy.from_file(path)

"""`policy init` says what it demands, and which of it the verifier needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests import golden
from tests.commands import zkllm
from zkllm.backends.sumcheck.backend import WORDS
from zkllm.cli.policy import _demands
from zkllm.policy import Freshness, Policy

V1 = Path(golden.__file__).parent / "v1"
ALL = "embed, attention[0-1], mlp[0-1], head"


def demands(text: str) -> dict[str, str]:
    """Names and values of a summary, from either stream."""
    rows = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    split = [row.split(": ", 1) if ": proved" in row else row.split("  ", 1) for row in rows]
    return {name: value.strip() for name, *rest in split for value in rest}


def test_what_is_demanded_goes_to_stdout_beside_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    done = zkllm("policy", "init", V1 / "model", "-o", path)
    assert (done.code, done.err) == (0, f"  policy in {path}\n")
    policy = Policy.from_file(path)
    assert set(policy.units.values()) == {"sumcheck"}
    assert demands(done.out) == {
        "model": policy.model,
        ALL: f"{WORDS}; the verifier needs the weights",
        "freshness": "requested: a nonce that is given must be bound; every unit can bind it",
    }


def test_and_to_stderr_beside_a_policy_on_stdout(tmp_path: Path) -> None:
    done = zkllm("policy", "init", V1 / "model")
    path = tmp_path / "policy.toml"
    path.write_text(done.out)
    assert set(Policy.from_file(path).units.values()) == {"sumcheck"}
    assert f"  {ALL}: {WORDS}; the verifier needs the weights\n" in done.err
    assert "  freshness: requested: a nonce that is given must be bound" in done.err


def test_commitments_need_no_weights(tmp_path: Path) -> None:
    keys, path = tmp_path / "keys", tmp_path / "policy.toml"
    assert zkllm("setup", V1 / "model", "--unit", "mlp[0]", "--keys", keys).code == 0
    done = zkllm("policy", "init", V1 / "model", "--keys", keys, "--require-fresh", "-o", path)
    assert done.code == 0, done.err
    found = demands(done.out)
    assert found["mlp[0]"] == f"{WORDS} under a commitment to the weights"
    assert found["embed, attention[0-1], mlp[1], head"].endswith("the verifier needs the weights")
    assert found["freshness"] == "required: verify needs a nonce; every unit can bind it"


@pytest.mark.parametrize(
    ("freshness", "words"),
    [
        ("requested", "no unit binds a nonce, so a bundle is refused where one is given"),
        ("unbound", "a nonce that is given is only compared"),
    ],
)
def test_the_weakest_is_named_first(freshness: Freshness, words: str) -> None:
    policy = replace(Policy.from_file(V1 / "ezkl.toml"), freshness=freshness)
    assert _demands(policy) == [
        ("model", policy.model),
        ("embed, mlp[0-1], attention[1], head", "recomputed; the verifier needs the weights"),
        ("attention[0]", "proved (ezkl) under keys that are pinned"),
        ("freshness", f"{freshness}: {words}"),
        ("srs", "insecure-development: whoever made it can forge every proof of ezkl"),
    ]


def test_some_units_bind_a_nonce() -> None:
    policy = replace(Policy.from_file(V1 / "committed.toml"), freshness="required")
    assert ("freshness", "required: verify needs a nonce; embed, mlp[0] can bind it") in _demands(
        policy
    )

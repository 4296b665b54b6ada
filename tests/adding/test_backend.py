"""A backend is its folder and a word in two lists: with no more than that a toy proves."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zkllm.backends import _HOMES, DEFAULT, FALLBACK, get_backend, with_keys
from zkllm.backends.base import Backend
from zkllm.bundle import BACKENDS, BINDING, MAX_EVIDENCE
from zkllm.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "zkllm"
V1 = ROOT / "tests" / "golden" / "v1"

EDITS = {
    "bundle.py": [
        ('Literal["replay", "ezkl", "sumcheck"]', 'Literal["replay", "ezkl", "sumcheck", "toy"]'),
        ('    "replay": 0,\n', '    "replay": 0,\n    "toy": 71,\n'),
        ('frozenset({"sumcheck"})', 'frozenset({"sumcheck", "toy"})'),
    ],
    "backends/__init__.py": [
        (
            '    "replay": ("replay", "ReplayBackend"),\n',
            '    "replay": ("replay", "ReplayBackend"),\n    "toy": ("toy", "ToyBackend"),\n',
        ),
    ],
}
"""All that is edited of the package, as CONTRIBUTING.md says."""

VERIFY = "verify both --policy toml --model {v1}/model --keys keys --nonce "
COMMANDS = [
    "plan {v1}/model --backend toy --json",
    "setup {v1}/model --backend toy --keys keys",
    "setup {v1}/model --backend toy --keys none --audit",
    "prove {v1}/answer.trace --model {v1}/model --keys keys --unit mlp[0] --nonce one -o b --json",
    "prove {v1}/answer.trace --model {v1}/model --keys keys --backend toy --backend replay "
    "--nonce one --jobs 2 -o both -v",
    "policy init {v1}/model --keys keys --backend toy --backend replay --require-fresh -o toml",
    f"{VERIFY}one --json",
    f"{VERIFY}two",
    "verify b --policy toml --model {v1}/model --keys keys --nonce one",
    "inspect both",
    "policy init {v1}/model --backend toy -o other.toml",
]
SCRIPT = """\
import json, pathlib, sys
import zkllm.bundle
from tests.commands import zkllm as command

if __name__ == "__main__":
    home, *lines = json.loads(sys.stdin.read())
    assert pathlib.Path(zkllm.bundle.__file__).is_relative_to(home), zkllm.bundle.__file__
    done = [command(*line.split()) for line in lines]
    print(json.dumps([(each.code, each.out, each.err) for each in done]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """What `COMMANDS` end with, say and tell aside in a copy of the package that has the toy."""
    home = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, home / "zkllm", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("toy_backend.py"), home / "zkllm" / "backends" / "toy.py")
    for name, edits in EDITS.items():
        path = home / "zkllm" / name
        text = path.read_text(encoding="utf-8")
        for before, after in edits:
            assert text.count(before) == 1, f"{name}: {before}"
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")
    (home / "script.py").write_text(SCRIPT, encoding="utf-8")
    work = home / "work"
    work.mkdir()
    lines = [line.format(v1=V1) for line in COMMANDS]
    done = subprocess.run(
        [sys.executable, str(home / "script.py")],
        cwd=work,
        env=os.environ | {"PYTHONPATH": f"{home}{os.pathsep}{ROOT}"},
        input=json.dumps([str(home), *lines]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[Any]] = json.loads(done.stdout)
    return {
        command: (code, out, err) for command, (code, out, err) in zip(COMMANDS, found, strict=True)
    }


def of(told: dict[str, tuple[int, str, str]], begins: str) -> tuple[int, str, str]:
    (found,) = (told[command] for command in told if command.startswith(begins))
    return found


def test_the_toy_is_planned_and_set_up(told: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = of(told, "plan")
    assert code == 0, err
    assert json.loads(out)["backends"]["mlp[0]"] == "toy"
    code, out, err = of(told, "setup {v1}/model --backend toy --keys keys")
    assert code == 0, err
    assert out.count("toy.key") == 2
    code, _, err = of(told, "setup {v1}/model --backend toy --keys none --audit")
    assert code == 2
    assert "toy has none" in err


def test_the_toy_proves_what_its_keys_are_for(told: dict[str, tuple[int, str, str]]) -> None:
    """Nobody named it: its mark is in the folder of the unit's keys."""
    code, out, err = of(told, "prove {v1}/answer.trace --model {v1}/model --keys keys --unit")
    assert code == 0, err
    checked = {unit["unit"]: unit["checked"] for unit in json.loads(out)["units"]}
    assert checked.pop("mlp[0]") == "digested (toy)"
    assert set(checked.values()) == {"recomputed"}


def test_the_toy_is_demanded_and_verified(told: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = of(told, "prove {v1}/answer.trace --model {v1}/model --keys keys --backend")
    assert code == 0, err
    assert "proving 2 units in 2 processes" in err
    code, out, err = of(told, "policy init {v1}/model --keys")
    assert code == 0, err
    assert "digested (toy) under a key that is pinned" in out
    assert "verify needs a nonce; mlp[0-1] can bind it" in out
    code, out, err = of(told, VERIFY + "one")
    assert code == 0, err
    (found,) = json.loads(out)["bundles"]
    assert (found["verdict"], found["fresh"]) == ("verified", True)
    assert found["unbound_units"] == ["embed", "attention[0]", "attention[1]", "head"]
    code, out, err = of(told, "inspect")
    assert code == 0, err
    assert "toy, 71 bytes" in out


def test_the_toy_is_held_to_its_policy(told: dict[str, tuple[int, str, str]]) -> None:
    code, out, _ = of(told, VERIFY + "two")
    assert code == 3
    assert "nonce: expected 'two', got 'one'" in out
    code, out, _ = of(told, "verify b ")
    assert code == 3
    assert "mlp[1]: the policy demands toy, got replay" in out
    code, _, err = of(told, "policy init {v1}/model --backend toy -o")
    assert code == 4
    assert "--keys: expected keys of toy, found none" in err


# The lists


def test_the_lists_agree() -> None:
    assert tuple(_HOMES) == tuple(MAX_EVIDENCE) == BACKENDS
    assert set(BACKENDS) >= BINDING
    assert {DEFAULT, FALLBACK} <= set(BACKENDS)
    schema = json.loads((ROOT / "docs" / "output.schema.json").read_text(encoding="utf-8"))
    assert schema["$defs"]["backend"]["enum"] == list(BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_is_whole(name: Any) -> None:
    backend = get_backend(name)
    assert isinstance(backend, Backend)
    assert backend.name == name
    assert set(backend.prover_packages) <= set(EXTRAS)
    assert bool(backend.mark) == (name in marks())
    assert backend.mark or not (backend.needs_keys or backend.fixed_length or backend.audits)
    assert backend.recomputes == (MAX_EVIDENCE[name] == 0)


def marks() -> list[str]:
    return [backend.name for backend in with_keys()]


def test_the_default_and_the_fallback_serve_every_unit() -> None:
    assert marks()[0] == DEFAULT
    assert get_backend(FALLBACK).recomputes
    assert not get_backend(DEFAULT).needs_keys


NAMED = {
    "bundle.py": "the list: names, caps, who binds a nonce",
    "backends/__init__.py": "the list: modules and classes",
    "demonstrating.py": "what the demo demonstrates",
    "inspecting.py": "commitments to weights are artefacts of their own",
    "cli/demo.py": "the extra `ezkl`",
    "cli/export.py": "the preset `ezkl`",
    "diagnosing.py": "the extra `ezkl`",
    "extras.py": "the package ezkl",
}
"""The files that name a backend, or something else by the same name, and why."""


def test_no_other_file_names_a_backend() -> None:
    """Or a new one would have to be added there."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE)
        # its own rooms, and its words in the folders of operations
        inside = place.parts[0] in ("engines", "operations") or (
            place.parts[0] == "backends" and place.stem not in ("__init__", "base", "claims")
        )
        if inside or (len(place.parts) > 2 and place.parts[0] == "backends"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if constants & set(BACKENDS) or any(
            f"{module}.".startswith(f"zkllm.backends.{name}.")
            for module in modules
            for name in BACKENDS
        ):
            found.add(str(place))
    assert found == set(NAMED)

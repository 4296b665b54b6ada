"""What stands around the code: the workflow, the forms, and the hook for other repositories."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import golden

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
V1 = Path(golden.__file__).parent / "v1"
TARGETS = re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(flow, job) for flow in map(read, WORKFLOWS) for job in flow["jobs"].values()]


def steps() -> list[dict[str, Any]]:
    return [step for _, job in jobs() for step in job["steps"]]


# The workflow


def test_ci_runs_what_everybody_can_run() -> None:
    """A check that only the workflow knew could not be made before it is too late."""
    ran = [line for step in steps() if "run" in step for line in step["run"].splitlines()]
    assert ".ci/run" in ran
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert all(line == ".ci/run" or line.startswith("sudo sysctl ") for line in ran)


def test_ci_names_targets_that_are_there() -> None:
    named = re.findall(r"^make (.*)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert {"demo", "lint", "test", "coverage", "bare"} <= set(named) <= set(TARGETS)


def test_ci_runs_on_every_python_that_we_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [entry.rpartition(" :: ")[2] for entry in project["classifiers"]]
    versions = [name for name in named if re.fullmatch(r"3\.\d+", name)]
    for _, job in jobs():
        assert job["strategy"]["matrix"]["python"] == versions
        (python,) = (step for step in job["steps"] if "setup-python" in step.get("uses", ""))
        assert python["with"]["python-version"] == "${{ matrix.python }}"


def test_a_workflow_may_read_and_no_more() -> None:
    assert WORKFLOWS
    for flow, job in jobs():
        assert flow["permissions"] == {"contents": "read"}
        assert "permissions" not in job
        assert flow["concurrency"]["cancel-in-progress"] is True
        assert 0 < job["timeout-minutes"] <= 90
        on: Any = True  # what YAML makes of `on`
        assert set(flow[on]) == {"push", "pull_request"}
        assert "secrets." not in yaml.dump(flow)
    for step in steps():
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]), "a tag can move"
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_ci_cuts_the_tests_from_the_network() -> None:
    (run,) = (step for step in steps() if step.get("run") == ".ci/run")
    assert run["env"]["OFFLINE"].startswith("unshare ")
    recipe = (ROOT / "Makefile").read_text()
    tested = re.findall(r"^\t.* -m (?:pytest|tests\.trusted)\b.*$", recipe, re.MULTILINE)
    assert len(tested) == 3
    assert all(line.startswith("\t$(OFFLINE) $(BIN)/python -m ") for line in tested)


@pytest.mark.skipif(not os.environ.get("OFFLINE"), reason="the network is not said to be cut")
def test_the_network_is_cut() -> None:
    """Under OFFLINE there is no way out: no interface but loopback."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    assert {line.partition(":")[0].strip() for line in lines if ":" in line} <= {"lo"}


# The forms


@pytest.mark.parametrize("name", ["bug.yml", "config.yml"])
def test_forms_are_yaml_and_send_holes_elsewhere(name: str) -> None:
    text = (GITHUB / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8")
    assert "://" not in text
    form = yaml.safe_load(text)
    if name == "config.yml":
        assert form == {"blank_issues_enabled": False}  # nothing goes past the first line of a form
        return
    assert "SECURITY.md" in form["body"][0]["attributes"]["value"]
    asked = {part["id"]: part for part in form["body"] if "id" in part}
    assert {"doctor", "version", "expected", "got"} <= set(asked)
    assert all(part["validations"]["required"] for part in asked.values())


def test_a_proposal_is_asked_for_what_contributing_says() -> None:
    form = (GITHUB / "pull_request_template.md").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)`", form):
        assert target in TARGETS
    for path in re.findall(r"\b((?:docs|tests|benchmarks)/(?:[\w-]+\.md)?)", form):
        assert (ROOT / path).exists(), path
    said = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for words in ("docs/tamper-matrix.md", "tests/independent", "CHANGELOG", "benchmarks/"):
        assert words in form
        assert words in said


# The hook


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Another repository, with policy and model where the hook looks for them."""
    shutil.copytree(V1 / "model", tmp_path / "model")
    shutil.copy(V1 / "sumcheck.toml", tmp_path / "policy.toml")
    return tmp_path


def hook(folder: Path, *files: str, args: list[str] | None = None) -> tuple[int, str]:
    """What pre-commit runs on `files`: the entry, the arguments, and the names."""
    (one,) = read(ROOT / ".pre-commit-hooks.yaml")
    assert one["id"] == "zkllm-verify"
    # a link is looked at too, and one command sees all files
    assert (one["types"], one["types_or"], one["require_serial"]) == ([], ["file", "symlink"], True)
    assert all(re.search(one["files"], name) for name in files)
    command = [*shlex.split(one["entry"]), *(one["args"] if args is None else args), *files]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_example_calls_the_hook() -> None:
    (repository,) = read(ROOT / "examples" / "ci" / "pre-commit.yml")["repos"]
    (asked,) = repository["hooks"]
    assert asked["id"] == "zkllm-verify"
    assert asked["args"][-1] == "--"


def test_the_hook_verifies_every_bundle(answers: Path) -> None:
    shutil.copy(V1 / "sumcheck.bundle", answers / "a.bundle")
    shutil.copy(V1 / "sumcheck.bundle", answers / "b c.bundle")
    code, told = hook(answers, "a.bundle", "b c.bundle")
    assert code == 0, told
    assert told.count("verified  ") == 2
    shutil.copy(V1 / "replay.bundle", answers / "a.bundle")
    assert hook(answers, "a.bundle", "b c.bundle")[0] == 3


def test_a_name_is_no_option_of_the_hook(answers: Path) -> None:
    """Whoever commits a bundle chooses its name, and one that were an option would be no bundle."""
    shutil.copy(V1 / "replay.forged", answers / "--junit=forged.bundle")
    shutil.copy(V1 / "sumcheck.bundle", answers / "honest.bundle")
    hostile = ["--junit=forged.bundle", "honest.bundle"]
    code, told = hook(answers, *hostile)
    assert code == 3, told
    assert "refused  --junit=forged.bundle" in told
    assert not (answers / "forged.bundle").exists()
    # without its guard, the hook would pass what it never looked at
    bare = [sys.executable, "-m", "zkllm", "verify", "--policy", "policy.toml", "--model", "model"]
    done = subprocess.run([*bare, *hostile], cwd=answers, capture_output=True, check=False)
    assert done.returncode == 0


def test_the_hook_wants_an_end_of_its_options(answers: Path) -> None:
    shutil.copy(V1 / "sumcheck.bundle", answers / "a.bundle")
    code, told = hook(answers, "a.bundle", args=["--policy", "policy.toml", "--model", "model"])
    assert code == 2
    assert "args must end with --" in told

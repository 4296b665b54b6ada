"""What README, examples and the action say is what happens."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from tests.commands import zkllm
from zkllm import bundle as container
from zkllm.cli.commands import COMMANDS
from zkllm.demonstrating import forge
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification

ROOT = Path(__file__).resolve().parents[1]
ACTION = ROOT / ".github" / "actions" / "verify"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def environment() -> dict[str, str]:
    """`zkllm` of this interpreter comes first."""
    folder = str(Path(sys.executable).parent)
    return os.environ | {"PATH": folder + os.pathsep + os.environ["PATH"], "COLUMNS": "200"}


def shell(command: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{command}: {done.stderr}"
    return done


def make_forged(folder: Path) -> None:
    model = ExactModel.from_folder(folder / "model")
    forged = forge(container.load(folder / "answer.bundle", model.specification), model)
    container.save(forged, model.specification, folder / "forged.bundle")


def test_the_sessions(tmp_path: Path) -> None:
    good, forged = blocks("console")
    for session, code in ((good, 0), (forged, 3)):
        if code:
            make_forged(tmp_path)
        for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE):
            done = shell(command, tmp_path, code)
            assert done.stdout.startswith(expected), command


@pytest.mark.slow
def test_the_commands_with_keys(tmp_path: Path) -> None:
    for command in ("export demo -o model", 'run model -p "12+34=" -n 3 -o answer.trace'):
        shell(f"zkllm {command}", tmp_path)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [line for line in commands if line.startswith("zkllm ")]
    assert any("--backend ezkl" in line for line in commands)
    for command in commands:
        done = shell(command, tmp_path)
    assert done.returncode == 0
    committed, proved = (c for c in commands if c.startswith("zkllm verify"))
    assert shell(committed, tmp_path).stdout.startswith("verified  committed.bundle")
    assert shell(proved, tmp_path).stdout.startswith("verified (insecure development SRS)")


def test_the_python_example(tmp_path: Path) -> None:
    (example,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "verified 12+34=46\n\n"


def test_the_table_of_commands_is_that_of_the_program() -> None:
    table = dict(re.findall(r"^\| `zkllm (\w+)` \| (.*) \|$", README, re.MULTILINE))
    assert table == COMMANDS


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_format_names_every_field_of_a_specification() -> None:
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    chapter = text.split("### `spec.json`")[1].split("\n## ")[0]

    def fields(kind: Any) -> set[str]:
        if typing.get_args(kind):
            return set().union(*(fields(part) for part in typing.get_args(kind)))
        if not dataclasses.is_dataclass(kind):
            return set()
        hints = typing.get_type_hints(kind)
        return set(hints).union(*(fields(hint) for hint in hints.values()))

    named = fields(Specification)
    assert len(named) > 50
    assert not {name for name in named if f"`{name}`" not in chapter}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `examples/ci/README.md` makes, up to its last command."""
    folder = tmp_path_factory.mktemp("pipeline")
    text = (ROOT / "examples" / "ci" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (.*)$", text, re.MULTILINE)
    shutil.copytree(ROOT / "examples", folder / "examples")
    assert commands[-1].startswith("examples/ci/gate.sh ")
    for command in commands:
        shell(command, folder)
    return folder


def gate(pipeline: Path, answers: str) -> int:
    command = f"examples/ci/gate.sh {answers} verification/policy.toml verification/model"
    done = subprocess.run(
        ["bash", "-c", command], cwd=pipeline, env=environment(), capture_output=True, check=False
    )
    return done.returncode


def action(pipeline: Path, bundles: str, **asked: str) -> subprocess.CompletedProcess[str]:
    """The last step of the composite action, as a runner would run it."""
    text = (ACTION / "action.yml").read_text(encoding="utf-8")
    script = text.split("      run: |\n")[-1]
    inputs = {
        "ACTION": str(ACTION),
        "BUNDLES": bundles,
        "POLICY": "verification/policy.toml",
        "MODEL": "verification/model",
        "KEYS": "",
        "NONCE": "",
        "PROMPT": "",
        "NEW_TOKENS": "",
        "JUNIT": "junit.xml",
        "GITHUB_OUTPUT": "outputs",
        "GITHUB_STEP_SUMMARY": "summary.md",
    } | asked
    for name in ("outputs", "summary.md"):
        (pipeline / name).unlink(missing_ok=True)
    return subprocess.run(
        ["bash", "-c", script],
        cwd=pipeline,
        env=environment() | inputs,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_pipeline_passes_a_good_bundle_and_fails_a_forged_one(pipeline: Path) -> None:
    assert gate(pipeline, "answers") == 0
    assert action(pipeline, "answers/answer.bundle").returncode == 0
    model = ExactModel.from_folder(pipeline / "verification" / "model")
    honest = container.load(pipeline / "answers" / "answer.bundle", model.specification)
    (pipeline / "forged").mkdir()
    container.save(forge(honest, model), model.specification, pipeline / "forged" / "forged.bundle")
    assert gate(pipeline, "forged") == 3
    assert action(pipeline, "forged/forged.bundle").returncode == 3
    assert action(pipeline, "answers/answer.bundle forged/forged.bundle").returncode == 3
    (pipeline / "none").mkdir()
    assert gate(pipeline, "none") == 2
    assert action(pipeline, "  ").returncode == 2


def test_the_action_asks_what_its_caller_asked(pipeline: Path) -> None:
    bundle = "answers/answer.bundle"
    assert action(pipeline, bundle, PROMPT="12+34=", NEW_TOKENS="3").returncode == 0
    for name, other in (("PROMPT", "12+35="), ("NEW_TOKENS", "4"), ("NONCE", "n1")):
        done = action(pipeline, bundle, **{name: other})
        assert done.returncode == 3, done.stderr
        assert other in done.stdout


def test_the_action_expands_patterns_and_tells_what_came_out(pipeline: Path) -> None:
    shutil.rmtree(pipeline / "many", ignore_errors=True)
    (pipeline / "many" / "deep").mkdir(parents=True)
    good = pipeline / "answers" / "answer.bundle"
    shutil.copy(good, pipeline / "many" / "two words.bundle")
    shutil.copy(good, pipeline / "many" / "deep" / "b.bundle")
    assert action(pipeline, "many/*.bundle answers/*.bundle").returncode == 0
    summary = (pipeline / "summary.md").read_text(encoding="utf-8")
    assert "### zkllm verify: verified" in summary
    assert "two words.bundle" in summary
    assert "b.bundle" not in summary.replace("two words.bundle", "")
    assert (pipeline / "outputs").read_text() == "verdict=verified\nexit-code=0\n"
    assert action(pipeline, "many/**/*.bundle").returncode == 0
    assert "deep/b.bundle" in (pipeline / "summary.md").read_text(encoding="utf-8")
    # one pattern that finds nothing is a gate that checks less than it says
    assert action(pipeline, "many/*.bundle none/*.bundle").returncode == 2
    assert (pipeline / "outputs").read_text() == "verdict=error\nexit-code=2\n"
    assert not (pipeline / "junit.xml").exists()


def test_the_summary_shows_names_and_messages_as_text(pipeline: Path) -> None:
    folder = pipeline / "hostile"
    folder.mkdir(exist_ok=True)
    name = "x`|<img src=a>|[y](z)\n### verified.bundle"
    (folder / name).write_bytes(b"none")
    done = action(pipeline, "hostile/*.bundle")
    assert done.returncode == 4
    assert (pipeline / "outputs").read_text() == "verdict=error\nexit-code=4\n"
    summary = (pipeline / "summary.md").read_text(encoding="utf-8")
    assert "<img" not in summary
    assert "\n### verified" not in summary
    (row,) = (line for line in summary.splitlines() if "hostile/" in line)
    assert row.count("|") == 4
    assert "`" not in row


def test_the_action_installs_from_its_own_checkout(tmp_path: Path) -> None:
    text = (ACTION / "action.yml").read_text(encoding="utf-8")
    script = text.split("      run: |\n")[1].split("    - id: verify")[0]
    assert 'install --quiet "$checkout' in script
    elsewhere = tmp_path / ".github" / "actions" / "verify"
    elsewhere.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment() | {"ACTION": str(elsewhere), "EXTRAS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert "no checkout of zkllm" in done.stdout


def test_the_author_of_a_proposal_writes_no_part_of_the_gate() -> None:
    """The event decides whose workflow runs; only bundles come from the proposal."""
    text = (ROOT / "examples" / "ci" / "pipeline.yml").read_text(encoding="utf-8")
    assert re.findall(r"^on: (.*)$", text, re.MULTILINE) == ["pull_request_target"]
    proposal, trusted = (step for step in text.split("- uses: ") if "checkout" in step)
    assert "pull_request.head.sha" in proposal
    assert "path: proposal" in proposal
    assert "pull_request.base.sha" in trusted
    assert re.findall(r"(\S+): proposal/", text) == ["bundles"]


def test_inputs_of_the_action_are_no_shell_text(pipeline: Path) -> None:
    done = action(pipeline, "$(touch${IFS}owned) `touch owned` ;touch owned")
    assert done.returncode == 4
    assert not (pipeline / "owned").exists()


def test_a_demo_help_names_every_exit_code() -> None:
    text = zkllm("--help").out
    for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE):
        assert re.search(rf"\b{code} ", text), code

"""-q and -v, standard input, prompts from files, errors as JSON, mistyped commands."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from tests.commands import Done, zkllm
from zkllm import planning

Feed = Callable[[bytes], None]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a trace, a bundle and its policy."""
    folder = tmp_path_factory.mktemp("detail")
    commands = (
        "export demo -o model",
        "run model -p 12+34= -n 3 -o answer.trace",
        "prove answer.trace --model model --backend replay -o answer.bundle",
        "policy init model --backend replay -o policy.toml",
    )
    names = ("model", "answer.trace", "answer.bundle", "policy.toml")
    for command in commands:
        words = [folder / word if word in names else word for word in command.split()]
        assert zkllm(*words).code == 0
    return folder


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    """`feed(data)`: what stands on standard input from then on."""

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def verify(work: Path, *more: str | Path) -> Done:
    return zkllm("verify", *more, "--policy", work / "policy.toml", "--model", work / "model")


def test_quiet_says_the_verdict_alone(work: Path) -> None:
    path = work / "answer.bundle"
    assert verify(work, path, "-q") == Done(0, f"verified  {path}\n", "")
    loud = verify(work, path)  # and what one command chose is not what the next one does
    assert loud.out.count("\n") > 5
    done = zkllm("run", work / "model", "-p", "1+1=", "-q", "-o", work / "quiet.trace")
    assert done.err == ""
    assert zkllm("policy", "init", work / "model", "-o", work / "other.toml", "-q").err == ""


def test_a_refusal_keeps_its_reason_though_quiet(work: Path) -> None:
    done = verify(work, work / "answer.bundle", "-q", "-p", "12+35=")
    assert done.code == 3
    assert "expected '12+35='" in done.out


def test_verbose_says_every_step_and_where_an_error_came_from(work: Path, tmp_path: Path) -> None:
    done = verify(work, work / "answer.bundle", "-v")
    for unit in ("embed", "attention[1]", "head"):
        assert f"{unit}: replay" in done.err
    (tmp_path / "policy.toml").write_text("format = ")
    broken = ("--policy", tmp_path / "policy.toml", "--model", work / "model")
    assert "because" not in zkllm("verify", "x", *broken).err
    assert "because: TOMLDecodeError: Invalid value" in zkllm("verify", "x", *broken, "-v").err


def test_a_bundle_from_standard_input(work: Path, feed: Feed) -> None:
    feed((work / "answer.bundle").read_bytes())
    done = verify(work, "-")
    assert done.code == 0
    assert done.out.startswith("verified  -\n")
    feed(b"no bundle")
    assert verify(work, "-").code == 4
    feed(b"")
    assert verify(work, "-").code == 4


def test_standard_input_is_no_longer_than_a_bundle_can_be(work: Path, feed: Feed) -> None:
    feed(b"x" * (20 << 20))
    done = verify(work, "-")
    assert done.code == 4
    assert "standard input: at most" in done.out


def test_standard_input_is_read_once(work: Path, feed: Feed) -> None:
    feed(b"12+34=")
    assert verify(work, "-", "-").code == 2
    assert verify(work, "-", "-p", "-").code == 2
    assert verify(work, "-", "--prompt-file", "-").code == 2


def test_a_prompt_from_standard_input_or_a_file(work: Path, feed: Feed, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_bytes(b"12+34=")
    feed(b"12+34=")
    for given in (("-p", "-"), ("--prompt-file", tmp_path / "prompt")):
        assert zkllm("run", work / "model", *given, "-n", "3").out == "12+34=46\n"
    feed(b"12+34=")
    assert verify(work, work / "answer.bundle", "--prompt-file", "-").code == 0
    assert verify(work, work / "answer.bundle", "--prompt-file", tmp_path / "prompt").code == 0
    (tmp_path / "prompt").write_bytes(b"12+34=\n")  # a line break is a part of it
    done = verify(work, work / "answer.bundle", "--prompt-file", tmp_path / "prompt")
    assert done.code == 3


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (("-p", "1+1=", "--prompt-file", "{file}"), 2, "give either"),
        (("--prompt-file", "{none}"), 4, "no such file"),
        (("--prompt-file", "{folder}"), 4, "expected a regular file"),
        (("--prompt-file", "{broken}"), 4, "not UTF-8 at byte 1"),
        (("--prompt-file", "{huge}"), 4, "at most 4194304 bytes expected"),
        ((), 2, "give either"),
    ],
)
def test_prompts_that_cannot_be_used(
    work: Path, tmp_path: Path, given: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "file").write_text("1+1=")
    (tmp_path / "broken").write_bytes(b"1\xff")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(5 << 20)
    places = {name: tmp_path / name for name in ("file", "none", "broken", "huge")}
    arguments = [word.format(folder=tmp_path, **places) for word in given]
    done = zkllm("run", work / "model", *arguments)
    assert done.code == code
    assert words in done.err


def test_errors_are_json_where_results_are(work: Path, tmp_path: Path) -> None:
    done = zkllm("plan", tmp_path, "--json")
    assert done.code == 4
    told = json.loads(done.out)
    assert told["format"] == 1
    assert told["exit_code"] == 4
    assert told["error"]["class"] == "InputError"
    assert "found no spec.json" in told["error"]["message"]
    assert done.err.startswith("error: ")
    usage = zkllm("plan", "--json")
    assert usage.code == 2
    assert json.loads(usage.out)["error"]["class"] == "UsageError"
    assert zkllm("plan", tmp_path).out == ""


def test_one_command_emits_one_value(work: Path) -> None:
    """A plan that does not fit is told, and then the command fails."""
    with mock.patch.object(planning, "memory_available", return_value=1):
        done = zkllm("plan", work / "model", "--json")
    assert done.code == 5
    assert json.loads(done.out)["problem"]


def test_a_word_that_was_meant_otherwise() -> None:
    done = zkllm("exprot")
    assert done.code == 2
    assert "Did you mean 'export'?" in done.err
    assert "Did you mean" not in zkllm("xyzzy").err
    assert "'" + "x" * 40 + "'" in zkllm("x" * 5000).err


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_what_needs_nothing_loads_nothing(word: str) -> None:
    code = f"""
import sys
from zkllm import cli
sys.argv = ["zkllm", "{word}"]
try:
    cli.main()
except SystemExit as end:
    assert not end.code
assert not {{"numpy", "rich"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

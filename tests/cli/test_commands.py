"""End to end through the command line: the main job, and every kind of bad input."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import zkllm
from zkllm import bundle as container
from zkllm.cli import _COMMANDS
from zkllm.demonstrating import forge
from zkllm.exact.model import ExactModel
from zkllm.wording import one_line


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model, trace, bundle, policy and a forged bundle of the demo model."""
    folder = tmp_path_factory.mktemp("work")
    model = folder / "model"
    done = zkllm("export", "demo", "-o", model)
    assert done.code == 0, done.err
    done = zkllm("run", model, "-p", "12+34=", "-n", "3", "-o", folder / "trace")
    assert (done.code, done.out) == (0, "12+34=46\n"), done.err
    done = zkllm(
        "prove", folder / "trace", "--model", model, "--backend", "replay", "-o", folder / "bundle"
    )
    assert done.code == 0, done.err
    done = zkllm("policy", "init", model, "--backend", "replay", "-o", folder / "policy.toml")
    assert done.code == 0
    exact = ExactModel.from_folder(model)
    forged = forge(container.load(folder / "bundle", exact.specification), exact)
    container.save(forged, exact.specification, folder / "forged")
    return folder


def verify(work: Path, *arguments: str | Path) -> Any:
    return zkllm("verify", *arguments, "--policy", work / "policy.toml", "--model", work / "model")


def test_verified(work: Path) -> None:
    done = verify(work, work / "bundle", "--prompt", "12+34=", "-n", "3")
    assert done.code == 0
    assert done.out.startswith("verified  ")
    assert "recomputed" in done.out
    assert "not bound" in done.out
    assert done.err == ""


def test_refused(work: Path) -> None:
    done = verify(work, work / "forged")
    assert done.code == 3
    assert done.out.startswith("refused  ")
    reason = "attention[0] gives another result when it is computed again: attention[0]: recomputed"
    assert reason in done.out
    assert len(done.out.splitlines()) == 2
    assert done.out.count("refused") == 1
    assert done.err == ""


def test_many_bundles_and_junit(work: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"no bundle")
    report = tmp_path / "report.xml"
    done = verify(work, work / "bundle", work / "forged", junk, "--junit", report)
    assert done.code == 3, "a refusal outweighs malformed input"
    suite = ElementTree.parse(report).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    cases = {Path(case.get("name", "")).name: case for case in suite}
    assert cases["bundle"].find("failure") is None
    failure = cases["forged"].find("failure")
    assert failure is not None
    assert failure.get("type") == "ProofRejected"
    assert cases["junk"].find("error") is not None
    assert verify(work, work / "bundle", junk).code == 4
    assert verify(work, work / "bundle", work / "bundle").code == 0


def test_json(work: Path) -> None:
    done = verify(work, work / "bundle", work / "forged", "--json")
    good, bad = json.loads(done.out)["bundles"]
    assert done.code == 3
    assert (good["verdict"], good["exit_code"], good["error"]) == ("verified", 0, None)
    assert good["units"][0]["checked"] == "recomputed"
    assert good["completion"] == "46\n"
    assert (bad["verdict"], bad["exit_code"]) == ("refused", 3)
    assert bad["error"]["class"] == "ProofRejected"


def test_no_bundle_is_usage(work: Path) -> None:
    assert verify(work).code == 2


def test_nonce(work: Path, tmp_path: Path) -> None:
    path = tmp_path / "b"
    prove = ("prove", work / "trace", "--model", work / "model", "--backend", "replay")
    assert zkllm(*prove, "--nonce", "abc", "-o", path).code == 0
    done = verify(work, path, "--nonce", "abc")
    assert done.code == 3
    assert "nonce: no unit's evidence binds it" in done.out
    done = verify(work, path, "--nonce", "abd")
    assert done.code == 3
    assert "nonce: expected 'abd', got 'abc'" in done.out


def test_fragment(work: Path, tmp_path: Path) -> None:
    model = tmp_path / "block"
    assert zkllm("export", "demo", "-o", model, "--blocks", "1:2").code == 0
    rows = tmp_path / "rows.npy"
    np.save(rows, np.arange(8 * 32).reshape(8, 32))
    trace, path = tmp_path / "t", tmp_path / "b"
    done = zkllm("run", model, "--hidden", rows, "-o", trace)
    assert done.code == 0, done.err
    assert "fragment of 8 rows" in done.out
    prove = ("prove", trace, "--model", model, "--backend", "replay", "-o", path)
    assert zkllm(*prove).code == 0
    policy = tmp_path / "p.toml"
    assert zkllm("policy", "init", model, "--backend", "replay", "-o", policy).code == 0
    done = zkllm("verify", path, "--policy", policy, "--model", model)
    assert done.code == 0
    assert "fragment" in done.out
    done = zkllm("verify", path, "--policy", work / "policy.toml", "--model", work / "model")
    assert done.code == 3
    assert "this is about another model: statement.model: expected" in done.out


def test_export_check(work: Path, tmp_path: Path, make_checkpoint: Any) -> None:
    done = zkllm("export", "demo", "--check", work / "model")
    assert done.code == 0
    assert "same model" in done.out
    other = make_checkpoint(vocab_size=29)
    done = zkllm("export", other, "--check", work / "model")
    assert done.code == 3
    assert "is not what the checkpoint gives" in done.err
    assert zkllm("export", "demo").code == 2


def test_inspect_says_that_it_verifies_nothing(work: Path) -> None:
    for name in ("bundle", "trace", "policy.toml", "model"):
        done = zkllm("inspect", work / name)
        assert done.code == 0
        assert "not verified" in done.err
        assert "digest" in done.out or "model" in done.out
    facts = json.loads(zkllm("inspect", work / "forged", "--json").out)
    assert facts["artefact"] == "bundle"
    assert facts["completion"] == "46\n"


def test_plan(work: Path) -> None:
    done = zkllm("plan", work / "model", "--backend", "replay", "--tokens", "8")
    assert done.code == 0
    assert "attention[1]" in done.out
    assert zkllm("plan", work / "model", "--backend", "replay", "--tokens", "99").code == 4


def test_nothing_is_overwritten_unasked(work: Path) -> None:
    before = (work / "bundle").read_bytes()
    for done in (
        zkllm("export", "demo", "-o", work / "model"),
        zkllm("run", work / "model", "-p", "1+1=", "-o", work / "trace"),
        zkllm(
            "prove",
            work / "trace",
            "--model",
            work / "model",
            "--backend",
            "replay",
            "-o",
            work / "bundle",
        ),
        zkllm("policy", "init", work / "model", "-o", work / "policy.toml"),
    ):
        assert done.code == 4
        assert "exists" in done.err
        assert "--force" in done.err
    assert (work / "bundle").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        (["run", "{model}", "-p", "12+x=", "-n", "1"], 4, "got 'x'|cannot spell"),
        (["run", "{model}", "-p", "", "-n", "1"], 4, "the prompt is empty"),
        (["run", "{model}", "-p", "12+34=", "-n", "0"], 4, "expected at least 1, got 0"),
        (
            ["run", "{model}", "-p", "12+34=", "-n", "12"],
            4,
            "at most 16 positions expected, got 17",
        ),
        (["run", "{model}", "-p", "12+34=", "-n", "3", "--pad", "4"], 4, "pad: expected 8 to 16"),
        (["run", "{model}"], 2, "either --prompt"),
        (["run", "{none}", "-p", "1"], 4, "found no spec.json"),
        (["run", "{model}", "-p", "1", "--device", "tpu"], 2, "Invalid value"),
        (["run", "{model}", "--hidden", "{trace}"], 4, "expected a .npy file"),
        (["export", "{none}", "-o", "{new}"], 4, "expected a checkpoint folder"),
        (["export", "demo", "-o", "{new}", "--blocks", "1"], 2, "expected i:j"),
        (["export", "demo", "-o", "{new}", "--blocks", "1:9"], 4, "not a range"),
        (
            ["prove", "{none}", "--model", "{model}", "--backend", "replay", "-o", "{new}"],
            4,
            "no such file",
        ),
        (
            [
                "prove",
                "{trace}",
                "--model",
                "{model}",
                "--backend",
                "replay",
                "--unit",
                "mlp[7]",
                "-o",
                "{new}",
            ],
            4,
            r"expected one of embed",
        ),
        (
            ["prove", "{bundle}", "--model", "{none}", "--backend", "replay", "-o", "{new}"],
            4,
            "found no spec.json",
        ),
        (["verify", "{bundle}", "--policy", "{none}", "--model", "{model}"], 4, "no such file"),
        (["inspect", "{none}"], 4, "no such file"),
        (["policy", "init", "{none}"], 4, "found no spec.json"),
        (["policy", "init", "{model}", "--keys", "{none}"], 4, "expected keys of this model"),
        (["nonsense"], 2, "No such command"),
        (["plan", "{model}", "--backend", "ezkl", "--unit", "head"], 4, "cannot prove head"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], code: int, match: str, work: Path, tmp_path: Path
) -> None:
    names = {
        "model": work / "model",
        "trace": work / "trace",
        "bundle": work / "bundle",
        "none": tmp_path / "none",
        "new": tmp_path / "new",
    }
    done = zkllm(*(argument.format(**names) for argument in arguments))
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    import re

    assert re.search(match, done.err), done.err
    if code != 2:
        lines = [line for line in done.err.splitlines() if not line.startswith("hint:")]
        assert len(lines) == 1, done.err
    assert not (tmp_path / "new").exists()


def test_trace_of_another_model(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "wide"
    assert zkllm("export", "demo", "-o", other, "--preset", "wide").code == 0
    done = zkllm(
        "prove", work / "trace", "--model", other, "--backend", "replay", "-o", tmp_path / "b"
    )
    assert done.code == 3
    assert "statement.model: expected" in done.err


def test_corrupt_checkpoint(demo_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        copy = tmp_path / name.split(".")[0]
        copy.mkdir()
        for path in demo_folder.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        (copy / name).write_bytes((copy / name).read_bytes()[:100])
        done = zkllm("export", copy, "-o", tmp_path / "out")
        assert done.code == 4, done.err
        assert name in done.err
        assert "Traceback" not in done.err


def test_output_folder_that_cannot_be_written(work: Path) -> None:
    done = zkllm("run", work / "model", "-p", "12+34=", "-n", "3", "-o", "/proc/nowhere/t")
    assert done.code == 5
    assert "cannot be written" in done.err


def test_a_bundle_cannot_write_to_the_terminal(work: Path, tmp_path: Path) -> None:
    assert one_line("a\x1b[2J\nb\u202e") == "a [2J b "


def test_help_of_every_command() -> None:
    for name in _COMMANDS:
        done = zkllm(name, "--help")
        assert done.code == 0
        assert "Usage:" in done.out
        assert len(done.out.splitlines()) > 5
    assert os.linesep


def test_version() -> None:
    assert zkllm("--version").out.startswith("zkllm, version ")


def test_a_device_is_written_into(demo_model: ExactModel) -> None:
    done = zkllm("policy", "init", demo_model.folder, "-o", "/dev/full")
    assert done.code == 5
    assert done.err.startswith("error: /dev/full: the disk is full")
    assert zkllm("policy", "init", demo_model.folder, "-o", "/dev/null").code == 0
    assert Path("/dev/full").is_char_device()
    assert Path("/dev/null").is_char_device()

"""End to end through the command line: the main job, and every kind of bad input."""

from __future__ import annotations

import hashlib
import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import zkllm
from zkllm import bundle as container
from zkllm import output
from zkllm.cli.commands import COMMANDS
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
    reason = "attention[0] gives another result when it is computed again: recomputed"
    assert reason in done.out
    assert len(done.out.splitlines()) == 2
    assert done.out.count("refused") == 1
    assert done.err == ""


def test_a_trace_is_refused_with_what_to_do(work: Path) -> None:
    done = verify(work, work / "trace")
    assert done.code == 3
    assert "the policy demands replay, the bundle has nothing" in done.out
    assert done.out.endswith("  hint: a trace has no evidence: prove it with zkllm prove\n")


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
    for name in COMMANDS:
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


# Hidden states


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One block of the demo model, and rows for it, beside each other."""
    folder = tmp_path_factory.mktemp("block")
    assert zkllm("export", "demo", "-o", folder / "model", "--blocks", "1:2").code == 0
    np.save(folder / "rows.npy", np.arange(8 * 32).reshape(8, 32))
    return folder


@pytest.mark.parametrize("pad", [[], ["--pad", "10"]])
def test_the_input_of_a_fragment_can_be_compared(
    pad: list[str], block: Path, tmp_path: Path
) -> None:
    """`inspect` makes from the rows the digest that the report of a verified bundle shows."""
    rows, model = block / "rows.npy", block / "model"
    zkllm("run", model, "--hidden", rows, *pad, "-o", tmp_path / "t")
    done = zkllm("prove", tmp_path / "t", "--model", model, "-o", tmp_path / "b")
    assert done.code == 0, done.err
    zkllm("policy", "init", model, "-o", tmp_path / "p.toml")
    bundle = (tmp_path / "b").read_bytes()
    report = zkllm("verify", tmp_path / "b", "--policy", tmp_path / "p.toml", "--model", model)
    facts = json.loads(zkllm("inspect", rows, "--model", model, *pad, "--json").out)
    assert facts["rows"] == (10 if pad else 8)
    shown = [line.split() for line in report.out.splitlines()]
    assert ["input", facts["input"]] in shown
    assert ["bundle", f"sha256:{hashlib.sha256(bundle).hexdigest()}"] in shown
    other = tmp_path / "other.npy"
    np.save(other, np.arange(8 * 32).reshape(8, 32) + 1)
    other_facts = json.loads(zkllm("inspect", other, "--model", model, *pad, "--json").out)
    assert other_facts["input"] != facts["input"]


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


HOSTILE = {
    "empty": b"",
    "no header": b"\x93NUMPY\x01\x00\xff\xff",
    "terabytes": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1099511627776, 32)}"),
    "negative": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (-1, 32)}"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 32)}", b"cos\nsystem\n"),
    "code": npy("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': ()}"),
    "nested": npy("(" * 9000),
    "floats": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 32)}", bytes(256)),
    "one number": npy("{'descr': '<i8', 'fortran_order': False, 'shape': ()}", bytes(8)),
    "no rows": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (0, 32)}"),
    "too large": npy("{'descr': '<u8', 'fortran_order': False, 'shape': (1, 32)}", b"\xff" * 256),
    "the smallest": npy(
        "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 32)}", (bytes(7) + b"\x80") * 32
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_rows_that_are_none(name: str, block: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    path.write_bytes(HOSTILE[name])
    done = zkllm("inspect", path, "--model", block / "model")
    assert (done.code, done.out) == (4, "")
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: ")


def test_rows_need_their_fragment(work: Path, block: Path) -> None:
    rows = block / "rows.npy"
    for arguments, words in (
        ([], "hint: name the fragment: --model DIR"),
        (["--model", work / "model"], "this is a text model"),
        (["--model", block / "model", "--pad", "7"], "pad: expected 8 to 16"),
    ):
        done = zkllm("inspect", rows, *arguments)
        assert done.code == 4
        assert words in done.err


# Reports that cannot be written


@pytest.mark.parametrize(("names", "code"), [(["bundle"], 5), (["forged"], 3), (["none"], 4)])
def test_a_verdict_is_not_lost_with_the_junit_report(
    names: list[str], code: int, work: Path
) -> None:
    paths = [work / name for name in names]
    done = verify(work, *paths, "--junit", "/proc/nowhere/junit.xml")
    assert done.code == code
    assert done.out.split()[0] in ("verified", "refused", "invalid")
    (error,) = done.err.splitlines()
    assert error.startswith("error: /proc/nowhere/junit.xml: cannot be written")


@pytest.mark.parametrize(("name", "code"), [("bundle", 1), ("forged", 3)])
def test_a_verdict_is_not_lost_on_a_closed_pipe(
    name: str, code: int, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(output.out, "print", closed)
    done = verify(work, work / name)
    assert (done.code, done.err) == (code, "")

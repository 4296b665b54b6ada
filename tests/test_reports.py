"""What programs read: each unit with figures of its own, JUnit that its readers accept."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.commands import zkllm
from tests.traces import trace
from zkllm.backends.base import Checked
from zkllm.bundle import Evidence
from zkllm.digests import Digest
from zkllm.errors import BackendError, Error, InvalidBundle, ProofRejected, WrongMaterial
from zkllm.exact.model import ExactModel
from zkllm.keys import policy_for
from zkllm.material import Material
from zkllm.reports import (
    Outcome,
    exit_code,
    json_text,
    judge,
    junit,
    outcomes_json,
    report_json,
    worst_first,
)
from zkllm.verdict import Report
from zkllm.verifying import verify, verify_with

BEGAN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
SUMCHECK = "proved (sumcheck, not zero-knowledge, unaudited)"


def proved(bits: float, weights: str = "held") -> Checked:
    details = {"soundness_bits": bits, "proof_bytes": int(bits), "weights": weights}
    return Checked(SUMCHECK, binds_nonce=True, details=details)


@pytest.fixture(scope="module")
def report(tiny_model: ExactModel) -> Report:
    """A verified bundle, whose units are then said to be of different soundness."""
    run = trace(tiny_model, "a cat", 3)
    units = tiny_model.specification.units()
    data = run.with_evidence(dict.fromkeys(units, Evidence("replay", b"")))
    policy = policy_for(tiny_model, backends=["replay"])
    found = verify(data.to_bytes(tiny_model.specification), policy, model=tiny_model)
    bits = dict(zip(units, (123.4, 112.0, 112.6, 101.9, 113.6, 120.0), strict=True))
    return replace(found, units={unit: proved(bits[unit]) for unit in units})


def test_every_unit_has_figures_of_its_own(report: Report) -> None:
    found = report_json(report, Path("b"))
    assert {unit["unit"]: unit["details"] for unit in found["units"]} == {
        unit: checked.details for unit, checked in report.units.items()
    }
    assert [unit["unit"] for unit in found["units"]] == list(report.units)
    assert found["soundness_bits"] == min(u["details"]["soundness_bits"] for u in found["units"])
    assert (found["bundle"], found["bundle_digest"]) == ("b", report.bundle)


def test_a_group_has_the_figure_of_its_weakest_unit(report: Report) -> None:
    (group,) = worst_first(report.units)
    assert group.units == tuple(report.units)
    assert group.bits == 101.9
    assert str(group) == (
        f"embed, attention[0-1], mlp[0-1], head: {SUMCHECK}, at least 101.9 bits, weights held"
    )
    (alone,) = worst_first({"head": proved(113.6, "committed")})
    assert str(alone) == f"head: {SUMCHECK}, 113.6 bits, weights committed"


def test_worst_first() -> None:
    ezkl = Checked("proved (ezkl)", "weights")
    assumed = Checked("proved (ezkl)", "weights", ("insecure-srs",))
    recomputed = Checked("recomputed")
    units = {
        "a": ezkl,
        "b": proved(120, "committed"),
        "c": assumed,
        "d": proved(101),
        "e": recomputed,
        "f": ezkl,
        "g": proved(110),
    }
    groups = worst_first(units)
    assert [group.units for group in groups] == [("e",), ("c",), ("d", "g"), ("b",), ("a", "f")]
    assert [group.bits for group in groups] == [None, None, 101, 120, None]


# Without a console

V1 = Path(__file__).parent / "golden" / "v1"
PROBE = """\
import sys
from zkllm.cli import main
sys.argv = ["zkllm", *sys.argv[1:]]
try:
    main()
finally:
    sys.stderr.write(f"{sorted({'rich', 'pygments'} & set(sys.modules))}")
"""


def test_reports_are_made_without_a_console() -> None:
    code = (
        "import sys, zkllm.reports, zkllm.verifying; "
        "print({'rich', 'click', 'zkllm.output'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("verify {v1}/replay.bundle --policy {v1}/replay.toml --model {v1}/model", 0),
        ("verify {v1}/replay.forged - --policy {v1}/replay.toml --model {v1}/model -q", 3),
        ("verify {v1}/replay.bundle --policy {v1}/replay.toml --model {v1}/model --nonce n", 3),
        ("plan {v1}/model --backend replay", 0),
    ],
)
def test_who_asks_for_json_waits_for_no_rich(command: str, code: int, tmp_path: Path) -> None:
    words = [*command.format(v1=V1).split(), "--json"]
    if words[0] == "verify":
        words += ["--junit", str(tmp_path / "junit.xml")]
    probe = [sys.executable, "-c", PROBE, *words]
    done = subprocess.run(probe, input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "[]")
    assert json.loads(done.stdout)["format"] == 1
    if words[0] == "verify":
        assert ElementTree.parse(tmp_path / "junit.xml").getroot().tag == "testsuites"


def test_python_has_the_json_of_the_command(tmp_path: Path) -> None:
    path = V1 / "replay.bundle"
    demands = ("--policy", V1 / "replay.toml", "--model", V1 / "model")
    bundles = [path, V1 / "replay.forged", tmp_path / "none"]
    done = zkllm("verify", *bundles, *demands, "--json")
    material = Material.gather(V1 / "replay.toml", V1 / "model")
    found = [judge(each, partial(verify_with, material, each)) for each in bundles]
    assert json_text(outcomes_json(found)) == done.out
    assert [outcome.verdict for outcome in found] == ["verified", "refused", "invalid"]
    assert exit_code(found) == done.code == 3
    with pytest.raises(WrongMaterial, match="edited"):
        judge(path, edited)


def edited() -> Report:
    raise WrongMaterial("the weights were edited")


def outcomes(*results: Report | Error) -> list[Outcome]:
    return [Outcome(Path(f"{i}.bundle"), result, 0.25 * i) for i, result in enumerate(results)]


def test_exit_codes() -> None:
    refused, invalid, down = ProofRejected("no"), InvalidBundle("no"), BackendError("down")
    for results, code in (
        ([], 0),
        ([down, invalid], 5),
        ([invalid, down], 4),
        ([invalid, down, refused], 3),
    ):
        assert exit_code(outcomes(*results)) == code


def test_a_failure_says_class_clause_message_and_hint() -> None:
    (outcome,) = outcomes(ProofRejected("embed: no", "look", "the proof of embed does not fit"))
    assert outcome.to_json() == {
        "bundle": "0.bundle",
        "error": {
            "class": "ProofRejected",
            "clause": "the proof of embed does not fit",
            "hint": "look",
            "message": "embed: no",
        },
        "exit_code": 3,
        "verdict": "refused",
    }


# JUnit: what Jenkins and Surefire define, as far as both agree

COUNTS = {"tests", "failures", "errors", "time"}
SHAPE: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": (COUNTS, set(), ["testsuite"]),
    "testsuite": ({"name", *COUNTS, "skipped", "timestamp"}, set(), ["testcase"]),
    "testcase": ({"name", "classname", "time"}, set(), ["failure", "error", "system-out"]),
    "failure": ({"type", "message"}, set(), []),
    "error": ({"type", "message"}, set(), []),
    "system-out": (set(), set(), []),
}
"""By element: attributes that it has, that it may have, and its children in their order."""


def check_shape(element: ElementTree.Element) -> None:
    required, optional, children = SHAPE[element.tag]
    assert required <= set(element.keys()) <= required | optional, element.tag
    places = [children.index(child.tag) for child in element]
    assert places == sorted(places)
    for name in ("tests", "failures", "errors", "skipped"):
        assert element.get(name, "0").isdigit()
    assert float(element.get("time", "0")) >= 0
    if "timestamp" in required:
        datetime.datetime.fromisoformat(element.get("timestamp", ""))
    for child in element:
        check_shape(child)


def parsed(*results: Any) -> ElementTree.Element:
    root = ElementTree.fromstring(junit(outcomes(*results), BEGAN))
    check_shape(root)
    return root[0]


def test_junit(report: Report) -> None:
    suite = parsed(report, ProofRejected("no", "look", "so"), InvalidBundle("x"), BackendError("y"))
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "time", "timestamp")]
    assert counts == ["4", "1", "2", "1.500", "2026-01-02T03:04:05"]
    assert [case.get("time") for case in suite] == ["0.000", "0.250", "0.500", "0.750"]
    lines = (suite[0].findtext("system-out") or "").splitlines()
    assert lines[:3] == ["verified", f"bundle {report.bundle}", f"model {report.statement.model}"]
    assert lines[3] == f"embed: {SUMCHECK}, 123.4 bits, weights held"
    assert len(lines) == 3 + len(report.units)
    assert suite[1][0].attrib == {"type": "ProofRejected", "message": "so: no"}
    assert suite[1][0].text == "hint: look"
    assert [case[0].tag for case in suite] == ["system-out", "failure", "error", "error"]


def test_junit_of_nothing() -> None:
    assert parsed().get("tests") == "0"


def test_junit_survives_hostile_names_and_messages(report: Report) -> None:
    """XML 1.0 has no place for most control characters, nor for halves of surrogate pairs."""
    hostile = '<evil attr="1">&]]>\x00\x1b[31m\ud800\ufffe\x85'
    results: list[Report | Error] = [
        ProofRejected(hostile, hostile),
        replace(report, bundle=Digest(hostile.strip("\0"))),
    ]
    named = [Outcome(Path('a"<&' + hostile), result, 0) for result in results]
    data = junit(named, BEGAN)
    suite = ElementTree.fromstring(data)[0]
    assert not any(code in data for code in (b"\x00", b"\x1b", b"\x85", b"\xef\xbf\xbe"))
    assert suite[0].get("name", "").startswith('a"<&<evil attr="1">&]]>  [31m')
    assert suite[0][0].get("message", "").startswith('<evil attr="1">&]]>  [31m')

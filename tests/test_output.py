"""What the user sees: ranges of units, sizes, the weakest line first, JUnit that stays XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from zkllm import output
from zkllm.backends.base import Checked
from zkllm.errors import BackendError, InvalidBundle, ProofRejected


@pytest.mark.parametrize(
    ("units", "text"),
    [
        (["embed"], "embed"),
        (["attention[0]", "mlp[0]", "attention[1]", "mlp[1]"], "attention[0-1], mlp[0-1]"),
        (["attention[0]", "attention[2]", "attention[3]"], "attention[0], attention[2-3]"),
        (["embed", "mlp[11]", "head"], "embed, mlp[11], head"),
    ],
)
def test_unit_ranges(units: list[str], text: str) -> None:
    assert output.unit_ranges(units) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (4125, "4.12 kB"), (125_922_619, "126 MB"),
     (3_000_000_000_000, "3e+03 GB")],
)  # fmt: skip
def test_bytes_text(count: int, text: str) -> None:
    assert output.bytes_text(count) == text


def test_worst_first() -> None:
    proved = Checked("proved (ezkl)", "weights")
    assumed = Checked("proved (ezkl)", "weights", ("insecure-srs",))
    recomputed = Checked("recomputed")
    groups = output.worst_first({"a": proved, "b": assumed, "c": recomputed, "d": proved})
    assert [units for units, _ in groups] == [["c"], ["b"], ["a", "d"]]


def test_junit_survives_hostile_messages() -> None:
    results = [
        (Path('a"<&'), ProofRejected('<evil attr="1">&\x00\x1b[31m')),
        (Path("b"), InvalidBundle("no")),
        (Path("c"), BackendError("down")),
    ]
    suite = ElementTree.fromstring(output.junit(results))[0]
    assert (suite.get("failures"), suite.get("errors")) == ("1", "2")
    assert suite[0].get("name") == 'a"<&'
    assert suite[0][0].get("message") == '<evil attr="1">&  [31m'


def test_errors_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(ProofRejected("attention[0]: [bold]no[/] mlp[1]", "try [red]this[/]"))
    err = capsys.readouterr().err
    assert "attention[0]: [bold]no[/] mlp[1]" in err
    assert "try [red]this[/]" in err

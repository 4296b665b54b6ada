"""What people see: whole words, whole digests, one thing a line in pipes, nothing smeared."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_reports import proved
from tests.traces import trace
from zkllm import output
from zkllm.bundle import Evidence
from zkllm.errors import BackendError, ProofRejected
from zkllm.exact.model import ExactModel
from zkllm.keys import policy_for
from zkllm.output import moving
from zkllm.output.layout import Rows
from zkllm.verdict import Report
from zkllm.verifying import verify

DIGEST = "sha256:" + "ab" * 32
CLAUSE = "the proof of attention[0] does not fit this run"
REASON = f"{CLAUSE}: norm: centred does not hold"


class Terminal(io.StringIO):
    """What says that somebody looks."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Both streams as one terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    consoles = (output.out, output.err, moving.drawing)
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        for console in consoles:
            monkeypatch.setattr(console, "_force_terminal", True)
            monkeypatch.setattr(console, "_environ", {"COLUMNS": str(width), "TERM": "xterm"})
            monkeypatch.setattr(console, "_width", width)
            monkeypatch.setattr(console, "is_interactive", True)
        yield stream


def plain(stream: io.StringIO) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


@pytest.fixture(scope="module")
def report(tiny_model: ExactModel) -> Report:
    run = trace(tiny_model, "a cat", 3)
    units = tiny_model.specification.units()
    data = run.with_evidence(dict.fromkeys(units, Evidence("replay", b"")))
    policy = policy_for(tiny_model, backends=["replay"])
    found = verify(data.to_bytes(tiny_model.specification), policy, model=tiny_model)
    bits = (123.4, 112.0, 112.6, 101.9, 113.6)
    return replace(
        found, units=found.units | {u: proved(b) for u, b in zip(units, bits, strict=False)}
    )


WIDTHS = [40, 60, 80, 100, 200]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_is_broken(width: int, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is too long only if it is one word, which the terminal itself then folds."""
    refusal = ProofRejected("attention[0]: norm: centred does not hold", "try " * 30, CLAUSE)
    with terminal(width, monkeypatch) as stream:
        output.report(report, Path("answer.bundle"))
        output.failure(refusal, Path("forged.bundle"))
        output.error(refusal)
        output.note("x")
    shown = plain(stream)
    for line in shown.splitlines():
        assert len(line) <= width or len(line.split()) == 1, line
    for word in (str(report.bundle), str(report.statement.model), *REASON.split()):
        assert word in shown.split()


def test_continued_lines_stand_under_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(40, monkeypatch) as stream:
        output.error(ProofRejected(REASON, "one two three four five six seven eight nine"))
        output.failure(ProofRejected(REASON), Path("b"))
        output.facts([("a", "x"), ("longer", REASON)])
    assert plain(stream) == (
        "refused: the proof of attention[0] does\n"
        "         not fit this run: norm: centred\n"
        "         does not hold\n"
        "hint: one two three four five six seven\n"
        "      eight nine\n"
        "refused  b\n"
        "  the proof of attention[0] does not fit\n"
        "  this run: norm: centred does not hold\n"
        "  a       x\n"
        "  longer  the proof of attention[0] does\n"
        "          not fit this run: norm:\n"
        "          centred does not hold\n"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_pipe_has_one_line_for_one_thing(
    width: int, report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    output.report(report, Path("b" * 300))
    output.failure(ProofRejected("x " * 300, "y " * 300), Path("c"))
    output.error(ProofRejected("x " * 300, "y " * 300))
    shown = capsys.readouterr()
    verified, bundle, model, *_ = shown.out.splitlines()
    assert verified == "verified  " + "b" * 300
    assert bundle.split() == ["bundle", report.bundle]
    assert model.split() == ["model", report.statement.model]
    assert "  " + "x " * 300 in shown.out.splitlines()
    assert shown.err == "refused: " + "x " * 300 + "\nhint: " + "y " * 300 + "\n"


def test_a_report_shows_the_weakest_of_a_group_first_what_was_recomputed(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    output.report(report)
    lines = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("  checked"))
    assert lines[place].endswith("  head: recomputed")
    assert lines[place + 1].lstrip().startswith("embed, attention[0-1], mlp[0-1]: proved (sumcheck")
    assert lines[place + 1].endswith(", at least 101.9 bits, weights held")
    assert lines[place + 2].split() == [
        "soundness",
        "101.9",
        "bits,",
        "the",
        "weakest",
        "sumcheck",
        "unit",
    ]


def table() -> Rows:
    rows = output.table("unit", "a", "b", "c", right=("a", "b", "c"), drop=("b", "a"))
    rows.add_row("attention[0]", "1" * 10, "2" * 10, "3" * 10)
    rows.add_row("mlp[0]", "1", "2", "3")
    return rows


@pytest.mark.parametrize(
    ("width", "columns"), [(48, "unit a b c"), (47, "unit a c"), (36, "unit a c"), (35, "unit c")]
)
def test_a_narrow_terminal_has_fewer_columns(
    width: int, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(width, monkeypatch) as stream:
        output.show(table())
    head, first, second, *rest = plain(stream).splitlines()
    assert head.split() == columns.split()
    assert len(first) == len(second) <= width
    dropped = [name for name in "ba" if name not in columns.split()[1:]]
    assert " ".join(rest).startswith("too narrow for: " + ", ".join(dropped) if dropped else "")


@pytest.mark.parametrize("width", [40, 80])
def test_a_digest_that_does_not_fit_beside_others_has_a_line(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = output.table("unit", "artefact", "digest")
    rows.add_row("attention[0]", "settings.json", DIGEST)
    with terminal(width, monkeypatch) as stream:
        output.show(rows)
        output.facts([("model", DIGEST)])
    fact = f"  model\n    {DIGEST}\n" if width < 80 else f"  model  {DIGEST}\n"
    assert plain(stream) == f"attention[0]  settings.json\n    {DIGEST}\n{fact}"


def test_a_pipe_has_every_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output.show(table())
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1] == f"attention[0]  {'1' * 10}  {'2' * 10}  {'3' * 10}"
    assert shown.err == ""


def test_wide_characters_have_two_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(10, monkeypatch) as stream:
        output.paragraph(output.out, "", "数学 数学 数学 数学")
    assert plain(stream) == "数学 数学\n  数学\n  数学\n"


def test_errors_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(ProofRejected("attention[0]: [bold]no[/] mlp[1]", "try [red]this[/]"))
    output.trouble(OSError(5, "no [bold]way[/]", "[red]file[/]"))
    err = capsys.readouterr().err
    assert "attention[0]: [bold]no[/] mlp[1]" in err
    assert "try [red]this[/]" in err
    assert "error: [red]file[/]: no [bold]way[/]" in err


def test_a_clause_stands_before_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(BackendError("expected 1, got 2", clause="it broke"))
    assert capsys.readouterr().err == "error: it broke: expected 1, got 2\n"


# What moves


def screen(text: str, width: int = 80) -> list[str]:
    """What a terminal shows after `text`: the few controls that are used here."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b["):
            number, letter = part[2:-1], part[-1]
            if letter == "A":
                row -= int(number or 1)
            elif letter == "K":
                lines[row] = "" if number == "2" else lines[row][:column]
            else:
                assert letter in "mhl", f"unexpected control {part!r}"
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
            assert column <= width, "the terminal would go on in the next line"
    return "\n".join(line.rstrip() for line in lines).rstrip("\n").split("\n")


@pytest.mark.parametrize("width", [40, 80])
def test_results_are_not_smeared_over_what_moves(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        terminal(width, monkeypatch) as stream,
        output.spinner("a" * 100) as tell,
    ):
        for i in range(3):
            tell(f"working on {i} " + "x" * 100)
            output.out.print(f"result {i}")
        output.note("aside")
        output.text("text")
    assert "working on" in stream.getvalue()
    assert screen(stream.getvalue(), width) == [
        "result 0", "result 1", "result 2", "  aside", "text"
    ]  # fmt: skip


def test_nothing_is_smeared_over_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(60, monkeypatch) as stream, output.unit_progress(2) as bar:
        bar.tell("x" * 100)
        bar.advance("embed", "sumcheck", done=True)
        output.out.print("result")
    assert screen(stream.getvalue(), 60) == [
        "  embed: taken from an interrupted try", "result"
    ]  # fmt: skip


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(60, monkeypatch) as stream:
        for console in (output.out, output.err, moving.drawing):
            monkeypatch.setattr(console, "_environ", {"TERM": "dumb"})
        with output.spinner("first") as tell, output.unit_progress(1) as bar:
            tell("second")
            bar.advance("embed", "sumcheck", done=False)
        output.out.print("[bold]result[/]")
    assert "\r" not in stream.getvalue()
    assert plain(stream) == "  embed: sumcheck\nresult\n"

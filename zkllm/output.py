"""What the user sees. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from xml.sax.saxutils import quoteattr

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from zkllm.backends.base import Checked
from zkllm.backends.base import Progress as Tell
from zkllm.errors import Error, InputError, VerificationError
from zkllm.verifying import Report

_WIDEST = 1000
_COMMANDING = re.compile(r"#(?=#)")
"""Runners of pipelines obey `##[…]` or `##vso[…]` wherever in a line it stands."""


class _Aside(Console):
    """What is said beside the results: if nobody takes it, that must not become the verdict."""

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:
            abandon(sys.stderr)


# Without emoji=False rich would show the text `:cat:` as another text.
out = Console(highlight=False, soft_wrap=True, emoji=False)
err = _Aside(highlight=False, soft_wrap=True, emoji=False, stderr=True)


def text(value: str) -> None:
    """`value` and a line break on stdout; a terminal gets no control characters of it."""
    if out.is_terminal:
        value = "\n".join(one_line(line) for line in value.split("\n"))
    out.file.write(value if value.endswith("\n") else value + "\n")
    out.file.flush()


def survive_any_locale() -> None:
    """Let stdout and stderr escape what their encoding cannot spell, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """`text` without line breaks and control characters: a bundle must not write to a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def abandon(stream: TextIO) -> None:
    """Give up what `stream` does not take: Python would try again at its end, and exit with 120."""
    if isinstance(stream, io.TextIOWrapper):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def shown(text: object) -> str:
    """`text`, or a path, as markup on one line: whoever made bundles chose their names too."""
    return escape(_COMMANDING.sub("# ", one_line(str(text))))


def quoted(text: str) -> str:
    """`text` as a Python literal that no runner obeys."""
    return _COMMANDING.sub(r"\\x23", repr(text))


def error(failure: Error) -> None:
    """`error: what was expected and got`, then the hint, on stderr."""
    word = "refused" if isinstance(failure, VerificationError) else "error"
    err.print(f"[bold red]{word}:[/] {shown(failure.message)}")
    if failure.hint:
        err.print(f"[cyan]hint:[/] {shown(failure.hint)}")


def emit_json(value: Any) -> None:
    """`value` on stdout, indented, keys sorted."""
    data = _COMMANDING.sub(r"\\u0023", json.dumps(value, indent=2, sort_keys=True))
    # `out.file` is there even if stdout is closed; a full disk must show before the exit code
    out.file.write(data + "\n")
    out.file.flush()


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An unboxed table; columns named in `right` are aligned to the right."""
    result = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return result


def show(rows: Table) -> None:
    """`rows` on stdout as wide as they are: a digest that is cut off names nothing."""
    # rich narrows every table to the width of its console
    Console(highlight=False, emoji=False, file=out.file, width=_WIDEST).print(rows)


def facts(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values on stdout, aligned, never wrapped: a digest must stay one word."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        first, *more = value.split("\n")
        out.print(f"  [dim]{escape(f'{name:<{width}}')}[/]  {shown(first)}")
        for line in more:
            out.print(f"  {'':<{width}}  {shown(line)}")


class _Lines:
    """Progress as plain lines, one in five seconds at most: quick work stays silent."""

    def __init__(self) -> None:
        self._time = time.monotonic()

    def tell(self, line: str) -> None:
        now = time.monotonic()
        if now > self._time + 5:
            self._time = now
            note(line)


def note(line: str) -> None:
    """One line on stderr that is neither a result nor an error."""
    err.print(f"  {shown(line)}", style="dim")


@contextlib.contextmanager
def spinner(first: str) -> Iterator[Tell]:
    """Show what is going on while the block runs; plain lines where there is no terminal."""
    if not err.is_terminal:
        yield _Lines().tell
        return
    with err.status(shown(first)) as status:
        yield lambda line: status.update(shown(line))


@dataclass(slots=True)
class UnitProgress:
    """A bar over the units of a proof, with a line for what is going on."""

    bar: Progress
    task: Any

    def tell(self, line: str) -> None:
        """Show `line` beside the bar."""
        self.bar.update(self.task, description=shown(line))

    def advance(self, unit: str, backend: str, done: bool) -> None:
        """One unit is finished; `done` if an earlier try had done it."""
        self.bar.advance(self.task)
        if done and backend != "replay":
            self.bar.console.print(f"  {unit}: taken from an interrupted try", style="dim")
        elif not err.is_terminal and backend != "replay":
            note(f"{unit}: {backend}")


@contextlib.contextmanager
def unit_progress(units: int) -> Iterator[UnitProgress]:
    """A `UnitProgress` for so many units."""
    columns = (
        SpinnerColumn(),
        BarColumn(24),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        yield UnitProgress(bar, bar.add_task("proving", total=units))


def bytes_text(count: float) -> str:
    """`count` bytes for people: 3 significant digits, decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def seconds_text(seconds: float) -> str:
    """`seconds` for people: 2 significant digits below 10, `-` for none."""
    if not seconds:
        return "-"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def unit_ranges(units: Sequence[str]) -> str:
    """`attention[0], attention[1], mlp[0]` as `attention[0-1], mlp[0]`."""
    groups: dict[str, list[int]] = {}
    for unit in units:
        match = re.fullmatch(r"(\w+)\[(\d+)\]", unit)
        if match:
            groups.setdefault(match[1], []).append(int(match[2]))
        else:
            groups[unit] = []
    words = []
    for name, indices in groups.items():
        if not indices:
            words.append(name)
            continue
        runs: list[list[int]] = []
        for index in sorted(indices):
            if runs and index == runs[-1][1] + 1:
                runs[-1][1] = index
            else:
                runs.append([index, index])
        words += [f"{name}[{a}]" if a == b else f"{name}[{a}-{b}]" for a, b in runs]
    return ", ".join(words)


def _rank(checked: Checked) -> tuple[int, str]:
    """Weakest first: what was merely recomputed, then what rests on an assumption."""
    if checked.words == "recomputed":
        return (0, "")
    return (1 if checked.assumptions else 2, checked.words)


def worst_first(units: Mapping[str, Checked]) -> list[tuple[list[str], Checked]]:
    """Units that were checked in the same way, together; the weakest way first."""
    groups: dict[tuple[str, str, tuple[str, ...]], tuple[list[str], Checked]] = {}
    for unit, checked in units.items():
        key = (checked.words, checked.hidden, checked.assumptions)
        groups.setdefault(key, ([], checked))[0].append(unit)
    return sorted(groups.values(), key=lambda group: _rank(group[1]))


def report(result: Report, path: Path | None = None) -> None:
    """The verdict, the statement, and how each unit was checked, worst line first."""
    colour = "yellow" if result.assumptions else "green"
    name = f"  [dim]{shown(path)}[/]" if path is not None else ""
    out.print(f"[bold {colour}]{result.verdict}[/]{name}")
    statement = result.statement
    rows = [("model", str(statement.model))]
    if statement.kind == "text":
        rows.append(("prompt", quoted(result.prompt)))
        rows.append(("completion", quoted(result.completion)))
        asked, got = statement.max_new_tokens, len(statement.generated_ids)
        rows.append(("tokens", f"{got} of at most {asked}, ended by {statement.stop_reason}"))
    else:
        rows.append(("fragment", f"{statement.positions} rows"))
        rows.append(("input", str(statement.boundaries[0])))
        rows.append(("output", str(statement.boundaries[-1])))
    for units, checked in worst_first(result.units):
        words = checked.words + (f"; hidden: {checked.hidden}" if checked.hidden else "")
        rows.append((unit_ranges(units), words))
    if result.soundness_bits is not None:
        rows.append(("soundness", f"{result.soundness_bits:.1f} bits, the weakest sumcheck unit"))
    rows.append(("freshness", _freshness(result)))
    if result.assumptions:
        rows.append(("assumes", ", ".join(result.assumptions)))
    facts(rows)


def _freshness(result: Report) -> str:
    """What the nonce says, and which units do not say it themselves."""
    if result.request.nonce is None:
        return "not bound: no nonce was given"
    if not result.fresh:
        return "not bound: the nonce was only compared, anybody may have put it there"
    if not result.unbound_units:
        return "bound to the nonce"
    binding = [unit for unit in result.units if unit not in result.unbound_units]
    older = unit_ranges(result.unbound_units)
    return f"bound to the nonce by {unit_ranges(binding)}; evidence of {older} may be older"


def report_json(result: Report, path: Path) -> dict[str, Any]:
    """A verified bundle as plain JSON values."""
    return {
        "assumptions": list(result.assumptions),
        "bundle": str(path),
        "bundle_digest": result.bundle,
        "completion": result.completion,
        "error": None,
        "exit_code": 0,
        "fresh": result.fresh,
        "prompt": result.prompt,
        "size_bytes": result.size,
        "soundness_bits": result.soundness_bits,
        "statement": result.statement.to_json(),
        "unbound_units": list(result.unbound_units),
        "units": [
            {
                "assumptions": list(checked.assumptions),
                "checked": checked.words,
                "details": checked.details,
                "hidden": checked.hidden,
                "unit": unit,
            }
            for units, checked in worst_first(result.units)
            for unit in units
        ],
        "verdict": result.verdict,
    }


def failure_json(failure: Error, path: Path) -> dict[str, Any]:
    """A bundle that was not verified as plain JSON values."""
    return {
        "bundle": str(path),
        "error": {
            "class": type(failure).__name__,
            "hint": failure.hint,
            "message": failure.message,
        },
        "exit_code": failure.exit_code,
        "verdict": verdict_of(failure),
    }


def verdict_of(failure: Error) -> str:
    """One word for JSON and JUnit."""
    if isinstance(failure, VerificationError):
        return "refused"
    return "invalid" if isinstance(failure, InputError) else "error"


def junit(results: Sequence[tuple[Path, Report | Error]]) -> str:
    """A JUnit report: one test case a bundle, failures for refusals, errors for the rest."""
    failures = sum(isinstance(r, VerificationError) for _, r in results)
    errors = sum(isinstance(r, Error) for _, r in results) - failures
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<testsuites><testsuite name="zkllm verify" tests="{len(results)}" '
        f'failures="{failures}" errors="{errors}">',
    ]
    for path, result in results:
        lines.append(f'<testcase classname="zkllm" name={_attribute(str(path))}>')
        if isinstance(result, Error):
            tag = "failure" if isinstance(result, VerificationError) else "error"
            kind, message = _attribute(type(result).__name__), _attribute(result.message)
            lines.append(f"<{tag} type={kind} message={message}/>")
        else:
            lines.append(f"<system-out>{result.verdict}</system-out>")
        lines.append("</testcase>")
    return "\n".join([*lines, "</testsuite></testsuites>", ""])


def _attribute(text: str) -> str:
    return quoteattr(one_line(text))

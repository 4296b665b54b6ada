"""What people see: results on stdout, everything else on stderr.

Where somebody looks, lines are broken between words and continued under their beginning. Whatever
goes into a file or a pipe keeps one line for one thing, and a digest is one word everywhere.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from zkllm.errors import BackendError, Error, VerificationError
from zkllm.output import plain
from zkllm.output.layout import Rows, wrapped
from zkllm.reports import verdict_of, worst_first
from zkllm.verdict import Report
from zkllm.wording import harmless, one_line, quoted, unit_ranges

_WIDEST_NAME = 20
"""Columns that the name of a fact may take from its value on a terminal."""


class _Still(Console):
    """A console for what stays."""

    def print(self, *objects: Any, **options: Any) -> None:
        with plain.standing_still():
            super().print(*objects, **options)


class _Aside(_Still):
    """What is said beside the results: if nobody takes it, that must not become the verdict."""

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:
            plain.abandon(sys.stderr)


# Without emoji=False rich would show the text `:cat:` as another text.
out = _Still(highlight=False, soft_wrap=True, emoji=False)
err = _Aside(highlight=False, soft_wrap=True, emoji=False, stderr=True)


def shown(text: object) -> str:
    """`text`, or a path, as markup on one line: whoever made bundles chose their names too."""
    return escape(harmless(text))


def text(value: str) -> None:
    """`value` and a line break on stdout; a terminal gets no control characters of it."""
    if out.is_terminal:
        value = "\n".join(one_line(line) for line in value.split("\n"))
    plain.write(value if value.endswith("\n") else value + "\n")


# Lines


def paragraph(
    console: Console, head: str, body: str, indent: int = 2, style: str | None = None
) -> None:
    """`head`, which is markup, and `body`, which is not; continued `indent` columns to the right.

    On a terminal no word is broken: one that is wider than the terminal is left to it, which gives
    it back whole when it is copied.
    """
    body = harmless(body)
    if console.is_terminal:
        taken = Text.from_markup(head).cell_len
        room = _width(console)
        lines = wrapped(body, room - taken, room - indent)
        body = ("\n" + " " * indent).join(lines)
    console.print(head + escape(body), style=style)


def _width(console: Console) -> int:
    """Columns of the terminal; of a dumb one, rich takes eighty for granted."""
    return shutil.get_terminal_size().columns if console.is_dumb_terminal else console.width


def command(line: str) -> None:
    """`line`, something to type; what a narrow terminal breaks can be pasted as it stands."""
    line = harmless(line)
    if out.is_terminal:
        line = " \\\n    ".join(wrapped(line, _width(out) - 4, _width(out) - 6))
    out.print(f"  {escape(line)}")


def error(failure: Error, word: str = "") -> None:
    """`error: what was expected and got`, then the hint, on stderr."""
    word = word or ("refused" if isinstance(failure, VerificationError) else "error")
    paragraph(err, f"[bold red]{word}:[/] ", failure.sentence, len(word) + 2)
    hint(failure.hint)
    cause = failure.__cause__ if plain.says("verbose") else None
    while cause is not None:
        told = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        paragraph(err, "[dim]because:[/] ", one_line(told)[:500], 9)
        cause = cause.__cause__


def trouble(failure: Error | OSError) -> None:
    """What kept results from being written, on stderr; nobody misses them on a closed pipe."""
    if isinstance(failure, OSError):
        plain.abandon(sys.stdout)
        if isinstance(failure, BrokenPipeError):
            return
        named = "" if failure.filename is None else f"{failure.filename}: "
        failure = BackendError(named + (failure.strerror or str(failure)))
    error(failure)


def hint(text: str, console: Console = err, margin: str = "") -> None:
    """What to do, if there is anything to say; more lines are code, shown to be copied."""
    first, *code = text.split("\n")
    if first:
        paragraph(console, f"{margin}[cyan]hint:[/] ", first, len(margin) + 6)
    for line in code:
        console.print(shown(line))


def facts(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values on stdout, aligned; each line of a value is a paragraph of its own."""
    longest = _WIDEST_NAME if out.is_terminal else sys.maxsize
    width = max((len(name) for name, _ in rows if len(name) <= longest), default=0)
    for name, value in rows:
        head, indent = f"  [dim]{escape(f'{name:<{width}}')}[/]  ", width + 4
        widest = max(map(cell_len, value.split()), default=0)
        if out.is_terminal and (len(name) > width or widest > _width(out) - indent):
            # a digest has more use of a line than of a column
            out.print(f"  [dim]{escape(name)}[/]")
            head, indent = " " * 4, 4
        for line in value.split("\n"):
            paragraph(out, head, line, indent + 2 if "\n" in value else indent)
            head = " " * indent


# Tables


def table(*columns: str, right: Sequence[str] = (), drop: Sequence[str] = ()) -> Rows:
    """An empty table with these columns."""
    return Rows(columns, right, drop)


def show(rows: Rows) -> None:
    """`rows` on stdout; on a terminal that is too narrow, without the columns it can do without."""
    room = _width(out) if out.is_terminal else None
    names = rows.fitting(room)
    if room is not None and rows.width(names) > room:
        # the last column is what does not fit: below the others it has the whole width
        for cells in rows.cells:
            out.print(shown("  ".join(cells[:-1])))
            out.print("    " + shown(cells[-1]))
        return
    for i, line in enumerate(rows.lines(names)):
        out.print(shown(line), style="dim" if i == 0 else None)
    dropped = [name for name in rows.drop if name in rows.columns and name not in names]
    if dropped:
        paragraph(err, "", f"too narrow for: {', '.join(dropped)}; --json tells all")


# Verdicts


def report(result: Report, path: Path | None = None) -> None:
    """The verdict, the statement, and how each unit was checked, worst line first."""
    colour = "yellow" if result.assumptions else "green"
    name = f"  [dim]{shown(path)}[/]" if path is not None else ""
    out.print(f"[bold {colour}]{result.verdict}[/]{name}")
    if plain.says("quiet"):
        return
    statement = result.statement
    rows = [("bundle", str(result.bundle)), ("model", str(statement.model))]
    if statement.kind == "text":
        rows.append(("prompt", quoted(result.prompt)))
        if result.read != result.prompt:
            rows.append(("read as", quoted(result.read)))
        rows.append(("completion", quoted(result.completion)))
        asked, got = statement.max_new_tokens, len(statement.generated_ids)
        rows.append(("tokens", f"{got} of at most {asked}, ended by {statement.stop_reason}"))
    else:
        rows.append(("fragment", f"{statement.positions} rows"))
        rows.append(("input", str(statement.boundaries[0])))
        rows.append(("output", str(statement.boundaries[-1])))
    rows.append(("checked", "\n".join(str(group) for group in worst_first(result.units))))
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


def failure(problem: Error, path: Path | None = None) -> None:
    """Why a bundle was not verified, on stdout: the verdict, the bundle, the reason, the hint."""
    name = f"  [dim]{shown(path)}[/]" if path is not None else ""
    out.print(f"[bold red]{verdict_of(problem)}[/]{name}")
    paragraph(out, "  ", problem.sentence, 2)
    hint(problem.hint, out, "  ")

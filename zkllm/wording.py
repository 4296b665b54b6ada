"""Numbers, names of units, and text that others chose, as words for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMANDING = re.compile(r"#(?=#)")
"""Runners of pipelines obey `##[…]` or `##vso[…]` wherever in a line it stands."""


def one_line(text: str) -> str:
    """`text` without line breaks and control characters: a bundle must not write to a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def harmless(text: object) -> str:
    """`text`, or a path, on one line that no runner obeys."""
    return _COMMANDING.sub("# ", one_line(str(text)))


def quoted(text: str) -> str:
    """`text` as a Python literal that no runner obeys."""
    return _COMMANDING.sub(r"\\x23", repr(text))


def quiet_json(text: str) -> str:
    """JSON of the same value in which no runner finds a command."""
    return _COMMANDING.sub(r"\\u0023", text)


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

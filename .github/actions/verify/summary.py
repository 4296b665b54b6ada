"""The job summary: `python summary.py VERDICT JUNIT` prints Markdown; needs Python alone.

Names and messages are those of whoever made the bundles: they are shown as text, never as markup.
"""

from __future__ import annotations

import html
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def cell(text: str) -> str:
    """`text` inside a table: no markup, no line break, not without end."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    short = plain if len(plain) <= 300 else plain[:299] + "…"
    return f"<code>{html.escape(short).replace('|', '&#124;').replace('`', '&#96;')}</code>"


def rows(junit: Path) -> list[str]:
    """A row for every bundle of the report; none where there is no report."""
    if not junit.is_file():
        return []
    lines = ["| bundle | verdict | why |", "|---|---|---|"]
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        no = case.find("failure")
        broken = case.find("error")
        told = no if no is not None else broken
        word = "verified" if told is None else "refused" if no is not None else "error"
        why = "" if told is None else cell(told.get("message", ""))
        lines.append(f"| {cell(case.get('name', ''))} | {word} | {why} |")
    return lines


def main() -> None:
    verdict, junit = sys.argv[1:]
    print(f"### zkllm verify: {verdict}\n")
    print("\n".join(rows(Path(junit)) or ["No bundle was checked: see the log of this step."]))


if __name__ == "__main__":
    main()

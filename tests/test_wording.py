"""Ranges of units, sizes, and text that others chose."""

from __future__ import annotations

import pytest

from zkllm.wording import bytes_text, harmless, one_line, unit_ranges


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
    assert unit_ranges(units) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (4125, "4.12 kB"), (125_922_619, "126 MB"),
     (3_000_000_000_000, "3e+03 GB")],
)  # fmt: skip
def test_bytes_text(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_a_bundle_cannot_write_to_the_terminal() -> None:
    assert one_line("a\x1b[2J\nb\u202e") == "a [2J b "


def test_no_text_commands_a_runner() -> None:
    assert harmless("##[x] ###vso") == "# #[x] # # #vso"

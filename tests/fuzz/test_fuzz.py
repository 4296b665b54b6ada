"""A sample of what `make fuzz` runs whole, and that a fault would be seen."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from tests.fuzz import judging
from tests.fuzz.judging import judge
from tests.fuzz.mutants import Mutant, mutants

EVERY = 211
"""A prime, so that the sample goes through all kinds of values."""


@pytest.fixture(scope="module")
def all_mutants() -> list[Mutant]:
    return list(mutants())


def named(all_mutants: list[Mutant], name: str) -> Mutant:
    (found,) = (mutant for mutant in all_mutants if mutant.name == name)
    return found


def test_a_sample_is_refused_or_true(all_mutants: list[Mutant], tmp_path: Path) -> None:
    outcomes: collections.Counter[str] = collections.Counter()
    for index, mutant in enumerate(all_mutants[::EVERY]):
        outcomes.update(judge(mutant, tmp_path / "model", prove=index % 20 == 0))
    assert set(outcomes) == {"refused by its form", "refused by the bounds", "true"}


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("the honest model", ["true"]),
        ("architecture.width = 21", ["refused by its form"]),
        ("mlp.0.expand.accumulator = 0", ["refused by the bounds", "true"]),
        ("mlp.0.expand.shift = 0", ["refused by the bounds"]),
        ("embed.tokens: all -32768", ["refused by the bounds", "true"]),
        ("mlp[0].expand.weight: all -9223372036854775808", ["refused by the bounds"]),
        ("embed.tokens: first -9223372036854775808", ["refused by the bounds"]),
        ("table.gelu: last 1", ["true"]),
    ],
)
def test_what_becomes_of_some(
    all_mutants: list[Mutant], name: str, outcomes: list[str], tmp_path: Path
) -> None:
    assert judge(named(all_mutants, name), tmp_path / "model", prove=False) == outcomes


@pytest.mark.parametrize("executor", ["recompute", "run"])
def test_a_wrong_result_would_be_seen(
    all_mutants: list[Mutant], executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = getattr(judging, executor)
    monkeypatch.setattr(judging, executor, lambda *arguments: honest(*arguments) + 1)
    with pytest.raises(AssertionError, match=r"^embed: (numpy|ONNX Runtime)"):
        judge(named(all_mutants, "the honest model"), tmp_path / "model", prove=False)


def test_an_error_of_another_kind_would_be_seen(
    all_mutants: list[Mutant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(_: object) -> None:
        raise OverflowError("an integer that nobody measured")

    monkeypatch.setattr(judging, "check_bounds", overflow)
    with pytest.raises(OverflowError, match="that nobody measured"):
        judge(named(all_mutants, "the honest model"), tmp_path / "model", prove=False)

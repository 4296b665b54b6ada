"""Who knows an operation: its own folder, and the lists that say which there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layers import PACKAGE, imported, modules
from zkllm.operations import OPERATIONS

LISTS = ("operations/__init__.py", "exact/format1.py", "architectures/")
"""The list of operations, what a format writes of them, and the units that are made of them."""
PENDING = (
    "backends/sumcheck/",
    "exact/quantise.py",
)
"""Rooms that are not yet tidied up; no other may come to them."""


def folder(operation: str) -> Path:
    return PACKAGE / "operations" / operation


def classes(operation: str) -> set[str]:
    """The names of an operation's own classes: its record, its step, its readings."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in folder(operation).glob("*.py")]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def identifiers(path: Path) -> Iterator[str]:
    """Every name that the code of `path` uses, imported or reached through a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def outside(operation: str) -> list[Path]:
    """The modules that neither are the operation's own nor list operations."""
    return [
        path
        for path in modules()
        if folder(operation) not in path.parents
        and not str(path.relative_to(PACKAGE)).startswith((*LISTS, *PENDING))
    ]


def test_the_list_of_operations_is_complete() -> None:
    found = {path.parent.name for path in (PACKAGE / "operations").glob("*/exact.py")}
    assert set(OPERATIONS) == found


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_else_names_an_operation(operation: str) -> None:
    package = f"zkllm.operations.{operation}"
    for path in outside(operation):
        names = [name for name in imported(path) if f"{name}.".startswith(f"{package}.")]
        assert not names, f"{path.relative_to(PACKAGE)} imports {names}"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_else_names_its_classes(operation: str) -> None:
    """Not through another module either, such as the one that imported it first."""
    own = classes(operation)
    assert own, "an operation has a record and a step"
    for path in outside(operation):
        named = own & set(identifiers(path))
        assert not named, f"{path.relative_to(PACKAGE)} names {sorted(named)}"

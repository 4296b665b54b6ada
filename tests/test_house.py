"""Who knows an operation: its own folder and the lists. Who knows a network: its own file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.test_layers import PACKAGE, imported, modules
from zkllm.architectures import ARCHITECTURES
from zkllm.architectures.base import Architecture
from zkllm.architectures.config import Keys
from zkllm.operations import OPERATIONS

LISTS = ("operations/__init__.py", "exact/format1.py", "architectures/")
"""The list of operations, what a format writes of them, and the units that are made of them."""
READINGS = {"Equations"}
"""Classes that have one name in every operation's folder: by it an engine asks for its reading."""


def folder(operation: str) -> Path:
    return PACKAGE / "operations" / operation


def classes(operation: str) -> set[str]:
    """The names of an operation's own classes: its record, its step, ..."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in folder(operation).glob("*.py")]
    found = {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    return found - READINGS


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
        and not str(path.relative_to(PACKAGE)).startswith(LISTS)
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


# Networks

PLAIN = {"weight", "bias", "attn", "mlp", "tie_word_embeddings"}
"""Words that are not one network's: parts of any, and a key that all have."""
TOKENIZERS = {
    "checkpoints/bpe.py": {"GPT2Tokenizer", "GPT2TokenizerFast"},
    "vetting.py": {"GPT2Tokenizer", "GPT2TokenizerFast"},
}
"""Classes of tokenizers, which many networks have; a library calls them after the first."""


class Asked(dict[str, Any]):
    """A config.json that remembers which keys it was asked for."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.keys_asked: set[str] = set()

    def __contains__(self, key: object) -> bool:
        self.keys_asked.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_asked.add(key)
        return super().get(key, default)


SMALLEST = {
    "gpt2": dict.fromkeys(("n_embd", "n_head", "n_layer", "n_positions", "vocab_size"), 1),
}
"""A config.json of each network."""


def words(architecture: type[Architecture]) -> set[str]:
    """Its keys, the parts of its tensors' names, and what it and its classes are called."""
    config = Asked(SMALLEST[architecture.model_type])
    network = architecture.read(Keys(config))
    tensors = [*dict(network.shapes()), architecture.layout.head]
    parts = {part for name in tensors for part in name.split(".") if len(part) > 1}
    called = {architecture.__name__, architecture.model_type, *architecture.classes}
    return (config.keys_asked | parts | called) - PLAIN


def texts(path: Path) -> Iterator[str]:
    """What the code of `path` names: identifiers, and texts that are no documentation."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value
    yield from identifiers(path)
    yield from imported(path)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.model_type)
def test_nobody_else_names_a_network(architecture: type[Architecture]) -> None:
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(words(architecture))))})\b")
    for path in modules():
        module = str(path.relative_to(PACKAGE))
        if not module.startswith("architectures/"):
            found = {hit for text in texts(path) for hit in pattern.findall(text)}
            assert not found - TOKENIZERS.get(module, set()), f"{module} names {sorted(found)}"

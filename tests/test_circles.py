"""No room needs another that needs it: the whole graph of imports, those inside functions too.

tests/test_layers.py says which layers there are; inside one of them anything could import anything.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import zkllm

Graph = dict[str, set[str]]

KNOWN: dict[tuple[str, str], str] = {}
"""Imports of a room by another that close a circle, each with its reason; none may be added."""


def sources(package: Path) -> dict[str, Path]:
    """The modules of a package by name; a folder is its `__init__`."""
    root = package.parent
    named = {path.relative_to(root).with_suffix("").parts: path for path in package.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): path for parts, path in named.items()}


def imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Those of a module, but for what stands under TYPE_CHECKING: no run ever needs that."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    parts = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        parts = iter(node.orelse)
    for part in parts:
        yield from imports(part)


def graph_of(package: Path) -> Graph:
    """Who imports whom: `from a import b` imports `a.b` if that is a module, and else `a`."""
    found = sources(package)
    graph: Graph = {}
    for name, path in found.items():
        targets: set[str] = set()
        for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            else:
                assert node.level == 0, f"{path}: imports are absolute"
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {i if i in found else i.rpartition(".")[0] for i in inner}
        graph[name] = (targets & set(found)) - {name}
    return graph


def rooms(modules: Graph) -> Graph:
    """The same between rooms: a folder is one, and so is a module beside folders."""
    folders = {name for name in modules if any(m.startswith(f"{name}.") for m in modules)}
    houses = {folder.rpartition(".")[0] for folder in folders}

    def room(name: str) -> str:
        folder = name if name in folders else name.rpartition(".")[0]
        return name if folder in houses else folder

    graph: Graph = {}
    for name, targets in modules.items():
        graph.setdefault(room(name), set()).update(map(room, targets))
    return {name: targets - {name} for name, targets in graph.items()}


def circle(graph: Mapping[str, set[str]]) -> str:
    """A circle of `graph`, from importer to imported; nothing if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as found:
        return " -> ".join(reversed(found.args[1]))
    return ""


def without(graph: Graph, edges: Mapping[tuple[str, str], str]) -> Graph:
    return {a: {b for b in targets if (a, b) not in edges} for a, targets in graph.items()}


MODULES = graph_of(Path(zkllm.__file__).parent)


def test_no_room_needs_one_that_needs_it() -> None:
    assert circle(without(rooms(MODULES), KNOWN)) == ""


def test_no_module_needs_one_that_needs_it() -> None:
    """Not in one room either: its modules can be read in an order."""
    assert circle(MODULES) == ""


def test_every_known_circle_is_one() -> None:
    """Where it was opened, it is known no longer."""
    for edge in KNOWN:
        others = {known: why for known, why in KNOWN.items() if known != edge}
        assert circle(without(rooms(MODULES), others)), edge


HOUSE = {
    "__init__": "import house.low",
    "low": "",
    "one/__init__": "",
    "one/first": "from house.two import second",
    "two/__init__": "",
    "two/second": "def late():\n    from house.low import name",
    "two/third": "import house.low",
    "many/__init__": "",
    "many/shared": "",
    "many/left/__init__": "",
    "many/left/first": "from house.many import shared",
    "many/right/__init__": "",
    "many/right/first": "from house.many.shared import a\nfrom house.many.left.first import b",
}


@pytest.mark.parametrize(
    ("change", "between_modules", "between_rooms"),
    [
        ({}, "", ""),
        ({"low": "import house.low"}, "", ""),  # only of itself
        (
            {
                "two/second": "from house.two.third import a",
                "two/third": "from house.two import second",
            },
            "house.two.second -> house.two.third -> house.two.second",
            "",
        ),
        # two rooms, of which no module needs one that needs it
        ({"two/third": "import house.one"}, "", "house.one -> house.two -> house.one"),
        # inside a function, from a room that another one hides
        (
            {"many/shared": "def late():\n    import house.many.right.first as right"},
            "house.many.right.first -> house.many.shared -> house.many.right.first",
            "house.many.right -> house.many.shared -> house.many.right",
        ),
        (
            {"many/left/second": "from house.many.right import first"},
            "",
            "house.many.left -> house.many.right -> house.many.left",
        ),
        ({"low": "if TYPE_CHECKING:\n    import house.one.first\nelse:\n    import json"}, "", ""),
        (
            {"low": "if TYPE_CHECKING:\n    import json\nelse:\n    import house.two.second"},
            "house.low -> house.two.second -> house.low",
            "house.low -> house.two -> house.low",
        ),
    ],
)
def test_a_circle_is_seen(
    change: dict[str, str], between_modules: str, between_rooms: str, tmp_path: Path
) -> None:
    for name, text in (HOUSE | change).items():
        path = tmp_path / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    graph = graph_of(tmp_path / "house")
    for found, expected in ((graph, between_modules), (rooms(graph), between_rooms)):
        # a circle may be told from any of its places on
        told, named = circle(found).split(" -> "), expected.split(" -> ")
        assert (len(told), set(told)) == (len(named), set(named))

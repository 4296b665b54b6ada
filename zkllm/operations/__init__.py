"""Operations: one folder each, with every reading of it.

`exact.py` has the record, the arithmetic in numpy, the bounds and the work; `onnx.py`,
`sumcheck.py` and `ezkl.py` say the same in the terms of an engine. Where one of these is missing,
the operation cannot be said there. `step` has what all have in common, `unit` how steps make up a
unit.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType
from typing import Literal

from zkllm.errors import UnsupportedModel
from zkllm.operations.step import Step

OPERATIONS = ("norm", "linear", "attention", "activation", "embed", "head")
"""The one list of operations, by their folders."""

Reading = Literal["onnx", "sumcheck", "ezkl"]


def reading(step: Step, engine: Reading) -> ModuleType:
    """The module that says the operation of `step` in the terms of `engine`.

    It stands beside the module that has the step's record. Raises `UnsupportedModel` where the
    operation cannot be said there.
    """
    folder = type(step).__module__.rpartition(".")[0]
    found = _module(f"{folder}.{engine}")
    if found is None:
        operation = folder.rpartition(".")[2]
        raise UnsupportedModel(f"{step.name}: {engine} has no words for the operation {operation}")
    return found


@functools.cache
def _module(name: str) -> ModuleType | None:
    return importlib.import_module(name) if importlib.util.find_spec(name) else None

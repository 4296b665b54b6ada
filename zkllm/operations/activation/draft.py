"""The table of an activation, from the function that it stands for."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from zkllm.operations import tables
from zkllm.operations.activation.exact import Activation, ActivationStep
from zkllm.operations.bounds import Vector
from zkllm.operations.draft import Draft
from zkllm.operations.step import Dims
from zkllm.tensors import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class ActivationDraft(Draft):
    """An activation of values that have `fraction` fraction bits, and keep them."""

    kind: tables.ActivationKind
    fraction: int
    dims: Dims
    """Of the values."""
    table: str = "table.gelu"
    """Under this name all units share one."""

    def quantise(
        self, unit: str, given: Sequence[Vector], tensors: MutableMapping[str, IntArray]
    ) -> ActivationStep:
        tensors[self.table] = tables.activation(self.kind, self.fraction)
        return ActivationStep(
            self.name, self.reads, self.writes, Activation(self.table, 0), self.dims
        )

"""The constants of an attention, from how finely its scores are cut."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from zkllm.errors import UnsupportedModel
from zkllm.operations.attention.exact import Attend, AttentionStep
from zkllm.operations.bounds import Vector
from zkllm.operations.draft import Draft
from zkllm.operations.tables import ExpTable
from zkllm.tensors import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class AttentionDraft(Draft):
    """Attention whose scores get `score` fraction bits of the `product` that q·k has.

    1/√d_head is part of the queries.
    """

    heads: int
    size: int
    """d_head."""
    context: int
    """Largest T."""
    product: int
    score: int
    exp: ExpTable
    table: str = "table.exp"
    """Under this name all units share one."""

    def quantise(
        self, unit: str, given: Sequence[Vector], tensors: MutableMapping[str, IntArray]
    ) -> AttentionStep:
        shift = self.product - self.score
        if shift < 0:
            raise UnsupportedModel(f"{unit}: query and key have fewer fraction bits than scores")
        tensors[self.table] = self.exp.make()
        numbers = Attend(shift, 0, 0, self.table, 0, 0, 0)
        sizes = self.heads, self.size, self.context
        return AttentionStep(self.name, self.reads, self.writes, numbers, *sizes)

"""Causal attention of all heads, between its linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from zkllm import integers
from zkllm.errors import WrongMaterial
from zkllm.integers import FIELD_LIMIT, FLOAT64_LIMIT, matmul, round_div, round_shift
from zkllm.operations import bounds
from zkllm.operations.bounds import Vector, window
from zkllm.operations.step import Step, Tensors
from zkllm.records import below, word
from zkllm.tensors import IntArray, StoredArray


@dataclass(frozen=True, slots=True)
class Attend:
    """Attention's constants and proven bounds (`attention`)."""

    shift: int = field(metadata=below(62))
    """sh."""
    product: int
    """Bound on the sum of |q·k| terms, rounding included."""
    score: int
    """Bound on |s|."""
    exp: str
    """The table EXP."""
    total: int
    """Bound on S at the full context."""
    mixed: int
    """Bound on Σ e·|v| + S at the full context."""
    output: int
    """Bound on |o|, which is that on |v|."""


@dataclass(frozen=True)
class AttentionStep(Step):
    """q, k, v [T, h, d_head] to o of that shape."""

    numbers: Attend
    heads: int
    size: int
    """d_head."""
    context: int
    """Largest T."""

    def run(self, given: Sequence[IntArray], tensor: Tensors) -> IntArray:
        n = self.numbers
        q, k, v = (x.transpose(1, 0, 2) for x in given)  # [h, T, d_head]
        attended = attention(q, k, v, shift=n.shift, table=tensor(n.exp))
        return attended.output.transpose(1, 0, 2)  # [T, h, d_head]

    def prove(
        self, unit: str, given: Sequence[Vector], tensor: Tensors
    ) -> tuple[AttentionStep, Vector]:
        q, k, v = given
        table, shift = tensor(self.numbers.exp), self.numbers.shift
        terms = [left * right for left, right in zip(q.entries, k.entries, strict=True)]
        starts = range(0, len(terms), self.size)
        product = max(sum(terms[start : start + self.size]) for start in starts)
        product += (1 << shift) >> 1
        integers.require(product, FLOAT64_LIMIT, unit, "q·k")
        total = self.context * int(table[0])
        mixed = total * v.largest + total
        integers.require(mixed, FLOAT64_LIMIT, unit, "the sum of e·v")
        score = (product >> shift) + 1
        # the maximum, the table's last index, and what the minimum with it cuts off
        scores = window(score) + len(table) - 1 + window(2 * score)
        confined = self.size * window(q.largest) * window(k.largest) + ((scores + 2) << shift)
        integers.require(confined, FIELD_LIMIT, unit, "q·k, as provers confine it")
        numbers = Attend(shift, product, score, self.numbers.exp, total, mixed, v.largest)
        # o is a rounded convex combination of values, per head: ½ more for each entry. Heads may
        # look at different rows.
        norm = v.mixed + (bounds.ceil_sqrt(v.width) + 1) // 2
        output = bounds.vector([n + 1 for n in v.entries], norm, by_columns=True)
        return replace(self, numbers=numbers), output

    def tables(self) -> tuple[str, ...]:
        return (self.numbers.exp,)

    def check_table(self, name: str, table: StoredArray) -> None:
        if not (table[-1] >= 0 and table[0] > 0 and (table[:-1] >= table[1:]).all()):
            raise WrongMaterial(
                f"tensor {word(name)}: expected a table of EXP, which falls from above 0 to 0 or "
                "more"
            )
        if self.context * int(table[0]) >= FLOAT64_LIMIT:
            raise WrongMaterial(
                f"tensor {word(name)}: expected a table of EXP that {self.context} positions add "
                f"up to less than 2^52, it begins with {int(table[0])}"
            )

    def largest_entry(self, table: str) -> int:
        # from the bound on the sum of as many as there are positions
        return max(1, self.numbers.total // self.context)

    def work(self, rows: int) -> int:
        return rows * (rows + 1) * self.heads * self.size


@dataclass(frozen=True, slots=True)
class Attended:
    """The values of causal attention over all heads, all that a prover needs."""

    score: IntArray
    """s, shape [h, T, T]; only j <= i has a meaning."""
    maximum: IntArray
    """m, shape [h, T]."""
    exponential: IntArray
    """e, shape [h, T, T]; zero where j > i."""
    total: IntArray
    """S = Σ e, shape [h, T]."""
    output: IntArray
    """o, shape [h, T, d_head]."""


def attention(q: IntArray, k: IntArray, v: IntArray, *, shift: int, table: StoredArray) -> Attended:
    """Causal attention of all heads; q, k, v [h, T, d_head].

    Row i over j <= i: s = round(q·k / 2^sh); m = max s; z = m - s; u = min(z, cap); e = EXP[u];
    S = Σ e; o = round(Σ e·v / S). `table` is EXP, of cap + 1 entries. Places j > i are absent.
    """
    score = round_shift(matmul(q, k.swapaxes(-1, -2)), shift)
    tokens = score.shape[-1]
    causal = np.tri(tokens, dtype=bool)
    lowest = np.iinfo(np.int64).min
    maximum = np.where(causal, score, lowest).max(axis=-1)
    distance = np.where(causal, maximum[..., None] - score, 0)
    entries = table[np.minimum(distance, len(table) - 1)].astype(np.int64)
    exponential = np.where(causal, entries, 0)
    total = exponential.sum(axis=-1)
    output = round_div(matmul(exponential, v), total[..., None])
    return Attended(score, maximum, exponential, total, output)

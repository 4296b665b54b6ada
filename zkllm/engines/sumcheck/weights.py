"""The prover's commitment to weights: they stay small integers, and floats sum over them.

The batch of all claims is Σ_x v(x)·f(x) over the committed vector v. Of a claim at a point, f is
eq(·, high)·eq(·, low) on a block, for the high and the low of its variables. The first rounds bind
low ones. For them Σ over the high ones is taken once, by floats over the integers of the block,
which leaves a short table beside eq(·, low). When the low ones are bound, floats bind them in v,
and v and f are short. All of it is exact in the field, so every message is the one that the long
tables of v and f would give, and with it every byte of a proof.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from zkllm.engines.sumcheck import commitment, kernels, multilinear
from zkllm.engines.sumcheck.commitment import Shape
from zkllm.engines.sumcheck.committed import EncodedMatrix, accumulate, merkle_layers, vector_at
from zkllm.engines.sumcheck.field import ONE, Ext, Words, add, contract, to_field, words
from zkllm.engines.sumcheck.multilinear import Coordinates
from zkllm.engines.sumcheck.party import Owed, Weights
from zkllm.engines.sumcheck.plan import Plan, Slot, cells, total
from zkllm.engines.sumcheck.rounds import ProductRounds
from zkllm.tensors import StoredArray

Tensors: TypeAlias = Mapping[str, StoredArray]
Layout: TypeAlias = Mapping[str, Sequence[Slot]]

LOW: Final = 12
"""Variables that are bound before the pass over all weights, unless rows have fewer."""
_BATCH: Final = 16
"""Rows that are elements of the field at a time, while they are encoded."""


def commit_weights(plan: Plan, weights: Weights) -> CommittedWeights:
    """The commitment to the weights of a unit."""
    tensors = {name: weights.integers(name).reshape(dims) for name, dims in plan.weights.items()}
    return CommittedWeights(tensors, plan.weights_layout(), total(plan.weights))


class SmallRows:
    """The rows of a matrix, in runs of rows of the same type: the widest of what lies in them."""

    def __init__(self, tensors: Tensors, layout: Layout, shape: Shape) -> None:
        self._log = shape.log_columns
        widths = np.ones(shape.rows, dtype=np.int64)
        for name, slot in _slots(layout):
            rows = self._rows(slot)
            widths[rows] = np.maximum(widths[rows], tensors[name].itemsize)
        self.runs: list[tuple[slice, StoredArray]] = []
        for width, found in itertools.groupby(range(shape.rows), lambda row: int(widths[row])):
            run = list(found)
            values = np.zeros((len(run), shape.columns), dtype=f"i{width}")
            self.runs.append((slice(run[0], run[-1] + 1), values))
        for name, slot in _slots(layout):
            self.block(slot)[:] = cells(tensors[name], slot)

    def _rows(self, slot: Slot) -> slice:
        last = slot.offset + (1 << slot.block.bits) - 1
        return slice(slot.offset >> self._log, (last >> self._log) + 1)

    def block(self, slot: Slot) -> StoredArray:
        """The integers of one block, flat: it lies in a row, or fills rows, so in one run."""
        row = slot.offset >> self._log
        rows, values = next(run for run in self.runs if run[0].start <= row < run[0].stop)
        start = slot.offset - (rows.start << self._log)
        return values.reshape(-1)[start : start + (1 << slot.block.bits)]


def _slots(layout: Layout) -> list[tuple[str, Slot]]:
    return [(name, slot) for name, slots in layout.items() for slot in slots]


class SmallMatrix(EncodedMatrix):
    """A matrix of small integers, its encoding and its tree."""

    def __init__(self, small: SmallRows, shape: Shape) -> None:
        self._small, self._shape = small, shape
        self._encoded = np.empty((shape.rows, shape.columns * shape.code.blowup), dtype=np.uint64)
        for rows, values in small.runs:
            for start in range(0, len(values), _BATCH):
                batch = values[start : start + _BATCH]
                first = rows.start + start
                kernels.encode_into(to_field(batch), self._encoded[first : first + len(batch)])
        self._tree = commitment.MerkleTree(merkle_layers(self._encoded))
        self._combined = None

    def combine(self, factors: Words) -> Words:
        result = np.zeros((self._shape.columns, 2), dtype=np.uint64)
        for rows, values in self._small.runs:
            result = add(result, contract(factors[rows], values))
        return result


class CommittedWeights:
    """A committed vector of small integers, and where its tensors lie in it.

    Blocks come in the order of their size. Those of fewer than `low` variables are the tail, for
    which tables are made.
    """

    def __init__(self, tensors: Tensors, layout: Layout, length: int) -> None:
        self.shape = commitment.levels_of(length)[0]
        self._layout = layout
        self._small = SmallRows(tensors, layout, self.shape)
        self.matrix = SmallMatrix(self._small, self.shape)
        self.low = min(LOW, self.shape.log_columns)
        short = [slot for _, slot in _slots(layout) if slot.block.bits < self.low]
        self._start = min((slot.offset for slot in short), default=length)
        self._tail = np.zeros(length - self._start, dtype=np.uint64)
        for slot in short:
            self._tail[self._after(slot)] = to_field(self._small.block(slot))

    def _after(self, slot: Slot) -> slice:
        """Where a block lies in the tail."""
        start = slot.offset - self._start
        return slice(start, start + (1 << slot.block.bits))

    def root(self) -> bytes:
        return self.matrix.root()

    def value_at(self, point: Coordinates) -> list[Ext]:
        return [vector_at(self.matrix, self.shape, point)]

    def batch_rounds(self, claims: Sequence[Owed], factors: Sequence[Ext]) -> WeightRounds:
        """The sumcheck over the committed vector and the weights Σ factor·form."""
        rounds = WeightRounds(self, self.low)
        tail = np.zeros((len(self._tail), 2), dtype=np.uint64)
        for claim, gamma in zip(claims, factors, strict=True):
            for slot, (factor, local) in zip(
                self._layout[claim.column], claim.linear_form, strict=True
            ):
                scale = gamma * factor
                if slot.block.bits >= self.low:
                    rounds.add(slot.offset >> self.low, self._small.block(slot), scale, local)
                else:
                    accumulate(tail[self._after(slot)], kernels.eq_table(words(local)), scale)
        values = np.stack([self._tail, np.zeros_like(self._tail)], axis=-1)
        rounds.begin(values, tail)
        return rounds

    def bind_low(self, point: Coordinates) -> Words:
        """The committed vector with its low variables at `point`, all before the tail."""
        table = kernels.eq_table(words(point))
        bound = [contract(table, run.reshape(-1, len(table)).T) for _, run in self._small.runs]
        return np.concatenate(bound)[: self._start >> self.low]


class WeightRounds:
    """First the low variables of all blocks, beside each other; then those that are left."""

    def __init__(self, committed: CommittedWeights, low: int) -> None:
        self._committed, self._low = committed, low
        self._short: list[tuple[Words, Words]] = []
        """Of each block, Σ over its high variables, and its linear form of the low ones."""
        self._later: list[tuple[int, Ext, Coordinates, Words]] = []
        """Of each block, where it is when they are bound, factor, low point, eq of the high."""
        self._point: list[Ext] = []
        self._now: ProductRounds

    def add(self, offset: int, block: StoredArray, scale: Ext, local: Coordinates) -> None:
        """A claim scale·Σ eq(·, local)·block, which begins at `offset` once low ones are bound."""
        low, high = local[: self._low], kernels.eq_table(words(local[self._low :]))
        linear_form = np.zeros((1 << self._low, 2), dtype=np.uint64)
        accumulate(linear_form, kernels.eq_table(words(low)), scale)
        self._short.append((contract(high, block.reshape(len(high), -1)), linear_form))
        self._later.append((offset, scale, low, high))

    def begin(self, values: Words, linear_form: Words) -> None:
        """Start, with the tail of the vector and its linear form."""
        sides = zip(*self._short, (values, linear_form), strict=True)
        self._now = _product(*(np.concatenate(side) for side in sides))
        self._short.clear()
        self._go_on()

    def message(self, degree: int) -> list[Ext]:
        return self._now.message(degree)

    def bind(self, challenge: Ext) -> None:
        self._now.bind(challenge)
        self._point.append(challenge)
        self._go_on()

    def _go_on(self) -> None:
        """When the low variables are bound, go over to the whole vector."""
        if len(self._point) != self._low:
            return
        point = tuple(self._point)
        whole = self._committed.bind_low(point)
        linear_form = np.zeros_like(whole)
        for offset, scale, low, high in self._later:
            part = linear_form[offset : offset + len(high)]
            accumulate(part, high, scale * multilinear.eq_points(low, point))
        tails = (table[len(self._later) :] for table in self._now.tables())
        both = zip((whole, linear_form), tails, strict=True)
        self._now = _product(*(np.concatenate(pair) for pair in both))


def _product(values: Words, linear_form: Words) -> ProductRounds:
    return ProductRounds((len(values),), [values, linear_form], [(ONE, (0, 1))])

"""Evaluating a circuit at random field elements, with nothing but what its key enforces.

A variable is a cycle of cells that the permutation holds equal. Constants and inputs have values
from the start; every other value comes out of a gate whose operands are known, or it is *free*:
a prover may choose it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zkllm.engines.ezkl.audit.layout import ACCUMULATING, Gate, Layout
from zkllm.engines.ezkl.audit.pk import ProvingKey
from zkllm.engines.ezkl.expressions import FIELD

_LEFT, _RIGHT, _RESULT = range(3)


def symbol(table: str, argument: int) -> int:
    """The field element that stands for the entry of `table` at `argument`.

    Random arguments lie in no window, so an audit cannot look anything up. It replaces each table
    by a fixed random function; what holds for that one holds for whatever the table contains.
    """
    text = f"{table}:{argument % FIELD}".encode()
    return int.from_bytes(hashlib.blake2b(text).digest(), "little") % FIELD


@dataclass(frozen=True, slots=True)
class Step:
    """One row of one active gate, in terms of variables."""

    gate: Gate
    row: int
    operands: tuple[int, ...]
    """The row before (if it accumulates), then left and right, column by column."""
    result: int


@dataclass(slots=True)
class Evaluation:
    """The values of all variables that follow from the inputs, and what hangs in the air."""

    values: dict[int, int] = field(default_factory=dict)
    """By variable."""
    lookups: dict[str, list[int]] = field(default_factory=dict)
    """Arguments of all lookups, by table."""
    assertions: list[tuple[Step, int]] = field(default_factory=list)
    """Gates whose result is also something else, and by how much it differs."""
    free: list[tuple[Step, int]] = field(default_factory=list)
    """Operands that are neither input, constant nor result, each with the first step it is in."""
    stuck: int = 0
    """Steps that could not be evaluated."""


def variables(key: ProvingKey) -> npt.NDArray[np.int64]:
    """The variable of each cell: the smallest cell of its cycle."""
    successors = key.successors.ravel()
    result = np.arange(successors.size)
    done = successors == result
    for cell in np.flatnonzero(~done).tolist():
        if done[cell]:
            continue
        following = cell
        while not done[following]:
            done[following] = True
            result[following] = cell
            following = int(successors[following])
    return result


def steps(layout: Layout, key: ProvingKey, variable: npt.NDArray[np.int64]) -> list[Step]:
    """All active gates, in the order in which ezkl lays circuits out."""
    found = [
        Step(
            gate,
            row,
            tuple(int(variable[cell]) for cell in _operands(layout, gate, row)),
            int(variable[layout.track(_RESULT, gate.block, gate.inner, row)]),
        )
        for gate, bits in zip(layout.gates, key.selectors, strict=False)
        for row in np.flatnonzero(bits[: layout.usable]).tolist()
    ]
    return sorted(found, key=lambda step: (step.gate.block, step.row, step.gate.inner))


def _operands(layout: Layout, gate: Gate, row: int) -> list[int]:
    """The cells that `gate` reads at `row`."""

    def cell(track: int, inner: int) -> int:
        return layout.track(track, gate.block, inner, row)

    match gate.operation:
        case "LOOKUP":
            return [cell(_LEFT, gate.inner)]
        case "ADD" | "SUB" | "MULT":
            return [cell(_LEFT, gate.inner), cell(_RIGHT, gate.inner)]
    # A rotation wraps around: the row before the first is the last.
    before = layout.track(_RESULT, gate.block, 0, (row - 1) % layout.rows)
    cells = [before] if gate.operation in ACCUMULATING else []
    for inner in range(layout.width):
        if gate.operation in ("DOT", "DOTINIT"):
            cells.append(cell(_LEFT, inner))
        cells.append(cell(_RIGHT, inner))
    return cells


def evaluate(pending: list[Step], known: dict[int, int]) -> Evaluation:
    """Propagate the values `known` through `pending` until nothing new follows."""
    evaluation = Evaluation(values=dict(known))
    results = {step.result for step in pending}
    while pending:
        waiting = [step for step in pending if not _advance(step, evaluation)]
        if len(waiting) == len(pending):
            break
        pending = waiting
    evaluation.stuck = len(pending)
    seen: set[int] = set()
    for step in pending:
        for operand in step.operands:
            if operand not in evaluation.values and operand not in results | seen:
                seen.add(operand)
                evaluation.free.append((step, operand))
    return evaluation


def _advance(step: Step, evaluation: Evaluation) -> bool:
    """Evaluate one step if its operands have values."""
    values = evaluation.values
    if not all(operand in values for operand in step.operands):
        return False
    operands = [values[operand] for operand in step.operands]
    value = _compute(step.gate, operands) % FIELD
    if step.gate.operation == "LOOKUP":
        evaluation.lookups.setdefault(step.gate.table, []).append(operands[0])
    if values.setdefault(step.result, value) != value:
        evaluation.assertions.append((step, (value - values[step.result]) % FIELD))
    return True


def _compute(gate: Gate, operands: list[int]) -> int:
    match gate.operation:
        case "LOOKUP":
            return symbol(gate.table, operands[0])
        case "ADD":
            return operands[0] + operands[1]
        case "SUB":
            return operands[0] - operands[1]
        case "MULT":
            return operands[0] * operands[1]
        case "DOT":
            return operands[0] + _dot(operands[1:])
        case "DOTINIT":
            return _dot(operands)
        case "SUM" | "SUMINIT":
            return sum(operands)
        case "CUMPROD" | "CUMPRODINIT":
            return _product(operands)


def _dot(operands: list[int]) -> int:
    return sum(a * b for a, b in zip(operands[::2], operands[1::2], strict=True))


def _product(operands: Iterable[int]) -> int:
    product = 1
    for operand in operands:
        product = product * operand % FIELD
    return product

"""`audit`: rebuild the constraint system of a proving key and compare it with a relation."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zkllm.digests import Digest
from zkllm.engines.ezkl.audit.evaluation import Evaluation, Step, evaluate, steps, variables
from zkllm.engines.ezkl.audit.layout import (
    ACCUMULATING,
    Layout,
    compressed_selectors_match,
    read_layout,
)
from zkllm.engines.ezkl.audit.pk import ProvingKey, read_proving_key
from zkllm.engines.ezkl.audit.settings import (
    COMMITTED,
    FIXED,
    PUBLIC,
    Settings,
    read_settings,
    settings_problems,
)
from zkllm.engines.ezkl.audit.tables import table_problems
from zkllm.engines.ezkl.expressions import FIELD
from zkllm.errors import InputError
from zkllm.files import read_limited

_SETTINGS_BYTES = 1 << 23
_KEY_BYTES = 1 << 32
_RESULT = 2
"""The track in which private inputs and results are."""
_MOST = 20
"""Free operands that are named one by one among the problems; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What a circuit is said to enforce, as a polynomial map over the field."""

    sizes: tuple[int, ...]
    """Number of elements of each input tensor, in graph order."""
    evaluate: Callable[[list[list[int]], int], tuple[list[int], dict[str, list[int]]]]
    """From arbitrary field elements for the inputs, and the modulus: the outputs, in order, and
    the arguments of all lookups by table, in any order. `symbol` stands for a table's entries.
    Fixed outputs are given less the constants that they must equal."""


@dataclass(slots=True)
class Report:
    """What an audit saw. It passes if there is not one problem."""

    vk: Digest | None = None
    """Digest of the verifying key inside the proving key: the one that a policy has to pin."""
    rows: int = 0
    """Rows with an active gate."""
    cells: int = 0
    """Cells that are tied to other cells."""
    gates: dict[str, int] = field(default_factory=dict)
    """Active gates by operation."""
    constants: int = 0
    """Constants that the circuit uses."""
    lookups: dict[str, int] = field(default_factory=dict)
    """Lookups by table."""
    unused: int = 0
    """Results that no gate reads and that are not exposed: harmless, but worth a look."""
    free_operands: list[str] = field(default_factory=list)
    """Operands of active gates that a prover may choose as it likes."""
    problems: list[str] = field(default_factory=list)
    """Everything that is not as it must be; free operands are among them."""

    @property
    def ok(self) -> bool:
        """Whether the circuit enforces the relation."""
        return not self.problems


def audit(pk: Path, settings: Path, relation: Relation) -> Report:
    """Compare the circuit of the proving key in the file `pk` with `relation`.

    A circuit, a key or settings that are not as they must be are no error: all that is wrong
    stands in the report. Raises `InputError` only if a file cannot be read.
    """
    settings_data = read_limited(settings, _SETTINGS_BYTES)
    key_data = read_limited(pk, _KEY_BYTES)
    report = Report()
    try:
        values = read_settings(settings_data)
        report.problems += settings_problems(values, relation.sizes)
        key = read_proving_key(key_data)
        report.vk = key.vk
        layout = read_layout(values, key)
        report.problems += _key_problems(values, layout, key)
        _fit(values, layout, relation.sizes)
    except InputError as err:
        report.problems.append(err.message)
        return report
    _Comparison(values, layout, key, relation, report).run()
    return report


def _key_problems(settings: Settings, layout: Layout, key: ProvingKey) -> Iterator[str]:
    """What is wrong with tables, selectors and the ends of columns."""
    if settings.tables:
        yield from table_problems(key, settings.tables, settings.window, layout.window_column)
    if not layout.foreign and not compressed_selectors_match(layout, key):
        yield "selectors: the fixed columns are not those of the selector bits"
    if key.selectors[:, layout.usable :].any():
        yield "selectors: a gate is active in the blinding rows"
    own = np.arange(key.successors.size).reshape(key.successors.shape)
    if (key.successors != own)[:, layout.usable :].any():
        yield "permutation: a cell of the blinding rows is tied"
    for gate, bits in zip(layout.gates, key.selectors, strict=False):
        if gate.operation in ACCUMULATING and bits[0]:
            yield f"{gate.operation} of block {gate.block} reads a row before the first"


def _fit(settings: Settings, layout: Layout, sizes: Sequence[int]) -> None:
    """Raises `InputError` if there is no place for inputs of these sizes."""
    room, needed = layout.usable, sum(sizes)
    if settings.inputs == COMMITTED:
        needed = max(sizes, default=0)
    elif settings.inputs != PUBLIC:
        room = layout.places
    if needed > room:
        raise InputError(f"inputs: at most {room} values expected in one place, got {needed}")


class _Comparison:
    """One evaluation of circuit and relation at one random point.

    Two different polynomial maps of degree D agree there with a probability of at most D / 2^253.
    """

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        key: ProvingKey,
        relation: Relation,
        report: Report,
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._key = key
        self._report = report
        self._variable: npt.NDArray[np.int64] = variables(key)
        self._tied = np.bincount(self._variable)[self._variable] > 1
        self._inputs = [[secrets.randbelow(FIELD) for _ in range(n)] for n in relation.sizes]
        outputs, lookups = relation.evaluate(self._inputs, FIELD)
        self._outputs = [value % FIELD for value in outputs]
        self._lookups = lookups

    def run(self) -> None:
        """Add everything that is seen to the report."""
        known = self._constants()
        for name, cell, value in self._input_cells():
            if known.setdefault(self._at(cell), value) != value:
                self._problem(f"{name} is tied to a constant or to another input")
        pending = steps(self._layout, self._key, self._variable)
        evaluation = evaluate(pending, known)
        self._count(pending)
        self._report_free(evaluation)
        self._compare_lookups(evaluation)
        exposed = self._compare_exposed(evaluation)
        fixed = self._outputs if self._settings.outputs == FIXED else []
        self._compare_assertions(evaluation, fixed)
        read = {operand for step in pending for operand in step.operands}
        asserted = {step.result for step, _ in evaluation.assertions}
        results = {step.result for step in pending}
        self._report.unused = len(results - read - exposed - asserted)

    def _problem(self, text: str) -> None:
        self._report.problems.append(text)

    def _at(self, cell: int) -> int:
        """The variable of a cell."""
        return int(self._variable[cell])

    def _constants(self) -> dict[int, int]:
        """The variables that are tied to a cell of a constant column, with its value."""
        known: dict[int, int] = {}
        for column in range(self._layout.constant_columns):
            for row in range(self._layout.usable):
                cell = self._layout.constant(column, row)
                value = self._key.fixed[column][row]
                if self._tied[cell] and known.setdefault(self._at(cell), value) != value:
                    self._problem(f"two different constants are tied, one of them in row {row}")
        self._report.constants = len(known)
        return known

    def _input_cells(self) -> Iterator[tuple[str, int, int]]:
        """Name, cell and value of every input element."""
        place = 0
        for tensor, values in enumerate(self._inputs):
            for element, value in enumerate(values):
                if self._settings.inputs == COMMITTED:
                    cell = self._layout.commitment(tensor, element)
                elif self._settings.inputs == PUBLIC:
                    cell = self._layout.instance(place)
                else:
                    # Private inputs are nothing but the first values that ezkl assigns.
                    cell = self._layout.coordinate(_RESULT, place)
                yield f"input {tensor}[{element}]", cell, value
                place += 1

    def _count(self, pending: Sequence[Step]) -> None:
        self._report.rows = len({(step.gate.block, step.row) for step in pending})
        self._report.cells = int(self._tied.sum())
        self._report.gates = dict(Counter(step.gate.operation for step in pending))
        self._report.lookups = dict(Counter(s.gate.table for s in pending if s.gate.table))

    def _report_free(self, evaluation: Evaluation) -> None:
        names = self._report.free_operands
        for step, operand in evaluation.free:
            names.append(
                f"{step.gate.operation} in block {step.gate.block}, row {step.row}: operand "
                f"{step.operands.index(operand)} is neither input, constant nor result of a gate"
            )
        self._report.problems += names[:_MOST]
        if len(names) > _MOST:
            self._problem(f"{len(names) - _MOST} more free operands")
        if evaluation.stuck:
            self._problem(f"{evaluation.stuck} gates depend on free operands")

    def _compare_lookups(self, evaluation: Evaluation) -> None:
        for table in sorted({*evaluation.lookups, *self._lookups}):
            demanded = [value % FIELD for value in self._lookups.get(table, [])]
            missing, extra = _difference(demanded, evaluation.lookups.get(table, []))
            if missing or extra:
                self._problem(
                    f"lookups in {table}: {len(demanded)} expected, {missing} of them are missing "
                    f"and {extra} others are there"
                )

    def _compare_exposed(self, evaluation: Evaluation) -> set[int]:
        """Compare instances and committed outputs; the variables that are exposed by them."""
        instances: list[int] = []
        if self._settings.inputs == PUBLIC:
            instances += [value for tensor in self._inputs for value in tensor]
        if self._settings.outputs == PUBLIC:
            instances += self._outputs
        if self._settings.instances != len(instances):
            self._problem(f"instances: {len(instances)} expected, got {self._settings.instances}")
        demanded = {
            self._layout.instance(row): (f"instance {row}", value)
            for row, value in enumerate(instances[: self._layout.usable])
        }
        for row in range(len(instances), self._layout.rows):
            if self._tied[self._layout.instance(row)]:
                self._problem(f"instance {row} is tied, but there are only {len(instances)}")
        if self._settings.outputs == COMMITTED:
            demanded |= self._committed_outputs()
        self._compare_values(evaluation, demanded)
        return {self._at(cell) for cell in demanded}

    def _committed_outputs(self) -> dict[int, tuple[str, int]]:
        """Name and demanded value of the cells of the committed outputs, behind the inputs."""
        first = len(self._inputs) if self._settings.inputs == COMMITTED else 0
        cells = [
            self._layout.commitment(tensor, element)
            for tensor in range(first, len(self._layout.committed))
            for element in range(self._layout.committed[tensor])
        ]
        if len(cells) != len(self._outputs):
            self._problem(
                f"committed outputs: {len(self._outputs)} values expected, got {len(cells)}"
            )
        return {
            cell: (f"committed output {place}", value)
            for place, (cell, value) in enumerate(zip(cells, self._outputs, strict=False))
        }

    def _compare_values(
        self, evaluation: Evaluation, demanded: Mapping[int, tuple[str, int]]
    ) -> None:
        for cell, (name, value) in demanded.items():
            if not self._tied[cell]:
                self._problem(f"{name} is tied to nothing")
            elif self._at(cell) not in evaluation.values:
                self._problem(f"{name} is neither input, constant nor result of a gate")
            elif evaluation.values[self._at(cell)] != value:
                self._problem(f"{name} is not what the relation demands")

    def _compare_assertions(self, evaluation: Evaluation, demanded: Sequence[int]) -> None:
        """Results that are tied to values that they do not have by themselves: fixed outputs."""
        missing, extra = _difference(demanded, [by for _, by in evaluation.assertions])
        if missing or extra:
            self._problem(
                f"fixed outputs: {len(demanded)} expected, {missing} of them are missing and "
                f"{extra} other results are tied to values"
            )


def _difference(demanded: Sequence[int], got: Sequence[int]) -> tuple[int, int]:
    """How many of `demanded` are not in `got`, and the other way round, with multiplicity."""
    expected, found = Counter(demanded), Counter(got)
    return (expected - found).total(), (found - expected).total()

"""The prover's values of all columns of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zkllm.engines.sumcheck.field import Words, to_field
from zkllm.engines.sumcheck.plan import Combination, Lookup, Plan, Table, Windowed, cells
from zkllm.errors import ConstraintViolation
from zkllm.tensors import IntArray


@dataclass(slots=True)
class Witness:
    """Integers by column name, in the shapes of the plan."""

    plan: Plan
    columns: dict[str, IntArray] = field(default_factory=dict)

    def store(self, column: Combination, values: IntArray) -> None:
        """Set a single column."""
        (name,) = column.terms
        _require_shape(name, column, values)
        self.columns[name] = values

    def store_number(self, number: Windowed, values: IntArray) -> None:
        """Cut numbers into limbs; raises `ConstraintViolation` for one outside its window."""
        _require_shape(number.name, number.value, values)
        raw = values + number.offset
        # negative numbers stay negative
        inside = raw >> number.bits == 0
        if not inside.all():
            place = _first_outside(inside)
            last = (1 << number.bits) - 1 - number.offset
            raise ConstraintViolation(
                f"{number.name}: expected {-number.offset}..{last}, "
                f"got {int(values[place])} at {list(place)}"
            )
        mask = (1 << number.limb) - 1
        for k, name in enumerate(number.value.terms):
            self.columns[name] = (raw >> (k * number.limb)) & mask

    def integers(self, combination: Combination) -> IntArray:
        """The integers of a combination of columns."""
        result = np.full(combination.dims, combination.constant, dtype=np.int64)
        for name, factor in combination.terms.items():
            result += factor * self.columns[name]
        return result

    def count_lookups(self) -> None:
        """Set the multiplicities of all tables.

        Raises `ConstraintViolation` for a cell that is no row of its table.
        """
        counts = {
            name: np.zeros(table.rows, dtype=np.int64) for name, table in self.plan.tables.items()
        }
        for lookup in self.plan.lookups:
            table = self.plan.tables[lookup.table]
            keys = self.integers(lookup.key)
            inside = (keys >= 0) & (keys < table.rows)
            if table.values is not None or lookup.value is not None:
                inside &= self._values(lookup) == _table_values(table, np.where(inside, keys, 0))
            if lookup.causal:
                looked_up = np.broadcast_to(np.tri(keys.shape[-1], dtype=bool), keys.shape)
                inside |= ~looked_up
                keys_counted = keys[looked_up]
            else:
                keys_counted = keys.reshape(-1)
            if not inside.all():
                place = _first_outside(inside)
                raise ConstraintViolation(
                    f"{' and '.join(lookup.key.terms)}: expected a row of the table "
                    f"{lookup.table}, got {int(keys[place])} at {list(place)}"
                )
            counts[lookup.table] += np.bincount(keys_counted, minlength=table.rows)
        for name, count in counts.items():
            self.columns[f"multiplicity of {name}"] = count

    def _values(self, lookup: Lookup) -> IntArray | int:
        """What a lookup says that its table has; without a value it says 0."""
        return 0 if lookup.value is None else self.integers(lookup.value)

    def committed(self) -> Words:
        """The flat vector that is committed to."""
        vector = np.zeros(self.plan.size(), dtype=np.uint64)
        for name, slots in self.plan.layout().items():
            values = self.columns[name]
            for slot in slots:
                vector[slot.offset : slot.offset + (1 << slot.block.bits)] = to_field(
                    cells(values, slot)
                )
        return vector


def _table_values(table: Table, keys: IntArray) -> IntArray | int:
    return 0 if table.values is None else table.values[keys]


def _first_outside(inside: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(~inside)[0])


def _require_shape(name: str, column: Combination, values: IntArray) -> None:
    if values.shape != column.dims:
        raise ValueError(f"{name}: expected the shape {column.dims}, got {values.shape}")

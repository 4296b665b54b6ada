"""The prover's values of all columns of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from zkllm.backends.sumcheck.field import Words, to_field
from zkllm.backends.sumcheck.plan import Combination, Number, Plan, cells
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
        self.columns[name] = values

    def store_number(self, number: Number, values: IntArray) -> None:
        """Cut numbers into limbs; raises `ConstraintViolation` for one outside its window."""
        raw = values + number.offset
        outside = np.argwhere((raw < 0) | (raw >> number.bits != 0))
        if len(outside):
            place = tuple(int(i) for i in outside[0])
            raise ConstraintViolation(
                f"{number.name}: expected -{number.offset}..{(1 << number.bits) - 1 - number.offset}"
                f", got {int(values[place])} at {list(place)}"
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
            values = self.integers(lookup.value) if lookup.value is not None else None
            if lookup.causal:
                places = np.broadcast_to(np.tri(keys.shape[-1], dtype=bool), keys.shape)
                keys = keys[places]
                values = values[places] if values is not None else None
            keys = keys.reshape(-1)
            inside = (keys >= 0) & (keys < table.rows)
            if inside.all() and table.values is not None and values is not None:
                inside = table.values[keys] == values.reshape(-1)
            if not inside.all():
                wrong = int(np.flatnonzero(~inside)[0])
                name = " and ".join(lookup.key.terms)
                raise ConstraintViolation(
                    f"{name}: cell {wrong} is no row of the table {lookup.table}: {int(keys[wrong])}"
                )
            counts[lookup.table] += np.bincount(keys, minlength=table.rows)
        for name, count in counts.items():
            self.columns[f"multiplicity of {name}"] = count

    def committed(self) -> Words:
        """The flat vector that is committed to."""
        vector = np.zeros(self.plan.size(), dtype=np.uint64)
        for name, places in self.plan.layout().items():
            values = self.columns[name]
            for place in places:
                vector[place.offset : place.offset + (1 << place.block.bits)] = to_field(
                    cells(values, place)
                )
        return vector

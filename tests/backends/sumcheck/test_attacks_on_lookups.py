"""Cells that are no rows of their tables: every way to have them pass, and what refuses it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.backends.sumcheck.forging import (
    LyingProver,
    Tolerant,
    Trial,
    claims,
    deaf_to,
    refused,
    small_model,
)
from zkllm.engines.sumcheck import protocol
from zkllm.engines.sumcheck.field import ONE, ZERO, Ext
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Lookup, Plan
from zkllm.engines.sumcheck.protocol import Circuit, Context, check_proof, run_protocol
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.engines.sumcheck.witness import Witness

CONTEXT = Context((), None)
TABLES = {
    "first": np.array([5, 4, 3, 2, 1, 0]),
    "second": np.array([5, 4, 9, 2, 1, 0]),
    "zeros": np.zeros(9, dtype=np.int64),
}
"""The second has one other value, the third is a range but for its identifier."""


class Lookups(Circuit):
    """Nothing but lookups: squares of cells, of which tables with values mask the upper one."""

    def __init__(self) -> None:
        self.weights = small_model()
        self.plan = Plan(4)
        for bits in (2, 3):
            key = self.plan.column(f"range {bits}: key", (2, 2))
            self.plan.lookups.append(Lookup(self.plan.range_table(bits), key))
        for name, table in TABLES.items():
            key = self.plan.column(f"{name}: key", (2, 2))
            value = self.plan.column(f"{name}: value", (2, 2))
            found = self.plan.named_table(name, table)
            self.plan.lookups.append(Lookup(found, key, value, causal=True))
        self.plan.seal()

    def witness(self) -> Tolerant:
        """Everywhere row 0; what is masked is no row of anything."""
        witness = Tolerant(self.plan)
        masked = 1 - np.tri(2, dtype=np.int64)
        for lookup in self.plan.lookups:
            hidden = 77 * masked * lookup.causal
            witness.store(lookup.key, hidden)
            if lookup.value is not None:
                witness.store(lookup.value, hidden + TABLES[lookup.table][0] * (1 - masked))
        witness.count_lookups()
        return witness

    def check(self, party: Party) -> None:
        """No equations."""

    def site(self, table: str) -> Lookup:
        (lookup,) = (site for site in self.plan.lookups if site.table == table)
        return lookup

    def rows(self, name: str) -> set[tuple[int, int]]:
        table = self.plan.tables[name]
        values = np.zeros(table.rows, dtype=np.int64) if table.values is None else table.values
        return set(enumerate(values.tolist()))

    def put(
        self, witness: Witness, table: str, row: tuple[int, int], cell: tuple[int, int]
    ) -> None:
        """Ask `table` for `row`."""
        lookup = self.site(table)
        for column, entry in zip((lookup.key, lookup.value), row, strict=True):
            if column is not None:
                values = witness.integers(column)
                values[cell] = entry
                witness.store(column, values)


def prove(circuit: Lookups, witness: Witness, counted: Witness | None = None, **told: Ext) -> bytes:
    """A proof for `witness`; the fractions of `counted` are summed."""
    prover = LyingProver(witness, circuit.weights, None)
    prover.counted = witness if counted is None else counted
    if told:
        prover.told["lookups: sum"] = [told["numerator"], told["denominator"]]
    run_protocol(prover, prover.committed, None, circuit, CONTEXT)
    return prover.proof


def refused_but_for(
    label: str, circuit: Lookups, proof: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof is refused, but not by a verifier that is deaf to `label`."""
    with refused(label):
        check_proof(circuit, proof, CONTEXT)
    deaf_to(label)(None, monkeypatch)
    accepted(circuit, proof)


def accepted(circuit: Lookups, proof: bytes) -> None:
    assert check_proof(circuit, proof, CONTEXT) > 100


def foreign_rows() -> Iterator[tuple[str, str, tuple[int, int]]]:
    """A table, another one, and a row that only the other has and that the first can be asked."""
    circuit = Lookups()
    for asked, other in itertools.permutations(circuit.plan.tables, 2):
        for row in sorted(circuit.rows(other) - circuit.rows(asked)):
            if row[1] == 0 or circuit.site(asked).value is not None:
                yield asked, other, row
                break


def test_what_is_masked_is_not_looked_up() -> None:
    circuit = Lookups()
    accepted(circuit, prove(circuit, circuit.witness()))


def test_what_is_masked_is_looked_up_where_nothing_masks_it() -> None:
    circuit = Lookups()
    proof = prove(circuit, circuit.witness())
    last = circuit.plan.lookups.pop()
    circuit.plan.lookups.append(replace(last, causal=False))
    with refused("lookups: numerators"):
        check_proof(circuit, proof, CONTEXT)


@pytest.mark.parametrize(("asked", "other", "row"), list(foreign_rows()))
def test_a_table_answers_with_a_row_of_another(
    asked: str, other: str, row: tuple[int, int]
) -> None:
    def forged(circuit: Lookups) -> bytes:
        witness = circuit.witness()
        circuit.put(witness, asked, row, (1, 0))
        witness.columns[f"multiplicity of {asked}"][0] -= 1
        witness.columns[f"multiplicity of {other}"][row[0]] += 1
        return prove(circuit, witness)

    circuit = Lookups()
    with refused("lookups: sum"):
        check_proof(circuit, forged(circuit), CONTEXT)
    tables = circuit.plan.tables
    tables[asked] = replace(tables[asked], identifier=tables[other].identifier)
    accepted(circuit, forged(circuit))


@pytest.mark.parametrize("table", [*TABLES, "range 2", "range 3"])
@pytest.mark.parametrize("by", [1, -1, 2**62])
def test_a_row_is_counted_wrongly(table: str, by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Lookups()
    witness = circuit.witness()
    witness.columns[f"multiplicity of {table}"][2] += by
    refused_but_for("lookups: sum", circuit, prove(circuit, witness), monkeypatch)


@pytest.mark.parametrize("table", [*TABLES, "range 2", "range 3"])
@pytest.mark.parametrize("key", [-1, 2**32, 9])
def test_a_cell_is_no_row(table: str, key: int, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Lookups()
    witness = circuit.witness()
    circuit.put(witness, table, (key, 0), (1, 1))
    witness.count_lookups()
    refused_but_for("lookups: sum", circuit, prove(circuit, witness), monkeypatch)


def bad_cell(circuit: Lookups) -> Tolerant:
    """A witness with a key that `range 2` does not have, in a place that a mask could hide."""
    witness = circuit.witness()
    circuit.put(witness, "range 2", (4, 0), (0, 1))
    witness.count_lookups()
    return witness


def test_a_sum_that_is_not_zero_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Lookups()
    proof = prove(circuit, bad_cell(circuit), numerator=ZERO, denominator=ONE)
    refused_but_for("lookups: layer", circuit, proof, monkeypatch)


def test_a_sum_with_a_pole() -> None:
    """0/0 is no sum that is zero: with d = q - 1, q = 0 is d = -1."""
    circuit = Lookups()
    proof = prove(circuit, bad_cell(circuit), numerator=ZERO, denominator=-ONE)
    with refused("lookups: sum"):
        check_proof(circuit, proof, CONTEXT)


def test_a_cell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numerator is 0, as if it were masked."""
    circuit = Lookups()
    witness = bad_cell(circuit)
    plan = replace(circuit.plan, lookups=list(circuit.plan.lookups))
    plan.lookups[0] = replace(plan.lookups[0], causal=True)
    proof = prove(circuit, witness, Tolerant(plan, witness.columns))
    refused_but_for("lookups: numerators", circuit, proof, monkeypatch)


def test_another_cell_is_looked_up_than_was_committed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A range check of something else than the witness."""
    circuit = Lookups()
    witness, inside = bad_cell(circuit), circuit.witness()
    witness.columns |= {
        name: values for name, values in inside.columns.items() if name.startswith("multiplicity")
    }
    proof = prove(circuit, witness, inside)
    refused_but_for("lookups: fingerprints", circuit, proof, monkeypatch)


# Every place where a unit looks something up


def sites() -> Iterator[tuple[str, Lookup]]:
    """Units share the operation `norm`; one of them will do."""
    for unit in ("attention[1]", "mlp[0]", "head"):
        for site in Trial(unit).circuit(claims()[unit]).plan.lookups:
            if unit == "mlp[0]" or not next(iter(site.key.terms)).startswith("norm"):
                yield unit, site


def spoil(site: Lookup, prover: LyingProver, _: Circuit) -> None:
    """The key of the first cell, which no mask hides, is -1."""
    ((column, factor),) = site.key.terms.items()
    values = prover.witness.columns[column].copy()
    values.flat[0] = (-1 - site.key.constant) * factor
    prover.commit_to({column: values})


def forget(site: Lookup, circuit: Circuit) -> None:
    circuit.plan.lookups.remove(site)


@pytest.mark.parametrize(
    ("unit", "site"),
    list(sites()),
    ids=lambda value: value if isinstance(value, str) else "".join(value.key.terms),
)
def test_every_site_is_looked_up(unit: str, site: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier hears of lookups alone, and of all of them."""

    class Hearing(Verifier):
        def refuse(self, label: str) -> None:
            if label.startswith("lookups"):
                super().refuse(label)

    monkeypatch.setattr(protocol, "Verifier", Hearing)
    trial = Trial(unit, instruct=functools.partial(spoil, site))
    with refused("lookups: sum"):
        trial.verify()
    trial.weaken.append(functools.partial(forget, site))
    trial.verify()

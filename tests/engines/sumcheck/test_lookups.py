from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from tests.engines.sumcheck.circuits import Alone
from tests.engines.sumcheck.plain import (
    P,
    Source,
    array,
    eq,
    minus,
    pair,
    plus,
    point_pairs,
    times,
)
from zkllm.engines.sumcheck import lookups
from zkllm.engines.sumcheck.field import Ext
from zkllm.engines.sumcheck.multilinear import Dims
from zkllm.engines.sumcheck.party import Party, slots_at
from zkllm.engines.sumcheck.plan import Combination, Lookup, Plan, Slot
from zkllm.engines.sumcheck.protocol import Context, check_proof, run_protocol
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.rounds import Fractions
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ProofRejected
from zkllm.exact.model import ExactModel

EXP = np.array([16, 9, 4, 1, 0])
GELU = np.array([0, 3, 3, 2, 1, 0])


def nothing(party: Party) -> None:
    """No equation: lookups stand alone."""


def looked_up(model: ExactModel, rows: int, limb: int = 4) -> Alone:
    """Numbers, a causal table, a table, and a combination; every cell a row."""
    plan = Plan(limb)
    number = plan.unsigned("number", (rows, 3), 6, offset=9)
    cells = (2, rows, rows)
    key, entry = plan.column("index", cells), plan.column("exponential", cells)
    plan.lookups.append(Lookup(plan.named_table("exp", EXP), key, entry, causal=True))
    place, value = plan.column("place", (rows,)), plan.column("value", (rows,))
    plan.lookups.append(Lookup(plan.named_table("gelu", GELU), place * 2 + 1, -value))
    plan.seal()

    def fill(witness: Witness) -> None:
        source = np.random.default_rng(rows)
        witness.store_number(number, source.integers(-9, 55, (rows, 3)))
        index = source.integers(0, len(EXP), cells)
        above = ~np.tri(rows, dtype=bool)
        witness.store(entry, np.where(above, 999, EXP[index]))
        witness.store(key, np.where(above, -77, index))
        places = source.integers(0, 3, rows)
        witness.store(place, places)
        witness.store(value, -GELU[2 * places + 1])

    return Alone(plan, model, fill, nothing)


@pytest.mark.parametrize("rows", [1, 2, 3, 37, 64, 65])
def test_rows_of_tables_are_accepted(rows: int, tiny_model: ExactModel) -> None:
    looked_up(tiny_model, rows).accept()


@pytest.mark.parametrize("limb", [1, 6, 16])
def test_limbs_of_any_size_are_accepted(limb: int, tiny_model: ExactModel) -> None:
    looked_up(tiny_model, 5, limb).accept()


# Layers of fractions


@pytest.mark.parametrize("count", [1, 2, 3, 37, 64, 65])
def test_layers_halve_until_one_fraction_is_left(count: int) -> None:
    found = lookups.lengths(count)
    assert found[0] == count
    assert found[-1] == 1
    assert all(after == -(-before // 2) for before, after in pairwise(found))
    assert found.count(1) == 1


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_the_root_is_the_sum_of_all_fractions(rows: int, tiny_model: ExactModel) -> None:
    """Σ numerator/(α - identifier - β·key - β²·value), by its definition."""
    circuit = looked_up(tiny_model, rows)
    witness = circuit.witness()
    witness.columns["multiplicity of exp"] = np.arange(len(EXP))
    alpha, beta, gamma = (Source(seed).pair() for seed in range(3))
    numerator, denominator = (0, 0), (1, 0)

    def include(number: int, identifier: int, key: int, value: int) -> None:
        nonlocal numerator, denominator
        rest = minus(alpha, (identifier, 0))
        rest = minus(rest, times(beta, key % P))
        rest = minus(rest, times(gamma, value % P))
        numerator = plus(times(numerator, rest), times(number % P, denominator))
        denominator = times(denominator, rest)

    for lookup in circuit.plan.lookups:
        keys = witness.integers(lookup.key)
        values = np.zeros_like(keys) if lookup.value is None else witness.integers(lookup.value)
        table = circuit.plan.tables[lookup.table]
        for place in np.ndindex(keys.shape):
            masked = lookup.causal and place[-1] > place[-2]
            include(int(not masked), table.identifier, int(keys[place]), int(values[place]))
    for name, table in circuit.plan.tables.items():
        for row, count in enumerate(witness.columns[f"multiplicity of {name}"]):
            value = 0 if table.values is None else int(table.values[row])
            include(-int(count), table.identifier, row, value)
    top, bottom = Fractions(witness, Ext(*alpha), Ext(*beta), Ext(*gamma)).root()
    # A masked cell has the fraction 0/(α - f): numerator and denominator have its factor.
    assert times(pair(top), denominator) == times(numerator, plus(pair(bottom), (1, 0)))
    assert pair(top) != (0, 0)


# What the verifier evaluates itself


def laid_out(dims: Dims) -> list[Slot]:
    plan = Plan(4)
    plan.column("before", (21,))
    plan.column("x", dims)
    return plan.layout()["x"]


def all_weights(places: list[Slot], dims: Dims, seed: int) -> tuple[Any, np.ndarray[Any, Any]]:
    """The linear form of a random point, and the weight that it gives to every entry."""
    length = max(place.offset + (1 << place.block.bits) for place in places)
    point = Source(seed).point((length + 20).bit_length())
    linear_form = slots_at(places, point)
    weights = np.empty(dims, dtype=object)
    for place in places:
        found = [eq(place.offset + i, point_pairs(point)) for i in range(1 << place.block.bits)]
        box = np.empty(len(found), dtype=object)
        box[:] = found
        weights[place.block.slices] = box.reshape([1 << log for log in place.block.logs])
    return linear_form, weights


@pytest.mark.parametrize("dims", [(1,), (37,), (3, 5), (2, 6, 6), (1, 1), (7, 7)], ids=str)
def test_public_numerators_are_ones_or_a_lower_triangle(dims: Dims) -> None:
    places = laid_out(dims)
    linear_form, weights = all_weights(places, dims, len(dims))
    key = Combination(dims, {"x": 1})
    expected = plus((0, 0), *weights.reshape(-1))
    assert pair(lookups.total_weight(linear_form)) == expected
    assert pair(lookups.public_numerator(Lookup("t", key), places, linear_form)) == expected
    if len(dims) > 1 and dims[-1] == dims[-2]:
        inside: list[Any] = [weights[at] for at in np.ndindex(dims) if at[-1] <= at[-2]]
        causal = Lookup("t", key, causal=True)
        found = lookups.public_numerator(causal, places, linear_form)
        assert pair(found) == plus((0, 0), *inside)


@pytest.mark.parametrize("rows", [1, 5, 16, 37])
@pytest.mark.parametrize("with_values", [True, False], ids=["values", "no values"])
def test_the_fingerprint_of_a_table(rows: int, with_values: bool) -> None:
    plan = Plan(4)
    values = np.array([(-1) ** i * i * 1000 for i in range(rows)])
    name = plan.named_table("t", values) if with_values else plan.range_table(5)
    table = plan.tables[name]
    places = laid_out((table.rows,))
    linear_form, weights = all_weights(places, (table.rows,), rows)
    beta, gamma = Source(2).pair(), Source(3).pair()
    expected = (0, 0)
    for row, weight in enumerate(weights):
        value = int(values[row]) % P if with_values else 0
        fingerprint = plus(times(beta, row), times(gamma, value))
        expected = plus(expected, times(weight, fingerprint))
    found = lookups.table_fingerprint(table, places, linear_form, Ext(*beta), Ext(*gamma))
    assert pair(found) == expected


# Refusals


def finish(circuit: Alone, prover: Prover) -> Callable[[], float]:
    """The verifier of what this prover has to say."""
    context = Context((), None)
    run_protocol(prover, prover.committed, None, circuit, context)
    return lambda: check_proof(circuit, prover.proof, context)


def finish_spoiled(circuit: Alone, spoil: Callable[[Witness], None]) -> Callable[[], float]:
    witness = circuit.witness()
    spoil(witness)
    return finish(circuit, Prover(witness, circuit.weights, None))


def refused(label: str, check: Callable[[], float]) -> None:
    with pytest.raises(ProofRejected, match=f"^sumcheck: lookups: {label} does not hold$"):
        check()


@pytest.mark.parametrize(
    ("column", "place"),
    [
        *(
            ("number.0", (36, 2)),
            ("number.1", (0, 0)),
            ("index", (1, 36, 36)),
            ("index", (0, 0, 0)),
        ),
        *(("exponential", (0, 5, 4)), ("place", (7,)), ("value", (36,))),
        *(("multiplicity of exp", (4,)), ("multiplicity of gelu", (0,))),
        *(("multiplicity of range 4", (15,)), ("multiplicity of range 2", (0,))),
    ],
)
def test_every_cell_and_every_multiplicity_counts(
    column: str, place: tuple[int, ...], tiny_model: ExactModel
) -> None:
    circuit = looked_up(tiny_model, 37)

    def spoil(witness: Witness) -> None:
        witness.columns[column] = witness.columns[column].copy()
        witness.columns[column][place] += 1

    refused("sum", finish_spoiled(circuit, spoil))


def test_cells_above_a_diagonal_do_not_count(tiny_model: ExactModel) -> None:
    circuit = looked_up(tiny_model, 37)

    def spoil(witness: Witness) -> None:
        for i, j in product(range(37), range(37)):
            if j > i:
                witness.columns["index"][:, i, j] += i
                witness.columns["exponential"][:, i, j] -= j

    assert finish_spoiled(circuit, spoil)() > 100


TABLES = ["range 4", "range 2", "exp", "gelu"]


@pytest.mark.parametrize(("asked", "answering"), [*product(TABLES, TABLES)])
def test_no_table_answers_for_another(asked: str, answering: str, tiny_model: ExactModel) -> None:
    """Key and value 0 stand in each table here, under identifiers that tell them apart."""
    plan = Plan(4)
    for name in TABLES:
        if name in ("exp", "gelu"):
            plan.named_table(name, np.array([0, len(name), 5]))
        else:
            plan.range_table(int(name.split()[1]))
    key = plan.column("key", (5,))
    plan.lookups.append(Lookup(asked, key))
    plan.seal()
    circuit = Alone(plan, tiny_model, lambda w: w.store(key, np.zeros(5, dtype=np.int64)), nothing)

    def spoil(witness: Witness) -> None:
        witness.columns[f"multiplicity of {asked}"] = np.zeros(plan.tables[asked].rows, np.int64)
        counts = np.zeros(plan.tables[answering].rows, dtype=np.int64)
        counts[0] = 5
        witness.columns[f"multiplicity of {answering}"] = counts

    check = finish_spoiled(circuit, spoil)
    if asked == answering:
        assert check() > 100
    else:
        refused("sum", check)


@pytest.mark.parametrize(
    ("column", "label"), [("multiplicity of exp", "numerators"), ("value", "fingerprints")]
)
def test_fractions_are_those_of_the_commitment(
    column: str, label: str, tiny_model: ExactModel
) -> None:
    """A tree over what would be right, and a commitment to what is not."""
    circuit = looked_up(tiny_model, 3)
    witness = circuit.witness()
    right = witness.columns[column]
    witness.columns[column] = right + 1
    prover = Prover(witness, circuit.weights, None)
    witness.columns[column] = right
    refused(label, finish(circuit, prover))


class WrongRoot(Prover):
    """Says of the sum what the verifier wants to hear."""

    def fraction_tree(self, alpha: Ext, beta: Ext, gamma: Ext) -> Fractions:
        tree = super().fraction_tree(alpha, beta, gamma)
        top, _ = tree._layers[-1]
        top[0] = 0
        return tree


def test_the_root_is_the_sum_of_its_children(tiny_model: ExactModel) -> None:
    circuit = looked_up(tiny_model, 3)
    witness = circuit.witness()
    witness.columns["value"] = witness.columns["value"] + 1
    refused("layer", finish(circuit, WrongRoot(witness, circuit.weights, None)))


class ZeroRoot(Prover):
    """The fraction 0/0, which is a multiple of every sum."""

    def fraction_tree(self, alpha: Ext, beta: Ext, gamma: Ext) -> Fractions:
        tree = super().fraction_tree(alpha, beta, gamma)
        top, bottom = tree._layers[-1]
        top[0], bottom[0] = 0, array((P - 1, 0))
        return tree


def test_a_sum_without_a_denominator_is_refused(tiny_model: ExactModel) -> None:
    circuit = looked_up(tiny_model, 3)
    refused("sum", finish(circuit, ZeroRoot(circuit.witness(), circuit.weights, None)))

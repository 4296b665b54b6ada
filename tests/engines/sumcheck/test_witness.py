import numpy as np
import pytest

from tests.engines.sumcheck.plain import P, ints
from zkllm.engines.sumcheck.plan import Combination, Lookup, Plan
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation

TABLE = np.array([9, 4, 1, 0])


@pytest.mark.parametrize("limb", [1, 4, 5, 16])
@pytest.mark.parametrize(("bits", "offset"), [(1, 0), (5, 0), (5, 16), (13, 4096), (47, 3)])
def test_numbers_fill_their_window_to_both_ends(bits: int, offset: int, limb: int) -> None:
    plan = Plan(limb)
    number = plan.unsigned("norm: x", (4,), bits, offset)
    first, last = -offset, (1 << bits) - 1 - offset
    values = np.array([first, last, first + 1, 0])
    witness = Witness(plan)
    witness.store_number(number, values)
    assert witness.integers(number.value).tolist() == values.tolist()
    for lookup in plan.lookups:
        limbs = witness.integers(lookup.key)
        assert limbs.min() >= 0
        assert limbs.max() < plan.tables[lookup.table].rows


@pytest.mark.parametrize(("bits", "offset"), [(1, 0), (5, 16), (13, 4096), (47, 3)])
def test_a_number_one_beyond_its_window_is_refused(bits: int, offset: int) -> None:
    plan = Plan(8)
    number = plan.unsigned("norm: x", (2, 3), bits, offset)
    first, last = -offset, (1 << bits) - 1 - offset
    for wrong in (first - 1, last + 1, -(2**62), 2**62):
        values = np.array([[first, last, 0], [0, wrong, wrong]])
        message = rf"^norm: x: expected {first}\.\.{last}, got {wrong} at \[1, 1\]$"
        with pytest.raises(ConstraintViolation, match=message):
            Witness(plan).store_number(number, values)


def test_values_have_the_shape_of_their_column() -> None:
    plan = Plan(8)
    column, number = plan.column("c", (2, 3)), plan.unsigned("n", (2,), 4)
    with pytest.raises(ValueError, match=r"c: expected the shape \(2, 3\), got \(3, 2\)"):
        Witness(plan).store(column, np.zeros((3, 2), dtype=np.int64))
    with pytest.raises(ValueError, match=r"n: expected the shape \(2,\), got \(1,\)"):
        Witness(plan).store_number(number, np.zeros(1, dtype=np.int64))


def test_the_integers_of_a_combination() -> None:
    plan = Plan(8)
    a, b = plan.column("a", (3,)), plan.column("b", (3,))
    witness = Witness(plan)
    witness.store(a, np.array([1, 2, 3]))
    witness.store(b, np.array([10, 0, -10]))
    assert witness.integers(a * 5 - b + 7).tolist() == [2, 17, 32]


# Multiplicities


def filled(**columns: list[int]) -> Witness:
    """Keys and values of TABLE, and numbers of four bits."""
    plan = Plan(4)
    lookups = Lookup(
        plan.named_table("t", TABLE), plan.column("gelu: index", (4,)), plan.column("entry", (4,))
    )
    plan.lookups.append(lookups)
    for name in ("x", "y"):
        plan.lookups.append(Lookup(plan.range_table(4), plan.column(name, (4,))))
    plan.seal()
    witness = Witness(plan)
    honest = {"gelu: index": [0, 3, 3, 1], "entry": [9, 0, 0, 4], "x": [0, 15, 2, 2], "y": [2] * 4}
    for name, values in (honest | columns).items():
        witness.store(Combination((4,), {name: 1}), np.array(values))
    return witness


def test_every_row_is_counted_as_often_as_it_is_looked_up() -> None:
    witness = filled()
    witness.count_lookups()
    assert witness.columns["multiplicity of t"].tolist() == [1, 1, 0, 2]
    expected = [1, 0, 6, *[0] * 12, 1]
    assert witness.columns["multiplicity of range 4"].tolist() == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [0, 1, 16, 16]}, r"^x: expected a row of the table range 4, got 16 at \[2\]$"),
        ({"x": [0, -1, 0, 0]}, r"^x: expected a row of the table range 4, got -1 at \[1\]$"),
        ({"gelu: index": [0, 3, 3, 4]}, r"^gelu: index: .* the table t, got 4 at \[3\]$"),
        ({"gelu: index": [-1, 3, 3, 1]}, r"^gelu: index: .* the table t, got -1 at \[0\]$"),
        ({"entry": [9, 0, 1, 4]}, r"^gelu: index: .* the table t, got 3 at \[2\]$"),
    ],
)
def test_a_cell_that_is_no_row_is_refused(columns: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ConstraintViolation, match=message):
        filled(**columns).count_lookups()


def test_a_lookup_without_a_value_says_that_it_is_zero() -> None:
    plan = Plan(4)
    plan.lookups.append(Lookup(plan.named_table("t", TABLE), plan.column("k", (2,))))
    plan.seal()
    witness = Witness(plan)
    witness.store(plan.lookups[0].key, np.array([3, 3]))
    witness.count_lookups()
    assert witness.columns["multiplicity of t"].tolist() == [0, 0, 0, 2]
    witness.store(plan.lookups[0].key, np.array([3, 2]))
    with pytest.raises(ConstraintViolation, match=r"the table t, got 2 at \[1\]"):
        witness.count_lookups()


def test_a_value_in_a_table_without_values_is_zero() -> None:
    plan = Plan(4)
    key, value = plan.column("k", (2,)), plan.column("v", (2,))
    plan.lookups.append(Lookup(plan.range_table(2), key, value))
    plan.seal()
    witness = Witness(plan)
    witness.store(key, np.array([3, 3]))
    witness.store(value, np.array([0, 5]))
    with pytest.raises(ConstraintViolation, match=r"k: .* range 2, got 3 at \[1\]"):
        witness.count_lookups()


def causal() -> tuple[Witness, Combination, Combination]:
    plan = Plan(4)
    key, value = plan.column("k", (2, 3, 3)), plan.column("v", (2, 3, 3))
    plan.lookups.append(Lookup(plan.named_table("t", TABLE), key, value, causal=True))
    plan.seal()
    return Witness(plan), key, value


def test_cells_above_a_diagonal_are_neither_counted_nor_looked_up() -> None:
    witness, key, value = causal()
    keys = np.tile(np.where(np.tri(3, dtype=bool), 1, 77), (2, 1, 1))
    witness.store(key, keys)
    witness.store(value, np.where(keys == 1, 4, 5))
    witness.count_lookups()
    assert witness.columns["multiplicity of t"].tolist() == [0, 2 * 6, 0, 0]


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 2, 2), (1, 2, 0)], ids=str)
def test_cells_on_and_below_a_diagonal_are_looked_up(place: tuple[int, int, int]) -> None:
    witness, key, value = causal()
    keys = np.ones((2, 3, 3), dtype=np.int64)
    values = 4 * keys
    values[place] = 5
    witness.store(key, keys)
    witness.store(value, values)
    h, i, j = place
    with pytest.raises(ConstraintViolation, match=rf"got 1 at \[{h}, {i}, {j}\]"):
        witness.count_lookups()


# The committed vector


def test_the_committed_vector_has_every_cell_at_its_place() -> None:
    plan = Plan(4)
    columns = {"a": (3, 5), "b": (7,), "c": (1,)}
    witness = Witness(plan)
    for k, (name, dims) in enumerate(columns.items()):
        values = np.arange(np.prod(dims)).reshape(dims) * 10 - 25 + k
        witness.store(plan.column(name, dims), values)
    vector = ints(witness.committed())
    assert len(vector) == 15 + 7 + 1
    for name, places in plan.layout().items():
        for place in places:
            block = witness.columns[name][place.block.slices].reshape(-1)
            found = vector[place.offset : place.offset + len(block)]
            assert found == [int(n) % P for n in block]

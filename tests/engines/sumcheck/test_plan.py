import itertools

import numpy as np
import pytest

from zkllm.engines.sumcheck import plan as plans
from zkllm.engines.sumcheck.field import MODULUS
from zkllm.engines.sumcheck.multilinear import Dims, blocks, size
from zkllm.engines.sumcheck.plan import Combination, Lookup, Plan, Slot, Table, limb_widths
from zkllm.errors import UnsupportedModel

TABLE = np.array([9, 4, 1, 0])


# Combinations


def test_a_combination_is_linear() -> None:
    a, b = Combination((2,), {"a": 1}), Combination((2,), {"b": 3}, 5)
    assert a + b == Combination((2,), {"a": 1, "b": 3}, 5)
    assert a - b == Combination((2,), {"a": 1, "b": -3}, -5)
    assert -b == Combination((2,), {"b": -3}, -5)
    assert (a + b) * 2 - b == Combination((2,), {"a": 2, "b": 3}, 5)
    assert a + 7 - 4 == Combination((2,), {"a": 1}, 3)


def test_terms_stand_in_the_order_of_their_first_mention() -> None:
    a, b, c = (Combination((2,), {name: 1}) for name in "abc")
    assert list((b - a + c + a * 4).terms) == ["b", "a", "c"]


def test_combinations_of_different_shapes_are_not_added() -> None:
    with pytest.raises(ValueError, match=r"expected a tensor of \(2,\), got one of \(3,\)"):
        Combination((2,), {"a": 1}) + Combination((3,), {"b": 1})


# Windows and limbs


@pytest.mark.parametrize("limb", [1, 4, 7, 16])
@pytest.mark.parametrize("bits", [1, 3, 4, 5, 7, 8, 16, 17, 31, 48])
def test_limbs_make_up_a_window(bits: int, limb: int) -> None:
    widths = limb_widths(bits, limb)
    assert sum(widths) == bits
    assert all(width == limb for width in widths[:-1])
    assert 1 <= widths[-1] <= limb


@pytest.mark.parametrize("bits", [0, -1])
def test_a_window_without_bits_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"at least one bit, got {bits}"):
        limb_widths(bits, 8)
    with pytest.raises(ValueError, match=f"at least one bit, got {bits}"):
        Plan(8).unsigned("x", (3,), bits)


def test_a_number_of_one_limb_is_one_column() -> None:
    plan = Plan(8)
    number = plan.unsigned("x", (3,), 5, offset=2)
    assert number.value == Combination((3,), {"x": 1}, -2)
    assert plan.lookups == [Lookup("range 5", Combination((3,), {"x": 1}))]
    assert plan.columns == {"x": (3,)}


def test_a_number_of_several_limbs_is_their_sum_and_each_is_looked_up() -> None:
    plan = Plan(4)
    number = plan.unsigned("x", (3, 2), 10)
    assert number.value == Combination((3, 2), {"x.0": 1, "x.1": 16, "x.2": 256})
    assert [(lookup.table, lookup.key.terms) for lookup in plan.lookups] == [
        ("range 4", {"x.0": 1}),
        ("range 4", {"x.1": 1}),
        ("range 2", {"x.2": 1}),
    ]
    assert all(lookup.value is None and not lookup.causal for lookup in plan.lookups)
    assert list(plan.columns) == ["x.0", "x.1", "x.2"]


@pytest.mark.parametrize("bits", [1, 6, 13])
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_the_largest_magnitude_of_a_window(bits: int, offset: int) -> None:
    number = Plan(8).unsigned("x", (1,), bits, offset)
    window = range(-offset, (1 << bits) - offset)
    assert number.largest == max(abs(n) for n in window)


@pytest.mark.parametrize("bound", [0, 1, 2, 3, 4, 127, 128, 129, 2**40])
def test_a_signed_window_holds_its_bound_on_both_sides(bound: int) -> None:
    number = Plan(8).signed("x", (1,), bound)
    first, last = -number.offset, (1 << number.bits) - 1 - number.offset
    assert first <= -bound
    assert bound <= last
    # one bit less would not do
    assert number.bits == 1 or 1 << (number.bits - 1) < 2 * bound + 1
    assert number.offset == 1 << (number.bits - 1)


@pytest.mark.parametrize("limb", [0, 17])
def test_a_limb_has_a_range_table(limb: int) -> None:
    with pytest.raises(ValueError, match=rf"a limb of 1\.\.16 bits, got {limb}"):
        Plan(limb)


# Tables


def test_no_two_tables_share_an_identifier() -> None:
    plan = Plan(16)
    for bits in range(17):
        plan.range_table(bits)
    for k in range(3):
        plan.named_table(f"table {k}", TABLE + k)
    identifiers = [table.identifier for table in plan.tables.values()]
    assert identifiers == [*range(17), 32, 33, 34]


def test_named_tables_are_counted_whatever_ranges_lie_between() -> None:
    plan = Plan(8)
    plan.named_table("first", TABLE)
    plan.range_table(3)
    plan.named_table("second", TABLE)
    assert [table.identifier for table in plan.tables.values()] == [32, 3, 33]


def test_a_table_stands_once() -> None:
    plan = Plan(8)
    assert plan.range_table(3) == plan.range_table(3) == "range 3"
    assert plan.named_table("t", TABLE) == plan.named_table("t", TABLE.copy()) == "t"
    assert plan.tables["range 3"] == Table(3, 8, None)
    assert plan.tables["t"].rows == 4
    assert len(plan.tables) == 2


def test_two_tables_of_one_name_are_refused() -> None:
    plan = Plan(8)
    plan.named_table("t", TABLE)
    with pytest.raises(ValueError, match="two tables are called t"):
        plan.named_table("t", TABLE + 1)
    with pytest.raises(ValueError, match="two tables are called t"):
        plan.named_table("t", TABLE[:3])
    plan.range_table(2)
    with pytest.raises(ValueError, match="two tables are called range 2"):
        plan.named_table("range 2", np.zeros(4, dtype=np.int64))


def test_a_table_with_values_is_no_range() -> None:
    """A longer one of that name would let limbs leave their window."""
    plan = Plan(8)
    plan.named_table("range 2", np.zeros(99, dtype=np.int64))
    with pytest.raises(ValueError, match="two tables are called range 2"):
        plan.range_table(2)


@pytest.mark.parametrize("bits", [-1, 17, 32])
def test_a_range_that_could_share_an_identifier_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=rf"a range of 0\.\.16 bits, got {bits}"):
        Plan(8).range_table(bits)


def test_a_lookup_has_keys_and_values_of_one_shape() -> None:
    key, value = Combination((3, 3), {"k": 1}), Combination((3,), {"v": 1})
    with pytest.raises(ValueError, match=r"keys have the shape \(3, 3\), values \(3,\)"):
        Lookup("t", key, value)


@pytest.mark.parametrize("dims", [(3,), (3, 4), (3, 3, 4)], ids=str)
def test_a_causal_lookup_has_a_lower_triangle(dims: Dims) -> None:
    with pytest.raises(ValueError, match="has no lower triangle"):
        Lookup("t", Combination(dims, {"k": 1}), causal=True)
    assert Lookup("t", Combination((2, 3, 3), {"k": 1}), causal=True).causal


# Names, and the seal


def test_names_are_not_used_twice() -> None:
    plan = Plan(8)
    plan.column("x", (2,))
    plan.weight("w", (2,))
    with pytest.raises(ValueError, match="two columns are called x"):
        plan.column("x", (2,))
    with pytest.raises(ValueError, match="two columns are called x"):
        plan.unsigned("x", (2,), 3)
    with pytest.raises(ValueError, match="two layers share the weight w"):
        plan.weight("w", (2,))


def sealed() -> Plan:
    plan = Plan(4)
    plan.unsigned("x", (3, 2), 6)
    plan.lookups.append(Lookup(plan.named_table("t", TABLE), plan.column("k", (5,))))
    plan.weight("w", (3, 5))
    plan.seal()
    return plan


def test_the_seal_adds_one_multiplicity_for_each_row_of_each_table() -> None:
    assert list(sealed().columns.items())[3:] == [
        ("multiplicity of range 4", (16,)),
        ("multiplicity of range 2", (4,)),
        ("multiplicity of t", (4,)),
    ]


def test_nothing_is_declared_after_the_seal() -> None:
    plan = sealed()
    for declare in (
        lambda: plan.column("y", (2,)),
        lambda: plan.unsigned("y", (2,), 3),
        lambda: plan.range_table(7),
        lambda: plan.named_table("u", TABLE),
        lambda: plan.weight("v", (2,)),
        plan.seal,
    ):
        with pytest.raises(ValueError, match="declared after the plan was sealed"):
            declare()
    assert plan.range_table(4) == "range 4"


def test_more_lookups_than_the_field_has_elements_are_refused() -> None:
    rows = 1 << 4
    for cells, refused in [(MODULUS - rows - 1, False), (MODULUS - rows, True)]:
        plan = Plan(4)
        plan.unsigned("x", (cells,), 4)
        if refused:
            with pytest.raises(UnsupportedModel, match="more lookups than the field"):
                plan.seal()
        else:
            plan.seal()


# Layouts


def spans(places: list[Slot]) -> list[tuple[int, int]]:
    return [(place.offset, 1 << place.block.bits) for place in places]


def require_tiled(all_places: list[list[Slot]], length: int) -> None:
    """No gap, no overlap, no rest; every block at a multiple of its size; the largest first."""
    found = sorted(itertools.chain(*map(spans, all_places)))
    assert [start for start, _ in found] == [
        0,
        *itertools.accumulate(size for _, size in found[:-1]),
    ]
    assert sum(size for _, size in found) == length
    assert all(start % size == 0 for start, size in found)
    sizes = [size for _, size in found]
    assert sizes == sorted(sizes, reverse=True)


DIMS: list[Dims] = [(1,), (37, 12), (65,), (3, 65, 2), (64,), (64, 1), (50257,), (5, 5)]


def laid_out() -> Plan:
    plan = Plan(16)
    for k, dims in enumerate(DIMS):
        plan.column(f"column {k}", dims)
        plan.weight(f"weight {k}", dims[::-1])
    return plan


def test_columns_and_weights_tile_their_vectors() -> None:
    plan = laid_out()
    assert plan.size() == sum(map(size, DIMS))
    for layout, shapes in ((plan.layout(), plan.columns), (plan.weights_layout(), plan.weights)):
        require_tiled(list(layout.values()), sum(map(size, DIMS)))
        for name, places in layout.items():
            assert tuple(place.block for place in places) == blocks(shapes[name])


def test_ties_are_laid_out_in_the_order_of_declaration() -> None:
    plan = Plan(8)
    for name in "ba":
        plan.column(name, (3, 3))
    layout = plan.layout()
    assert spans(layout["b"]) == [(0, 4), (8, 2), (10, 2), (16, 1)]
    assert spans(layout["a"]) == [(4, 4), (12, 2), (14, 2), (17, 1)]


def test_lookups_and_then_tables_tile_the_fractions() -> None:
    plan = sealed()
    sites, tables, length = plan.lookup_layout()
    keys = [lookup.key.dims for lookup in plan.lookups]
    assert length == sum(map(size, keys)) + 16 + 4 + 4
    require_tiled([*sites, *tables.values()], length)
    assert [tuple(place.block for place in places) for places in sites] == [
        blocks(dims) for dims in keys
    ]
    assert list(tables) == ["range 4", "range 2", "t"]
    # among the blocks of four cells the lookups stand before the tables
    kinds = [("lookup", sites), ("table", list(tables.values()))]
    fours = sorted(
        (start, kind)
        for kind, found in kinds
        for places in found
        for start, n in spans(places)
        if n == 4
    )
    assert [kind for _, kind in fours] == ["lookup"] * 3 + ["table"] * 2


def test_the_cost_counts_columns_lookups_and_rows() -> None:
    plan = sealed()
    assert plan.cost() == (6 + 6 + 5 + 24) + (6 + 6 + 5) + 24


def test_the_cells_of_a_block_are_numbered_row_by_row() -> None:
    values = np.arange(6 * 7).reshape(6, 7)
    for block in blocks((6, 7)):
        found = plans.cells(values, Slot(block, 0))
        assert found.tolist() == values[block.slices].reshape(-1).tolist()
        assert found.flags.c_contiguous

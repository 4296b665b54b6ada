"""Keys of config.json, as any architecture asks for them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from zkllm.architectures.config import Keys, others
from zkllm.errors import UnsupportedModel


def test_a_flag_may_be_silent() -> None:
    keys = Keys({"yes": True, "no": False})
    assert [keys.flag_if_said(name) for name in ("yes", "no", "unsaid")] == [True, False, None]
    assert [keys.said(name) for name in ("yes", "unsaid")] == [True, False]
    assert keys.flag("unsaid", absent=True)


@pytest.mark.parametrize("value", [0, 1, "true", None, []])
def test_a_flag_is_true_or_false(value: object) -> None:
    for ask in (Keys({"f": value}).flag_if_said, lambda n: Keys({"f": value}).flag(n, absent=True)):
        with pytest.raises(UnsupportedModel, match=r"^config.json: f must be true or false, got"):
            ask("f")


def test_a_flag_with_one_value() -> None:
    assert Keys({}).flag("f", absent=True, only=True)
    with pytest.raises(UnsupportedModel, match=r"^config.json: f must be True, got False"):
        Keys({"f": False}).flag("f", absent=True, only=True)


def test_all_names_of_a_size_are_held_to_each_other() -> None:
    keys = Keys({"a": 3, "b": 3, "c": 4, "old": 7})
    assert keys.size("width", "a", "b") == 3
    assert keys.size("width", "b", older=("old",)) == 3
    assert keys.size("width", "none", older=("other", "old")) == 7
    with pytest.raises(UnsupportedModel, match="a and c are one number, got 3 and 4"):
        keys.size("width", "a", "b", "c")
    with pytest.raises(UnsupportedModel, match="none is missing"):
        keys.size("width", "none", older=("other",))


def test_null_is_absent_only_where_something_is() -> None:
    assert Keys({"a": None}).size("inner", "a", absent=5) == 5
    assert Keys({"a": 6}).size("inner", "a", absent=5) == 6
    with pytest.raises(UnsupportedModel, match="a must be a positive integer, got None"):
        Keys({"a": None}).size("inner", "a")


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, [1], 1 << 16 | 1, 1 << 80])
def test_a_size_is_a_positive_integer_below_its_cap(value: object) -> None:
    with pytest.raises(
        UnsupportedModel, match=r"^config.json: a must be (a positive|at most 65536)"
    ):
        Keys({"a": value}).size("width", "a")


def test_a_fraction_is_the_decimal_of_the_file() -> None:
    assert Keys({"e": 0.1}).fraction("e", absent=1e-5) == Fraction(1, 10)
    assert Keys({}).fraction("e", absent=1e-5) == Fraction(1, 100_000)


def test_keys_of_others_say_nothing_or_are_refused() -> None:
    table = others("rope_theta", rope_scaling=({"type": "default"},), brand_new=(7,))
    assert "rope_theta" not in table
    neutral: tuple[dict[str, object], ...] = (
        {},
        {"rope_theta": 1e4},
        {"rope_scaling": {}},
        {"brand_new": 7},
        {"rotary": 0},
    )
    for said in neutral:
        Keys(said).refuse("Toy", table)
    Keys({"rope_scaling": {"type": "default"}, "auto_map": None}).refuse("Toy", table)
    for key, value in {"rope_scaling": {"type": "x"}, "brand_new": 8, "rotary": True}.items():
        with pytest.raises(UnsupportedModel, match=f"^config.json: Toy has no {key}, got") as err:
            Keys({key: value}).refuse("Toy", table)
        assert "remove the key" in err.value.hint

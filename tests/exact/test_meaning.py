"""Tables and constants are what the specification says they are, or the model is refused."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import zkllm
from zkllm.checkpoints import Checkpoint
from zkllm.errors import UntrustedMaterial
from zkllm.exact.meaning import check_meaning, claimed
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification, StoredTensor
from zkllm.keys import policy_for, setup
from zkllm.operations import tables
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import IntArray, magnitude_type, tensor_digest


def tensors_of(model: ExactModel) -> dict[str, IntArray]:
    return {name: model.tensor(name) for name in model.specification.tensors}


def with_table(model: ExactModel, name: str, table: IntArray) -> ExactModel:
    """`model` with another table, which has its own digest."""
    dtype = magnitude_type(table)
    stored = StoredTensor(dtype, table.shape, tensor_digest(table, dtype))
    specification = replace(
        model.specification, tensors=model.specification.tensors | {name: stored}
    )
    specification.check()
    return ExactModel.in_memory(specification, tensors_of(model) | {name: table})


def saying(model: ExactModel, part: str, **changes: Any) -> ExactModel:
    """`model` with other words about the same numbers."""
    said = replace(getattr(model.specification, part), **changes)
    specification = replace(model.specification, **{part: said})
    specification.check()
    return ExactModel.in_memory(specification, tensors_of(model))


@pytest.mark.parametrize("preset", ["wide", "ezkl"])
@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "relu"])
@pytest.mark.parametrize("blocks", [None, (1, 2)])
def test_what_export_makes_means_what_it_says(
    tiny_checkpoint: Checkpoint, preset: str, activation: Any, blocks: tuple[int, int] | None
) -> None:
    network = replace(tiny_checkpoint.architecture, activation=activation)
    checkpoint = replace(tiny_checkpoint, architecture=network)
    check_meaning(ExactModel.in_memory(*build(checkpoint, PRECISIONS[preset], blocks)))


PROVEN = ("norm", "score", "hidden")


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(PRECISIONS["wide"].fractions)])
@pytest.mark.parametrize("by", [-1, 1])
def test_fraction_bits_are_proven_or_claimed(tiny_model: ExactModel, name: str, by: int) -> None:
    bits = getattr(tiny_model.specification.fractions, name)
    changed = saying(tiny_model, "fractions", **{name: bits + by})
    if name in (*PROVEN, "query", "key"):
        with pytest.raises(UntrustedMaterial, match=r"^spec\.json: .*(expected|another table)"):
            check_meaning(changed)
    else:
        check_meaning(changed)
        assert f"fractions.{name}" in claimed(changed.specification)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("architecture", {"activation": "gelu"}, "table.gelu: expected that of gelu with 10"),
        ("architecture", {"activation": "relu"}, "table.gelu: expected that of relu"),
        ("exp", {"family": "ezkl"}, "table.exp: expected EXP of ezkl"),
        ("exp", {"argument_bits": 9}, "exp.argument_bits: expected 10 for fractions.score, got 9"),
        ("exp", {"value_parameter": 15}, "table.exp: expected EXP of free"),
        ("exp", {"value_parameter": 17}, "table.exp: expected EXP of free"),
        ("exp", {"logrows": 14}, "table.exp: expected EXP of free"),
    ],
)
def test_other_words_are_refused(
    tiny_model: ExactModel, part: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UntrustedMaterial, match=message):
        check_meaning(saying(tiny_model, part, **changes))


@pytest.mark.parametrize("name", ["table.exp", "table.gelu"])
@pytest.mark.parametrize("place", [1, 700, -2])
def test_a_table_that_is_another_is_refused(tiny_model: ExactModel, name: str, place: int) -> None:
    table = tiny_model.tensor(name).copy()
    table[place] -= 1 if table[place] else -1
    with pytest.raises(UntrustedMaterial, match=f"{name}: expected .*, got another table"):
        check_meaning(with_table(tiny_model, name, table))
    with pytest.raises(UntrustedMaterial, match=f"{name}: expected .*, got another table"):
        check_meaning(with_table(tiny_model, name, tiny_model.tensor(name)[:-1]))


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("exp", {"argument_bits": 61}),
        ("exp", {"value_parameter": (1 << 18) - 1}),
        ("exp", {"family": "ezkl", "logrows": 61}),
        ("exp", {"family": "ezkl", "argument_bits": 0, "value_parameter": (1 << 18) - 1}),
        ("exp", {"family": "ezkl", "argument_bits": 61, "logrows": 14}),
        ("fractions", {"hidden": 61}),
        ("fractions", {"hidden": 0}),
        ("fractions", {"hidden": 1}),
    ],
    ids=str,
)
def test_no_table_is_made_that_could_not_be_the_one_that_is_there(
    tiny_model: ExactModel,
    part: str,
    changes: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: int) -> IntArray:
        raise AssertionError("a table was made")

    for maker in ("exp_ezkl", "gelu_tanh", "gelu_erf"):
        monkeypatch.setattr(tables, maker, never)
    if part == "exp":
        monkeypatch.setattr(tables, "exp_free", never)
    changed = saying(tiny_model, part, **changes)
    if part == "exp":  # else the number of bits of a score would be all that is looked at
        changed = saying(changed, "fractions", score=changed.specification.exp.argument_bits)
        sizes = changed.specification.fractions
        shift = sizes.query + sizes.key - sizes.score
        attention = tuple(
            replace(unit, score_shift=shift) for unit in changed.specification.attention
        )
        changed = ExactModel.in_memory(
            replace(changed.specification, attention=attention), tensors_of(tiny_model)
        )
    with pytest.raises(UntrustedMaterial, match="got another table"):
        check_meaning(changed)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
@pytest.mark.parametrize(
    ("fraction", "length"),
    [(18, 1 << 18), (17, 1 << 18), (16, 1 << 18), (15, 1 << 16), (15, 1 << 18), (14, 1 << 17)],
)
def test_no_gelu_table_is_made_that_ends_elsewhere(
    tiny_model: ExactModel,
    activation: str,
    fraction: int,
    length: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A table of zeros costs half a megabyte; to make one of 18 fraction bits takes minutes."""

    def never(*_: int) -> IntArray:
        raise AssertionError("a table was made")

    for maker in ("gelu_tanh", "gelu_erf"):
        monkeypatch.setattr(tables, maker, never)
    changed = saying(tiny_model, "architecture", activation=activation)
    changed = saying(changed, "fractions", hidden=fraction)
    changed = with_table(changed, "table.gelu", np.zeros(length, dtype=np.int64))
    with pytest.raises(UntrustedMaterial, match=r"table\.gelu: .* got another table"):
        check_meaning(changed)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
@pytest.mark.parametrize("fraction", range(2, 11))
def test_where_a_gelu_table_ends_is_known_before_it_is_made(
    activation: tables.ActivationKind, fraction: int
) -> None:
    made = (tables.gelu_erf if activation == "gelu" else tables.gelu_tanh)(fraction)
    last = len(made) - 1
    near = range(max(0, last - 5), last + 6)
    assert [u for u in near if tables.ends_gelu(activation, fraction, u)] == [last]


def test_what_is_claimed(tiny_model: ExactModel, tiny_checkpoint: Checkpoint) -> None:
    fragment, _ = build(tiny_checkpoint, PRECISIONS["wide"], (1, 2))
    assert "source" in claimed(tiny_model.specification)
    assert "vocabulary" not in claimed(tiny_model.specification)
    assert {"vocabulary", "first_block"} <= set(claimed(fragment))


@pytest.fixture
def renamed(tiny_model: ExactModel, tmp_path: Path) -> Path:
    """A folder whose activation is said to be another, under its own digest."""
    made = saying(tiny_model, "architecture", activation="gelu")
    folder = tmp_path / "model"
    save(made.specification, tensors_of(tiny_model), tiny_model.tokenizer_bytes(), folder)
    return folder


def test_neither_policy_nor_keys_are_made_for_other_words(renamed: Path, tmp_path: Path) -> None:
    with pytest.raises(UntrustedMaterial, match="expected that of gelu"):
        policy_for(renamed)
    with pytest.raises(UntrustedMaterial, match="expected that of gelu"):
        setup(renamed, "sumcheck", tmp_path / "keys")
    assert not (tmp_path / "keys").exists()
    done = zkllm("policy", "init", renamed)
    assert (done.code, done.out) == (3, "")


def test_inspect_says_what_is_claimed(tiny_model: ExactModel) -> None:
    assert tiny_model.folder is not None
    done = zkllm("inspect", tiny_model.folder)
    assert "claimed" in done.out
    assert (
        Specification.from_bytes((tiny_model.folder / "spec.json").read_bytes()).source in done.out
    )

"""Every number of a specification is one that the weights prove, or the model is refused."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import zkllm
from tests.exact.test_extremes import require_true
from tests.fitting import fitted, naming, tensors_of, with_entry, with_unit
from zkllm import integers
from zkllm.checkpoints import Checkpoint
from zkllm.errors import InvalidBundle, UnsupportedModel, UntrustedMaterial, WrongMaterial
from zkllm.exact.check import check_bounds, check_constants, prove_unit
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification
from zkllm.keys import policy_for, setup
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import IntArray, tensor_digest


def numbers(part: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all integers of a dataclass."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            yield from numbers(value, (*path, field.name))
        elif isinstance(value, int):
            yield (*path, field.name)


def moved(part: Any, path: tuple[str, ...], by: int) -> Any:
    """`part` with the integer at `path` changed."""
    name, *rest = path
    value = getattr(part, name)
    return replace(part, **{name: moved(value, tuple(rest), by) if rest else value + by})


def value_at(part: Any, path: tuple[str, ...]) -> int:
    value = functools.reduce(getattr, path, part)
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize("preset", ["wide", "ezkl"])
@pytest.mark.parametrize("blocks", [None, (1, 2)])
def test_what_export_makes_is_proven_again(
    tiny_checkpoint: Checkpoint, preset: str, blocks: tuple[int, int] | None
) -> None:
    specification, tensors = build(tiny_checkpoint, PRECISIONS[preset], blocks)
    check_bounds(ExactModel.in_memory(specification, tensors))


@pytest.mark.parametrize("name", ["embed", "attention[0]", "mlp[1]", "head"])
@pytest.mark.parametrize("by", [-1, 1])
def test_every_number_of_every_unit_is_the_proven_one(
    tiny_model: ExactModel, name: str, by: int
) -> None:
    specification, tensors = tiny_model.specification, tensors_of(tiny_model)
    unit = specification.records[name]
    paths = list(numbers(unit))
    assert paths
    for path in paths:
        changed = with_unit(specification, name, moved(unit, path, by))
        if value_at(changed.records[name], path) < 0:
            continue  # no specification has a negative number: `Specification.check`
        with pytest.raises(UntrustedMaterial, match=r"spec\.json: .*(prove|proven bound)"):
            check_bounds(ExactModel.in_memory(changed, tensors))


def test_the_input_of_a_text_model_is_what_its_embedding_gives(tiny_model: ExactModel) -> None:
    specification = tiny_model.specification
    # the units after it are proven under the smaller bound: only the embedding contradicts it
    changed = replace(specification, input=specification.input - 1)
    with pytest.raises(UntrustedMaterial, match="prove"):
        check_bounds(ExactModel.in_memory(changed, tensors_of(tiny_model)))


def test_a_unit_may_not_leave_the_exact_range(tiny_model: ExactModel) -> None:
    unit = tiny_model.specification.mlp[0]
    changed = with_unit(tiny_model.specification, "mlp[0]", moved(unit, ("norm", "gain"), 1 << 50))
    with pytest.raises(UntrustedMaterial, match=r"mlp\[0\]: the proven bound of c·K is"):
        check_bounds(ExactModel.in_memory(changed, tensors_of(tiny_model)))


@pytest.mark.parametrize(
    ("unit", "layer", "table"),
    [("attention[0]", "query", "table.exp"), ("mlp[0]", "expand", "table.gelu")],
)
def test_a_table_that_no_model_may_hold_is_refused_before_bounds_are(
    unit: str, layer: str, table: str, tiny_model: ExactModel, tmp_path: Path
) -> None:
    """Bounds suppose what a table is: of both faults it is the first."""
    tensors = tensors_of(tiny_model)
    large = with_entry(tensors, f"{unit}.{layer}.weight", 0, 2**52 - 1)
    wrong = {**large, table: np.full_like(tensors[table], -1)}
    kinds = (UnsupportedModel, "accumulator is"), (WrongMaterial, f"tensor {table}: expected")
    for changed, (kind, message) in zip((large, wrong), kinds, strict=True):
        named = naming(tiny_model.specification, changed)
        save(named, changed, tiny_model.tokenizer_bytes(), tmp_path)
        with pytest.raises(kind, match=message):
            prove_unit(ExactModel.from_folder(tmp_path), unit)


@pytest.fixture
def doctored(tiny_model: ExactModel, tmp_path: Path) -> Path:
    """A model on disk, all digests right, whose head claims that its logits are small.

    A window for the difference of two logits would then be too short for honest ones, and sums
    could be larger than the equations allow for.
    """
    unit = tiny_model.specification.head
    assert unit is not None
    changed = with_unit(tiny_model.specification, "head", replace(unit, logit=unit.logit // 2))
    folder = tmp_path / "doctored"
    save(changed, tensors_of(tiny_model), tiny_model.tokenizer_bytes(), folder)
    return folder


def test_no_policy_is_written_for_a_model_with_wrong_bounds(doctored: Path) -> None:
    with pytest.raises(UntrustedMaterial, match=r"head\.logit: the weights prove"):
        policy_for(doctored)
    done = zkllm("policy", "init", doctored)
    assert done.code == 3
    assert "the weights prove" in done.err
    assert done.out == ""


def test_no_commitment_is_made_to_a_model_with_wrong_bounds(doctored: Path, tmp_path: Path) -> None:
    with pytest.raises(UntrustedMaterial, match=r"head\.logit: the weights prove"):
        setup(doctored, "sumcheck", tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


def test_other_weights_prove_other_bounds(tiny_model: ExactModel) -> None:
    specification, tensors = tiny_model.specification, tensors_of(tiny_model)
    name = specification.mlp[0].expand.weight
    tensors[name] = 2 * tensors[name]
    stored = specification.tensors[name]
    other = replace(stored, digest=tensor_digest(tensors[name], stored.dtype))
    changed = replace(specification, tensors=specification.tensors | {name: other})
    with pytest.raises(UntrustedMaterial, match=r"mlp\[0\]\.expand\.accumulator"):
        check_bounds(ExactModel.in_memory(changed, tensors))
    assert np.abs(tensors[name]).max() < 1 << 15


# LayerNorms that no executor could hold


def with_shift(
    model: ExactModel, name: str, shift: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Specification, dict[str, IntArray]]:
    """A model in which the LayerNorm of one unit shifts by `shift`; all else is fitted to it."""
    unit: Any = model.specification.records[name]
    changed = with_unit(
        model.specification, name, replace(unit, norm=replace(unit.norm, shift=shift))
    )
    with monkeypatch.context() as patched:
        patched.setattr(integers, "require", lambda value, *_: value)
        made = fitted(changed, tensors_of(model))
    return made.specification, tensors_of(made)


@pytest.mark.parametrize("shift", [48, 50, 56, 57, 58, 61])
@pytest.mark.parametrize("name", ["attention[0]", "mlp[1]", "head"])
def test_a_shift_beyond_every_executor_is_refused(
    name: str, shift: int, tiny_model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """d·2^t is added, halved, to what float64 divides; beyond int64 not even numpy has it."""
    specification, tensors = with_shift(tiny_model, name, shift, monkeypatch)
    words = re.escape(f"spec.json: {name}: the proven bound of d·x - Σx is ")
    with pytest.raises(UntrustedMaterial, match=f"^{words}"):
        check_bounds(ExactModel.in_memory(specification, tensors))
    # whoever reads the specification is told, before any weight is read
    folder = tmp_path / "model"
    with pytest.raises(InvalidBundle, match=f"^{words}"):
        save(specification, tensors, tiny_model.tokenizer_bytes(), folder)
    for arguments in (
        ("policy", "init", folder),
        ("setup", folder, "--backend", "sumcheck", "--keys", tmp_path / "keys"),
        ("run", folder, "-p", "a"),
        ("plan", folder, "--backend", "sumcheck"),
        ("inspect", folder),
    ):
        done = zkllm(*arguments)
        assert (done.code, done.out) == (4, "")
        assert f"{name}: the proven bound of d·x" in done.err


def test_the_largest_shift_is_held_by_everybody(
    tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ExactModel.in_memory(*with_shift(tiny_model, "attention[0]", 47, monkeypatch))
    check_bounds(made)
    check_constants(made.specification)
    require_true(made, "attention[0]")


@pytest.mark.parametrize("path", [("norm", "centred"), ("norm", "variance"), ("norm", "output")])
@pytest.mark.parametrize("name", ["attention[0]", "mlp[1]", "head"])
def test_bounds_of_a_norm_are_proven_whenever_a_specification_is_read(
    name: str, path: tuple[str, ...], tiny_model: ExactModel
) -> None:
    specification = tiny_model.specification
    check_constants(specification)
    unit = specification.records[name]
    for by in (-1, 1):
        changed = with_unit(specification, name, moved(unit, path, by))
        with pytest.raises(InvalidBundle, match=rf"^spec.json: .*norm.{path[-1]}: its constants"):
            check_constants(changed)

"""Export: the preset, the goals of fidelity, and notes about the checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from tests.checkpoints import test_layouts as layouts
from tests.checkpoints.conftest import rewrite
from tests.checkpoints.reference import change_json
from tests.checkpoints.test_files import shard
from tests.commands import zkllm
from zkllm.errors import DigestMismatch, InputError
from zkllm.exact.model import ExactModel
from zkllm.exporting import Export, check, export
from zkllm.fidelity import Fidelity
from zkllm.operations.precision import PRECISIONS

GOLDEN = Path(__file__).resolve().parent / "golden" / "v1"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "checkpoint"))


def test_narrow_models_are_wide_unless_told_otherwise(folder: Path, tmp_path: Path) -> None:
    assert export(folder, tmp_path / "model").preset == "wide"
    (folder / "zkllm.toml").write_text('preset = "ezkl"\n')
    done = export(folder, tmp_path / "model", force=True)
    assert done.preset == "ezkl"
    fractions = ExactModel.from_folder(done.folder).specification.fractions
    assert fractions == PRECISIONS["ezkl"].fractions
    assert export(folder, tmp_path / "model", preset="wide", force=True).preset == "wide"


def test_the_bundled_checkpoint_keeps_its_preset(tmp_path: Path) -> None:
    done = export("demo", tmp_path / "model")
    assert done.preset == "ezkl"
    assert done.digest == ExactModel.from_folder(GOLDEN / "model").digest
    assert not done.shortfall


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"preset = ", "zkllm.toml: not TOML"),
        (b"\xff", "zkllm.toml: not TOML"),
        (b".".join([b"a"] * 500) + b" = 1", "zkllm.toml: expected preset = NAME, got a"),
        (b".".join([b"a"] * 30_000) + b" = 1", "at most 1024 bytes"),
        (b"", "expected preset = NAME, got nothing"),
        (b'preset = "ezkl"\nmore = 1', "expected preset = NAME, got preset, more"),
        (b'preset = "fine"', "zkllm.toml: preset: expected one of wide, ezkl, got 'fine'"),
        (b"preset = 1", "zkllm.toml: preset: expected one of wide, ezkl, got 1"),
        (b"preset = []", r"zkllm.toml: preset: expected one of wide, ezkl, got \[\]"),
    ],
)
def test_bad_settings_are_refused(
    folder: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (folder / "zkllm.toml").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        export(folder, tmp_path / "model")
    assert len(caught.value.message.splitlines()) == 1
    assert not (tmp_path / "model").exists()


def sharded(folder: Path) -> None:
    shard(folder)


def prefixed(folder: Path) -> None:
    rewrite(folder, layouts.prefixed("_orig_mod."))


def transposed(folder: Path) -> None:
    rewrite(folder, layouts.nanogpt)


def renamed(folder: Path) -> None:
    rewrite(folder, layouts.mingpt_2020)


def generating(folder: Path) -> None:
    change_json(folder / "generation_config.json", eos_token_id=[3, 28])


def spelled(folder: Path) -> None:
    """The tokenizer as two files, with one token for a byte."""
    (folder / "tokenizer.json").unlink()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {character: index for index, character in enumerate(alphabet)}
    (folder / "vocab.json").write_text(json.dumps(tokens | {"<|endoftext|>": 256}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    change_json(folder / "config.json", vocab_size=257)
    rows = np.random.default_rng(0).normal(0, 0.14, (257, 32)).astype("f4")
    rewrite(folder, lambda weights: weights | {"transformer.wte.weight": rows})


@pytest.mark.parametrize(
    "change",
    [sharded, prefixed, transposed, renamed, generating, spelled],
    ids=lambda f: f.__name__,
)
def test_every_layout_can_be_derived_again(
    folder: Path, tiny_folder: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    change(folder)
    whole = export(folder, tmp_path / "whole")
    assert check(tmp_path / "whole", folder) == whole.digest
    part = export(folder, tmp_path / "part", blocks=(1, 2))
    assert check(tmp_path / "part", folder) == part.digest
    with pytest.raises(DigestMismatch):
        check(tmp_path / "whole", tiny_folder)


def finished(preset: str, agreement: float | None, ratio: float | None) -> Export:
    f = Fidelity("test", 100, agreement, 0.1, ratio, 0.1)
    return Export(Path("m"), ExactModel.from_folder(GOLDEN / "model").digest, preset, (), 0, 1, f)


@pytest.mark.parametrize(
    ("preset", "agreement", "ratio", "expected"),
    [
        ("ezkl", 0.99, 1.01, ""),
        ("wide", 1.0, 0.9, ""),
        ("wide", None, None, ""),  # a fragment
        ("ezkl", 0.961, 1.0, "96.1 % of positions agree, goal 99%: try --preset wide"),
        ("ezkl", 0.98999, 1.0, "98.9 % of positions agree, goal 99%: try --preset wide"),
        ("wide", 0.5, 1.0, "50.0 % of positions agree, goal 99%: no preset is finer"),
        ("wide", 1.0, 1.02, "perplexity is 1.0200 of float32's, goal 1.01: no preset is finer"),
        ("wide", 1.0, float("inf"), "perplexity is inf of float32's, goal 1.01: no preset is"),
        ("ezkl", float("nan"), 1.0, "nan % of positions agree, goal 99%: try --preset wide"),
        ("ezkl", 0.5, 2.0, "50.0 % of positions agree, goal 99%; perplexity is 2.0000 of float"),
    ],
)
def test_a_missed_goal_is_said_with_the_way_out(
    preset: str, agreement: float | None, ratio: float | None, expected: str
) -> None:
    said = finished(preset, agreement, ratio)
    assert said.shortfall.startswith(expected)
    assert bool(said.shortfall) == bool(expected)
    assert said.to_json()["shortfall"] == said.shortfall
    assert said.to_json()["goals"] == {"agreement": 0.99, "perplexity_ratio": 1.01}


def test_the_command_says_goals_and_notes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zkllm import exporting

    change_json(folder / "generation_config.json", do_sample=True, eos_token_id=28)
    model = tmp_path / "model"
    monkeypatch.setattr(exporting, "GOAL_AGREEMENT", 1.01)  # no model reaches it
    done = zkllm("export", folder, "-o", model, "--preset", "ezkl")
    assert done.code == 0
    assert "of positions agree, goal 101%: try --preset wide" in done.out
    assert "do_sample: zkllm decodes greedily and never samples" in done.out
    done = zkllm("export", folder, "-o", model, "--preset", "ezkl", "--force", "--json")
    report = json.loads(done.out)
    assert report["notes"] == ["do_sample: zkllm decodes greedily and never samples"]
    assert "goal 101%: try --preset wide" in report["shortfall"]
    monkeypatch.undo()
    done = zkllm("export", "demo", "-o", model, "--force")
    assert "below the goal" not in done.out

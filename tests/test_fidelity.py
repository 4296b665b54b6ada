"""The fidelity report: its float32 twin is the torch model, and its figures move as they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.models.test_demo_model import gpt2
from zkllm import fidelity
from zkllm.architectures.gpt2 import GPT2
from zkllm.checkpoints import Checkpoint
from zkllm.errors import InputError, UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build, logit_fraction
from zkllm.operations.precision import PRECISIONS


def measured(
    model: ExactModel, folder: Path, precision: str, text: str | None
) -> fidelity.Fidelity:
    checkpoint = Checkpoint.from_folder(folder)
    fraction = logit_fraction(checkpoint, PRECISIONS[precision])
    documents = (
        fidelity.random_windows(checkpoint) if text is None else fidelity.windows(checkpoint, text)
    )
    return fidelity.measure(model, checkpoint, documents, "test", logit_fraction=fraction)


def test_the_float32_twin_is_the_torch_model(demo_folder: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
    module, _ = gpt2.load_checkpoint(demo_folder)
    checkpoint = Checkpoint.from_folder(demo_folder)
    ids = np.array([1, 2, 10, 3, 4, 11])
    network, weights = checkpoint.architecture, checkpoint.tensors
    hidden = network.hidden(weights, ids, network.blocks)
    with torch.no_grad():
        expected = module(torch.tensor(ids[None]))[0].numpy()
    assert np.abs(network.logits(weights, hidden[-1]) - expected).max() < 1e-4


def test_demo_is_faithful(demo_model: ExactModel, demo_folder: Path) -> None:
    text = (demo_folder / "sample.txt").read_text()
    f = measured(demo_model, demo_folder, "ezkl", text)
    assert f.positions > 300
    assert f.agreement is not None
    assert f.agreement > 0.98
    assert f.divergence is not None
    assert 0 <= f.divergence < 0.01


def test_wide_is_closer_than_ezkl(demo_folder: Path, demo_model: ExactModel) -> None:
    checkpoint = Checkpoint.from_folder(demo_folder)
    specification, tensors = build(checkpoint, PRECISIONS["wide"])
    wide = ExactModel.in_memory(specification, tensors)
    text = "12+34=46\n" * 5
    coarse = measured(demo_model, demo_folder, "ezkl", text)
    fine = measured(wide, demo_folder, "wide", text)
    assert fine.relative_error < coarse.relative_error / 4


def test_a_wrong_model_shows(demo_folder: Path, demo_model: ExactModel) -> None:
    tensors = {name: demo_model.tensor(name) for name in demo_model.specification.tensors}
    name = "mlp[1].project.weight"
    wrong = ExactModel.in_memory(
        demo_model.specification, tensors | {name: np.zeros_like(tensors[name])}
    )
    f = measured(wrong, demo_folder, "ezkl", "12+34=46\n")
    assert f.relative_error > 0.05


def test_random_tokens_are_the_same_each_time(demo_folder: Path, demo_model: ExactModel) -> None:
    first = measured(demo_model, demo_folder, "ezkl", None)
    assert first == measured(demo_model, demo_folder, "ezkl", None)
    assert first.positions == 16


def test_fragments_have_a_relative_error_only(demo_folder: Path) -> None:
    checkpoint = Checkpoint.from_folder(demo_folder)
    specification, tensors = build(checkpoint, PRECISIONS["ezkl"], (1, 2))
    model = ExactModel.in_memory(specification, tensors)
    f = fidelity.measure(model, checkpoint, fidelity.windows(checkpoint, "12+34=46\n"), "test")
    assert f.agreement is None
    assert 0 < f.relative_error < 0.1
    assert replace(f, agreement=1.0).to_json()["agreement"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a line of at least two tokens, got none"),
        ("\n\n \n", "expected a line of at least two tokens, got none"),
        ("1", "expected a line of at least two tokens, got none"),
        ("12+34=46\n7 8\n", "cannot spell line 2 of --text: expected known characters, got ' '"),
    ],
)
def test_text_that_compares_nothing(text: str, message: str, demo_folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        fidelity.windows(Checkpoint.from_folder(demo_folder), text)


def test_text_without_a_tokenizer(demo_folder: Path) -> None:
    checkpoint = replace(Checkpoint.from_folder(demo_folder), tokenizer=None)
    with pytest.raises(InputError, match="--text: the checkpoint has no tokenizer"):
        fidelity.windows(checkpoint, "12+34=46\n")


def test_lines_are_cut_into_windows(demo_folder: Path) -> None:
    checkpoint = Checkpoint.from_folder(demo_folder)
    found = fidelity.windows(checkpoint, "1+2=3\n\n" + "1" * 40 + "\n2\n" + "12+3=15\n" * 1000)
    assert [len(ids) for ids in found[:4]] == [6, 16, 16, 9]
    assert sum(map(len, found)) in (fidelity.MAX_TOKENS - 1, fidelity.MAX_TOKENS)


def test_a_line_break_is_left_out_where_no_token_spells_it(demo_folder: Path) -> None:
    checkpoint = Checkpoint.from_folder(demo_folder)
    assert checkpoint.tokenizer is not None
    without = checkpoint.tokenizer.replace(b'"\\n": 12', b'"?": 12')
    assert without != checkpoint.tokenizer
    found = fidelity.windows(replace(checkpoint, tokenizer=without), "1+2=3\r\n")
    assert [len(ids) for ids in found] == [5]


def with_head(checkpoint: Checkpoint, scale: float) -> Checkpoint:
    """`checkpoint` with a head of its own, whose weights are of this size."""
    shape = checkpoint.tensors["lm_head.weight"].shape
    head = np.random.default_rng(0).standard_normal(shape) * scale
    return replace(checkpoint, tensors=dict(checkpoint.tensors) | {"lm_head.weight": head})


def measured_with_head(checkpoint: Checkpoint, scale: float) -> fidelity.Fidelity:
    odd = with_head(checkpoint, scale)
    specification, tensors = build(odd, PRECISIONS["ezkl"])
    model = ExactModel.in_memory(specification, tensors)
    fraction = logit_fraction(odd, PRECISIONS["ezkl"])
    documents = fidelity.random_windows(odd)
    return fidelity.measure(model, odd, documents, "test", logit_fraction=fraction)


def test_logits_that_lie_far_apart_have_a_ratio(tiny_checkpoint: Checkpoint) -> None:
    """exp of the difference of losses is no float; the bounds of the model hold all the same."""
    found = measured_with_head(tiny_checkpoint, 1e5)
    assert found.perplexity_ratio is not None
    assert np.isfinite(found.perplexity_ratio)


def test_a_reference_that_overflows_is_none(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds refuse all weights that were found to do this, before they are compared."""
    monkeypatch.setattr(GPT2, "logits", lambda _, __, x: x * np.float32(3e38) * np.float32(10))
    with pytest.raises(UnsupportedModel, match="the float32 model overflows on test"):
        measured_with_head(tiny_checkpoint, 1.0)

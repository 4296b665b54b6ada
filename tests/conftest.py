"""Checkpoints and exact models that many tests share; the session-wide ones are read-only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks.synthetic import trained_statistics
from zkllm.checkpoints import Checkpoint
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.operations.precision import PRECISIONS

# A machine that others use as well may take any time.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

MakeCheckpoint = Callable[..., Path]

TINY: dict[str, Any] = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_embd": 32,
    "n_head": 2,
    "n_layer": 2,
    "n_positions": 12,
    "vocab_size": 29,
    "eos_token_id": 28,
}
"""The `config.json` of the tiny checkpoint; `make_checkpoint` takes changes to it."""
ALPHABET = "abcdefghijklmnopqrstuvwxyz .\n"


def character_tokenizer(alphabet: str) -> bytes:
    """tokenizer.json with one token for each character, and an error for any other."""
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return str(tokenizer.to_str()).encode()


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Write a checkpoint folder: `make_checkpoint(seed=0, **changes_to_TINY)` gives its path."""

    def make(seed: int = 0, **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        config = TINY | changes
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        weights = trained_statistics(config, seed)
        safetensors.numpy.save_file(weights, folder / "model.safetensors", {"format": "pt"})
        (folder / "tokenizer.json").write_bytes(character_tokenizer(ALPHABET))
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_folder(make_checkpoint: MakeCheckpoint) -> Path:
    """The folder of the tiny checkpoint: two blocks of width 32 and GPT-2's statistics."""
    return make_checkpoint()


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_folder: Path) -> Checkpoint:
    return Checkpoint.from_folder(tiny_folder)


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> ExactModel:
    """The tiny checkpoint as a `wide` exact model on disk."""
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"])
    folder = tmp_path_factory.mktemp("tiny-model")
    return save(specification, tensors, tiny_checkpoint.tokenizer, folder)


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """The bundled checkpoint."""
    return Path(__file__).resolve().parents[1] / "models" / "demo"


@pytest.fixture(scope="session")
def demo_model(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ExactModel:
    """The bundled checkpoint as an `ezkl` exact model on disk."""
    checkpoint = Checkpoint.from_folder(demo_folder)
    specification, tensors = build(checkpoint, PRECISIONS["ezkl"])
    folder = tmp_path_factory.mktemp("demo-model")
    return save(specification, tensors, checkpoint.tokenizer, folder)

"""Checkpoints: what is read of a folder or a torch module, and refusals that say what is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.checkpoints.conftest import Weights, rewrite
from zkllm.checkpoints import Checkpoint
from zkllm.errors import InputError, UnsupportedModel

CONFIG: dict[str, Any] = {
    "n_embd": 32,
    "n_head": 2,
    "n_layer": 3,
    "n_positions": 12,
    "vocab_size": 29,
}


# Folders


def test_a_folder_is_read(tiny_folder: Path, tiny_checkpoint: Checkpoint) -> None:
    stored = safetensors.numpy.load_file(tiny_folder / "model.safetensors")
    for name, values in stored.items():
        kept = tiny_checkpoint.tensors[name.removeprefix("transformer.")]
        assert kept.dtype == np.float64
        assert (kept == values).all()
    assert (tiny_checkpoint.tensors["lm_head.weight"] == stored["transformer.wte.weight"]).all()
    assert tiny_checkpoint.tokenizer == (tiny_folder / "tokenizer.json").read_bytes()
    assert tiny_checkpoint.stop_ids == (28,)


def test_names_may_lack_the_prefix_and_masks_are_dropped(folder: Path) -> None:
    def change(weights: Weights) -> Weights:
        bare = {name.removeprefix("transformer."): value for name, value in weights.items()}
        bare["h.0.attn.bias"] = np.tri(12, dtype=np.uint8)
        bare["h.0.attn.masked_bias"] = np.array(-1e4, dtype=np.float32)
        return bare

    expected = set(Checkpoint.from_folder(folder).tensors)
    rewrite(folder, change)
    assert set(Checkpoint.from_folder(folder).tensors) == expected


def test_a_head_of_its_own_is_kept(folder: Path) -> None:
    def change(weights: Weights) -> None:
        weights["lm_head.weight"] = weights["transformer.wte.weight"] + 1

    rewrite(folder, change)
    tensors = Checkpoint.from_folder(folder).tensors
    assert (tensors["lm_head.weight"] != tensors["wte.weight"]).all()


def test_half_precision_is_read(folder: Path) -> None:
    rewrite(folder, lambda weights: {n: v.astype(np.float16) for n, v in weights.items()})
    assert Checkpoint.from_folder(folder).tensors["wte.weight"].dtype == np.float64


def test_a_tokenizer_is_optional(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert Checkpoint.from_folder(folder).tokenizer is None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_digest_binds_every_file(folder: Path, tiny_checkpoint: Checkpoint, name: str) -> None:
    assert Checkpoint.from_folder(folder).digest == tiny_checkpoint.digest
    path = folder / name
    if name == "model.safetensors":
        rewrite(folder, lambda weights: {n: v + 1 for n, v in weights.items()})
    else:
        path.write_bytes(path.read_bytes() + b"\n")
    assert Checkpoint.from_folder(folder).digest != tiny_checkpoint.digest


def test_the_digest_tells_no_tokenizer_from_an_empty_one(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(b"")
    empty = Checkpoint.from_folder(folder).digest
    (folder / "tokenizer.json").unlink()
    assert Checkpoint.from_folder(folder).digest != empty


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"expected {name}, found none"):
        Checkpoint.from_folder(folder)


def test_an_unknown_network_is_refused_before_its_weights_are_read(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(UnsupportedModel, match=r"^config.json: model_type must be 'gpt2', got 'll"):
        Checkpoint.from_folder(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: expected a checkpoint folder"):
        Checkpoint.from_folder(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[1]", "expected an object"),
        (b" " * ((1 << 20) + 1), "at most 1048576 bytes"),
    ],
)
def test_a_broken_configuration_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        Checkpoint.from_folder(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, 20_000])
def test_a_truncated_file_of_weights_is_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a safetensors file"):
        Checkpoint.from_folder(folder)


WTE, FC = "transformer.wte.weight", "transformer.h.1.mlp.c_fc.weight"


def with_value(name: str, value: float) -> Callable[[Weights], None]:
    def change(weights: Weights) -> None:
        weights[name][0, 0] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {n: v for n, v in w.items() if n != FC}, "tensor h.1.mlp.c_fc.weight is miss"),
        (
            lambda w: w | {FC: w[FC].T.copy()},
            r"c_fc.weight must have shape \[32, 128\], got \[128, 32\]",
        ),
        (with_value(WTE, np.nan), "wte.weight holds NaN or infinity"),
        (with_value(FC, -np.inf), "h.1.mlp.c_fc.weight holds NaN or infinity"),
        (lambda w: w | {"lm_head.weight": w[WTE][:5].copy()}, r"lm_head.weight has shape \(5, 32"),
        (lambda w: w | {"extra": w[WTE]}, "unknown tensor extra"),
        (lambda w: w | {"transformer.h.0.attn.rotary": w[WTE]}, "unknown tensor h.0.attn.rotary"),
        (lambda w: w | {"transformer.h.2.ln_1.bias": w[WTE]}, "unknown tensor h.2.ln_1.bias"),
        (lambda w: w | {"wte.weight": w[WTE] + 1}, "wte.weight is there twice"),
        (
            lambda w: w | {WTE: w[WTE].astype(np.int32)},
            "wte.weight must be F16, BF16, F32 or F64, got I32",
        ),
    ],
)
def test_other_weights_are_refused(folder: Path, change: Any, message: str) -> None:
    rewrite(folder, change)
    with pytest.raises(UnsupportedModel, match=f"^model.safetensors: .*{message}"):
        Checkpoint.from_folder(folder)


# Torch modules


class Module(torch.nn.Module):
    """A state dict under GPT-2's names, with any configuration."""

    def __init__(self, checkpoint: Checkpoint, config: object) -> None:
        super().__init__()
        self.config = config
        self.tensors = checkpoint.tensors

    def state_dict(self, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        return {
            f"transformer.{n}": torch.from_numpy(v)
            for n, v in self.tensors.items()
            if n != "lm_head.weight"
        }


@dataclasses.dataclass
class PlainConfig:
    n_embd: int = 32
    n_head: int = 2
    n_layer: int = 2
    n_positions: int = 12
    vocab_size: int = 29
    eos_token_id: int = 28

    def a_method(self) -> None: ...


def test_a_torch_module_is_read_whatever_holds_its_configuration(
    tiny_checkpoint: Checkpoint,
) -> None:
    fields = dataclasses.asdict(PlainConfig())
    sources = [
        fields,
        PlainConfig(),
        SimpleNamespace(**fields),
        SimpleNamespace(to_dict=lambda: fields),
    ]
    read = [Checkpoint.from_torch(Module(tiny_checkpoint, source), b"{}") for source in sources]
    for checkpoint in read:
        assert checkpoint.architecture == tiny_checkpoint.architecture
        assert checkpoint.stop_ids == tiny_checkpoint.stop_ids
        assert checkpoint.tokenizer == b"{}"
        for name, values in tiny_checkpoint.tensors.items():
            assert (checkpoint.tensors[name] == values).all()
    assert len({checkpoint.digest for checkpoint in read}) == 1


def test_the_digest_of_a_module_binds_weights_and_configuration(
    tiny_checkpoint: Checkpoint,
) -> None:
    fields = dataclasses.asdict(PlainConfig())
    module = Module(tiny_checkpoint, fields)
    first = Checkpoint.from_torch(module).digest
    other = Module(tiny_checkpoint, fields | {"eos_token_id": 1})
    assert Checkpoint.from_torch(other).digest != first
    module.tensors = {n: v + (n == "wte.weight") for n, v in module.tensors.items()}
    assert Checkpoint.from_torch(module).digest != first


def test_a_module_without_configuration_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="no attribute config"):
        Checkpoint.from_torch(torch.nn.Linear(2, 2))


def test_a_module_is_held_to_the_same_shapes(tiny_checkpoint: Checkpoint) -> None:
    module = Module(tiny_checkpoint, json.loads(json.dumps(CONFIG)))
    with pytest.raises(UnsupportedModel, match=r"h\.2\.ln_1\.weight is missing"):
        Checkpoint.from_torch(module)

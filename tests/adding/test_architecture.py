"""An architecture is its file and a word in the list: with no more than that a toy is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.adding.toy_architecture import Toy
from tests.checkpoints.reference import change_json
from tests.commands import zkllm
from tests.conftest import ALPHABET, character_tokenizer
from zkllm import architectures
from zkllm.architectures.gpt2 import GPT2
from zkllm.checkpoints import Checkpoint
from zkllm.errors import UnsupportedModel
from zkllm.exact.quantise import build, logit_fraction
from zkllm.operations.precision import PRECISIONS

D, INNER, BLOCKS, CONTEXT, VOCABULARY = 8, 12, 2, 10, len(ALPHABET)
CONFIG: dict[str, Any] = {
    "model_type": "toy",
    "architectures": ["ToyForCausalLM"],
    "hidden_size": D,
    "num_attention_heads": 2,
    "intermediate_size": INNER,
    "num_hidden_layers": BLOCKS,
    "max_position_embeddings": CONTEXT,
    "vocab_size": VOCABULARY,
    "hidden_act": "gelu",
    "norm_eps": 1e-5,
    "eos_token_id": None,
}
SAME: dict[str, Any] = {
    "n_embd": D,
    "n_head": 2,
    "n_inner": INNER,
    "n_layer": BLOCKS,
    "n_positions": CONTEXT,
    "vocab_size": VOCABULARY,
    "activation_function": "gelu",
    "bias": False,
    "tie_word_embeddings": False,
    "eos_token_id": None,
}
"""A GPT-2 that computes the same."""
Weights = dict[str, Any]


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word in the list."""
    monkeypatch.setattr(architectures, "ARCHITECTURES", (*architectures.ARCHITECTURES, Toy))


def weights() -> Weights:
    random = np.random.default_rng(11)
    network = architectures.read(CONFIG)
    named = {**dict(network.shapes()), "lm_head.weight": (VOCABULARY, D)}
    return {
        f"model.{name}": random.normal(1 if len(shape) == 1 else 0, 0.3, shape).astype("f4")
        for name, shape in named.items()
    }


def as_gpt2(toy: Weights) -> Weights:
    """The same numbers as nanoGPT would keep them."""
    t = {name.removeprefix("model."): value for name, value in toy.items()}
    same = {
        "wte.weight": t["tokens.weight"],
        "wpe.weight": t["positions.weight"],
        "ln_f.weight": t["norm.weight"],
        "lm_head.weight": t["lm_head.weight"],
    }
    for i in range(BLOCKS):
        at = f"layers.{i}"
        merged = np.concatenate([t[f"{at}.{name}_proj.weight"] for name in ("q", "k", "v")])
        same |= {
            f"h.{i}.ln_1.weight": t[f"{at}.first.weight"],
            f"h.{i}.attn.c_attn.weight": merged,
            f"h.{i}.attn.c_proj.weight": t[f"{at}.o_proj.weight"],
            f"h.{i}.ln_2.weight": t[f"{at}.second.weight"],
            f"h.{i}.mlp.c_fc.weight": t[f"{at}.up.weight"],
            f"h.{i}.mlp.c_proj.weight": t[f"{at}.down.weight"],
        }
    return same


def folder(path: Path, config: dict[str, Any], stored: Weights) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(stored, path / "model.safetensors", {"format": "pt"})
    (path / "tokenizer.json").write_bytes(character_tokenizer(ALPHABET))
    return path


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A checkpoint of the toy."""
    return folder(tmp_path / "toy", CONFIG, weights())


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_the_same_numbers_are_the_same_integers(toy: Path, tmp_path: Path, precision: Any) -> None:
    other = Checkpoint.from_folder(folder(tmp_path / "gpt2", SAME, as_gpt2(weights())))
    checkpoint = Checkpoint.from_folder(toy)
    assert type(checkpoint.architecture) is Toy
    assert type(other.architecture) is GPT2
    (made, integers), (expected, same) = build(checkpoint, precision), build(other, precision)
    assert made.units() == expected.units()
    assert made.tensors == expected.tensors
    assert all((integers[name] == same[name]).all() for name in same)
    assert logit_fraction(checkpoint, precision) == logit_fraction(other, precision)
    # and so are the floats that both are compared with
    ids = np.arange(CONTEXT)
    rows = checkpoint.architecture.hidden(checkpoint.tensors, ids, BLOCKS)
    expected_rows = other.architecture.hidden(other.tensors, ids, BLOCKS)
    np.testing.assert_allclose(rows, expected_rows, rtol=1e-4, atol=1e-4)


def test_a_toy_is_exported_run_proved_and_believed(toy: Path, tmp_path: Path) -> None:
    model, trace, policy = (tmp_path / name for name in ("model", "answer.trace", "policy.toml"))
    done = zkllm("export", toy, "-o", model, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["fidelity"]["relative_error"] < 0.01
    assert zkllm("export", toy, "--check", model).code == 0
    assert zkllm("run", model, "-p", "ab", "-n", "3", "-o", trace).code == 0
    assert zkllm("prove", trace, "--model", model, "-o", tmp_path / "bundle").code == 0
    assert zkllm("policy", "init", model, "-o", policy).code == 0
    done = zkllm("verify", tmp_path / "bundle", "--policy", policy, "--model", model, "--json")
    assert done.code == 0, done.err
    (bundle,) = json.loads(done.out)["bundles"]
    assert [unit["checked"].split()[:2] for unit in bundle["units"]] == [
        ["proved", "(sumcheck,"]
    ] * (2 + 2 * BLOCKS)


def test_without_the_word_in_the_list_nobody_knows_it(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architectures, "ARCHITECTURES", (GPT2,))
    with pytest.raises(UnsupportedModel, match="model_type must be 'gpt2', got 'toy'"):
        Checkpoint.from_folder(toy)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        ({"model_type": "llama"}, {}, "model_type must be 'gpt2' or 'toy', got 'llama'"),
        ({"architectures": ["GPT2Model"]}, {}, "architectures must be Toy's, got"),
        ({"rope_theta": 1e4}, {}, "Toy has no rope_theta, got 10000.0"),
        ({"toy_experts": 2}, {}, "Toy has no toy_experts, got 2"),
        ({"hidden_act": "silu"}, {}, "hidden_act must be one of relu, gelu, got 'silu'"),
        ({"n_embd": D, "hidden_size": ...}, {}, "hidden_size is missing"),
        ({}, {"layers.0.up.bias": (INNER,)}, "unknown tensor layers.0.up.bias"),
        ({}, {"layers.0.up.weight": (D, INNER)}, r"must have shape \[12, 8\], got \[8, 12\]"),
        ({}, {"layers.2.up.weight": (INNER, D)}, "config.json says num_hidden_layers 2"),
        ({}, {"vision.weight": (1,)}, "vision.weight: an eye"),
        ({}, {"lora_A.weight": (1,)}, "lora_A.weight: part of an adapter"),
        ({}, {"wte.weight": (VOCABULARY, D)}, "unknown tensor wte.weight"),
        (
            {},
            {"lm_head.weight": None},
            "lm_head.weight is missing, and config.json does not say tie",
        ),
        ({}, {"tokens.weight": None}, "tensor tokens.weight is missing"),
    ],
)
def test_what_the_toy_does_not_know_is_refused(
    tmp_path: Path, config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    stored = weights()
    for name, shape in change.items():
        stored.pop(f"model.{name}", None)
        if shape is not None:
            stored[f"model.{name}"] = np.zeros(shape, np.float32)
    path = folder(tmp_path / "odd", CONFIG, stored)
    change_json(path / "config.json", **config)
    with pytest.raises(UnsupportedModel, match=message):
        Checkpoint.from_folder(path)

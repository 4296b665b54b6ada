"""State dicts as they lie on disks: the numbers that `transformers` has, or a refusal by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.conftest import Change, Weights, rewrite
from tests.checkpoints.reference import change_json, distance
from zkllm.checkpoints import Checkpoint
from zkllm.errors import UnsupportedModel

WTE, HEAD = "transformer.wte.weight", "lm_head.weight"
MATRIX = re.compile(r"(c_attn|c_proj|c_fc)\.weight$")
MINGPT_2020 = {
    "wte.weight": "tok_emb.weight",
    "lm_head.weight": "head.weight",
    "ln_1.": "ln1.",
    "ln_2.": "ln2.",
    "attn.c_proj.": "attn.proj.",
    "mlp.c_fc.": "mlp.0.",
    "mlp.c_proj.": "mlp.2.",
}


def prefixed(prefix: str) -> Change:
    return lambda w: {prefix + name: value for name, value in w.items()}


def doubled(weights: Weights) -> Weights:
    return {at + name: value for at in ("module.", "_orig_mod.") for name, value in weights.items()}


def bare(weights: Weights) -> Weights:
    return {name.removeprefix("transformer."): value for name, value in weights.items()}


def linear(weights: Weights) -> Weights:
    """As `nn.Linear` keeps them."""
    return {n: v.T.copy() if MATRIX.search(n) else v for n, v in weights.items()}


def nanogpt(weights: Weights) -> Weights:
    """Tied, saved under both names, with the mask that it has without flash attention."""
    mask = np.tri(12, dtype=np.float32)[None, None]
    masks = {f"transformer.h.{i}.attn.bias": mask for i in range(2)}
    return linear(weights) | {HEAD: weights[WTE].copy()} | masks


def mingpt_2020(weights: Weights) -> Weights:
    """Query, key and value apart, and names of its own."""
    result: Weights = {"head.weight": weights[WTE] + 0}
    for name, value in bare(linear(weights)).items():
        name = re.sub(r"^h\.", "blocks.", name)
        if name == "wpe.weight":
            result["pos_emb"] = value[None]
            continue
        if "attn.c_attn." in name:
            for part, piece in zip(("query", "key", "value"), np.split(value, 3), strict=True):
                result[name.replace("c_attn", part)] = piece.copy()
            continue
        for new, old in MINGPT_2020.items():
            name = name.replace(new, old)
        result[name] = value
    for i in range(2):
        result[f"blocks.{i}.attn.mask"] = np.tri(12, dtype=np.float32)[None, None]
    return result


def read(folder: Path, change: Change, **config: Any) -> Checkpoint:
    rewrite(folder, change)
    change_json(folder / "config.json", **config)
    return Checkpoint.from_folder(folder)


def same(left: Checkpoint, right: Checkpoint) -> bool:
    return left.tensors.keys() == right.tensors.keys() and all(
        np.array_equal(left.tensors[name], right.tensors[name]) for name in left.tensors
    )


@pytest.mark.parametrize(
    "change",
    [
        bare,
        *map(prefixed, ("_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.")),
        lambda w: prefixed("module.")(bare(w)),
        lambda w: w | {HEAD: w[WTE].copy()},
        lambda w: {(HEAD if n == WTE else n): v for n, v in w.items()},  # shared, stored once
        nanogpt,
        lambda w: prefixed("_orig_mod.")(nanogpt(w)),
        linear,
        mingpt_2020,
        lambda w: prefixed("module.")(mingpt_2020(w)),
    ],
)
def test_layouts_of_the_same_numbers(
    folder: Path, tiny_checkpoint: Checkpoint, change: Change
) -> None:
    assert same(read(folder, change), tiny_checkpoint)


def test_the_twin_of_the_plain_layout_is_the_model_of_transformers(
    folder: Path, tiny_checkpoint: Checkpoint
) -> None:
    assert distance(folder, tiny_checkpoint) < 1e-4


def own_head(weights: Weights) -> None:
    weights[HEAD] = weights[WTE][::-1].copy()


@pytest.mark.parametrize(
    ("change", "config"),
    [
        (lambda w: None, {"tie_word_embeddings": True}),
        (own_head, {"tie_word_embeddings": False}),
        (own_head, {}),
        (lambda w: {(HEAD if n == WTE else n): v for n, v in w.items()}, {}),
        (lambda w: w | {HEAD: w[WTE].copy()}, {"tie_word_embeddings": False}),
    ],
)
def test_the_head_is_the_one_of_transformers(
    folder: Path, change: Change, config: dict[str, Any]
) -> None:
    assert distance(folder, read(folder, change, **config)) < 1e-4


def test_a_head_that_nobody_announced_is_noted(folder: Path) -> None:
    assert read(folder, lambda w: None).notes == ()
    (note,) = read(folder, own_head).notes
    assert "lm_head.weight is not wte.weight" in note
    assert read(folder, own_head, tie_word_embeddings=False).notes == ()


def without_biases(weights: Weights) -> Weights:
    return {n: v for n, v in weights.items() if not n.endswith(".bias")}


def test_a_model_trained_without_biases(folder: Path) -> None:
    zeros = read(folder, lambda w: {n: 0 * v if ".bias" in n else v for n, v in w.items()})
    assert distance(folder, zeros) < 1e-4
    rewrite(folder, without_biases)
    assert same(read(folder, lambda w: None, bias=False), zeros)
    assert same(read(folder, nanogpt), zeros)  # nanoGPT's masks are no biases
    assert same(read(folder, lambda w: None, bias=...), zeros)


def mixed(weights: Weights) -> Weights:
    return {("module." if ".h.1." in name else "") + name: v for name, v in weights.items()}


def turned(*names: str) -> Change:
    return lambda w: {n: v.T.copy() if n.endswith(names) else v for n, v in w.items()}


def masked(value: np.ndarray[Any, Any], name: str = "bias") -> Change:
    return lambda w: w | {f"transformer.h.1.attn.{name}": value}


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (mixed, {}, r"every name must begin alike, .* with module\."),
        (
            doubled,
            {},
            "every name must begin alike",
        ),
        (prefixed("model."), {}, r"unknown tensor model\.transformer"),
        (
            lambda w: {n.replace("h.1.", "h.1._orig_mod."): v for n, v in w.items()},
            {},
            "unknown tensor h.1._orig_mod.*torch.compile",
        ),
        (turned("h.1.attn.c_attn.weight"), {}, r"h.1.attn.c_attn.weight must have shape \[32, 96"),
        (turned("h.0.attn.c_attn.weight"), {}, r"h.0.mlp.c_fc.weight must have shape \[128, 32"),
        (turned("mlp.c_fc.weight", "mlp.c_proj.weight"), {}, "h.0.mlp.c_fc.weight must have shape"),
        (linear, {"activation_function": ...}, "activation_function is missing.*nn.Linear"),
        (mingpt_2020, {"activation_function": ...}, "activation_function is missing"),
        (without_biases, {}, "h.0.ln_1.bias is missing"),
        (lambda w: linear(without_biases(w)), {"bias": True}, "h.0.ln_1.bias is missing"),
        (lambda w: None, {"bias": False}, "bias is false, but there is h.0"),
        (
            lambda w: {n: v for n, v in linear(w).items() if not n.endswith("c_proj.bias")},
            {},
            "h.0.attn.c_proj.bias is missing",
        ),
        (own_head, {"tie_word_embeddings": True}, "lm_head.weight is not wte.weight, but"),
        (lambda w: None, {"tie_word_embeddings": False}, "tensor lm_head.weight is missing"),
        (
            lambda w: {(HEAD if n == WTE else n): v for n, v in w.items()},
            {"tie_word_embeddings": False},
            "tensor wte.weight is missing",
        ),
        (lambda w: w | {"score.weight": w[WTE][:2].copy()}, {}, "score.weight: a head that does"),
        (lambda w: w | {"lm_head.bias": w[WTE][:, 0].copy()}, {}, "lm_head.bias: GPT-2's head"),
        (
            lambda w: w | {"multiple_choice_head.summary.weight": w[WTE][:1].copy()},
            {},
            "multiple_choice_head.summary.weight: a second head",
        ),
        (
            lambda w: w | {"transformer.h.0.attn.c_attn.lora_A.weight": w[WTE][:2].copy()},
            {},
            "lora_A.weight: part of an adapter",
        ),
        (
            lambda w: w | {"transformer.h.0.crossattention.c_attn.weight": w[WTE].copy()},
            {},
            "part of cross-attention",
        ),
        (
            lambda w: w | {"transformer.h.0.mlp.c_fc.qweight": w[WTE].copy()},
            {},
            "part of quantised weights",
        ),
        (lambda w: None, {"n_layer": 1}, "h.1.* config.json says n_layer 1"),
        (lambda w: None, {"n_layer": 3}, "h.2.ln_1.weight is missing"),
        (lambda w: None, {"n_layer": 1024}, "h.2.ln_1.weight is missing"),
        (lambda w: w | {"transformer.h.00.ln_1.bias": w[WTE][0].copy()}, {}, "unknown tensor h.00"),
        (masked(np.ones((1, 1, 12, 12), np.uint8)), {}, "h.1.attn.bias is no causal mask"),
        (masked(np.tri(12, dtype=np.float32)[0]), {}, "h.1.attn.bias is no causal mask"),
        (masked(np.zeros((), np.float32), "masked_bias"), {}, "masked_bias is no causal mask"),
        (
            lambda w: {n: v for n, v in mingpt_2020(w).items() if "1.attn.key.bias" not in n},
            {},
            "h.1.attn.c_attn.bias must come from query, key and value",
        ),
        (
            lambda w: w | {WTE: np.where(w[WTE] == w[WTE][3, 3], np.float64(2.0**128), w[WTE])},
            {},
            "wte.weight must stay below 2.128",
        ),
    ],
)
def test_what_is_ambiguous_or_foreign_is_refused(
    folder: Path, change: Change, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read(folder, change, **config)

"""Random checkpoints with the statistics of trained GPT-2: what bounds and costs depend on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers

from zkllm.architectures.config import Keys
from zkllm.architectures.gpt2 import GPT2
from zkllm.bundle import Bundle
from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.exact.graph import compile_units
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification
from zkllm.operations.bounds import uniform
from zkllm.operations.norm.draft import NormDraft
from zkllm.operations.precision import PRECISIONS
from zkllm.running import run_fragment

Weights = dict[str, npt.NDArray[np.float32]]

OUTLIERS = (3, 17)
"""Channels of the residual stream that carry values a hundred times larger, as GPT-2's do."""

GPT2_SMALL: dict[str, Any] = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
    "eos_token_id": 50256,
}
"""`config.json` of GPT-2 small."""

HEAD_SIZE = 64
"""Of every GPT-2."""


def block_config(width: int) -> dict[str, Any]:
    """One block of GPT-2's form; nothing but a fragment can be made of it."""
    shape = {"n_embd": width, "n_head": width // HEAD_SIZE, "n_layer": 1}
    return GPT2_SMALL | shape | {"vocab_size": 64}


def parts(config: dict[str, Any], seed: int) -> Iterator[Weights]:
    """Random weights with the spread of trained GPT-2: all but the blocks', then block by block.

    Fresh weights (std 0.02) would hide what makes bounds grow: c_fc at 0.13, the MLP's c_proj at
    0.09, gains away from 1, and `OUTLIERS` in the embeddings and in what is added to the stream.
    """
    random = np.random.default_rng(seed)
    d = config["n_embd"]
    inner = config.get("n_inner") or 4 * d

    def normal(std: float, *shape: int) -> npt.NDArray[np.float32]:
        return random.normal(0, std, shape).astype(np.float32)

    outer = {
        "wte.weight": normal(0.14, config["vocab_size"], d),
        "wpe.weight": normal(0.12, config["n_positions"], d),
        "ln_f.weight": 1.3 + normal(0.2, d),
        "ln_f.bias": normal(0.1, d),
    }
    outer["wpe.weight"][:, list(OUTLIERS)] *= 100
    yield outer
    for block in range(config["n_layer"]):
        layers = {
            "ln_1.weight": 0.3 + normal(0.1, d),
            "ln_1.bias": normal(0.05, d),
            "attn.c_attn.weight": normal(0.2, d, 3 * d),
            "attn.c_attn.bias": normal(0.2, 3 * d),
            "attn.c_proj.weight": normal(0.14, d, d),
            "attn.c_proj.bias": normal(0.2, d),
            "ln_2.weight": 0.5 + normal(0.1, d),
            "ln_2.bias": normal(0.05, d),
            "mlp.c_fc.weight": normal(0.13, d, inner),
            "mlp.c_fc.bias": normal(0.1, inner),
            "mlp.c_proj.weight": normal(0.09, inner, d),
            "mlp.c_proj.bias": normal(0.1, d),
        }
        layers["mlp.c_proj.weight"][:, list(OUTLIERS)] *= 10
        yield {f"h.{block}.{name}": value for name, value in layers.items()}


def trained_statistics(config: dict[str, Any], seed: int) -> Weights:
    """All `parts` at once, by Hugging Face's names."""
    weights = {name: value for part in parts(config, seed) for name, value in part.items()}
    return {f"transformer.{name}": value.astype(np.float32) for name, value in weights.items()}


def word_tokenizer(words: int) -> bytes:
    """tokenizer.json in which token i is spelled `wi`."""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return str(tokenizer.to_str()).encode()


def exact_model(
    config: dict[str, Any],
    folder: Path,
    *,
    blocks: tuple[int, int] | None = None,
    preset: str = "wide",
) -> ExactModel:
    """An exact model with random weights, compiled in `folder`; nothing measures its fidelity."""
    weights = [weights for part in parts(config, 0) for weights in part.items()]
    tokenizer = word_tokenizer(config["vocab_size"]) if blocks is None else None
    network = network_of(config)
    checkpoint = checkpoint_of(network, dict(weights), tokenizer, stop_ids(config))
    specification, tensors = build(checkpoint, PRECISIONS[preset], blocks)
    model = save(specification, tensors, tokenizer, folder)
    compile_units(model, folder)
    return model


def stop_ids(config: dict[str, Any]) -> tuple[int, ...]:
    """The one that this `config.json` names, if it is a token."""
    end = config["eos_token_id"]
    return () if end is None or end >= config["vocab_size"] else (end,)


def network_of(config: dict[str, Any]) -> GPT2:
    """The GPT-2 of this `config.json`."""
    return GPT2.read(Keys(config))


def checkpoint_of(
    network: GPT2, weights: Weights, tokenizer: bytes | None, stop_ids: tuple[int, ...] = ()
) -> Checkpoint:
    """A checkpoint whose head is its embedding."""
    tensors = {name: value.astype(np.float64) for name, value in weights.items()}
    tensors["lm_head.weight"] = tensors["wte.weight"]
    return Checkpoint(network, tensors, tokenizer, sha256(b"benchmark"), stop_ids)


def specification_of(config: dict[str, Any]) -> Specification:
    """What `exact_model` of the preset `wide` specifies, with one block in memory at a time."""
    whole, precision, source = network_of(config), PRECISIONS["wide"], parts(config, 0)
    outer = next(source)
    # embedding and head, around a block that is as small as can be
    (_, smallest) = parts(config | {"vocab_size": 1, "n_layer": 1, "n_inner": 1}, 0)
    around = replace(whole, inner=1, blocks=1)
    tokenizer = word_tokenizer(whole.vocabulary)
    checkpoint = checkpoint_of(around, outer | smallest, tokenizer, stop_ids(config))
    text, _ = build(checkpoint, precision)
    assert text.head is not None  # noqa: S101
    few = {name: value[:1] for name, value in outer.items()}
    bound, units, tensors = text.input, [], dict(text.tensors)
    for index, block in enumerate(source):
        checkpoint = checkpoint_of(whole, few | block, None)
        fragment, _ = build(checkpoint, precision, (index, index + 1), input_bound=bound)
        units.append((fragment.attention[0], fragment.mlp[0]))
        tensors |= fragment.tensors
        bound = fragment.mlp[0].output
    attention, mlp = zip(*units, strict=True)
    scale = whole.width, whole.epsilon, precision.fractions.residual, precision.fractions.norm
    draft, rows = NormDraft("norm", ("x",), "normal", *scale), [uniform(whole.width, bound)]
    norm, _ = draft.quantise("head", rows, {}).prove("head", rows, dict[str, Any]().__getitem__)
    architecture = replace(text.architecture, inner=whole.inner, blocks=whole.blocks)
    head = replace(text.head, norm=norm.numbers)
    specification = replace(
        text, architecture=architecture, attention=attention, mlp=mlp, head=head, tensors=tensors
    )
    specification.check()
    return specification


def random_rows(model: ExactModel, tokens: int) -> npt.NDArray[np.int64]:
    """Rows of a residual stream with values between -4 and 4, or within a smaller bound."""
    specification = model.specification
    largest = min(1 << (specification.fractions.residual + 2), specification.input)
    shape = tokens, specification.architecture.width
    return np.random.default_rng(0).integers(-largest, largest, shape)


def random_run(model: ExactModel, tokens: int) -> Bundle:
    """The trace of a fragment on random rows."""
    return run_fragment(model, random_rows(model, tokens), device="cpu")

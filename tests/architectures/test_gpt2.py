"""GPT-2's config.json: what is read, and refusals that name the key and its value."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from zkllm.architectures import read
from zkllm.architectures.gpt2 import GPT2
from zkllm.checkpoints import Checkpoint
from zkllm.errors import UnsupportedModel
from zkllm.operations.head.draft import HeadDraft
from zkllm.operations.precision import PRECISIONS

CONFIG: dict[str, Any] = {
    "n_embd": 32,
    "n_head": 2,
    "n_layer": 3,
    "n_positions": 12,
    "vocab_size": 29,
}


def test_absent_keys_mean_gpt2() -> None:
    assert read(CONFIG) == GPT2(
        width=32,
        heads=2,
        inner=128,
        blocks=3,
        vocabulary=29,
        context=12,
        activation="gelu_new",
        epsilon=Fraction(1, 100_000),
        scale_scores=True,
    )


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("n_inner", 40, "inner", 40),
        ("n_inner", None, "inner", 128),
        ("layer_norm_epsilon", 1e-12, "epsilon", Fraction(1, 10**12)),
        ("layer_norm_epsilon", 0.1, "epsilon", Fraction(1, 10)),  # not the float nearest to it
        ("activation_function", "gelu_pytorch_tanh", "activation", "gelu_new"),
        ("activation_function", "gelu_python_tanh", "activation", "gelu_new"),
        ("activation_function", "gelu_fast", "activation", "gelu_new"),
        ("activation_function", "gelu_accurate", "activation", "gelu_new"),
        ("activation_function", "gelu", "activation", "gelu"),
        ("activation_function", "gelu_python", "activation", "gelu"),
        ("activation_function", "relu", "activation", "relu"),
        ("scale_attn_weights", False, "scale_scores", False),
    ],
)
def test_keys_are_read(key: str, value: object, field: str, expected: object) -> None:
    assert getattr(read(CONFIG | {key: value}), field) == expected


def test_n_ctx_is_an_old_name_of_n_positions() -> None:
    old = {key: value for key, value in CONFIG.items() if key != "n_positions"} | {"n_ctx": 7}
    assert read(old).context == 7
    assert read(CONFIG | {"n_ctx": 7}).context == 12


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "llama", "model_type must be 'gpt2', got 'llama'"),
        ("scale_attn_by_inverse_layer_idx", True, "must be False, got True"),
        ("add_cross_attention", True, "add_cross_attention must be False, got True"),
        ("is_encoder_decoder", True, "is_encoder_decoder must be False, got True"),
        ("scale_attn_weights", "false", "scale_attn_weights must be true or false, got 'false'"),
        ("scale_attn_weights", 0, "scale_attn_weights must be true or false, got 0"),
        ("scale_attn_weights", None, "scale_attn_weights must be true or false, got None"),
        ("scale_attn_by_inverse_layer_idx", 0, "must be true or false, got 0"),
        ("add_cross_attention", "no", "add_cross_attention must be true or false, got 'no'"),
        ("reorder_and_upcast_attn", 1, "reorder_and_upcast_attn must be true or false, got 1"),
        ("tie_word_embeddings", "false", "tie_word_embeddings must be true or false, got 'false'"),
        ("bias", 0, "bias must be true or false, got 0"),
        ("model_type", None, "model_type must be 'gpt2', got None"),
        ("model_type", "GPT2", "model_type must be 'gpt2', got 'GPT2'"),
        ("architectures", ["LlamaForCausalLM"], "architectures must be GPT-2's, .*'LlamaFor"),
        ("architectures", "GPT2LMHeadModel", "architectures must be GPT-2's, got 'GPT2LMHead"),
        ("quantization_config", {"bits": 4}, "GPT-2 has no quantization_config, got"),
        ("rope_theta", 10000.0, "GPT-2 has no rope_theta, got 10000.0"),
        ("position_embedding_type", "rotary", "no position_embedding_type, got 'rotary'"),
        ("pruned_heads", {"0": [1]}, "no pruned_heads, got"),
        ("auto_map", {"AutoModel": "x.Y"}, "no auto_map, got"),
        ("hidden_size", 64, "n_embd and hidden_size are one number, got 32 and 64"),
        ("num_hidden_layers", 3.0, "num_hidden_layers must be a positive integer, got 3.0"),
        ("n_embd", 0, "n_embd must be a positive integer, got 0"),
        ("n_embd", 32.0, "n_embd must be a positive integer, got 32.0"),
        ("n_embd", 1 << 24, "n_embd must be at most 65536, got 16777216"),
        ("n_head", 1 << 11, "n_head must be at most 1024, got 2048"),
        ("n_layer", 1025, "n_layer must be at most 1024, got 1025"),
        ("n_positions", 1 << 18, "n_positions must be at most 131072, got 262144"),
        ("vocab_size", 1 << 21, "vocab_size must be at most 1048576, got 2097152"),
        ("n_inner", 1 << 70, "n_inner must be at most 262144, got 1180591620717411303424"),
        ("n_head", True, "n_head must be a positive integer, got True"),
        ("n_head", 3, "n_embd must be a multiple of n_head, got 32 and 3"),
        ("n_layer", -1, "n_layer must be a positive integer, got -1"),
        ("n_positions", "12", "n_positions must be a positive integer, got '12'"),
        ("vocab_size", None, "vocab_size must be a positive integer, got None"),
        ("n_inner", 0, "n_inner must be a positive integer, got 0"),
        ("activation_function", "silu", "activation_function must be one of .*, got 'silu'"),
        ("activation_function", "quick_gelu", "must be one of .*, got 'quick_gelu'"),
        ("activation_function", "gelu_10", "must be one of .*, got 'gelu_10'"),
        ("activation_function", None, "activation_function must be one of .*, got None"),
        ("activation_function", ["gelu"], "activation_function must be one of .*, got .'gelu'"),
        ("layer_norm_epsilon", 0, "layer_norm_epsilon must lie between 0 and 1, got 0"),
        ("layer_norm_epsilon", 1.0, "layer_norm_epsilon must lie between 0 and 1, got 1.0"),
        ("layer_norm_epsilon", True, "layer_norm_epsilon must lie between 0 and 1, got True"),
        ("layer_norm_epsilon", "1e-5", "layer_norm_epsilon must lie between 0 and 1, got '1e-5'"),
        ("layer_norm_epsilon", float("nan"), "must lie between 0 and 1, got nan"),
    ],
)
def test_refusals_name_key_and_value(key: str, value: object, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"^config.json: .*{message}"):
        read(CONFIG | {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", ["GPT2LMHeadModel"]),
        ("architectures", None),
        ("attn_pdrop", 0.1),
        ("position_embedding_type", "absolute"),
        ("pruned_heads", {}),
        ("quantization_config", None),
        ("reorder_and_upcast_attn", True),
        ("task_specific_params", {"text-generation": {"do_sample": True, "max_length": 50}}),
        ("torch_dtype", "float16"),
        ("hidden_size", 32),
        ("n_ctx", 7),
        ("something_of_somebody", "else"),
    ],
)
def test_keys_that_change_nothing(key: str, value: object) -> None:
    assert read(CONFIG | {key: value}) == read(CONFIG)


@pytest.mark.parametrize(
    "names",
    [
        {
            "n_embd": "hidden_size",
            "n_head": "num_attention_heads",
            "n_layer": "num_hidden_layers",
            "n_positions": "max_position_embeddings",
        },
        {"n_positions": "block_size"},
    ],
)
def test_sizes_have_other_names(names: dict[str, str]) -> None:
    renamed = {names.get(key, key): value for key, value in CONFIG.items()}
    assert read(renamed) == read(CONFIG)


@pytest.mark.parametrize("key", CONFIG)
def test_a_missing_size_is_named(key: str) -> None:
    rest = {name: value for name, value in CONFIG.items() if name != key}
    with pytest.raises(UnsupportedModel, match=f"^config.json: {key} is missing"):
        read(rest)


def test_the_weight_of_the_head_is_that_of_its_draft(tiny_checkpoint: Checkpoint) -> None:
    network, weights = tiny_checkpoint.architecture, tiny_checkpoint.tensors
    *_, draft = network.head(weights, PRECISIONS["wide"]).drafts
    assert isinstance(draft, HeadDraft)
    assert (network.head_weight(weights) == draft.weight).all()

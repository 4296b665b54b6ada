"""What config.json says: the computation, and how the weights are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from zkllm.checkpoints.generation import stop_ids
from zkllm.errors import UnsupportedModel
from zkllm.exact.limits import MAX_SIZES
from zkllm.exact.specification import Activation

_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu_new": "gelu_new",
    # the same function, written in other ways or with more digits of √(2/π)
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_accurate": "gelu_new",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
}
_ARCHITECTURES = (
    "GPT2LMHeadModel",
    "GPT2Model",
    "GPT2DoubleHeadsModel",
    "TFGPT2LMHeadModel",
    "FlaxGPT2LMHeadModel",
    "GPT",  # nanoGPT's and minGPT's class
)
_FLAGS: Mapping[str, bool] = {
    "add_cross_attention": False,
    "bias": True,
    "is_encoder_decoder": False,
    "reorder_and_upcast_attn": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}
"""Keys that are true or false, with what their absence means."""
_UNSUPPORTED = (
    "add_cross_attention",
    "is_encoder_decoder",
    "scale_attn_by_inverse_layer_idx",
)
_FOREIGN: Mapping[str, tuple[Any, ...]] = {
    key: (None, False, 0, *neutral)
    for key, neutral in {
        "alibi": (),
        "attention_types": ([],),
        "attn_logit_softcapping": (),
        "auto_map": ({},),
        "compression_config": ({},),
        "embedding_multiplier": (1,),
        "final_logit_softcapping": (),
        "hidden_act": tuple(_ACTIVATIONS),
        "logits_scaling": (1,),
        "multi_query": (),
        "mup_embeddings_scale": (1,),
        "mup_output_alpha": (1,),
        "mup_scale_qk_dot_by_d": (),
        "mup_width_scale": (1,),
        "num_experts": (),
        "num_local_experts": (),
        "parallel_attn": (),
        "position_embedding_type": ("absolute", "learned"),
        "pruned_heads": ({},),
        "qk_layernorm": (),
        "quantization_config": ({},),
        "rope_parameters": ({},),
        "rope_scaling": ({},),
        "rope_theta": (),
        "rotary": (),
        "rotary_dim": (),
        "rotary_pct": (),
        "sliding_window": (),
        "use_parallel_residual": (),
    }.items()
}
"""Keys of other networks, with the values at which they say nothing: GPT-2 has none of them."""
_SIZES: Mapping[str, tuple[str, ...]] = {
    "n_embd": ("hidden_size",),
    "n_head": ("num_attention_heads",),
    "n_layer": ("num_hidden_layers",),
    "n_positions": ("max_position_embeddings",),
    "vocab_size": (),
    "n_inner": (),
}
"""Names of sizes, each with its other name in `transformers`."""
_FIELDS: Mapping[str, str] = {
    "n_embd": "width",
    "n_head": "heads",
    "n_layer": "blocks",
    "n_positions": "context",
    "vocab_size": "vocabulary",
    "n_inner": "inner",
}
"""What an exact model calls them, for its caps."""
_OLD_CONTEXT = ("n_ctx", "block_size")
"""Names of n_positions before it had one, and in nanoGPT."""


@dataclass(frozen=True, slots=True)
class Config:
    """The part of `config.json` that defines the computation."""

    width: int
    heads: int
    inner: int
    blocks: int
    vocabulary: int
    context: int
    activation: Activation
    epsilon: Fraction
    """ε of every LayerNorm, the exact value of the decimal in the file."""
    scale_scores: bool
    """Whether scores are divided by √d_head."""
    stop_ids: tuple[int, ...]

    @classmethod
    def from_json(
        cls, config: Mapping[str, Any], generation: Mapping[str, Any] | None = None
    ) -> Config:
        """`generation` is the content of generation_config.json, if there is one.

        Raises `UnsupportedModel` that names the key and its value.
        """
        _require_gpt2(config)
        width = _size(config, "n_embd")
        heads = _size(config, "n_head")
        if width % heads:
            raise UnsupportedModel(
                f"config.json: n_embd must be a multiple of n_head, got {width} and {heads}"
            )
        activation = config.get("activation_function", "gelu_new")
        if not isinstance(activation, str) or activation not in _ACTIVATIONS:
            names = ", ".join(_ACTIVATIONS)
            raise UnsupportedModel(
                f"config.json: activation_function must be one of {names}, got {activation!r:.40}"
            )
        vocabulary = _size(config, "vocab_size")
        return cls(
            width=width,
            heads=heads,
            inner=4 * width if config.get("n_inner") is None else _size(config, "n_inner"),
            blocks=_size(config, "n_layer"),
            vocabulary=vocabulary,
            context=_size(config, "n_positions"),
            activation=_ACTIVATIONS[activation],
            epsilon=_epsilon(config.get("layer_norm_epsilon", 1e-5)),
            scale_scores=_flag(config, "scale_attn_weights"),
            stop_ids=stop_ids(config, generation, vocabulary),
        )


@dataclass(frozen=True, slots=True)
class Storage:
    """The part of `config.json` that says which tensors there are; none where it is silent."""

    tied: bool | None
    """Whether the head is the token embedding."""
    biases: bool | None
    """Whether linear layers and LayerNorms have biases."""
    activation_named: bool

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Storage:
        """Raises `UnsupportedModel` for a flag that is neither true nor false."""
        return cls(
            tied=_flag(config, "tie_word_embeddings") if "tie_word_embeddings" in config else None,
            biases=_flag(config, "bias") if "bias" in config else None,
            activation_named="activation_function" in config,
        )


def _require_gpt2(config: Mapping[str, Any]) -> None:
    kind = config.get("model_type", "gpt2")
    if kind != "gpt2":
        raise UnsupportedModel(f"config.json: model_type must be 'gpt2', got {kind!r:.60}")
    names = config.get("architectures")
    known = isinstance(names, list) and all(name in _ARCHITECTURES for name in names)
    if names is not None and not known:
        raise UnsupportedModel(f"config.json: architectures must be GPT-2's, got {names!r:.60}")
    for key in _FLAGS:
        if _flag(config, key) and key in _UNSUPPORTED:
            raise UnsupportedModel(f"config.json: {key} must be False, got True")
    for key, neutral in _FOREIGN.items():
        if key in config and config[key] not in neutral:
            raise UnsupportedModel(
                f"config.json: GPT-2 has no {key}, got {config[key]!r:.60}",
                hint="remove the key if the model was trained without it",
            )


def _flag(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key, _FLAGS[key])
    if not isinstance(value, bool):
        raise UnsupportedModel(f"config.json: {key} must be true or false, got {value!r:.40}")
    return value


def _size(config: Mapping[str, Any], key: str) -> int:
    names = [name for name in (key, *_SIZES[key]) if name in config]
    if not names and key == "n_positions":
        names = [name for name in _OLD_CONTEXT if name in config][:1]
    if not names:
        raise UnsupportedModel(f"config.json: {key} is missing")
    for name in names:
        value = config[name]
        if type(value) is not int or value < 1:
            raise UnsupportedModel(
                f"config.json: {name} must be a positive integer, got {value!r:.40}"
            )
        if value > MAX_SIZES[_FIELDS[key]]:
            raise UnsupportedModel(
                f"config.json: {name} must be at most {MAX_SIZES[_FIELDS[key]]}, got {value!r:.40}"
            )
    size: int = config[names[0]]
    if config[names[-1]] != size:
        raise UnsupportedModel(
            f"config.json: {names[0]} and {names[-1]} are one number, "
            f"got {size} and {config[names[-1]]}"
        )
    return size


def _epsilon(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UnsupportedModel(
            f"config.json: layer_norm_epsilon must lie between 0 and 1, got {value!r:.40}"
        )
    return Fraction(repr(value))

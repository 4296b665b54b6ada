"""Checkpoints: float weights in Hugging Face's GPT-2 layout, from a folder or a torch module."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zkllm.digests import Digest, sha256, sha256_file, tagged
from zkllm.errors import InputError, UnsupportedModel
from zkllm.exact.specification import Activation
from zkllm.files import read_limited

FloatArray = npt.NDArray[np.float64]

_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu": "gelu",
    "relu": "relu",
}
_REQUIRED_VALUES: Mapping[str, tuple[Any, Any]] = {
    # key: (the only value that is supported, what its absence means)
    "model_type": ("gpt2", "gpt2"),
    "scale_attn_by_inverse_layer_idx": (False, False),
    "add_cross_attention": (False, False),
}
_MAX_CONFIG = 1 << 20
MAX_TOKENIZER = 64 << 20


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
    def from_json(cls, config: Mapping[str, Any]) -> Config:
        """Raises `UnsupportedModel` that names the key and its value."""
        for key, (wanted, default) in _REQUIRED_VALUES.items():
            if config.get(key, default) != wanted:
                raise UnsupportedModel(
                    f"config.json: {key} must be {wanted!r}, got {config[key]!r:.60}"
                )
        width = _positive(config, "n_embd")
        heads = _positive(config, "n_head")
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
        vocabulary = _positive(config, "vocab_size")
        end = config.get("eos_token_id")
        ends = end if isinstance(end, list) else [end]
        stop_ids = tuple(i for i in ends if type(i) is int and 0 <= i < vocabulary)
        return cls(
            width=width,
            heads=heads,
            inner=4 * width if config.get("n_inner") is None else _positive(config, "n_inner"),
            blocks=_positive(config, "n_layer"),
            vocabulary=vocabulary,
            context=_positive(config, "n_positions", "n_ctx"),
            activation=_ACTIVATIONS[activation],
            epsilon=_epsilon(config.get("layer_norm_epsilon", 1e-5)),
            scale_scores=bool(config.get("scale_attn_weights", True)),
            stop_ids=stop_ids,
        )


def _positive(config: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        if key in config:
            value = config[key]
            if type(value) is not int or not 0 < value < 1 << 24:
                raise UnsupportedModel(
                    f"config.json: {key} must be a positive integer, got {value!r:.40}"
                )
            return value
    raise UnsupportedModel(f"config.json: {keys[0]} is missing")


def _epsilon(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UnsupportedModel(
            f"config.json: layer_norm_epsilon must lie between 0 and 1, got {value!r:.40}"
        )
    return Fraction(repr(value))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Float weights with their configuration and tokenizer."""

    config: Config
    tensors: Mapping[str, FloatArray]
    """By their names in Hugging Face's layout, without the prefix `transformer.`."""
    tokenizer: bytes | None
    """tokenizer.json as it is."""
    digest: Digest
    """Of the source: files for a folder, tensors for a torch module."""

    @classmethod
    def from_folder(cls, folder: Path) -> Checkpoint:
        """Read config.json, model.safetensors and, if present, tokenizer.json.

        Raises `InputError` for a missing or corrupt file, `UnsupportedModel` for a network that
        is not GPT-2's.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a checkpoint folder, found none")
        try:
            config = json.loads(read_limited(_part(folder, "config.json"), _MAX_CONFIG))
        except (ValueError, RecursionError) as err:
            raise InputError(f"{folder}/config.json: not JSON: {err}") from err
        if not isinstance(config, dict):
            raise InputError(f"{folder}/config.json: expected an object")
        weights = _part(folder, "model.safetensors")
        tensors = _load_safetensors(weights)
        path = folder / "tokenizer.json"
        tokenizer = read_limited(path, MAX_TOKENIZER) if path.is_file() else None
        digest = tagged(
            "zkllm/checkpoint/v1",
            "\n".join(
                [
                    sha256(read_limited(folder / "config.json", _MAX_CONFIG)),
                    sha256_file(weights),
                    "" if tokenizer is None else sha256(tokenizer),
                ]
            ).encode(),
        )
        return cls._checked(Config.from_json(config), tensors, tokenizer, digest)

    @classmethod
    def from_torch(cls, module: Any, tokenizer: bytes | None = None) -> Checkpoint:
        """A torch module with GPT-2's state dict and a `config` (an object, or a mapping).

        `models/gpt2.py` and Hugging Face's `GPT2LMHeadModel` are such modules. Raises
        `UnsupportedModel` as `from_folder` does.
        """
        source = getattr(module, "config", None)
        if source is None:
            raise UnsupportedModel("the torch module has no attribute config")
        fields = source if isinstance(source, Mapping) else _config_fields(source)
        tensors = {
            name: value.detach().cpu().double().numpy()
            for name, value in module.state_dict().items()
        }
        pieces: list[bytes] = [json.dumps(dict(fields), sort_keys=True, default=str).encode()]
        for name in sorted(tensors):
            pieces += [name.encode(), tensors[name].astype("<f8").tobytes()]
        digest = tagged("zkllm/checkpoint-torch/v1", *pieces)
        return cls._checked(Config.from_json(fields), tensors, tokenizer, digest)

    @classmethod
    def _checked(
        cls,
        config: Config,
        tensors: Mapping[str, FloatArray],
        tokenizer: bytes | None,
        digest: Digest,
    ) -> Checkpoint:
        named: dict[str, FloatArray] = {}
        for full, value in tensors.items():
            name = full.removeprefix("transformer.")
            if name in named:
                raise UnsupportedModel(f"model.safetensors: {name:.60} is there twice")
            named[name] = value
        expected = _shapes(config)
        for name, shape in expected.items():
            if name not in named:
                raise UnsupportedModel(f"model.safetensors: tensor {name} is missing")
            if named[name].shape != shape:
                raise UnsupportedModel(
                    f"model.safetensors: {name} must have shape {list(shape)}, "
                    f"got {list(named[name].shape)}"
                )
            if not np.isfinite(named[name]).all():
                raise UnsupportedModel(f"model.safetensors: {name} holds NaN or infinity")
        head = named.get("lm_head.weight", named["wte.weight"])
        if head.shape != expected["wte.weight"]:
            raise UnsupportedModel(f"model.safetensors: lm_head.weight has shape {head.shape}")
        for name in named:
            # Old checkpoints carry the causal mask as buffers: constants, not weights.
            if name not in expected and not re.fullmatch(
                r"lm_head\.weight|h\.\d+\.attn\.(bias|masked_bias)", name
            ):
                raise UnsupportedModel(f"model.safetensors: unknown tensor {name:.60}")
        kept = {name: named[name] for name in expected} | {"lm_head.weight": head}
        return cls(config, kept, tokenizer, digest)


def _config_fields(source: Any) -> Mapping[str, Any]:
    if hasattr(source, "to_dict"):
        return dict(source.to_dict())
    values = {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
    # A method is no setting, and its text holds an address that no two runs share.
    return {name: value for name, value in values.items() if not callable(value)}


def _part(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise InputError(
            f"{folder}: expected {name}, found none",
            hint="a checkpoint is config.json, model.safetensors and tokenizer.json",
        )
    return path


def _load_safetensors(path: Path) -> dict[str, FloatArray]:
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, FloatArray] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                kind = file.get_slice(name).get_dtype()
                if kind not in ("F16", "F32", "F64", "BOOL", "U8"):
                    raise UnsupportedModel(
                        f"{path.name}: {name} must be F16, F32 or F64, got {kind}",
                        hint="convert the checkpoint to float32",
                    )
                tensors[name] = file.get_tensor(name).astype(np.float64)
    except (SafetensorError, OSError) as err:
        raise InputError(f"{path}: not a safetensors file: {str(err)[:120]}") from err
    return tensors


def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
    d, inner = config.width, config.inner
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config.vocabulary, d),
        "wpe.weight": (config.context, d),
        "ln_f.weight": (d,),
        "ln_f.bias": (d,),
    }
    for i in range(config.blocks):
        block = {
            "ln_1.weight": (d,),
            "ln_1.bias": (d,),
            "attn.c_attn.weight": (d, 3 * d),
            "attn.c_attn.bias": (3 * d,),
            "attn.c_proj.weight": (d, d),
            "attn.c_proj.bias": (d,),
            "ln_2.weight": (d,),
            "ln_2.bias": (d,),
            "mlp.c_fc.weight": (d, inner),
            "mlp.c_fc.bias": (inner,),
            "mlp.c_proj.weight": (inner, d),
            "mlp.c_proj.bias": (d,),
        }
        shapes.update({f"h.{i}.{name}": shape for name, shape in block.items()})
    return shapes

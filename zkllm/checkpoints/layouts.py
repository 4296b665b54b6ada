"""State dicts as they lie on disks, brought into the form that Hugging Face gave GPT-2.

Known are Hugging Face's own, with or without `transformer.`, those of nanoGPT and minGPT, whose
matrices are transposed (`nn.Linear` keeps [n_out, n_in], `Conv1D` [n_in, n_out]), and any of them
with what `torch.compile` and `DataParallel` put before every name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zkllm.checkpoints.config import Config, Storage
from zkllm.errors import UnsupportedModel
from zkllm.records import word

FloatArray: TypeAlias = npt.NDArray[np.float64]

LARGEST = 2.0**128
"""No weight reaches it, as none of float32 can: products of two, and their sums, are finite."""

_WRAPPERS = re.compile(r"((?:_orig_mod\.|module\.)*)(.*)", re.DOTALL)
_BUFFER = re.compile(r"(?:h|blocks)\.(\d{1,9})\.attn\.(bias|masked_bias|mask)")
_HIDDEN = -1e4
"""What `masked_bias` adds to the scores of what must not be seen; e to it is 0 in float32."""
_MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_OUTSIDE = frozenset({"wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias", "lm_head.weight"})
_INSIDE = re.compile(
    r"h\.(0|[1-9]\d{0,8})\.(ln_1|ln_2|attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.(weight|bias)"
)
"""Names outside and inside of blocks."""
_MINGPT: Mapping[str, str] = {
    "tok_emb.": "wte.",
    "pos_emb": "wpe.weight",
    "head.": "lm_head.",
    "ln1.": "ln_1.",
    "ln2.": "ln_2.",
    "attn.proj.": "attn.c_proj.",
    "mlp.0.": "mlp.c_fc.",
    "mlp.2.": "mlp.c_proj.",
}
"""Beginnings of the names that minGPT had until 2022, with those of Hugging Face."""
_STRANGERS: Mapping[str, str] = {
    r"(score|classifier|qa_outputs|summary)\.": "a head that does not give tokens",
    r"multiple_choice_head\.": "a second head, which does not give tokens",
    r".*(lora_|adapter|base_model\.)": "part of an adapter: merge it into the model first",
    r".*(crossattention|ln_cross_attn|q_attn)": "part of cross-attention",
    r".*\.(qweight|qzeros|scales|g_idx|SCB|weight_scale|absmax)$": "part of quantised weights",
    r".*_orig_mod\.": "torch.compile was applied to a part of the model",
    r"lm_head\.bias": "GPT-2's head has no bias",
}
"""Tensors that GPT-2 does not have, with what is known about them."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """A tensor that is read when it is needed."""

    shape: tuple[int, ...]
    read: Callable[[], FloatArray]

    def transposed(self) -> StoredArray:
        return StoredArray(self.shape[::-1], lambda: np.ascontiguousarray(self.read().T))


StateDict: TypeAlias = Mapping[str, StoredArray]


def is_buffer(name: str) -> bool:
    """Whether `name` is that of a causal mask: a constant, not a weight."""
    return _BUFFER.fullmatch(_bare(name)) is not None


def shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors, the head excepted; in the order of the computation."""
    d, inner = config.width, config.inner
    yield "wte.weight", (config.vocabulary, d)
    yield "wpe.weight", (config.context, d)
    for i in range(config.blocks):
        yield f"h.{i}.ln_1.weight", (d,)
        yield f"h.{i}.ln_1.bias", (d,)
        yield f"h.{i}.attn.c_attn.weight", (d, 3 * d)
        yield f"h.{i}.attn.c_attn.bias", (3 * d,)
        yield f"h.{i}.attn.c_proj.weight", (d, d)
        yield f"h.{i}.attn.c_proj.bias", (d,)
        yield f"h.{i}.ln_2.weight", (d,)
        yield f"h.{i}.ln_2.bias", (d,)
        yield f"h.{i}.mlp.c_fc.weight", (d, inner)
        yield f"h.{i}.mlp.c_fc.bias", (inner,)
        yield f"h.{i}.mlp.c_proj.weight", (inner, d)
        yield f"h.{i}.mlp.c_proj.bias", (d,)
    yield "ln_f.weight", (d,)
    yield "ln_f.bias", (d,)


def standardise(
    stored: StateDict, config: Config, storage: Storage
) -> tuple[dict[str, FloatArray], list[str]]:
    """All tensors by Hugging Face's names, `lm_head.weight` included, and what there is to say.

    Raises `UnsupportedModel` for a state dict that is none of the known layouts or that can be
    read in two ways.
    """
    named = _renamed(stored)
    _check_buffers(named)
    weights = {name: tensor for name, tensor in named.items() if not _BUFFER.fullmatch(name)}
    if "wte.weight" not in weights and "lm_head.weight" in weights and storage.tied is not False:
        # torch stores what is shared once, under either name
        weights["wte.weight"] = weights["lm_head.weight"]
    linear = _is_linear(weights, config)
    if linear and not storage.activation_named:
        raise UnsupportedModel(
            "config.json: activation_function is missing: models of this layout (nn.Linear) were "
            "trained with gelu and with gelu_new",
            hint="nanoGPT and early minGPT have gelu, later minGPT and early nanoGPT gelu_new",
        )
    for name in weights:
        if not _is_known(name, config):
            raise UnsupportedModel(f"model.safetensors: unknown tensor {_stranger(name, config)}")
    biases = _has_biases(weights, storage, linear=linear)
    tensors: dict[str, FloatArray] = {}
    for name, shape in shapes(config):
        if name.endswith(".bias") and not biases:
            tensors[name] = np.zeros(shape)
            continue
        if name not in weights:
            raise UnsupportedModel(f"model.safetensors: tensor {name} is missing")
        turn = linear and name.endswith(tuple(f"{matrix}.weight" for matrix in _MATRICES))
        found = weights[name].transposed() if turn else weights[name]
        if found.shape != shape:
            wanted = shape[::-1] if turn else shape
            raise UnsupportedModel(
                f"model.safetensors: {name} must have shape {list(wanted)}, "
                f"got {list(weights[name].shape)}",
                hint="h.0.attn.c_attn.weight has the layout of nn.Linear" if turn else "",
            )
        tensors[name] = _finite(name, found.read())
    tensors["lm_head.weight"], said = _head(weights, tensors["wte.weight"], storage)
    return tensors, said


def _renamed(stored: StateDict) -> dict[str, StoredArray]:
    """Hugging Face's names without `transformer.`; minGPT's three projections as one."""
    prefixes = {_split(name)[0]: name for name in stored}
    if len(prefixes) > 1:
        first, second = sorted(prefixes)[:2]
        raise UnsupportedModel(
            f"model.safetensors: every name must begin alike, got {word(prefixes[first])} "
            f"without and {word(prefixes[second])} with {second[len(first) :] or second}"
        )
    bare: dict[str, StoredArray] = {}
    for full, tensor in stored.items():
        name = _bare(full)
        if name in bare:
            raise UnsupportedModel(f"model.safetensors: {word(name)} is there twice")
        bare[name] = tensor
    return _from_mingpt(bare) if "tok_emb.weight" in bare else bare


def _split(name: str) -> tuple[str, str]:
    found = _WRAPPERS.fullmatch(name)
    return (found[1], found[2]) if found else ("", name)


def _bare(name: str) -> str:
    return _split(name)[1].removeprefix("transformer.")


def _from_mingpt(stored: dict[str, StoredArray]) -> dict[str, StoredArray]:
    result: dict[str, StoredArray] = {}
    parts: dict[str, list[StoredArray]] = {}
    for name, tensor in stored.items():
        block = re.match(r"blocks\.\d{1,9}\.", name)
        start = f"h.{block[0][7:]}" if block else ""
        rest = name[block.end() :] if block else name
        projection = re.fullmatch(r"attn\.(query|key|value)\.(weight|bias)", rest)
        if block and projection:
            names = [f"{block[0]}attn.{part}.{projection[2]}" for part in ("query", "key", "value")]
            merged = f"{start}attn.c_attn.{projection[2]}"
            parts[merged] = [stored[part] for part in names if part in stored]
            continue
        for old, new in _MINGPT.items():
            if rest.startswith(old):
                rest = new + rest[len(old) :]
                break
        if rest == "wpe.weight" and len(tensor.shape) == 3 and tensor.shape[0] == 1:
            tensor = _reshaped(tensor, tensor.shape[1:])
        if start + rest in result:
            raise UnsupportedModel(f"model.safetensors: {word(start + rest)} is there twice")
        result[start + rest] = tensor
    for name, tensors in parts.items():
        if len(tensors) != 3 or len({tensor.shape for tensor in tensors}) > 1 or name in result:
            raise UnsupportedModel(
                f"model.safetensors: {word(name)} must come from query, key and value of one shape"
            )
        result[name] = _stacked(tensors)
    return result


def _reshaped(tensor: StoredArray, shape: tuple[int, ...]) -> StoredArray:
    return StoredArray(shape, lambda: tensor.read().reshape(shape))


def _stacked(tensors: list[StoredArray]) -> StoredArray:
    first, *rest = tensors[0].shape or (0,)
    return StoredArray(
        (len(tensors) * first, *rest), lambda: np.concatenate([t.read() for t in tensors])
    )


def _check_buffers(named: StateDict) -> None:
    """A mask that hides anything but the future would be another network."""
    for name, tensor in named.items():
        buffer = _BUFFER.fullmatch(name)
        if buffer is None:
            continue
        values = tensor.read()
        if buffer[2] == "masked_bias":
            causal = values.size == 1 and float(values.reshape(())) <= _HIDDEN
        else:
            square = values.reshape(values.shape[-2:]) if _is_square(values.shape) else None
            causal = square is not None and bool((square == np.tri(len(square))).all())
        if not causal:
            raise UnsupportedModel(f"model.safetensors: {name} is no causal mask")


def _is_square(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and shape[-1] == shape[-2] and all(n == 1 for n in shape[:-2])


def _is_linear(weights: StateDict, config: Config) -> bool:
    """Whether matrices are those of `nn.Linear`: c_attn, never square, tells."""
    first = weights.get("h.0.attn.c_attn.weight")
    return first is not None and first.shape == (3 * config.width, config.width)


def _has_biases(weights: StateDict, storage: Storage, *, linear: bool) -> bool:
    """Whether there are biases; none at all are zeros where that is what the layout means."""
    first = next((name for name in weights if name.endswith(".bias")), None)
    if first is not None and storage.biases is False:
        raise UnsupportedModel(f"config.json: bias is false, but there is {word(first)}")
    none_meant = linear if storage.biases is None else not storage.biases
    return first is not None or not none_meant


def _head(
    weights: StateDict, embedding: FloatArray, storage: Storage
) -> tuple[FloatArray, list[str]]:
    """The head, and what there is to say about it."""
    if "lm_head.weight" not in weights:
        if storage.tied is False:
            raise UnsupportedModel(
                "model.safetensors: tensor lm_head.weight is missing, "
                "and config.json says tie_word_embeddings false"
            )
        return embedding, []
    stored = weights["lm_head.weight"]
    if stored.shape != embedding.shape:
        raise UnsupportedModel(f"model.safetensors: lm_head.weight has shape {stored.shape}")
    head = _finite("lm_head.weight", stored.read())
    if storage.tied is False or np.array_equal(head, embedding):
        return head, []
    if storage.tied:
        raise UnsupportedModel(
            "model.safetensors: lm_head.weight is not wte.weight, "
            "but config.json says tie_word_embeddings true",
            hint="say false if the head is the model's own, or remove lm_head.weight",
        )
    return head, ["lm_head.weight is not wte.weight: it is taken as the model's own head"]


def _finite(name: str, values: FloatArray) -> FloatArray:
    if not np.isfinite(values).all():
        raise UnsupportedModel(f"model.safetensors: {name} holds NaN or infinity")
    if values.size and max(values.max(), -values.min()) >= LARGEST:
        raise UnsupportedModel(
            f"model.safetensors: {name} must stay below 2^128, as float32 does, "
            f"got {max(values.max(), -values.min()):.4g}"
        )
    return values


def _is_known(name: str, config: Config) -> bool:
    inside = _INSIDE.fullmatch(name)
    return name in _OUTSIDE or (inside is not None and int(inside[1]) < config.blocks)


def _stranger(name: str, config: Config) -> str:
    """`name` with what is known about it."""
    for pattern, what in _STRANGERS.items():
        if re.match(pattern, name):
            return f"{word(name)}: {what}"
    block = re.match(r"h\.(\d{1,9})\.", name)
    if block and int(block[1]) >= config.blocks:
        return f"{word(name)}: config.json says n_layer {config.blocks}"
    return word(name)

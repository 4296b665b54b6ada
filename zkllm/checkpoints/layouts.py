"""State dicts as they lie on disks, brought into the form that an architecture gives its tensors.

What is known of names and shapes is the architecture's (`architectures.base.Layout`). Any of them
may have what `torch.compile` and `DataParallel` put before every name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zkllm.architectures.base import Architecture, Buffer, Layout, Older
from zkllm.architectures.config import Keys
from zkllm.errors import UnsupportedModel
from zkllm.records import word
from zkllm.tensors import FloatArray

LARGEST = 2.0**128
"""No weight reaches it, as none of float32 can: products of two, and their sums, are finite."""

_WRAPPERS = re.compile(r"((?:_orig_mod\.|module\.)*)(.*)", re.DOTALL)
_NUMBER = r"(\d{1,9})\."
_STRANGERS: Mapping[str, str] = {
    r"(score|classifier|qa_outputs|summary)\.": "a head that does not give tokens",
    r".*(lora_|adapter|base_model\.)": "part of an adapter: merge it into the model first",
    r".*\.(qweight|qzeros|scales|g_idx|SCB|weight_scale|absmax)$": "part of quantised weights",
    r".*_orig_mod\.": "torch.compile was applied to a part of the model",
}
"""Tensors that no architecture has, with what is known about them."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """A tensor that is read when it is needed."""

    shape: tuple[int, ...]
    read: Callable[[], FloatArray]

    def transposed(self) -> StoredArray:
        return StoredArray(self.shape[::-1], lambda: np.ascontiguousarray(self.read().T))


StateDict: TypeAlias = Mapping[str, StoredArray]


def is_buffer(name: str, layout: Layout) -> bool:
    """Whether `name` is that of a constant, not of a weight."""
    return _buffer(_bare(name, layout), layout) is not None


def standardise(
    stored: StateDict, architecture: Architecture, keys: Keys
) -> tuple[dict[str, FloatArray], list[str]]:
    """All tensors by the architecture's names, its head included, and what there is to say.

    Raises `UnsupportedModel` for a state dict that is none of the known layouts or that can be
    read in two ways.
    """
    layout, shapes = architecture.layout, dict(architecture.shapes())
    tied = _tied(keys, layout)
    named = _renamed(stored, layout)
    weights = _without_buffers(named, layout)
    if layout.embedding not in weights and layout.head in weights and tied is not False:
        # torch stores what is shared once, under either name
        weights[layout.embedding] = weights[layout.head]
    turned = _turned(weights, shapes, layout, keys)
    for name in weights:
        if name not in shapes and name != layout.head:
            raise UnsupportedModel(
                f"model.safetensors: unknown tensor {_stranger(name, architecture)}"
            )
    biases = not layout.biases or _has_biases(weights, layout, keys, none_meant=bool(turned))
    tensors: dict[str, FloatArray] = {}
    for name, shape in shapes.items():
        if name.endswith(".bias") and not biases:
            tensors[name] = np.zeros(shape)
            continue
        if name not in weights:
            raise UnsupportedModel(f"model.safetensors: tensor {name} is missing")
        turn = name.endswith(turned)
        found = weights[name].transposed() if turn else weights[name]
        if found.shape != shape:
            wanted = shape[::-1] if turn else shape
            raise UnsupportedModel(
                f"model.safetensors: {name} must have shape {list(wanted)}, "
                f"got {list(weights[name].shape)}",
                hint=_turned_hint(layout) if turn else "",
            )
        tensors[name] = _finite(name, found.read())
    tensors[layout.head], said = _head(weights, tensors[layout.embedding], layout, keys)
    return tensors, said


def _renamed(stored: StateDict, layout: Layout) -> dict[str, StoredArray]:
    """Names of today, without what stands before all of them."""
    prefixes = {_split(name)[0]: name for name in stored}
    if len(prefixes) > 1:
        first, second = sorted(prefixes)[:2]
        raise UnsupportedModel(
            f"model.safetensors: every name must begin alike, got {word(prefixes[first])} "
            f"without and {word(prefixes[second])} with {second[len(first) :] or second}"
        )
    bare: dict[str, StoredArray] = {}
    for full, tensor in stored.items():
        name = _bare(full, layout)
        if name in bare:
            raise UnsupportedModel(f"model.safetensors: {word(name)} is there twice")
        bare[name] = tensor
    for older in layout.older:
        if older.tells in bare:
            return _from_older(bare, layout, older)
    return bare


def _split(name: str) -> tuple[str, str]:
    found = _WRAPPERS.fullmatch(name)
    return (found[1], found[2]) if found else ("", name)


def _bare(name: str, layout: Layout) -> str:
    return _split(name)[1].removeprefix(layout.prefix)


def _from_older(
    stored: dict[str, StoredArray], layout: Layout, older: Older
) -> dict[str, StoredArray]:
    result: dict[str, StoredArray] = {}
    stacks: dict[str, list[str]] = {}
    stacked = {part: now for now, parts in older.stacked.items() for part in parts}
    for name, tensor in stored.items():
        block = re.match(re.escape(older.block) + _NUMBER, name)
        start = f"{layout.block}{block[1]}." if block else ""
        rest = name[block.end() :] if block else name
        layer, _, kind = rest.rpartition(".")
        if block and layer in stacked and kind in ("weight", "bias"):
            now = stacked[layer]
            stacks[f"{start}{now}.{kind}"] = [
                f"{block[0]}{part}.{kind}" for part in older.stacked[now]
            ]
            continue
        for old, new in older.beginnings.items():
            if rest.startswith(old):
                rest = new + rest[len(old) :]
                break
        if rest in older.flat and len(tensor.shape) == 3 and tensor.shape[0] == 1:
            tensor = _reshaped(tensor, tensor.shape[1:])
        if start + rest in result:
            raise UnsupportedModel(f"model.safetensors: {word(start + rest)} is there twice")
        result[start + rest] = tensor
    for name, parts in stacks.items():
        tensors = [stored[part] for part in parts if part in stored]
        alike = len({tensor.shape for tensor in tensors}) == 1
        if len(tensors) != len(parts) or not alike or name in result:
            *most, last = (part.split(".")[-2] for part in parts)
            raise UnsupportedModel(
                f"model.safetensors: {word(name)} must come from {', '.join(most)} and {last} "
                "of one shape"
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


def _buffer(name: str, layout: Layout) -> Buffer | None:
    return next((b for b in layout.buffers if re.fullmatch(b.pattern, name)), None)


def _without_buffers(named: StateDict, layout: Layout) -> dict[str, StoredArray]:
    """What is no buffer; one that says anything new would be part of another network."""
    weights: dict[str, StoredArray] = {}
    for name, tensor in named.items():
        buffer = _buffer(name, layout)
        if buffer is None:
            weights[name] = tensor
        elif not buffer.holds(tensor.read()):
            raise UnsupportedModel(f"model.safetensors: {name} is no {buffer.what}")
    return weights


def _turned(
    weights: StateDict, shapes: Mapping[str, tuple[int, ...]], layout: Layout, keys: Keys
) -> tuple[str, ...]:
    """How the names of those matrices end that are stored transposed; nothing if none are."""
    turned = layout.turned
    first = weights.get(turned.tells) if turned is not None else None
    if turned is None or first is None or first.shape != shapes[turned.tells][::-1]:
        return ()
    if not keys.said(turned.key):
        raise UnsupportedModel(
            f"config.json: {turned.key} is missing: {turned.why}", hint=turned.hint
        )
    return turned.names


def _turned_hint(layout: Layout) -> str:
    return f"{layout.turned.tells} has the layout of nn.Linear" if layout.turned else ""


def _has_biases(weights: StateDict, layout: Layout, keys: Keys, *, none_meant: bool) -> bool:
    """Whether there are biases; none at all are zeros where that is what the layout means.

    `none_meant` is what it means where config.json is silent.
    """
    first = next((name for name in weights if name.endswith(".bias")), None)
    said = keys.flag_if_said(layout.biases)
    if first is not None and said is False:
        raise UnsupportedModel(f"config.json: {layout.biases} is false, but there is {word(first)}")
    return first is not None or not (none_meant if said is None else not said)


def _tied(keys: Keys, layout: Layout) -> bool | None:
    """Whether the head is the embedding; none where nobody says."""
    said = keys.flag_if_said("tie_word_embeddings")
    return layout.tied if said is None else said


def _head(
    weights: StateDict, embedding: FloatArray, layout: Layout, keys: Keys
) -> tuple[FloatArray, list[str]]:
    """The head, and what there is to say about it."""
    name, tied = layout.head, _tied(keys, layout)
    silent = not keys.said("tie_word_embeddings")
    if name not in weights:
        if tied is False:
            raise UnsupportedModel(
                f"model.safetensors: tensor {name} is missing, and config.json "
                + (
                    "does not say tie_word_embeddings"
                    if silent
                    else "says tie_word_embeddings false"
                )
            )
        return embedding, []
    stored = weights[name]
    if stored.shape != embedding.shape:
        raise UnsupportedModel(f"model.safetensors: {name} has shape {stored.shape}")
    head = _finite(name, stored.read())
    if tied is False or np.array_equal(head, embedding):
        return head, []
    if tied:
        raise UnsupportedModel(
            f"model.safetensors: {name} is not {layout.embedding}, but config.json "
            + ("does not say tie_word_embeddings" if silent else "says tie_word_embeddings true"),
            hint=f"say false if the head is the model's own, or remove {name}",
        )
    return head, [f"{name} is not {layout.embedding}: it is taken as the model's own head"]


def _finite(name: str, values: FloatArray) -> FloatArray:
    if not np.isfinite(values).all():
        raise UnsupportedModel(f"model.safetensors: {name} holds NaN or infinity")
    if values.size and max(values.max(), -values.min()) >= LARGEST:
        raise UnsupportedModel(
            f"model.safetensors: {name} must stay below 2^128, as float32 does, "
            f"got {max(values.max(), -values.min()):.4g}"
        )
    return values


def _stranger(name: str, architecture: Architecture) -> str:
    """`name` with what is known about it."""
    layout = architecture.layout
    for pattern, what in {**(layout.strangers or {}), **_STRANGERS}.items():
        if re.match(pattern, name):
            return f"{word(name)}: {what}"
    block = re.match(re.escape(layout.block) + _NUMBER, name)
    if block and int(block[1]) >= architecture.blocks:
        return f"{word(name)}: config.json says {layout.blocks} {architecture.blocks}"
    return word(name)

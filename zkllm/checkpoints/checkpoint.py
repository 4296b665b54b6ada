"""A checkpoint: float weights with their configuration and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkllm import architectures
from zkllm.architectures.base import Architecture, Weights
from zkllm.architectures.config import Keys
from zkllm.checkpoints import bpe
from zkllm.checkpoints.files import MAX_TOKENIZER, Folder
from zkllm.checkpoints.generation import check_greedy, idle_stops, stop_ids
from zkllm.checkpoints.layouts import StateDict, StoredArray, is_buffer, standardise
from zkllm.digests import Digest, tagged
from zkllm.errors import InputError, UnsupportedModel
from zkllm.records import word
from zkllm.tensors import FloatArray


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Float weights with their configuration and tokenizer."""

    architecture: Architecture
    """The network, with its sizes."""
    tensors: Weights
    """Its weights, all in one layout, and the head among them even if it is the embedding."""
    tokenizer: bytes | None
    """tokenizer.json as it is, or as vocab.json and merges.txt give it."""
    digest: Digest
    """Of the source: files for a folder, tensors for a torch module."""
    stop_ids: tuple[int, ...] = ()
    """Tokens after which a completion may end early."""
    notes: tuple[str, ...] = ()
    """What somebody who knows the checkpoint would want to be told."""

    @classmethod
    def from_folder(cls, folder: Path) -> Checkpoint:
        """Read config.json, the weights and, if present, generation settings and tokenizer.

        Weights are model.safetensors, or shards with an index. Raises `InputError` for a missing
        or corrupt file, `UnsupportedModel` for a network of no known architecture.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a checkpoint folder, found none")
        files = Folder(folder)
        config = files.json("config.json")
        architecture = architectures.named(config)
        generation = None
        if files.has("generation_config.json"):
            generation = files.json("generation_config.json")
        stored = files.weights(architecture)
        tokenizer = None
        if files.has("tokenizer.json"):
            tokenizer = files.read("tokenizer.json", MAX_TOKENIZER)
        elif files.has("vocab.json") or files.has("merges.txt"):
            tokenizer = bpe.from_folder(files, config)
        return cls._checked(config, generation, stored, tokenizer, files.digest())

    @classmethod
    def from_torch(cls, module: Any, tokenizer: bytes | None = None) -> Checkpoint:
        """A torch module with a known state dict and a `config` (an object, or a mapping).

        `models/gpt2.py` and Hugging Face's own classes are such modules. Raises
        `UnsupportedModel` as `from_folder` does.
        """
        source = getattr(module, "config", None)
        if source is None:
            raise UnsupportedModel("the torch module has no attribute config")
        fields = source if isinstance(source, Mapping) else _config_fields(source)
        generation = None
        if getattr(module, "generation_config", None) is not None:
            generation = dict(module.generation_config.to_dict())
        layout = architectures.named(fields).layout
        tensors: dict[str, FloatArray] = {}
        for name, value in module.state_dict().items():
            if not (value.is_floating_point() or is_buffer(name, layout)):
                raise UnsupportedModel(f"{word(name)} must be of floating point, got {value.dtype}")
            tensors[name] = value.detach().cpu().double().numpy()
        pieces: list[bytes] = [_settings(fields)]
        if generation is not None:
            pieces.append(_settings(generation))
        for name in sorted(tensors):
            pieces += [name.encode(), tensors[name].astype("<f8").tobytes()]
        stored = {name: StoredArray(v.shape, _given(v)) for name, v in tensors.items()}
        digest = tagged("zkllm/checkpoint-torch/v1", *pieces)
        return cls._checked(fields, generation, stored, tokenizer, digest)

    @classmethod
    def _checked(
        cls,
        config: Mapping[str, Any],
        generation: Mapping[str, Any] | None,
        stored: StateDict,
        tokenizer: bytes | None,
        digest: Digest,
    ) -> Checkpoint:
        architecture = architectures.read(config)
        stops = stop_ids(config, generation, architecture.vocabulary, architecture.end)
        notes = check_greedy(config, generation)
        notes += idle_stops(config, generation, stops, architecture.end)
        tensors, said = standardise(stored, architecture, Keys(config))
        return cls(architecture, tensors, tokenizer, digest, stops, (*notes, *said))


def _settings(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(fields), sort_keys=True, default=str).encode()


def _given(values: FloatArray) -> Callable[[], FloatArray]:
    return lambda: values


def _config_fields(source: Any) -> Mapping[str, Any]:
    if hasattr(source, "to_dict"):
        return dict(source.to_dict())
    values = {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
    # A method is no setting, and its text holds an address that no two runs share.
    return {name: value for name, value in values.items() if not callable(value)}

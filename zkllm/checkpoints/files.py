"""The files of a checkpoint folder: which define the model, and what is in them."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zkllm.architectures.base import Architecture
from zkllm.checkpoints.layouts import StateDict, StoredArray, is_buffer
from zkllm.digests import Digest, sha256, sha256_file, tagged, unique
from zkllm.errors import InputError, UnsupportedModel
from zkllm.files import read_limited
from zkllm.records import word
from zkllm.tensors import FloatArray

MAX_TOKENIZER = 64 << 20
_MAX_CONFIG = 1 << 20
_MAX_INDEX = 16 << 20
_MAX_HEADER = 16 << 20
"""Of a file of tensors: that of 600 tensors has some 60 kB."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_TYPES: Mapping[str, str] = {
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
    "BOOL": "|u1",
    "U8": "|u1",
}
"""What is read, as numpy calls it, but for BF16, which it does not know."""
_CONSTANTS = ("BOOL", "U8")
"""Types in which old checkpoints keep the causal mask, and nothing else."""
_ELSEWHERE: Mapping[str, str] = {
    "tf_model.h5": "weights of TensorFlow",
    "flax_model.msgpack": "weights of Flax",
    "model.ckpt.index": "weights of TensorFlow",
    "ckpt.pt": "a pickled checkpoint",
}
"""Files that hold weights in a form that is not read."""


@dataclass(slots=True)
class Folder:
    """A checkpoint folder that remembers the digest of every file that was read from it."""

    path: Path
    digests: dict[str, Digest] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of the file `name`; raises `InputError` if it is not there."""
        if not self.has(name):
            raise InputError(
                f"{self.path}: expected {name}, found none",
                hint="a checkpoint is config.json, model.safetensors and tokenizer.json "
                "(or vocab.json and merges.txt)",
            )
        data = read_limited(self.path / name, limit)
        self.digests[name] = sha256(data)
        return data

    def json(self, name: str, limit: int = _MAX_CONFIG) -> dict[str, Any]:
        """The object in the file `name`; raises `InputError` if it is none."""
        data = self.read(name, limit)
        try:
            value = json.loads(
                data.decode("utf-8-sig"),
                object_pairs_hook=unique,
                parse_constant=_refuse_constant,
            )
        except (ValueError, RecursionError) as err:
            reason = str(err).splitlines()[0][:120]
            raise InputError(f"{self.path / name}: not JSON: {reason}") from err
        if not isinstance(value, dict):
            raise InputError(f"{self.path / name}: expected an object, got {type(value).__name__}")
        return value

    def weights(self, architecture: type[Architecture]) -> StateDict:
        """Every tensor of model.safetensors, or of the shards that its index names.

        Raises `InputError` for files that are missing, damaged or do not fit together,
        `UnsupportedModel` for weights in another form.
        """
        self._refuse_other_forms(architecture)
        if self.has(INDEX):
            return self._shards(architecture)
        return self._tensors(WEIGHTS, architecture)

    def digest(self) -> Digest:
        """The digest of all files that were read: what the checkpoint is called.

        A folder of config.json, model.safetensors and tokenizer.json alone has the digest that it
        always had.
        """
        plain = ("config.json", WEIGHTS, "tokenizer.json")
        if set(self.digests) <= set(plain):
            lines = [self.digests.get(name, "") for name in plain]
            return tagged("zkllm/checkpoint/v1", "\n".join(lines).encode())
        lines = [f"{name} {self.digests[name]}" for name in sorted(self.digests)]
        return tagged("zkllm/checkpoint/v2", "\n".join(lines).encode())

    def _refuse_other_forms(self, architecture: type[Architecture]) -> None:
        if self.has("adapter_config.json"):
            raise UnsupportedModel(
                f"{self.path}: adapter_config.json says that an adapter (LoRA) changes the weights",
                hint="merge it first: peft's merge_and_unload(), then save_pretrained()",
            )
        if self.has(WEIGHTS) and self.has(INDEX):
            raise InputError(
                f"{self.path}: expected {WEIGHTS} or {INDEX}, found both",
                hint="remove the one that is not the model",
            )
        if self.has(WEIGHTS) or self.has(INDEX):
            return
        for pickled in ("pytorch_model.bin", "pytorch_model.bin.index.json"):
            if self.has(pickled):
                raise InputError(
                    f"{self.path}: expected {WEIGHTS}, found {pickled}, "
                    "which can run code when it is read",
                    hint="convert it with two lines of Python:\n"
                    + _conversion(self.path, architecture, sharded=pickled.endswith("json")),
                )
        for name, what in _ELSEWHERE.items():
            if self.has(name):
                raise InputError(f"{self.path}: expected {WEIGHTS}, found {name}: {what}")
        parts = sorted(path.name for path in self.path.glob("*.safetensors") if path.is_file())
        if parts:
            raise InputError(
                f"{self.path}: expected {WEIGHTS} or {INDEX}, found {word(parts[0])}",
                hint=f"shards need {INDEX}, which says what is in which",
            )
        self.read(WEIGHTS, 0)

    def _shards(self, architecture: type[Architecture]) -> StateDict:
        places = self.json(INDEX, _MAX_INDEX).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise InputError(f"{self.path / INDEX}: expected an object weight_map with tensors")
        for name, shard in places.items():
            if not _is_shard_name(shard):
                raise InputError(
                    f"{self.path / INDEX}: {word(name)}: expected a file NAME.safetensors beside "
                    f"the index, got {shard!r:.60}"
                )
        found: dict[str, StoredArray] = {}
        for shard in sorted(set(places.values())):
            if not self.has(shard):
                raise InputError(f"{self.path}: {INDEX} names {word(shard)}, found none")
            for name, tensor in self._tensors(shard, architecture).items():
                if places.get(name) != shard:
                    raise InputError(
                        f"{self.path / INDEX}: {word(name)} lies in {word(shard)}, "
                        f"the index says {word(str(places.get(name, 'nothing')))}"
                    )
                found[name] = tensor
        for name, shard in places.items():
            if name not in found:
                raise InputError(
                    f"{self.path / INDEX}: {word(shard)} must hold {word(name)}, it does not"
                )
        return found

    def _tensors(self, name: str, architecture: type[Architecture]) -> StateDict:
        path = self.path / name
        tensors = _safetensors(path, architecture)
        self.digests[name] = sha256_file(path)
        return tensors


def _is_shard_name(shard: Any) -> bool:
    """Whether `shard` can only be a file beside the index."""
    return (
        isinstance(shard, str)
        and shard.endswith(".safetensors")
        and shard == Path(shard).name
        and shard.isprintable()
        and len(shard.encode()) < 256  # a longer name has no file, and asking for it is an error
    )


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _conversion(folder: Path, architecture: type[Architecture], *, sharded: bool) -> str:
    """Two lines of Python that write model.safetensors beside what torch has saved."""
    if sharded:
        model, where = architecture.classes[0], repr(str(folder))
        return (
            f"from transformers import {model}\n"
            f"{model}.from_pretrained({where}).save_pretrained({where})"
        )
    source, target = str(folder / "pytorch_model.bin"), str(folder / WEIGHTS)
    return (
        f"import torch, safetensors.torch; w = torch.load({source!r}, 'cpu', weights_only=True)\n"
        "safetensors.torch.save_file("
        f"{{n: t.clone().contiguous() for n, t in w.items()}}, {target!r})"
    )


def _safetensors(path: Path, architecture: type[Architecture]) -> StateDict:
    """What a file of safetensors holds; the arrays are read when they are asked for."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER:
                raise InputError(
                    f"{path}: a header of at most {_MAX_HEADER} bytes expected, got {length}"
                )
        # Holds the header to its rules: types, shapes, and offsets without gap or overlap.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(length), object_pairs_hook=unique)
    except (SafetensorError, OSError, ValueError, struct.error) as err:
        reason = ascii(str(err))[1:-1][:120]  # it may quote the file
        raise InputError(f"{path}: not a safetensors file: {reason}") from err
    header.pop("__metadata__", None)
    tensors: dict[str, StoredArray] = {}
    for name, entry in header.items():
        kind, shape = entry["dtype"], tuple(entry["shape"])
        if kind not in _TYPES or (kind in _CONSTANTS and not is_buffer(name, architecture.layout)):
            raise UnsupportedModel(
                f"{path.name}: {word(name)} must be F16, BF16, F32 or F64, got {word(kind)}",
                hint="convert the checkpoint to float32",
            )
        start = 8 + length + entry["data_offsets"][0]
        tensors[name] = StoredArray(shape, _reader(path, kind, shape, start))
    return tensors


def _reader(path: Path, kind: str, shape: tuple[int, ...], start: int) -> Callable[[], FloatArray]:
    def read() -> FloatArray:
        try:
            values = np.fromfile(path, _TYPES[kind], count=math.prod(shape), offset=start)
        except OSError as err:
            raise InputError(f"{path}: {(err.strerror or str(err)).lower()}") from err
        if values.size != math.prod(shape):
            raise InputError(f"{path}: not a safetensors file: it was cut short")
        if kind == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(shape).astype(np.float64)

    return read

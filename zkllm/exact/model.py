"""The exact model on disk: `spec.json`, `weights.safetensors`, `tokenizer.json`."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zkllm.digests import Digest, sha256
from zkllm.errors import DigestMismatch, InputError, InvalidBundle
from zkllm.exact.check import check_constants
from zkllm.exact.specification import (
    MAX_BYTES,
    Specification,
    StoredTensor,
    model_digest,
)
from zkllm.exact.stored import check_stored
from zkllm.files import AnyPath, as_path, read_limited, write_atomically
from zkllm.tensors import (
    WIDTHS,
    IntArray,
    StoredArray,
    TensorType,
    bytes_digest,
    stored_from_bytes,
    to_bytes,
)

_SAFETENSORS = {"int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64"}
_WEIGHTS = "weights.safetensors"
_MAX_TOKENIZER = 64 << 20


class ExactModel:
    """An exact model whose specification was read and whose tensors are read when asked for.

    Every tensor is hashed when it is read and refused unless it has the digest that the
    specification names, so holding the model digest is holding the model; and unless its integers
    are such that arithmetic with them is exact (`stored`).
    """

    def __init__(self, specification: Specification, folder: Path | None) -> None:
        self.specification = specification
        self.folder = folder
        self.digest: Digest = specification.digest
        self._tensors: dict[str, IntArray] = {}
        self._stored: dict[str, StoredArray] = {}
        self._offsets: dict[str, tuple[int, int]] | None = None

    @classmethod
    def from_folder(cls, folder: Path) -> ExactModel:
        """Read `folder`/spec.json; weights and tokenizer follow when needed.

        Raises `InputError` if there is no exact model, `InvalidBundle` if its form is wrong, or
        the bounds of a LayerNorm are, which follow from `spec.json` alone.
        """
        path = folder / "spec.json"
        if not path.is_file():
            raise InputError(
                f"{folder}: expected an exact model, found no spec.json",
                hint="make one with: zkllm export CHECKPOINT -o DIR",
            )
        specification = Specification.from_bytes(read_limited(path, MAX_BYTES))
        check_constants(specification)
        return cls(specification, folder)

    @classmethod
    def open(cls, model: ExactModel | AnyPath) -> ExactModel:
        """`model` itself, or the one in the folder of that name; raises as `from_folder` does."""
        return model if isinstance(model, ExactModel) else cls.from_folder(as_path(model, "model"))

    @classmethod
    def in_memory(cls, specification: Specification, tensors: Mapping[str, IntArray]) -> ExactModel:
        """A model that was never on disk; the caller vouches for the digests.

        Raises `WrongMaterial` for integers that no model may hold.
        """
        for name, values in tensors.items():
            check_stored(specification, name, values)
        model = cls(specification, None)
        model._tensors = dict(tensors)
        return model

    def tensor(self, name: str) -> IntArray:
        """The int64 tensor `name`, checked against its digest; cached.

        Raises `InputError` if the weights are not there, `DigestMismatch` if they are others,
        `WrongMaterial` if no model may hold them.
        """
        if name not in self._tensors:
            self._tensors[name] = self.stored(name).astype(np.int64)
        return self._tensors[name]

    def integers(self, name: str) -> StoredArray:
        """The integers of tensor `name` in a type that holds them, the one they are cached in.

        For weights, of which a pass takes a quarter of the time that it takes over int64. What is
        computed from them need not fit their type. Raises as `tensor` does.
        """
        if self.folder is None and name in self._tensors:
            return self._tensors[name]
        return self.stored(name)

    def stored(self, name: str) -> StoredArray:
        """The tensor `name` in its declared type, checked against its digest; cached.

        Raises as `tensor` does.
        """
        if self.folder is None and name in self._tensors:
            stored = self.specification.tensors[name]
            data = to_bytes(self._tensors[name], stored.dtype)  # which no narrower type may cut
            return stored_from_bytes(data, stored.type)
        if name not in self._stored:
            self._stored[name] = self._checked(name)
        return self._stored[name]

    def _checked(self, name: str) -> StoredArray:
        stored = self.specification.tensors[name]
        values = stored_from_bytes(self._read(name, stored), stored.type)
        check_stored(self.specification, name, values)
        return values

    def forget(self) -> None:
        """Drop cached tensors; a large model need not stay in memory."""
        if self.folder is not None:
            self._tensors.clear()
            self._stored.clear()

    def check_all(self) -> None:
        """Read every tensor and the tokenizer; raises as `tensor` does."""
        for name in self.specification.tensors:
            self._checked(name)
        self.tokenizer_bytes()

    def tokenizer_bytes(self) -> bytes | None:
        """tokenizer.json, checked against its digest; none for a fragment."""
        expected = self.specification.tokenizer
        if expected is None:
            return None
        if self.folder is None:
            raise InputError("this model has no folder to read tokenizer.json from")
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise InputError(f"{self.folder}: expected tokenizer.json, found none")
        data = read_limited(path, _MAX_TOKENIZER)
        if sha256(data) != expected:
            raise DigestMismatch(
                f"tokenizer.json: expected {expected}, got {sha256(data)}",
                hint="the folder was edited after its export",
            )
        return data

    def find_weights(self) -> None:
        """Raises `InputError` if there is no file of weights, or not one of this form.

        What the file holds is hashed when it is read.
        """
        if self.folder is None:
            return
        path = self.folder / _WEIGHTS
        if not path.is_file():
            raise InputError(
                f"{self.folder}: expected {_WEIGHTS}, found none",
                hint="units whose evidence is replay or sumcheck need the weights of the model",
            )
        if self._offsets is None:
            self._offsets = _offsets(path, self.specification)

    def _read(self, name: str, stored: StoredTensor) -> bytes:
        self.find_weights()
        if self.folder is None or self._offsets is None:
            raise InputError(f"this model has no folder to read tensor {name} from")
        start, end = self._offsets[name]
        with (self.folder / _WEIGHTS).open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        got = bytes_digest(data, stored.type)
        if got != stored.digest:
            raise DigestMismatch(
                f"tensor {name}: expected {stored.digest}, got {got}",
                hint="weights.safetensors does not belong to this spec.json",
            )
        return data


def _offsets(path: Path, specification: Specification) -> dict[str, tuple[int, int]]:
    """Byte range of every tensor; raises `InvalidBundle` unless the file is exactly the model's."""
    expected = safetensors_header({n: t.type for n, t in specification.tensors.items()})
    header = _padded_header(expected)
    head = struct.pack("<Q", len(header)) + header
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        found = file.read(len(head))
    if found != head:
        # not even another spelling: graphs that are compiled for other tools name these offsets
        raise InvalidBundle(f"{path.name}: expected the header that spec.json implies, got another")
    base = len(head)
    ends = [entry["data_offsets"][1] for entry in expected.values()]
    if size != base + max(ends, default=0):
        raise InvalidBundle(
            f"{path.name}: expected {base + max(ends, default=0)} bytes, got {size}"
        )
    return {
        name: (base + entry["data_offsets"][0], base + entry["data_offsets"][1])
        for name, entry in expected.items()
    }


def safetensors_header(types: Mapping[str, TensorType]) -> dict[str, dict[str, Any]]:
    """The one header under which zkllm stores tensors: widest type first, then by name."""
    order = sorted(types, key=lambda name: (-WIDTHS[types[name].dtype], name))
    header: dict[str, dict[str, Any]] = {}
    offset = 0
    for name in order:
        kind = types[name]
        header[name] = {
            "dtype": _SAFETENSORS[kind.dtype],
            "shape": list(kind.shape),
            "data_offsets": [offset, offset + kind.nbytes],
        }
        offset += kind.nbytes
    return header


def tensor_offsets(types: Mapping[str, TensorType]) -> dict[str, tuple[int, int]]:
    """Byte range of every tensor inside a file that `save` writes: for ONNX external data."""
    header = safetensors_header(types)
    base = 8 + len(_padded_header(header))
    spans: dict[str, tuple[int, int]] = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        spans[name] = (base + start, base + end)
    return spans


def _padded_header(header: Mapping[str, object]) -> bytes:
    data = json.dumps(header, separators=(",", ":")).encode()
    return data + b" " * (-len(data) % 8)


def save(
    specification: Specification,
    tensors: Mapping[str, IntArray],
    tokenizer: bytes | None,
    folder: Path,
) -> ExactModel:
    """Write the model into `folder`, `spec.json` last, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    types = {name: stored.type for name, stored in specification.tensors.items()}
    header = safetensors_header(types)
    head = _padded_header(header)
    with write_atomically(folder / _WEIGHTS) as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name in header:
            file.write(to_bytes(tensors[name], types[name].dtype))
    if tokenizer is not None:
        with write_atomically(folder / "tokenizer.json") as file:
            file.write(tokenizer)
    with write_atomically(folder / "spec.json") as file:
        file.write(specification.to_bytes())
    return ExactModel.from_folder(folder)


def digest_on_disk(folder: Path) -> Digest:
    """The model digest of `folder` without reading its weights."""
    return model_digest(read_limited(folder / "spec.json", MAX_BYTES))


def size_on_disk(folder: Path) -> int:
    """Bytes of all files of the model, compiled graphs included."""
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())  # noqa: PTH202

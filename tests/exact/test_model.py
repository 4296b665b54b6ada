"""The exact model on disk: what was written comes back, and anything else is refused."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.errors import DigestMismatch, InputError, InvalidBundle, LimitExceeded
from zkllm.exact import specification as specification_module
from zkllm.exact.model import (
    ExactModel,
    digest_on_disk,
    save,
    size_on_disk,
    tensor_offsets,
)
from zkllm.exact.quantise import build
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import TensorType, to_bytes


@pytest.fixture
def folder(tiny_model: ExactModel, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    assert tiny_model.folder is not None
    return Path(shutil.copytree(tiny_model.folder, tmp_path / "model"))


def flip(path: Path, place: int) -> None:
    """Turn over one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """The parsed header of a safetensors file, and its data."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


# What comes back


def test_a_model_comes_back(tiny_model: ExactModel, tiny_checkpoint: Checkpoint) -> None:
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"])
    assert tiny_model.specification == specification
    assert tiny_model.digest == specification.digest
    assert tiny_model.tokenizer_bytes() == tiny_checkpoint.tokenizer
    for name, values in tensors.items():
        got = tiny_model.tensor(name)
        assert got.dtype == np.int64
        assert (got == values).all()
    tiny_model.check_all()


def test_weights_are_a_safetensors_file_that_others_read(
    tiny_model: ExactModel, folder: Path
) -> None:
    stored = safetensors.numpy.load_file(folder / "weights.safetensors")
    assert set(stored) == set(tiny_model.specification.tensors)
    for name, values in stored.items():
        assert values.dtype == tiny_model.specification.tensors[name].dtype
        assert (values == tiny_model.tensor(name)).all()


def test_offsets_point_at_the_integers(tiny_model: ExactModel, folder: Path) -> None:
    """ONNX files name the same ranges, and read them aligned to their type."""
    stored = tiny_model.specification.tensors
    spans = tensor_offsets({name: t.type for name, t in stored.items()})
    data = (folder / "weights.safetensors").read_bytes()
    assert max(end for _, end in spans.values()) == len(data)
    for name, (start, end) in spans.items():
        assert data[start:end] == to_bytes(tiny_model.tensor(name), stored[name].dtype)
        assert start % np.dtype(stored[name].dtype).itemsize == 0


def test_wide_types_come_first_so_that_all_are_aligned() -> None:
    types = {"a": TensorType("int8", (3,)), "b": TensorType("int64", (1,))}
    types |= {"c": TensorType("int32", (2, 2)), "d": TensorType("int8", (1,))}
    spans = tensor_offsets(types)
    first = spans["b"][0]
    assert first % 8 == 0
    assert spans == {
        "b": (first, first + 8),
        "c": (first + 8, first + 24),
        "a": (first + 24, first + 27),
        "d": (first + 27, first + 28),
    }


def test_a_fragment_has_no_tokenizer(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"], (1, 2))
    model = save(specification, tensors, None, tmp_path / "fragment")
    assert model.tokenizer_bytes() is None
    assert not (tmp_path / "fragment" / "tokenizer.json").exists()
    model.check_all()


def test_the_digest_needs_no_weights(tiny_model: ExactModel, folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    assert digest_on_disk(folder) == tiny_model.digest == ExactModel.from_folder(folder).digest


def test_the_size_counts_every_file(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "onnx" / "head.onnx").write_bytes(bytes(1000))
    names = ("spec.json", "weights.safetensors", "tokenizer.json")
    assert size_on_disk(folder) == 1000 + sum((folder / name).stat().st_size for name in names)


def test_tensors_are_kept_until_they_are_forgotten(folder: Path) -> None:
    model = ExactModel.from_folder(folder)
    name = "mlp[0].expand.weight"
    first = model.tensor(name)
    assert model.tensor(name) is first
    model.forget()
    assert model.tensor(name) is not first
    assert (model.tensor(name) == first).all()


def test_a_model_in_memory_has_nothing_to_forget(tiny_checkpoint: Checkpoint) -> None:
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"])
    model = ExactModel.in_memory(specification, tensors)
    model.forget()
    assert model.tensor("table.exp") is tensors["table.exp"]
    with pytest.raises(InputError, match=r"no folder to read tokenizer\.json from"):
        model.tokenizer_bytes()
    with pytest.raises(InputError, match=r"no folder to read tensor head\.logits\.bias from"):
        ExactModel.in_memory(specification, {}).tensor("head.logits.bias")


def test_the_specification_is_written_last(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A folder without spec.json is no model, so a failure half-way leaves none."""
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"])
    broken = tensors | {"head.logits.bias": np.array([1 << 62])}
    with pytest.raises(OverflowError):
        save(specification, broken, tiny_checkpoint.tokenizer, tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())


# Other files


def test_a_flipped_bit_is_found_in_every_tensor(tiny_model: ExactModel, folder: Path) -> None:
    stored = tiny_model.specification.tensors
    path = folder / "weights.safetensors"
    original = path.read_bytes()
    for name, (start, end) in tensor_offsets({n: t.type for n, t in stored.items()}).items():
        for place in (start, end - 1):
            flip(path, place)
            model = ExactModel.from_folder(folder)
            with pytest.raises(DigestMismatch) as caught:
                model.tensor(name)
            assert f"tensor {name}: expected {stored[name].digest}, got sha256:" in str(
                caught.value
            )
            path.write_bytes(original)
    flip(path, len(original) - 1)
    with pytest.raises(DigestMismatch):
        ExactModel.from_folder(folder).check_all()


def test_a_tensor_is_hashed_again_after_it_was_forgotten(folder: Path) -> None:
    model = ExactModel.from_folder(folder)
    model.check_all()
    flip(folder / "weights.safetensors", -1)
    with pytest.raises(DigestMismatch):
        model.check_all()


def test_another_tokenizer_is_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    expected = sha256(path.read_bytes())
    path.write_bytes(path.read_bytes() + b"\n")
    message = f"^tokenizer.json: expected {expected}, got {sha256(path.read_bytes())}$"
    model = ExactModel.from_folder(folder)
    for check in (model.tokenizer_bytes, model.check_all):
        with pytest.raises(DigestMismatch, match=message):
            check()


def test_another_specification_is_another_model(tiny_model: ExactModel, folder: Path) -> None:
    path = folder / "spec.json"
    path.write_bytes(path.read_bytes().replace(b'"pad_id":28', b'"pad_id":27'))
    assert ExactModel.from_folder(folder).digest != tiny_model.digest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spec.json", "expected an exact model, found no spec.json"),
        ("weights.safetensors", "expected weights.safetensors, found none"),
        ("tokenizer.json", "expected tokenizer.json, found none"),
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str, message: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=message):
        ExactModel.from_folder(folder).check_all()


def test_a_huge_specification_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "spec.json").open("ab") as file:
        file.truncate(specification_module.MAX_BYTES + 1)
    with pytest.raises(LimitExceeded, match="at most 4194304 bytes"):
        ExactModel.from_folder(folder)
    with pytest.raises(LimitExceeded, match="at most 4194304 bytes"):
        digest_on_disk(folder)


Header = dict[str, Any]


def first_name(header: Header) -> str:
    return next(iter(header))


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h | {"__metadata__": {"format": "pt"}},
        lambda h: {n: e for n, e in h.items() if n != first_name(h)},
        lambda h: h | {first_name(h): h[first_name(h)] | {"dtype": "U8"}},
        lambda h: h | {first_name(h): h[first_name(h)] | {"shape": [1]}},
        lambda h: h | {first_name(h): h[first_name(h)] | {"data_offsets": [8, 16]}},
        lambda h: [],
    ],
)
def test_another_header_is_refused(folder: Path, change: Callable[[Header], Any]) -> None:
    path = folder / "weights.safetensors"
    header, data = header_of(path)
    head = json.dumps(change(header)).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    with pytest.raises(InvalidBundle, match="expected the header that"):
        ExactModel.from_folder(folder).check_all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 20) + b"{",
        struct.pack("<Q", 2) + b"\xff\xff",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
    ],
)
def test_a_broken_header_is_refused(folder: Path, data: bytes) -> None:
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(InvalidBundle, match=r"^weights\.safetensors: expected the header"):
        ExactModel.from_folder(folder).check_all()


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text + b" " * 8,
        lambda text: b" " * 8 + text,
        lambda text: text.replace(b",", b", "),
        lambda text: text.replace(b"{", b'{"table.exp":{},', 1),
    ],
    ids=["padded", "moved", "spaced", "twice"],
)
def test_a_header_has_one_spelling(folder: Path, spell: Callable[[bytes], bytes]) -> None:
    """The same tensors at other places: compiled graphs, which others execute, would read past."""
    path = folder / "weights.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = spell(data[8 : 8 + length])
    path.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])
    with pytest.raises(InvalidBundle, match="expected the header that"):
        ExactModel.from_folder(folder).check_all()


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0"])
def test_missing_and_surplus_bytes_are_refused(
    folder: Path, change: Callable[[bytes], bytes]
) -> None:
    path = folder / "weights.safetensors"
    data = path.read_bytes()
    path.write_bytes(change(data))
    message = f"expected {len(data)} bytes, got {len(change(data))}"
    with pytest.raises(InvalidBundle, match=message):
        ExactModel.from_folder(folder).tensor("table.exp")

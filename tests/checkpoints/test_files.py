"""Shards, number types, other forms of weights, and what the digest of a folder covers."""

from __future__ import annotations

import json
import os
import runpy
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.checkpoints.conftest import Weights, rewrite
from tests.checkpoints.reference import change_json, distance
from tests.checkpoints.test_layouts import same
from tests.commands import zkllm
from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256, tagged
from zkllm.errors import Error, InputError, UnsupportedModel
from zkllm.exporting import export

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def shard(folder: Path) -> dict[str, str]:
    """Cut model.safetensors in two; returns the index's weight_map."""
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    names = sorted(weights)
    half = len(names) // 2
    places: dict[str, str] = {}
    for name, part in zip(SHARDS, (names[:half], names[half:]), strict=True):
        safetensors.numpy.save_file({n: weights[n] for n in part}, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors").unlink()
    write_index(folder, places)
    return places


def write_index(folder: Path, places: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_shards_are_one_model(folder: Path, tiny_checkpoint: Checkpoint) -> None:
    shard(folder)
    read = Checkpoint.from_folder(folder)
    assert same(read, tiny_checkpoint)
    assert distance(folder, read) < 1e-4
    assert read.digest != tiny_checkpoint.digest


def test_shards_may_be_links(folder: Path, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    shard(folder)
    blob = tmp_path / "blob"  # as the cache of the hub keeps them
    (folder / SHARDS[0]).rename(blob)
    (folder / SHARDS[0]).symlink_to(blob)
    assert same(Checkpoint.from_folder(folder), tiny_checkpoint)


def drop_shard(folder: Path, places: dict[str, str]) -> None:
    (folder / SHARDS[1]).unlink()


def drop_tensor(folder: Path, places: dict[str, str]) -> None:
    places.popitem()
    write_index(folder, places)


def invent_tensor(folder: Path, places: dict[str, str]) -> None:
    write_index(folder, places | {"transformer.more": SHARDS[0]})


def move_tensor(folder: Path, places: dict[str, str]) -> None:
    first = next(iter(places))
    write_index(folder, places | {first: SHARDS[1]})


def two_of_one(folder: Path, places: dict[str, str]) -> None:
    """A tensor lies in both shards, with other values in the second."""
    first = next(iter(places))
    left, right = (safetensors.numpy.load_file(folder / name) for name in SHARDS)
    safetensors.numpy.save_file(right | {first: left[first] + 1}, folder / SHARDS[1])


def outside(name: object) -> Callable[[Path, dict[str, str]], None]:
    def change(folder: Path, places: dict[str, str]) -> None:
        (folder.parent / "x.safetensors").write_bytes((folder / SHARDS[0]).read_bytes())
        write_index(folder, {n: name if s == SHARDS[0] else s for n, s in places.items()})

    return change


def pipe(folder: Path, places: dict[str, str]) -> None:
    (folder / SHARDS[0]).unlink()
    os.mkfifo(folder / SHARDS[0])


def text(content: str) -> Callable[[Path, dict[str, str]], None]:
    def change(folder: Path, places: dict[str, str]) -> None:
        (folder / INDEX).write_text(content)

    return change


def whole_beside(folder: Path, places: dict[str, str]) -> None:
    (folder / "model.safetensors").write_bytes((folder / SHARDS[0]).read_bytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_shard, f"names {SHARDS[1]}, found none"),
        (pipe, f"names {SHARDS[0]}, found none"),
        (drop_tensor, f"lies in {SHARDS[1]}, the index says nothing"),
        (invent_tensor, f"{SHARDS[0]} must hold transformer.more, it does not"),
        (move_tensor, f"lies in {SHARDS[0]}, the index says {SHARDS[1]}"),
        (two_of_one, f"lies in {SHARDS[1]}, the index says {SHARDS[0]}"),
        (outside("../x.safetensors"), "expected a file NAME.safetensors beside the index, got"),
        (outside("/etc/x.safetensors"), "expected a file NAME.safetensors beside the index, got"),
        (outside("a\nb.safetensors"), "expected a file NAME.safetensors beside the index, got"),
        (outside("a\0.safetensors"), "expected a file NAME.safetensors beside the index, got"),
        (outside("pytorch_model-00001-of-00002.bin"), "expected a file NAME.safetensors"),
        (outside(7), "expected a file NAME.safetensors beside the index, got 7"),
        (outside("x" * 5000 + ".safetensors"), "expected a file NAME.safetensors beside"),
        (outside("é" * 130 + ".safetensors"), "expected a file NAME.safetensors beside"),
        (outside("absent.safetensors"), "names absent.safetensors, found none"),
        (text("{}"), "expected an object weight_map"),
        (text('{"weight_map": {}}'), "expected an object weight_map with tensors"),
        (text('{"weight_map": []}'), "expected an object weight_map with tensors"),
        (text('{"weight_map": {"a": "b", "a": "c"}}'), "not JSON: duplicate key 'a'"),
        (text("[" * 100_000), "not JSON"),
        (whole_beside, f"expected model.safetensors or {INDEX}, found both"),
    ],
)
def test_shards_that_do_not_fit_are_refused(folder: Path, damage: Any, message: str) -> None:
    damage(folder, shard(folder))
    with pytest.raises(InputError, match=message) as caught:
        Checkpoint.from_folder(folder)
    assert len(caught.value.message.splitlines()) == 1
    assert len(caught.value.message) < 500


# Number types


def write_raw(path: Path, kind: str, arrays: Weights) -> None:
    """A file of safetensors whose tensors all have the type `kind`, whatever numpy calls it."""
    header, data = {}, b""
    for name, values in arrays.items():
        piece = values.tobytes()
        span = [len(data), len(data) + len(piece)]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": span}
        data += piece
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


def test_bfloat16_is_the_upper_half_of_float32(folder: Path) -> None:
    rewrite(folder, lambda w: {n: (v.view("u4") & 0xFFFF0000).view("f4") for n, v in w.items()})
    expected = Checkpoint.from_folder(folder)
    path = folder / "model.safetensors"
    stored = safetensors.numpy.load_file(path)
    write_raw(path, "BF16", {n: (v.view("u4") >> 16).astype("<u2") for n, v in stored.items()})
    read = Checkpoint.from_folder(folder)
    assert same(read, expected)
    assert distance(folder, read) < 1e-4


def test_every_bfloat16_is_read_as_torch_reads_it(folder: Path) -> None:
    rows = np.arange(1 << 16, dtype="<u2").reshape(-1, 32)
    rows = rows[((rows >> 7) & 0xFF != 0xFF).all(axis=1)]  # neither infinity nor NaN
    path = folder / "model.safetensors"
    stored = safetensors.numpy.load_file(path)
    wide = {n: np.zeros(v.shape, "<u2") for n, v in stored.items()}
    wide["transformer.wte.weight"] = rows
    write_raw(path, "BF16", wide)
    change_json(folder / "config.json", vocab_size=len(rows))
    read = Checkpoint.from_folder(folder).tensors["wte.weight"]
    expected = torch.from_numpy(rows.view("<i2").copy()).view(torch.bfloat16).double().numpy()
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("kind", ["<f2", "<f8"])
def test_half_and_double_precision(folder: Path, kind: str) -> None:
    rewrite(folder, lambda w: {n: v.astype(kind) for n, v in w.items()})
    assert distance(folder, Checkpoint.from_folder(folder)) < 1e-4


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("F8_E4M3", "|u1"), ("F8_E5M2", "|u1"), ("I8", "|i1"), ("U8", "|u1"), ("I64", "<i8")],
)
def test_other_types_are_refused_by_name(folder: Path, kind: str, stored: str) -> None:
    path = folder / "model.safetensors"
    weights = safetensors.numpy.load_file(path)
    write_raw(path, kind, {n: v.astype(stored) for n, v in weights.items()})
    with pytest.raises(UnsupportedModel, match=f"must be F16, BF16, F32 or F64, got {kind}"):
        Checkpoint.from_folder(folder)


def test_a_header_is_capped(folder: Path) -> None:
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", (16 << 20) + 1))
    with pytest.raises(InputError, match="a header of at most 16777216 bytes expected"):
        Checkpoint.from_folder(folder)


def test_what_a_broken_header_says_is_escaped(folder: Path) -> None:
    head = json.dumps({"x": {"dtype": "\n\x1b[2J", "shape": [], "data_offsets": [0, 0]}}).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head)
    with pytest.raises(InputError, match="not a safetensors file") as caught:
        Checkpoint.from_folder(folder)
    assert caught.value.message.isprintable()


# Other forms


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tf_model.h5", "found tf_model.h5: weights of TensorFlow"),
        ("flax_model.msgpack", "found flax_model.msgpack: weights of Flax"),
        ("ckpt.pt", "found ckpt.pt: a pickled checkpoint"),
        ("model-00001-of-00002.safetensors", "found model-00001-of-00002.safetensors"),
        ("pytorch_model.bin", "found pytorch_model.bin"),
        ("pytorch_model.bin.index.json", "found pytorch_model.bin.index.json"),
    ],
)
def test_weights_in_another_form_are_named(folder: Path, name: str, message: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(InputError, match=message):
        Checkpoint.from_folder(folder)


def test_what_lies_beside_whole_weights_is_not_read(
    folder: Path, tiny_checkpoint: Checkpoint
) -> None:
    for name in ("pytorch_model.bin", "tf_model.h5", "vocab.json", "training_args.bin"):
        (folder / name).write_bytes(b"\0")
    assert Checkpoint.from_folder(folder).digest == tiny_checkpoint.digest


def test_an_adapter_is_refused_beside_whole_weights_too(folder: Path) -> None:
    change_json(folder / "adapter_config.json", peft_type="LORA")
    with pytest.raises(UnsupportedModel, match=r"adapter_config.json says that an adapter"):
        Checkpoint.from_folder(folder)


@pytest.mark.parametrize("sharded", [False, True])
def test_the_two_lines_convert_what_torch_saved(
    folder: Path, tiny_checkpoint: Checkpoint, tmp_path: Path, sharded: bool
) -> None:
    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors = {n: torch.from_numpy(v) for n, v in stored.items()}
    names = sorted(tensors)
    files = {"pytorch_model.bin": names}
    if sharded:
        files = {"pytorch_model-00001-of-00002.bin": names[::2]}
        files["pytorch_model-00002-of-00002.bin"] = names[1::2]
        places = {n: file for file, part in files.items() for n in part}
        change_json(folder / "pytorch_model.bin.index.json", metadata={}, weight_map=places)
    for file, part in files.items():
        torch.save({n: tensors[n] for n in part}, folder / file)
    (folder / "model.safetensors").unlink()
    done = zkllm("export", folder, "-o", tmp_path / "model")
    assert done.code == 4
    _, hint, *lines = done.err.splitlines()
    assert hint == "hint: convert it with two lines of Python:"
    assert len(lines) == 2
    script = tmp_path / "convert.py"
    script.write_text("\n".join(lines))
    runpy.run_path(str(script))
    assert same(Checkpoint.from_folder(folder), tiny_checkpoint)


# JSON


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"n_embd": 32, "n_embd": 64}', "not JSON: duplicate key 'n_embd'"),
        ('{"layer_norm_epsilon": NaN}', "not JSON: NaN is no number"),
        ('{"x": [-Infinity]}', "not JSON: -Infinity is no number"),
        ('{"n_embd": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        ('{"\\ud800\\u001b[2J": 1, "\\ud800\\u001b[2J": 2}', r"duplicate key '.ud800.x1b.2J"),
        ("\ufeff[]", "expected an object"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_ambiguous_json_is_refused(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        Checkpoint.from_folder(folder)


def test_a_byte_order_mark_is_no_harm(folder: Path, tiny_checkpoint: Checkpoint) -> None:
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Checkpoint.from_folder(folder).architecture == tiny_checkpoint.architecture


# Digests


def test_a_plain_folder_keeps_its_digest(demo_folder: Path) -> None:
    plain = [demo_folder / name for name in ("config.json", "model.safetensors", "tokenizer.json")]
    lines = "\n".join(sha256(path.read_bytes()) for path in plain).encode()
    assert Checkpoint.from_folder(demo_folder).digest == tagged("zkllm/checkpoint/v1", lines)


def test_any_other_folder_names_its_files(folder: Path) -> None:
    shard(folder)
    change_json(folder / "generation_config.json", eos_token_id=3)
    names = ["config.json", "generation_config.json", *SHARDS, INDEX, "tokenizer.json"]
    lines = "\n".join(f"{n} {sha256((folder / n).read_bytes())}" for n in sorted(names)).encode()
    assert Checkpoint.from_folder(folder).digest == tagged("zkllm/checkpoint/v2", lines)


@pytest.mark.parametrize("name", ["generation_config.json", INDEX, *SHARDS])
def test_the_digest_binds_every_file_of_any_layout(folder: Path, name: str) -> None:
    shard(folder)
    change_json(folder / "generation_config.json", eos_token_id=3)
    before = Checkpoint.from_folder(folder).digest
    path = folder / name
    if path.suffix == ".json":
        path.write_bytes(path.read_bytes() + b"\n")
    else:
        stored = safetensors.numpy.load_file(path)
        safetensors.numpy.save_file({n: v + 1 for n, v in stored.items()}, path)
    assert Checkpoint.from_folder(folder).digest != before


# Numbers at the ends of their types


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [3e38, -(2.0**127), 1e308, 1e-45, 2.0**60])
@pytest.mark.parametrize(
    "full",
    [
        "wte.weight",
        "wpe.weight",
        *(f"{n}.{p}" for n in ("ln_f", "h.0.ln_1", "h.0.attn.c_attn") for p in ("weight", "bias")),
        "h.1.mlp.c_proj.weight",
    ],
)
def test_extreme_weights_are_exported_or_refused(
    folder: Path, tmp_path: Path, full: str, value: float
) -> None:
    def change(weights: Weights) -> Weights:
        changed = weights[f"transformer.{full}"].astype(np.float64)
        changed[(0,) * changed.ndim] = value
        return weights | {f"transformer.{full}": changed}

    rewrite(folder, change)
    refusal, done = None, None
    try:
        done = export(folder, tmp_path / "model")
    except Error as err:
        refusal = err
    if done is None:
        assert refusal is not None
        assert refusal.exit_code == 4
        assert len(refusal.message.splitlines()) == 1
        assert not (tmp_path / "model").exists()
    else:
        json.dumps(done.to_json(), allow_nan=False)
        assert done.fidelity.agreement is not None

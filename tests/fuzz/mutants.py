"""What can be spoiled: every number of `spec.json`, and every tensor at the ends of every type."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import trained_statistics, word_tokenizer
from tests.fitting import with_unit
from zkllm import architectures
from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.exact import check
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification, StoredTensor
from zkllm.operations.embed.exact import Embed
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import WIDTHS, IntArray, tensor_digest

Json = Any
POWERS = (1, 7, 8, 15, 16, 31, 32, 40, 47, 51, 52, 53, 60, 61, 62, 63, 64)
CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_embd": 20,
    "n_head": 2,
    "n_layer": 1,
    "n_inner": 24,
    "n_positions": 5,
    "vocab_size": 7,
    "eos_token_id": 6,
}
PLACES = {"first": slice(1), "last": slice(-1, None), "all": slice(None)}
TOKENIZER = word_tokenizer(CONFIG["vocab_size"])


@dataclass(frozen=True)
class Spoiled:
    """A specification, in bytes that nobody has checked, with the tensors that it names."""

    specification: bytes
    tensors: dict[str, IntArray]


@dataclass(frozen=True)
class Mutant:
    """What is spoiled, in words, and how; made when it is asked for."""

    name: str
    make: Callable[[], Spoiled]


def original() -> tuple[Specification, dict[str, IntArray]]:
    """The honest model."""
    weights = {
        name.removeprefix("transformer."): value.astype(np.float64)
        for name, value in trained_statistics(CONFIG, 0).items()
    }
    weights["lm_head.weight"] = weights["wte.weight"]
    network = architectures.read(CONFIG)
    checkpoint = Checkpoint(network, weights, TOKENIZER, sha256(b"fuzz"), stop_ids=(6,))
    return build(checkpoint, PRECISIONS["wide"])


def mutants() -> Iterator[Mutant]:
    """All of them; those of numbers first."""
    specification, tensors = original()
    yield Mutant("the honest model", lambda: Spoiled(specification.to_bytes(), tensors))
    yield from numbers(specification, tensors)
    yield from extremes(specification, tensors)


def numbers(specification: Specification, tensors: dict[str, IntArray]) -> Iterator[Mutant]:
    """Every number is another."""
    value = json.loads(specification.to_bytes())
    for path in integers_in(value):
        for other in others(at(value, path)):
            make = functools.partial(put, value, path, other, tensors)
            yield Mutant(f"{'.'.join(map(str, path))} = {other!r:.40}", make)


def others(found: int) -> list[Any]:
    """What a number could be instead."""
    near = {0, 1, -1, found - 1, found + 1, 2 * found, -found, 10**30, 10**50}
    powers = {sign * (1 << k) + d for k in POWERS for sign in (1, -1) for d in (-1, 0, 1)}
    return [*sorted((near | powers) - {found}), True, 1.5, str(found), None, [found]]


def extremes(specification: Specification, tensors: dict[str, IntArray]) -> Iterator[Mutant]:
    """Every tensor has the ends of every type, in one place or everywhere."""
    ends = sorted({sign * (1 << k) - d for k in POWERS for sign in (1, -1) for d in (0, 1)})
    for name in tensors:
        make = functools.partial(stored, specification, tensors, name)
        for place, where in PLACES.items():
            for n in ends:
                if -(1 << 63) <= n < 1 << 63:
                    yield Mutant(f"{name}: {place} {n}", functools.partial(make, where, n))
        for dtype in WIDTHS:
            if WIDTHS[dtype] > WIDTHS[specification.tensors[name].dtype]:
                yield Mutant(f"{name}: {dtype}", functools.partial(make, slice(0), 0, dtype))


def stored(
    specification: Specification,
    tensors: dict[str, IntArray],
    name: str,
    where: slice,
    n: int,
    dtype: str | None = None,
) -> Spoiled:
    """The model whose tensor `name` has `n` in some places, under its own digest."""
    values = tensors[name].copy()
    values.reshape(-1)[where] = n
    dtype = dtype or next(kind for kind in WIDTHS if (values.astype(kind) == values).all())
    entry = StoredTensor(dtype, values.shape, tensor_digest(values, dtype))
    changed = replace(specification, tensors=specification.tensors | {name: entry})
    return Spoiled(changed.to_bytes(), tensors | {name: values})


def proven_again(specification: Specification, tensors: dict[str, IntArray]) -> Specification:
    """The bounds that a careful author would write; raises `Error` if there are none."""
    for name in specification.units():
        proven = check.prove_unit(ExactModel.in_memory(specification, tensors), name)
        specification = with_unit(specification, name, proven)
        if isinstance(proven, Embed):
            specification = replace(specification, input=proven.output)
    return specification


def integers_in(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all integers."""
    if isinstance(value, int):
        yield path
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from integers_in(item, (*path, key))


def at(value: Json, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def put(value: Json, path: tuple[Any, ...], other: Any, tensors: dict[str, IntArray]) -> Spoiled:
    """The model whose specification has `other` there; as canonical as a float allows."""
    changed = json.loads(json.dumps(value))
    at(changed, path[:-1])[path[-1]] = other
    return Spoiled(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode(), tensors)


def write(spoiled: Spoiled, folder: Path) -> None:
    """A folder that holds it, as an export would have written it."""
    specification = Specification.from_bytes(spoiled.specification)
    save(specification, spoiled.tensors, TOKENIZER, folder)

"""The specification: everything that defines an exact model except the integers of its tensors.

`spec.json` is the canonical JSON of a `Specification`. It names the digest of every tensor and of
the tokenizer, so that the digest of this one file names the whole model.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zkllm.digests import Digest, canonical_json, parse_canonical_json, tagged
from zkllm.errors import InvalidBundle, UnsupportedVersion
from zkllm.exact import format1
from zkllm.exact.format1 import Record
from zkllm.exact.limits import MAX_TABLE, check_numbers, check_sizes
from zkllm.integers import FLOAT64_LIMIT
from zkllm.operations.precision import Fractions
from zkllm.operations.step import Step
from zkllm.operations.tables import ActivationKind, ExpTable
from zkllm.operations.unit import Rows, Unit
from zkllm.records import from_json, to_json, word
from zkllm.sizes import MAX_STOP_IDS
from zkllm.tensors import TensorType

FORMAT = 1
MAX_BYTES = 4 << 20
"""No specification is longer: with every size at its cap, and every number, it has 3.4 MB."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of the network, in GPT-2's terms."""

    width: int
    """d: size of the residual stream."""
    heads: int
    inner: int
    """Width of the MLP's hidden layer."""
    vocabulary: int
    context: int
    """Largest number of positions."""
    first_block: int
    """Index, in the checkpoint, of the first block of this model; 0 unless it is a fragment."""
    blocks: int
    activation: ActivationKind


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One integer tensor of the model."""

    dtype: str
    shape: tuple[int, ...]
    digest: Digest

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)


@dataclass(frozen=True)  # without slots, which leave no room for what is worked out once
class Specification(format1.Records):
    """An exact model, up to the integers of its tensors, which it names by digest."""

    format: int
    kind: Literal["text", "fragment"]
    source: Digest
    """Digest of the checkpoint's files (`zkllm.checkpoints.Checkpoint.digest`)."""
    architecture: Architecture
    fractions: Fractions
    exp: ExpTable
    input: int
    """Bound on |x| at the first boundary: proven for `text`, demanded for `fragment`."""
    tensors: dict[str, StoredTensor]
    tokenizer: Digest | None
    """Digest of tokenizer.json; none for a fragment."""
    pad_id: int
    """The token that fills up a run to the fixed length of a circuit."""
    stop_ids: tuple[int, ...]
    """Tokens after which a completion may end early."""

    @functools.cached_property
    def records(self) -> Mapping[str, Record]:
        """All units as format 1 writes them, by name, in the order of the computation."""
        return self.named(self.architecture.first_block)

    def units(self) -> Mapping[str, Unit]:
        """All units as lists of steps, by name, in the order of the computation."""
        return self._units

    @functools.cached_property
    def _units(self) -> Mapping[str, Unit]:
        found, bound = dict[str, Unit](), self.input
        for name, record in self.records.items():
            found[name] = unit = format1.read(name, record, self.architecture, bound)
            bound = unit.output.bound if isinstance(unit.output, Rows) else bound
        return found

    @functools.cached_property
    def readers(self) -> Mapping[str, tuple[Step, ...]]:
        """The steps that read each lookup table, by its name."""
        found: dict[str, tuple[Step, ...]] = {}
        for unit in self.units().values():
            for step in unit.steps:
                for table in step.tables():
                    found[table] = (*found.get(table, ()), step)
        return found

    def boundary_bounds(self) -> list[int]:
        """Bound of every boundary: input of the first block, then output of every block unit."""
        blocks = [unit for unit in self.units().values() if isinstance(unit.input, Rows)]
        outputs = [unit.output.bound for unit in blocks if isinstance(unit.output, Rows)]
        return [self.input, *outputs]

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(to_json(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Specification:
        """Parse `spec.json`; raises `InvalidBundle` or `UnsupportedVersion`."""
        if len(data) > MAX_BYTES:
            raise InvalidBundle(f"spec.json: at most {MAX_BYTES} bytes, got {len(data)}")
        value = parse_canonical_json(data, "spec.json")
        if isinstance(value, dict) and value.get("format") != FORMAT:
            found = word(str(value.get("format")))[:20]
            raise UnsupportedVersion(f"spec.json: expected format {FORMAT}, got {found}")
        specification = typing.cast("Specification", from_json(cls, value, "spec.json"))
        specification.check()
        return specification

    @functools.cached_property
    def digest(self) -> Digest:
        """The model digest: the name of this exact model."""
        return model_digest(self.to_bytes())

    @functools.cached_property
    def size(self) -> int:
        """How many integers all tensors have."""
        return sum(stored.type.size for stored in self.tensors.values())

    def check(self) -> None:
        """Raises `InvalidBundle` unless shapes, names and bounds fit together."""
        a = self.architecture
        check_sizes(a)
        if not len(self.attention) == len(self.mlp) == a.blocks:
            raise InvalidBundle(f"spec.json: expected {a.blocks} attention and mlp units each")
        text = self.kind == "text"
        if text != (self.embed is not None) or text != (self.head is not None):
            raise InvalidBundle("spec.json: a text model, and only it, has embed and head")
        if text != (self.tokenizer is not None) or (text and a.first_block):
            raise InvalidBundle("spec.json: a text model, and only it, has a tokenizer")
        if len(self.stop_ids) > MAX_STOP_IDS:
            raise InvalidBundle(
                f"spec.json: expected at most {MAX_STOP_IDS} stop ids, got {len(self.stop_ids)}"
            )
        if any(not 0 <= i < a.vocabulary for i in (self.pad_id, *self.stop_ids)):
            raise InvalidBundle("spec.json: pad and stop ids must be tokens of the vocabulary")
        if not 0 < self.input < FLOAT64_LIMIT:
            raise InvalidBundle(f"spec.json: expected an input below 2^52, got {self.input}")
        check_numbers(self.fractions, "spec.json: fractions", 62)
        check_numbers(self.exp, "spec.json: exp", MAX_TABLE)
        for name, unit in self.records.items():
            check_numbers(unit, f"spec.json: {name}")
        self._check_tensors()

    def _check_tensors(self) -> None:
        """Raises `InvalidBundle` unless every tensor has one role, and the name and shape for it.

        A name that follows from the role cannot be an alias, a value of some graph, or a text that
        somebody wants to be shown.
        """
        for name, stored in self.tensors.items():
            TensorType.from_json(stored.type.to_json(), f"spec.json: {word(name)}")
        for unit, layers in self.records.items():
            for expected, name in format1.tensor_names(unit, layers):
                if name != expected:
                    raise InvalidBundle(
                        f"spec.json: {unit}: expected a tensor called {expected}, got {word(name)}"
                    )
        shapes = self.tensor_shapes()
        for name, shape in shapes.items():
            if name not in self.tensors or self.tensors[name].shape != shape:
                raise InvalidBundle(f"spec.json: expected a tensor {name} of shape {list(shape)}")
        for name in format1.TABLES.values():
            found = self.tensors[name].shape if name in self.tensors else ()
            if len(found) != 1 or found[0] > MAX_TABLE:
                raise InvalidBundle(
                    f"spec.json: expected a table {name} of at most {MAX_TABLE} entries, "
                    f"got shape {list(found)}"
                )
        unread = set(self.tensors) - set(shapes) - set(format1.TABLES.values())
        if unread:
            raise InvalidBundle(f"spec.json: tensor {word(min(unread))} belongs to no unit")

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape that each weight must have, tables excepted."""
        return {n: dims for unit in self.units().values() for n, dims in unit.weights().items()}


def model_digest(specification: bytes) -> Digest:
    """The digest of a model from the bytes of its `spec.json`."""
    return tagged("zkllm/model/v1", specification)

"""The container of traces and bundles: parsed with limits, emitted in one way.

`docs/format.md` describes every byte: magic, version, header length, canonical JSON header, then
the sections in the order of the header, without gaps, and nothing after them.
"""

from __future__ import annotations

import re
import struct
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from zkllm.digests import Digest, canonical_json, parse_canonical_json, repeated
from zkllm.errors import (
    InvalidBundle,
    LimitExceeded,
    StatementMismatch,
    UnsupportedVersion,
    meaning,
)
from zkllm.exact.specification import Specification
from zkllm.files import read_limited, write_atomically
from zkllm.records import word
from zkllm.statement import Statement, text_digest
from zkllm.tensors import IntArray, TensorType, bytes_digest, from_bytes, narrowest, to_bytes

BackendName = Literal["replay", "ezkl", "sumcheck"]
"""Who may have made evidence. Containers and policies are read before any backend is imported, so
what the format says of each stands here; all else is an attribute of `backends.base.Backend`."""
BACKENDS: tuple[BackendName, ...] = typing.get_args(BackendName)
"""The weakest first."""
MAX_EVIDENCE: Mapping[BackendName, int] = {
    "replay": 0,
    "ezkl": 1 << 20,
    "sumcheck": 16 << 20,
}
"""Largest evidence of one unit, in bytes."""
BINDING: frozenset[BackendName] = frozenset({"sumcheck"})
"""Backends whose evidence absorbs the digest of the statement, and so the nonce."""

MAGIC = b"ZKLLM\0"
VERSION = 1
MAX_HEADER = 4 << 20
MAX_TEXT = 4 << 20

_NAME = re.compile(r"[a-z0-9/]{1,60}(\[[0-9]{1,20}\])?")
"""What the name of any section looks like: it is shown before it is known to be one."""
_PREAMBLE = struct.Struct("<6sHI")
MAX_FRONT = _PREAMBLE.size + MAX_HEADER
"""Where the first section of any container begins at the latest."""
Kind = Literal["trace", "bundle"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is to convince the verifier of one unit."""

    backend: BackendName
    data: bytes


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of a header."""

    name: str
    length: int
    tensor: TensorType | None = None
    """For a boundary: how its integers are stored."""
    backend: BackendName | None = None
    """For evidence: who made it."""

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": self.name, "length": self.length}
        if self.tensor is not None:
            entry["tensor"] = self.tensor.to_json()
        if self.backend is not None:
            entry["backend"] = self.backend
        return entry

    @classmethod
    def from_json(cls, value: Any, what: str) -> Section:
        if not isinstance(value, dict) or not {"name", "length"} <= set(value):
            raise InvalidBundle(f"{what}: expected an object with name and length")
        unknown = set(value) - {"name", "length", "tensor", "backend"}
        if unknown:
            raise InvalidBundle(f"{what}: unknown field {word(min(unknown))}")
        name, length, backend = value["name"], value["length"], value.get("backend")
        if type(name) is not str or not _NAME.fullmatch(name):
            raise InvalidBundle(f"{what}.name: expected a short name, got {name!r:.60}")
        if type(length) is not int or not 0 <= length < 1 << 40:
            raise InvalidBundle(f"{what}.length: expected a number of bytes, got {length!r:.40}")
        if "backend" in value and backend not in BACKENDS:
            raise InvalidBundle(
                f"{what}.backend: expected one of {', '.join(BACKENDS)}, got {backend!r:.40}"
            )
        tensor = TensorType.from_json(value["tensor"], what) if "tensor" in value else None
        return cls(name, length, tensor, backend)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trace or a bundle: one statement, its text, all boundaries, evidence by unit.

    Everything in it is a claim of whoever wrote it. `from_bytes` checks form only.
    """

    statement: Statement
    prompt: str
    completion: str
    boundaries: tuple[IntArray, ...]
    """[T, d] each: the input of the first block, then the output of every block unit."""
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    """By unit; empty for a trace."""

    @property
    def kind(self) -> Kind:
        return "bundle" if self.evidence else "trace"

    def with_evidence(self, evidence: Mapping[str, Evidence]) -> Bundle:
        return replace(self, evidence=dict(evidence))

    def to_bytes(self, specification: Specification) -> bytes:
        """The one encoding of this bundle."""
        sections: list[Section] = []
        pieces: list[bytes] = []

        def add(name: str, data: bytes, **more: Any) -> None:
            sections.append(Section(name, len(data), **more))
            pieces.append(data)

        if self.statement.kind == "text":
            add("prompt", self.prompt.encode())
            add("completion", self.completion.encode())
        kinds = boundary_types(specification, self.statement.positions)
        for i, (boundary, kind) in enumerate(zip(self.boundaries, kinds, strict=True)):
            add(f"boundary[{i}]", to_bytes(boundary, kind.dtype), tensor=kind)
        for unit in specification.units():
            if unit in self.evidence:
                evidence = self.evidence[unit]
                add(f"evidence/{unit}", evidence.data, backend=evidence.backend)
        header = canonical_json(
            {
                "kind": self.kind,
                "statement": self.statement.to_json(),
                "sections": [section.to_json() for section in sections],
            }
        )
        return _PREAMBLE.pack(MAGIC, VERSION, len(header)) + header + b"".join(pieces)

    @classmethod
    def from_bytes(cls, data: bytes, specification: Specification) -> Bundle:
        """Parse `data` as a run of `specification`.

        Raises `InvalidBundle`, `LimitExceeded` or `UnsupportedVersion` for a wrong form,
        `StatementMismatch` where the statement contradicts the specification or the bytes.
        """
        header = read_header(data)
        statement = header.statement
        with meaning("the statement cannot be of a run of this model"):
            statement.check(specification)
        expected = _expected_sections(header, specification)
        start, found = header.end, {}
        for section in header.sections:
            found[section.name] = data[start : start + section.length]
            start += section.length
        boundaries = []
        for i, kind in enumerate(boundary_types(specification, statement.positions)):
            raw = found[f"boundary[{i}]"]
            digest = bytes_digest(raw, kind)
            if digest != statement.boundaries[i]:
                raise StatementMismatch(
                    f"boundary[{i}]: the statement names {statement.boundaries[i]}, got {digest}",
                    clause="the statement is about other numbers than these",
                )
            boundaries.append(from_bytes(raw, kind))
        prompt, completion = (
            _text(found[name], name) if name in expected else ""
            for name in ("prompt", "completion")
        )
        if statement.text is not None and statement.text != text_digest(prompt, completion):
            raise StatementMismatch(
                f"text: the statement names {statement.text}, "
                f"got {text_digest(prompt, completion)}",
                clause="the statement is about another text than this",
            )
        evidence = {
            section.name.removeprefix("evidence/"): Evidence(section.backend, found[section.name])
            for section in header.sections
            if section.backend is not None
        }
        return cls(statement, prompt, completion, tuple(boundaries), evidence)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands at the front of a container."""

    kind: Kind
    statement: Statement
    sections: tuple[Section, ...]
    end: int
    """Where the first section begins."""


def read_header(data: bytes, size: int | None = None) -> Header:
    """Parse preamble and header and check that the sections fill the rest exactly.

    Of a container of `size` bytes `data` may be no more than the front. Raises `InvalidBundle`,
    `LimitExceeded` or `UnsupportedVersion`.
    """
    size = len(data) if size is None else size
    if len(data) < _PREAMBLE.size or data[: len(MAGIC)] != MAGIC:
        raise InvalidBundle("expected a zkllm trace or bundle, found other bytes")
    _, version, length = _PREAMBLE.unpack_from(data)
    if version != VERSION:
        raise UnsupportedVersion(f"expected container version {VERSION}, got {version}")
    if length > MAX_HEADER:
        raise LimitExceeded(f"a header has at most {MAX_HEADER} bytes, got {length}")
    end = _PREAMBLE.size + length
    if len(data) < end:
        raise InvalidBundle(
            f"truncated: a header of {length} bytes expected, got {len(data)} in all"
        )
    value = parse_canonical_json(data[_PREAMBLE.size : end], "header")
    if not isinstance(value, dict) or set(value) != {"kind", "sections", "statement"}:
        raise InvalidBundle("header: expected the fields kind, sections and statement")
    kind = value["kind"]
    if kind not in ("trace", "bundle"):
        raise InvalidBundle(f"header.kind: expected trace or bundle, got {kind!r:.40}")
    if not isinstance(value["sections"], list):
        raise InvalidBundle("header.sections: expected a list")
    sections = tuple(
        Section.from_json(entry, f"header.sections[{i}]")
        for i, entry in enumerate(value["sections"])
    )
    twice = repeated(section.name for section in sections)
    if twice:
        raise InvalidBundle(f"header.sections: {twice} appears twice")
    total = end + sum(section.length for section in sections)
    if size != total:
        state = "truncated" if size < total else "trailing bytes"
        raise InvalidBundle(f"{state}: expected {total} bytes, got {size}")
    return Header(kind, Statement.from_json(value["statement"]), sections, end)


def boundary_types(specification: Specification, positions: int) -> list[TensorType]:
    """How each boundary of a run of T = `positions` rows is stored."""
    width = specification.architecture.width
    return [
        TensorType(narrowest(bound), (positions, width))
        for bound in specification.boundary_bounds()
    ]


def largest_size(
    specification: Specification, backends: Mapping[str, BackendName] | None = None
) -> int:
    """The size cap of any bundle of this model, known before a byte of it is read.

    `backends` by unit, where a policy demands them, keep it as small as their evidence is.
    """
    kinds = boundary_types(specification, specification.architecture.context)
    evidence = len(specification.units()) * max(MAX_EVIDENCE.values())
    if backends is not None:
        evidence = sum(MAX_EVIDENCE[backend] for backend in backends.values())
    return _PREAMBLE.size + MAX_HEADER + 2 * MAX_TEXT + evidence + sum(k.nbytes for k in kinds)


def _expected_sections(header: Header, specification: Specification) -> set[str]:
    """The names in `header`, which must be those of the specification, in its order."""
    kinds = boundary_types(specification, header.statement.positions)
    text = ["prompt", "completion"] if header.statement.kind == "text" else []
    tensors = {f"boundary[{i}]": kind for i, kind in enumerate(kinds)}
    fixed = [*text, *tensors]
    names = [section.name for section in header.sections]
    if names[: len(fixed)] != fixed:
        wrong = next((n for n, m in zip(names, fixed, strict=False) if n != m), "the end")
        raise InvalidBundle(f"header.sections: expected {', '.join(fixed)[:80]} ..., got {wrong}")
    evidence = names[len(fixed) :]
    order = [f"evidence/{unit}" for unit in specification.units()]
    if evidence != [name for name in order if name in evidence]:
        odd = next((n for n in evidence if n not in order), None)
        what = f"{odd} belongs to no unit of the model" if odd else "evidence is not in unit order"
        raise InvalidBundle(f"header.sections: {what}")
    if (header.kind == "bundle") != bool(evidence):
        raise InvalidBundle(f"header.kind: a {header.kind} with {len(evidence)} pieces of evidence")
    for section in header.sections:
        if section.tensor != tensors.get(section.name):
            raise InvalidBundle(f"{section.name}: the declared type or shape is not the model's")
        if section.tensor is not None and section.length != section.tensor.nbytes:
            raise InvalidBundle(
                f"{section.name}: expected {section.tensor.nbytes} bytes, got {section.length}"
            )
        if (section.name in evidence) != (section.backend is not None):
            raise InvalidBundle(f"{section.name}: evidence, and only it, names a backend")
        limit = MAX_EVIDENCE[section.backend] if section.backend is not None else MAX_TEXT
        if section.tensor is None and section.length > limit:
            raise LimitExceeded(
                f"{section.name}: at most {limit} bytes expected, got {section.length}"
            )
    return set(names)


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise InvalidBundle(f"{what}: not UTF-8 at byte {err.start}") from err


def load(path: Path, specification: Specification) -> Bundle:
    """Read the trace or bundle at `path`; raises as `Bundle.from_bytes` does."""
    return Bundle.from_bytes(read_limited(path, largest_size(specification)), specification)


def save(bundle: Bundle, specification: Specification, path: Path) -> int:
    """Write `bundle` atomically and return its size in bytes."""
    data = bundle.to_bytes(specification)
    with write_atomically(path) as file:
        file.write(data)
    return len(data)


def boundary_digests(
    specification: Specification, boundaries: tuple[IntArray, ...]
) -> tuple[Digest, ...]:
    """The digests that a statement names."""
    kinds = boundary_types(specification, len(boundaries[0]))
    return tuple(
        bytes_digest(to_bytes(boundary, kind.dtype), kind)
        for boundary, kind in zip(boundaries, kinds, strict=True)
    )

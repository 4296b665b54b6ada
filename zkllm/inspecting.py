"""What an artefact says about itself, unchecked."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path
from typing import Any

from zkllm.backends.sumcheck.backend import MAX_COMMITMENT, Commitment
from zkllm.backends.sumcheck.estimates import describe
from zkllm.bundle import (
    MAGIC,
    MAX_FRONT,
    MAX_TEXT,
    VERSION,
    Header,
    Section,
    boundary_types,
    read_header,
)
from zkllm.digests import sha256, sha256_stream
from zkllm.errors import InputError, LimitExceeded
from zkllm.exact.meaning import claimed
from zkllm.exact.model import ExactModel, size_on_disk
from zkllm.files import open_regular, read_limited
from zkllm.hidden import fragment_input, read_hidden
from zkllm.policy import Policy
from zkllm.records import word
from zkllm.tensors import IntArray, magnitude, tensor_digest


def inspect(path: Path, model: Path | None = None, pad_to: int | None = None) -> dict[str, Any]:
    """The facts in the artefact at `path`, as JSON values.

    It is a trace, a bundle, a policy, a commitment to weights, an exact model, or the rows of
    hidden states that a fragment takes. Of a bundle of `model` the soundness is told that its
    proofs have, if they are proofs; of rows the digest under which a statement about the fragment
    `model` names them as its input, after padding up to `pad_to`. Raises `InputError` for anything
    else.
    """
    if path.is_dir():
        return _model(path)
    if path.suffix == ".npy":
        return _rows(read_hidden(path), model, pad_to)
    with open_regular(path) as (file, size):
        if file.read(len(MAGIC)) == MAGIC:
            return _container(file, size, None if model is None else ExactModel.from_folder(model))
    if path.suffix == ".toml":
        return _policy(Policy.from_file(path))
    if path.suffix == ".json":
        data = read_limited(path, MAX_COMMITMENT)
        return _commitment(Commitment.from_bytes(data, str(path)), data)
    raise InputError(
        f"{path}: expected a trace, a bundle, a policy (.toml), a commitment (.json), "
        "hidden states (.npy) or a model folder"
    )


def _container(file: BufferedReader, size: int, model: ExactModel | None) -> dict[str, Any]:
    # its rows and its evidence may be gigabytes, which are hashed and not kept
    file.seek(0)
    header = read_header(file.read(MAX_FRONT), size)
    file.seek(0)
    sections = {section.name: section for section in header.sections}
    facts: dict[str, Any] = {
        "artefact": header.kind,
        "artefact_format": VERSION,
        "digest": sha256_stream(file),
        "size_bytes": size,
    }
    start = header.end
    for section in header.sections:
        if section.name in ("prompt", "completion"):
            if section.length > MAX_TEXT:
                raise LimitExceeded(
                    f"{section.name}: at most {MAX_TEXT} bytes expected, got {section.length}"
                )
            file.seek(start)
            facts[section.name] = file.read(section.length).decode("utf-8", "replace")
        start += section.length
    statement = header.statement.to_json()
    statement["boundaries"] = f"{len(header.statement.boundaries)} digests"
    facts["statement"] = statement
    facts["statement_digest"] = header.statement.digest
    facts["evidence"] = {
        name.removeprefix("evidence/"): _evidence(name, section, header, model)
        for name, section in sections.items()
        if section.backend is not None
    }
    return facts


def _evidence(name: str, section: Section, header: Header, model: ExactModel | None) -> str:
    """What one piece of evidence would be worth."""
    text = f"{section.backend}, {section.length} bytes"
    if section.backend != "sumcheck":
        return text
    text = f"{text}, not zero-knowledge, unaudited"
    unit = name.removeprefix("evidence/")
    if model is None or unit not in model.specification.units():
        return text
    statement = header.statement
    if statement.model != model.digest:
        raise InputError(f"the bundle is of {statement.model}, the model given is {model.digest}")
    generated, context = len(statement.generated_ids), model.specification.architecture.context
    if not 1 <= statement.positions <= context or not generated <= statement.positions:
        raise InputError(
            f"positions: expected 1 to {context}, and no fewer than generated tokens, "
            f"got {statement.positions} and {generated}"
        )
    worth = describe(model.specification, unit, statement.positions, generated, section.length)
    return f"{text}, {worth}"


def _rows(hidden: IntArray, model: Path | None, pad_to: int | None) -> dict[str, Any]:
    """What a verifier of a fragment compares with the `input` of a report."""
    if model is None:
        raise InputError(
            "the digest of hidden states depends on the fragment that takes them",
            hint="name the fragment: --model DIR",
        )
    exact = ExactModel.from_folder(model)
    rows = fragment_input(exact.specification, hidden, pad_to)
    return {
        "artefact": "hidden states",
        "model": exact.digest,
        "rows": len(rows),
        "largest": magnitude(rows),
        "input": tensor_digest(rows, boundary_types(exact.specification, len(rows))[0].dtype),
    }


def _commitment(commitment: Commitment, data: bytes) -> dict[str, Any]:
    return {
        "artefact": "commitment to weights",
        "artefact_format": commitment.format,
        "digest": sha256(data),
        "unit": word(commitment.unit),
        "model": commitment.model,
        "root": commitment.root,
        "tables": [word(name) for name in commitment.tables],
    }


def _model(folder: Path) -> dict[str, Any]:
    model = ExactModel.from_folder(folder)
    spec = model.specification
    a = spec.architecture
    return {
        "artefact": "exact model",
        "kind": spec.kind,
        "digest": model.digest,
        "source": spec.source,
        "size_bytes": size_on_disk(folder),
        "architecture": (
            f"{a.blocks} blocks from {a.first_block}, width {a.width}, {a.heads} heads, "
            f"inner {a.inner}, vocabulary {a.vocabulary}, context {a.context}, {a.activation}"
        ),
        "units": list(spec.units()),
        "exp_table": f"{spec.exp.family}({spec.exp.argument_bits}, {spec.exp.value_parameter})",
        "residual_bound_bits": max(spec.boundary_bounds()).bit_length(),
        "tensors": len(spec.tensors),
        "stop_ids": list(spec.stop_ids),
        "claimed": list(claimed(spec)),
    }


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "artefact": "policy",
        "model": policy.model,
        "units": dict(policy.units),
        "keys": {unit: dict(pins) for unit, pins in policy.keys.items()},
        "insecure_srs": policy.insecure_srs,
        "freshness": policy.freshness,
        "bundle_versions": list(policy.bundle_versions),
    }

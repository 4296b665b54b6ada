"""From a checkpoint to an exact model on disk, with its ONNX units and its fidelity report."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkllm.checkpoints import MAX_TOKENIZER, Checkpoint
from zkllm.data import bundled
from zkllm.digests import Digest
from zkllm.errors import DigestMismatch, InputError, UnsupportedModel
from zkllm.exact import model as exact_model
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build, logit_fraction
from zkllm.extras import require_packages
from zkllm.fidelity import Fidelity, measure, random_windows, windows
from zkllm.files import AnyPath, as_path, read_limited, write_atomically, write_folder_atomically
from zkllm.operations.precision import DEFAULT_PRESET, PRECISIONS, Precision
from zkllm.progress import Progress, silent
from zkllm.records import word
from zkllm.tensors import IntArray
from zkllm.tokenization import Tokenizer
from zkllm.vetting import check_round_trip, check_settings

GOAL_AGREEMENT = 0.99
GOAL_PERPLEXITY = 1.01
SETTINGS = "zkllm.toml"
"""In a checkpoint folder: the preset that its model was made for."""
_MAX_SETTINGS = 1 << 10
MAX_TEXT = 16 << 20
_FILES = (
    "spec.json",
    "weights.safetensors",
    "tokenizer.json",
    "compiled.json",
    "fidelity.json",
    "*.onnx",
)
"""Names in the folder of an exact model: what `force` may replace."""


@dataclass(frozen=True, slots=True)
class Export:
    """A finished export."""

    folder: Path
    digest: Digest
    """Model digest."""
    preset: str
    units: tuple[str, ...]
    size: int
    """Bytes of everything in the folder."""
    residual_bits: int
    """Bits of the largest proven bound on the residual stream, sign excluded."""
    fidelity: Fidelity
    notes: tuple[str, ...] = ()
    """What the checkpoint asks for that an exact model does not do, or does in its own way."""

    @property
    def shortfall(self) -> str:
        """By how much a goal of fidelity was missed, and what to do; empty if none was."""
        missed = []
        agreement, ratio = self.fidelity.agreement, self.fidelity.perplexity_ratio
        if agreement is not None and not agreement >= GOAL_AGREEMENT:
            # rounded down: 98.996 % must not look like the goal
            shown = math.floor(agreement * 1000) / 10 if math.isfinite(agreement) else agreement
            missed.append(f"{shown:.1f} % of positions agree, goal {GOAL_AGREEMENT:.0%}")
        if ratio is not None and not ratio <= GOAL_PERPLEXITY:
            missed.append(f"perplexity is {ratio:.4f} of float32's, goal {GOAL_PERPLEXITY}")
        if not missed:
            return ""
        finest = self.preset == DEFAULT_PRESET
        way = "no preset is finer" if finest else f"try --preset {DEFAULT_PRESET}"
        return f"{'; '.join(missed)}: {way}"

    def to_json(self) -> dict[str, Any]:
        return {
            "fidelity": self.fidelity.to_json(),
            "folder": str(self.folder),
            "goals": {"agreement": GOAL_AGREEMENT, "perplexity_ratio": GOAL_PERPLEXITY},
            "model": self.digest,
            "notes": list(self.notes),
            "preset": self.preset,
            "residual_bits": self.residual_bits,
            "shortfall": self.shortfall,
            "size_bytes": self.size,
            "units": list(self.units),
        }


def open_checkpoint(source: str | Path | Any, tokenizer: AnyPath | None = None) -> Checkpoint:
    """`demo` for the bundled checkpoint, a folder, or a torch module.

    A torch module has no tokenizer of its own: `tokenizer` is its tokenizer.json.
    """
    if isinstance(source, str | Path):
        return Checkpoint.from_folder(_folder(source))
    data = (
        None if tokenizer is None else read_limited(as_path(tokenizer, "tokenizer"), MAX_TOKENIZER)
    )
    return Checkpoint.from_torch(source, data)


def export(
    source: str | Path | Any,
    folder: AnyPath,
    *,
    preset: str | None = None,
    blocks: tuple[int, int] | None = None,
    tokenizer: AnyPath | None = None,
    text: str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Export:
    """Export `source` into `folder`; for `source` and `tokenizer` see `open_checkpoint`.

    `preset` is a name of `PRECISIONS`: if not given, the one that the checkpoint's `zkllm.toml`
    says, else `wide`. `blocks` (i, j) exports blocks i to j-1 as a fragment; `text` is what the
    fidelity report compares on. Raises `UnsupportedModel` for what cannot be made exact,
    `InputError` for a bad checkpoint.
    """
    require_packages("onnx", "safetensors")
    from zkllm.exact.graph import compile_units

    folder = as_path(folder, "folder")
    progress("reading the checkpoint")
    checkpoint = open_checkpoint(source, tokenizer)
    precision = _precision(preset, source)
    if blocks is None and checkpoint.tokenizer is not None:
        tokenizer_of = Tokenizer.from_bytes(
            checkpoint.tokenizer, checkpoint.architecture.vocabulary
        )
        if isinstance(source, str | Path):
            check_settings(_folder(source), tokenizer_of)
        check_round_trip(tokenizer_of)
    documents, where = _documents(source, checkpoint, text)
    with write_folder_atomically(folder, mark="spec.json", known=_FILES, force=force) as fresh:
        progress("proving bounds and rounding weights")
        specification, tensors = build(checkpoint, precision, blocks)
        model = exact_model.save(specification, tensors, checkpoint.tokenizer, fresh)
        progress("compiling ONNX units")
        compile_units(model, fresh)
        fidelity = measure(
            model,
            checkpoint,
            documents,
            where,
            logit_fraction=logit_fraction(checkpoint, precision) if blocks is None else 0,
            progress=progress,
        )
        with write_atomically(fresh / "fidelity.json") as file:
            file.write(json.dumps(fidelity.to_json(), indent=2, sort_keys=True).encode() + b"\n")
    return Export(
        folder=folder,
        digest=model.digest,
        preset=precision.name,
        units=tuple(specification.units()),
        size=exact_model.size_on_disk(folder),
        residual_bits=max(specification.boundary_bounds()).bit_length(),
        fidelity=fidelity,
        notes=checkpoint.notes,
    )


def check(folder: AnyPath, source: str | Path | Any) -> Digest:
    """Derive the exact model in `folder` again from `source` and compare; return its digest.

    Raises `DigestMismatch` that names the first thing that differs.
    """
    require_packages("safetensors")
    model = ExactModel.open(folder)
    model.check_all()
    spec = model.specification
    names = [
        name
        for name, p in PRECISIONS.items()
        if p.fractions == spec.fractions and p.exp == spec.exp
    ]
    if not names:
        raise UnsupportedModel(f"{folder}: its precision is none of {', '.join(PRECISIONS)}")
    a = spec.architecture
    fragment = spec.kind == "fragment"
    derived, _ = build(
        open_checkpoint(source),
        PRECISIONS[names[0]],
        (a.first_block, a.first_block + a.blocks) if fragment else None,
        input_bound=spec.input if fragment else None,
    )
    for name in sorted({*spec.tensors, *derived.tensors}):
        if spec.tensors.get(name) != derived.tensors.get(name):
            raise DigestMismatch(f"{folder}: tensor {name} is not what the checkpoint gives")
    if derived.digest != model.digest:
        raise DigestMismatch(
            f"{folder}: expected model {derived.digest}, got {model.digest}",
            hint="the weights agree; architecture, bounds, tokenizer or source differ",
        )
    return model.digest


def _precision(preset: str | None, source: str | Path | Any) -> Precision:
    where = "preset"
    if preset is None:
        preset, where = _own_preset(source), f"{SETTINGS}: preset"
    if not isinstance(preset, str) or preset not in PRECISIONS:
        raise InputError(f"{where}: expected one of {', '.join(PRECISIONS)}, got {preset!r:.40}")
    return PRECISIONS[preset]


def _own_preset(source: str | Path | Any) -> Any:
    """What the checkpoint's own `zkllm.toml` says, if it has one."""
    if not isinstance(source, str | Path):
        return DEFAULT_PRESET
    path = _folder(source) / SETTINGS
    if not path.is_file():
        return DEFAULT_PRESET
    try:
        settings = tomllib.loads(read_limited(path, _MAX_SETTINGS).decode())
    except (ValueError, RecursionError) as err:
        raise InputError(f"{path}: not TOML: {str(err)[:120]}") from err
    if set(settings) != {"preset"}:
        raise InputError(
            f"{path}: expected preset = NAME, got {word(', '.join(settings) or 'nothing')}"
        )
    return settings["preset"]


def _folder(source: str | Path) -> Path:
    return bundled("demo") if str(source) == "demo" else Path(source)


def _documents(
    source: str | Path | Any, checkpoint: Checkpoint, text: str | None
) -> tuple[list[IntArray], str]:
    """What the fidelity report compares on: `text`, the checkpoint's sample.txt, or no text."""
    if text is not None:
        return windows(checkpoint, text), "given text"
    path = _folder(source) / "sample.txt" if isinstance(source, str | Path) else None
    if path is None or not path.is_file():
        return random_windows(checkpoint), "random tokens (no text was given)"
    try:
        sample = read_limited(path, MAX_TEXT).decode("utf-8", "replace")
        return windows(checkpoint, sample), "sample.txt"
    except InputError:
        return random_windows(checkpoint), "random tokens (sample.txt has no usable line)"

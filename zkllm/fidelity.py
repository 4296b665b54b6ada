"""How close an exact model is to its float32 checkpoint. Measured once, never part of a proof."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zkllm.architectures.float32 import log_softmax
from zkllm.checkpoints import Checkpoint
from zkllm.errors import InputError, UnsupportedModel
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.operations.draft import quantise
from zkllm.progress import Progress, silent
from zkllm.tensors import IntArray
from zkllm.tokenization import Tokenizer, room

MAX_TOKENS = 512
"""A report looks at so many positions at most."""
_SEED = 20260101
_LARGEST_GAP = 100.0
"""Nats a token; whatever is larger is as useless."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Figures of one comparison; a fragment has `relative_error` only."""

    text: str
    """Where the tokens came from."""
    positions: int
    agreement: float | None
    """Share of positions at which both models choose the same token."""
    divergence: float | None
    """Mean KL(float32 ‖ exact) in nats per token."""
    perplexity_ratio: float | None
    """exp of the mean loss of the exact model over that of the float32 model; at most e^100."""
    relative_error: float
    """‖exact - float32‖ / ‖float32‖ of the last boundary."""

    def to_json(self) -> dict[str, Any]:
        return {
            "agreement": self.agreement,
            "divergence_nats": self.divergence,
            "perplexity_ratio": self.perplexity_ratio,
            "positions": self.positions,
            "relative_error": self.relative_error,
            "text": self.text,
        }


def measure(
    model: ExactModel,
    checkpoint: Checkpoint,
    documents: Sequence[IntArray],
    source: str,
    *,
    logit_fraction: int = 0,
    progress: Progress = silent,
) -> Fidelity:
    """Compare `model` with `checkpoint` on `documents`, each the ids of a run of its own.

    `source` says in the report where they came from: `windows` or `random_windows`. Raises
    `UnsupportedModel` if the float32 model itself overflows, so that there is nothing to compare.
    """
    spec = model.specification
    network, weights = checkpoint.architecture, checkpoint.tensors
    first, count = spec.architecture.first_block, spec.architecture.blocks
    text = spec.kind == "text"
    same = total = 0
    losses = {"float32": 0.0, "exact": 0.0}
    predicted, divergence, error, norm = 0, 0.0, 0.0, 0.0
    for ids in documents:
        progress(f"fidelity: {total} of at most {MAX_TOKENS} positions")
        with np.errstate(over="ignore", invalid="ignore"):
            hidden = network.hidden(weights, ids, first + count)
            logits = network.logits(weights, hidden[-1]) if text else None
        if not np.isfinite(hidden[-1] if logits is None else logits).all():
            raise UnsupportedModel(f"the float32 model overflows on {source}: it is no reference")
        if text:
            boundaries = reference.forward(model, ids)
        else:
            rows = quantise(
                hidden[first].astype(np.float64), spec.fractions.residual, "input: hidden states"
            )
            boundaries = reference.forward(model, np.clip(rows, -spec.input, spec.input))
        exact_rows = np.ldexp(boundaries[-1].astype(np.float64), -spec.fractions.residual)
        error += float(np.square(exact_rows - hidden[-1]).sum())
        norm += float(np.square(hidden[-1].astype(np.float64)).sum())
        total += len(ids)
        if logits is None:
            continue
        float_log = log_softmax(logits.astype(np.float64))
        scaled = np.ldexp(
            reference.logits(model, boundaries[-1]).astype(np.float64), -logit_fraction
        )
        exact_log = log_softmax(scaled)
        same += int((float_log.argmax(-1) == exact_log.argmax(-1)).sum())
        divergence += float((np.exp(float_log) * (float_log - exact_log)).sum())
        targets = ids[1:]
        predicted += len(targets)
        rows_index = np.arange(len(targets))
        losses["float32"] -= float(float_log[rows_index, targets].sum())
        losses["exact"] -= float(exact_log[rows_index, targets].sum())
    relative = math.sqrt(error / norm) if norm else 0.0
    if not text:
        return Fidelity(source, total, None, None, None, relative)
    gap = (losses["exact"] - losses["float32"]) / max(1, predicted)
    # logits may lie so far apart that no float holds the ratio
    ratio = math.exp(min(gap, _LARGEST_GAP))
    return Fidelity(source, total, same / total, divergence / total, ratio, relative)


def windows(checkpoint: Checkpoint, text: str) -> list[IntArray]:
    """Windows of token ids, at most `MAX_TOKENS` in all; every line of `text` is a prompt.

    Raises `InputError` for text that the checkpoint's tokenizer cannot read, or that has no line
    of two tokens.
    """
    if checkpoint.tokenizer is None:
        raise InputError("--text: the checkpoint has no tokenizer to read it with")
    vocabulary, context = checkpoint.architecture.vocabulary, checkpoint.architecture.context
    tokenizer = Tokenizer.from_bytes(checkpoint.tokenizer, vocabulary)
    fewest = min(2, context)
    found: list[IntArray] = []
    left = MAX_TOKENS
    for number, line in enumerate(text[: room(MAX_TOKENS)].splitlines(keepends=True), 1):
        ids = _read(tokenizer, line, f"line {number} of --text") if line.strip() else ()
        for start in range(0, len(ids), context):
            window = np.array(ids[start : start + context][:left], dtype=np.int64)
            if len(window) >= fewest:
                found.append(window)
                left -= len(window)
        if left < fewest:
            break
    if not found:
        raise InputError("--text: expected a line of at least two tokens, got none")
    return found


def _read(tokenizer: Tokenizer, line: str, what: str) -> tuple[int, ...]:
    """The ids of `line`, with the end of the line if the tokenizer knows such a thing."""
    try:
        return tokenizer.encode(line, what)
    except InputError:
        bare = line.rstrip("\r\n")
        if bare == line:
            raise
        return tokenizer.encode(bare, what)


def random_windows(checkpoint: Checkpoint) -> list[IntArray]:
    """One window of seeded random ids, where there is no text to compare on."""
    size = min(checkpoint.architecture.context, MAX_TOKENS, 128)
    vocabulary = checkpoint.architecture.vocabulary
    ids = np.random.default_rng(_SEED).integers(0, vocabulary, size)
    return [ids.astype(np.int64)]

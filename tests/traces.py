"""Runs by the numpy reference, for tests that need a trace and not an executor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zkllm.bundle import Bundle, boundary_digests
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.statement import Statement, text_digest
from zkllm.tokenization import Tokenizer


def greedy(model: ExactModel, prompt_ids: Sequence[int], count: int) -> tuple[int, ...]:
    """Generated ids, without a cache: the slow way that cannot be wrong."""
    spec = model.specification
    assert spec.head is not None
    ids = list(prompt_ids)
    for _ in range(count):
        last = reference.forward(model, np.array(ids))[-1][-1:]
        ids.append(int(reference.run_unit(model, "head", last)[0]))
        if ids[-1] in spec.stop_ids:
            break
    return tuple(ids[len(prompt_ids) :])


def trace(
    model: ExactModel,
    prompt: str,
    count: int,
    *,
    pad_to: int | None = None,
    generated: tuple[int, ...] | None = None,
) -> Bundle:
    """An honest run; `generated` forces other tokens on it."""
    spec = model.specification
    tokenizer = Tokenizer(model)
    prompt_ids = tokenizer.encode(prompt)
    generated = generated or greedy(model, prompt_ids, count)
    completion = tokenizer.completion(prompt_ids, generated)
    statement = Statement(
        kind="text",
        model=model.digest,
        positions=pad_to or len(prompt_ids) + len(generated) - 1,
        prompt_ids=prompt_ids,
        generated_ids=generated,
        max_new_tokens=count,
        stop_ids=spec.stop_ids,
        stop_reason="stop" if generated[-1] in spec.stop_ids else "length",
        text=text_digest(prompt, completion),
        boundaries=(),
        nonce="",
    )
    rows = reference.forward(model, np.array(statement.input_ids(spec.pad_id)))
    return seal(model, Bundle(statement, prompt, completion, tuple(rows)))


def fragment_trace(model: ExactModel, rows: np.ndarray) -> Bundle:
    """An honest run of a fragment."""
    statement = Statement("fragment", model.digest, len(rows), (), (), 0, (), "none", None, (), "")
    return seal(model, Bundle(statement, "", "", tuple(reference.forward(model, rows))))


def seal(model: ExactModel, bundle: Bundle) -> Bundle:
    """Make the digests of text and boundaries fit what the bundle holds."""
    from dataclasses import replace

    text = text_digest(bundle.prompt, bundle.completion) if bundle.statement.text else None
    boundaries = boundary_digests(model.specification, bundle.boundaries)
    statement = replace(bundle.statement, text=text, boundaries=boundaries)
    return replace(bundle, statement=statement)

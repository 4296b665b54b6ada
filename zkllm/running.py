"""From an exact model and a prompt to a trace, on ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zkllm.bundle import Bundle, boundary_digests
from zkllm.errors import InputError
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.executing import Device, Executor
from zkllm.files import AnyPath
from zkllm.hidden import check_padding, fragment_input
from zkllm.progress import Progress, silent
from zkllm.records import expect
from zkllm.statement import Statement, text_digest
from zkllm.tensors import IntArray
from zkllm.tokenization import Tokenizer, room


def run(
    model: ExactModel | AnyPath,
    prompt: str,
    max_new_tokens: int,
    *,
    device: Device = "auto",
    pad_to: int | None = None,
    note: Progress = silent,
) -> Bundle:
    """Generate up to `max_new_tokens` tokens greedily and return the trace of the run.

    `note` is told on which device the model runs, and how the tokenizer reads a prompt otherwise
    than it stands. `pad_to` fills the run up to the fixed length of a circuit; padding stands after
    all tokens and, attention being causal, changes nothing before it. Raises `InputError` for a
    prompt that the tokenizer cannot spell or that does not fit the context.
    """
    model = ExactModel.open(model)
    specification = model.specification
    context = specification.architecture.context
    if len(expect(str, prompt, "prompt")) > room(context):
        raise InputError(
            f"prompt: at most {room(context)} characters expected for {context} positions, "
            f"got {len(prompt)}"
        )
    tokenizer = Tokenizer(model)
    prompt_ids = tokenizer.encode(prompt)
    if expect(int, max_new_tokens, "max_new_tokens") < 1:
        raise InputError(f"max_new_tokens: expected at least 1, got {max_new_tokens}")
    needed = len(prompt_ids) + max_new_tokens - 1
    if needed > context:
        raise InputError(
            f"prompt of {len(prompt_ids)} tokens and {max_new_tokens} new ones: "
            f"at most {context} positions expected, got {needed}"
        )
    check_padding(pad_to, needed, context)
    read = tokenizer.decode(prompt_ids)
    if read != prompt:
        note(f"the tokenizer reads the prompt as {read!r:.200}")
    executor = Executor(model, device, note=note)
    generated = tuple(executor.decode(prompt_ids, max_new_tokens, specification.stop_ids))
    completion = tokenizer.completion(prompt_ids, generated)
    statement = Statement(
        kind="text",
        model=model.digest,
        positions=pad_to or len(prompt_ids) + len(generated) - 1,
        prompt_ids=prompt_ids,
        generated_ids=generated,
        max_new_tokens=max_new_tokens,
        stop_ids=specification.stop_ids,
        stop_reason="stop" if generated[-1] in specification.stop_ids else "length",
        text=text_digest(prompt, completion),
        boundaries=(),
        nonce="",
    )
    ids = np.array(statement.input_ids(specification.pad_id), dtype=np.int64)
    boundaries = tuple(executor.run(ids))
    return _trace(specification, statement, boundaries, prompt, completion)


def run_fragment(
    model: ExactModel | AnyPath,
    hidden: IntArray,
    *,
    device: Device = "auto",
    pad_to: int | None = None,
    note: Progress = silent,
) -> Bundle:
    """The trace of a fragment for the rows `hidden` [T, d], integers at the residual scale."""
    model = ExactModel.open(model)
    specification = model.specification
    hidden = fragment_input(specification, hidden, pad_to)
    boundaries = tuple(Executor(model, device, note=note).run(hidden))
    statement = Statement(
        kind="fragment",
        model=model.digest,
        positions=len(hidden),
        prompt_ids=(),
        generated_ids=(),
        max_new_tokens=0,
        stop_ids=(),
        stop_reason="none",
        text=None,
        boundaries=(),
        nonce="",
    )
    return _trace(specification, statement, boundaries, "", "")


def _trace(
    specification: Specification,
    statement: Statement,
    boundaries: tuple[IntArray, ...],
    prompt: str,
    completion: str,
) -> Bundle:
    named = replace(statement, boundaries=boundary_digests(specification, boundaries))
    return Bundle(named, prompt, completion, boundaries)

"""One run of an exact model, which is opened for it and closed again."""

from __future__ import annotations

import contextlib

from zkllm.bundle import Bundle
from zkllm.engines.onnx.runtime import Device
from zkllm.exact.model import ExactModel
from zkllm.files import AnyPath
from zkllm.progress import Progress, silent
from zkllm.sessions import Session
from zkllm.tensors import IntArray


def run(
    model: ExactModel | AnyPath,
    prompt: str,
    max_new_tokens: int,
    *,
    device: Device = "auto",
    pad_to: int | None = None,
    note: Progress = silent,
) -> Bundle:
    """The trace of one prompt; `Session`, which takes the same arguments, serves many.

    Raises as `Session` and `Session.run` do; a prompt is refused before the model is opened.
    """
    with contextlib.closing(Session(model, device=device, note=note)) as session:
        return session.run(prompt, max_new_tokens, pad_to=pad_to)


def run_fragment(
    model: ExactModel | AnyPath,
    hidden: IntArray,
    *,
    device: Device = "auto",
    pad_to: int | None = None,
    note: Progress = silent,
) -> Bundle:
    """The trace of a fragment for the rows `hidden`; raises as `Session.run_rows` does."""
    with contextlib.closing(Session(model, device=device, note=note)) as session:
        return session.run_rows(hidden, pad_to=pad_to)

"""A model that stays open: many runs, and every weight is hashed once."""

from __future__ import annotations

import threading
import typing
from dataclasses import replace
from types import TracebackType

import numpy as np

from zkllm.bundle import Bundle, boundary_digests
from zkllm.engines.onnx.runtime import Device
from zkllm.errors import InputError
from zkllm.exact.model import ExactModel
from zkllm.executing import Executor
from zkllm.files import AnyPath
from zkllm.hidden import check_padding, fragment_input
from zkllm.progress import Progress, silent
from zkllm.records import expect
from zkllm.statement import Statement, text_digest
from zkllm.tensors import IntArray
from zkllm.tokenization import Tokenizer, room

DEVICES: tuple[Device, ...] = typing.get_args(Device)


class Session:
    """An exact model on ONNX Runtime, for as many runs as are wanted; a context manager.

    Opening it hashes all weights and tests the units, which takes longer than a short answer: it
    happens when a `with` block is entered, or at the first run. Threads may share a session, and
    their runs go on beside each other; after `close` those that have begun end as they would have,
    and what is asked then is refused.
    """

    def __init__(
        self,
        model: ExactModel | AnyPath,
        *,
        device: Device = "auto",
        threads: int = 0,
        note: Progress = silent,
    ) -> None:
        """Read the specification of `model`, or of the folder of that name, and its tokenizer.

        `threads` is how many work on one unit; 0 leaves it to the runtime. `note` is told on which
        device the model runs, and how the tokenizer reads a prompt otherwise than it stands. Raises
        `InputError` if there is no model or no such device, `DigestMismatch` for another tokenizer.
        """
        self.model = ExactModel.open(model)
        if device not in DEVICES:
            raise InputError(f"device: expected one of {', '.join(DEVICES)}, got {device!r:.40}")
        if expect(int, threads, "threads") < 0:
            raise InputError(f"threads: expected 0 or more, got {threads}")
        self._device, self._threads, self._note = device, threads, note
        text = self.model.specification.kind == "text"
        self._tokenizer = Tokenizer(self.model) if text else None
        self._lock = threading.Lock()
        self._executor: Executor | None = None
        self._closed = False

    def __enter__(self) -> Session:
        """Open the model now; raises as `Executor` does for one that cannot be executed."""
        self._opened()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the memory of all weights, once the runs that have begun are over."""
        with self._lock:
            self._closed = True
            # whoever runs still holds it
            self._executor = None

    @property
    def device(self) -> str:
        """`cpu` or `cuda`: where the model really runs."""
        return self._opened().device

    def run(self, prompt: str, max_new_tokens: int, *, pad_to: int | None = None) -> Bundle:
        """Generate up to `max_new_tokens` tokens greedily and return the trace of the run.

        `pad_to` fills the run up to the fixed length of a circuit; padding stands after all tokens
        and, attention being causal, changes nothing before it. Raises `InputError` for a prompt
        that the tokenizer cannot spell or that does not fit the context, and once it is closed.
        """
        self._require_open()
        specification = self.model.specification
        context = specification.architecture.context
        if len(expect(str, prompt, "prompt")) > room(context):
            raise InputError(
                f"prompt: at most {room(context)} characters expected for {context} positions, "
                f"got {len(prompt)}"
            )
        # of a fragment it refuses
        tokenizer = self._tokenizer or Tokenizer(self.model)
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
            self._note(f"the tokenizer reads the prompt as {read!r:.200}")
        executor = self._opened()
        generated = tuple(executor.decode(prompt_ids, max_new_tokens, specification.stop_ids))
        completion = tokenizer.completion(prompt_ids, generated)
        statement = Statement(
            kind="text",
            model=self.model.digest,
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
        return self._trace(statement, executor.run(ids), prompt, completion)

    def run_rows(self, hidden: IntArray, *, pad_to: int | None = None) -> Bundle:
        """The trace of a fragment for the rows `hidden` [T, d], integers at the residual scale.

        Raises `InputError` for rows that are not of this fragment, and once it is closed.
        """
        self._require_open()
        hidden = fragment_input(self.model.specification, hidden, pad_to)
        statement = Statement(
            kind="fragment",
            model=self.model.digest,
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
        return self._trace(statement, self._opened().run(hidden), "", "")

    def _trace(
        self, statement: Statement, boundaries: list[IntArray], prompt: str, completion: str
    ) -> Bundle:
        rows = tuple(boundaries)
        digests = boundary_digests(self.model.specification, rows)
        return Bundle(replace(statement, boundaries=digests), prompt, completion, rows)

    def _require_open(self) -> None:
        if self._closed:
            raise InputError(
                "session: expected an open one, this one is closed",
                hint="open another, or run within the `with` block",
            )

    def _opened(self) -> Executor:
        """The units; opened once, though several threads ask for them."""
        with self._lock:
            self._require_open()
            if self._executor is None:
                self._executor = Executor(
                    self.model, self._device, threads=self._threads, note=self._note
                )
            return self._executor

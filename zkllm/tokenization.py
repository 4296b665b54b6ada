"""Text to token ids and back, with the tokenizer that the specification names by digest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from zkllm.errors import InputError, UnsupportedModel
from zkllm.exact.model import ExactModel


class Tokenizer:
    """The tokenizer of an exact model."""

    def __init__(self, model: ExactModel) -> None:
        """Raises `UnsupportedModel` for a fragment, `DigestMismatch` for another tokenizer."""
        data = model.tokenizer_bytes()
        if data is None:
            raise UnsupportedModel("a fragment has no tokenizer: its input is hidden states")
        self._tokenizer: Any = parse(data, model.specification.architecture.vocabulary)

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of `text`; raises `InputError` for text that the tokenizer cannot spell."""
        if not text:
            raise InputError("the prompt is empty: expected at least one token")
        try:
            text.encode()
        except UnicodeEncodeError as err:
            raise InputError(f"the prompt is not valid Unicode at character {err.start}") from err
        with _guarded("the tokenizer cannot spell the prompt"):
            ids = tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
        if self.decode(ids) != text:
            odd = next((c for c in text if not self._spells(c)), text[:1])
            raise InputError(
                f"the tokenizer cannot spell the prompt: expected known characters, got {odd!r}"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included; raises `InputError` for a broken decoder."""
        with _guarded("the tokenizer cannot decode its tokens"):
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _spells(self, character: str) -> bool:
        try:
            with _guarded(""):
                ids = self._tokenizer.encode(character, add_special_tokens=False).ids
        except InputError:
            return False
        return self.decode(ids) == character


@contextlib.contextmanager
def _guarded(what: str) -> Iterator[None]:
    """Raise `InputError` for whatever tokenizers raises; its panics are no `Exception`s."""
    try:
        yield
    except BaseException as err:
        if not isinstance(err, Exception) and type(err).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: {' '.join(str(err).split())[:120]}") from err


def parse(data: bytes, vocabulary: int) -> Any:
    """The tokenizer in `data`; raises `InputError` if it is none, or one of another model."""
    import tokenizers

    with _guarded("tokenizer.json: not a tokenizer"):
        tokenizer = tokenizers.Tokenizer.from_buffer(data)
    # Either would change the ids of a prompt, and padding may ask for any amount of memory.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size > vocabulary:
        raise InputError(
            f"tokenizer.json: at most {vocabulary} tokens expected, got {size}",
            hint="this tokenizer belongs to another model",
        )
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    if max(ids, default=0) >= vocabulary:
        raise InputError(f"tokenizer.json: ids below {vocabulary} expected, got {max(ids)}")
    return tokenizer

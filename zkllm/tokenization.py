"""Text to token ids and back, with the tokenizer that the specification names by digest."""

from __future__ import annotations

from collections.abc import Sequence
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
            ids = tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
        except UnicodeEncodeError as err:
            raise InputError(f"the prompt is not valid Unicode at character {err.start}") from err
        except Exception as err:  # tokenizers raises nothing more precise
            raise InputError(f"the tokenizer cannot spell the prompt: {err}") from err
        if self.decode(ids) != text:
            odd = next((c for c in text if not self._spells(c)), text[:1])
            raise InputError(
                f"the tokenizer cannot spell the prompt: expected known characters, got {odd!r}"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _spells(self, character: str) -> bool:
        try:
            ids = self._tokenizer.encode(character, add_special_tokens=False).ids
        except Exception:  # as above
            return False
        return self.decode(ids) == character


def parse(data: bytes, vocabulary: int) -> Any:
    """The tokenizer in `data`; raises `InputError` if it is none, or one of another model."""
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(data)
    except Exception as err:  # tokenizers raises nothing more precise
        raise InputError(f"tokenizer.json: not a tokenizer: {str(err)[:120]}") from err
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size > vocabulary:
        raise InputError(
            f"tokenizer.json: at most {vocabulary} tokens expected, got {size}",
            hint="this tokenizer belongs to another model",
        )
    return tokenizer

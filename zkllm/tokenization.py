"""Text to token ids and back, with the tokenizer that the specification names by digest.

tokenizer.json says everything: the special tokens that its post-processor puts around a prompt are
tokens like any other, and a text is what its decoder makes of ids, special tokens included.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from zkllm.errors import InputError, UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.records import word

_FREE = 1 << 16
_PER_TOKEN = 128
_LONGEST_WORD = 256
"""WordPiece tries all parts of a word, which takes the cube of its length."""
_LONGEST_TOKEN = 512
"""A unigram model compares the rest of a text with every token that it may begin with."""
_FREE_BYTES = 1 << 20
_BYTES_PER_TOKEN = 256
"""Ten times what GPT-2's needs: the library takes up to 75 bytes of memory for one of a file."""
_GROWTH = 1 << 10
"""Twenty steps that double a text are as many lines of tokenizer.json, and a gigabyte of text."""
_stderr = threading.Lock()


def room(tokens: int) -> int:
    """How many characters a prompt of so many tokens may have.

    Rules that drop or join characters make a few tokens of any text, and encoding takes up to a
    kilobyte a character: without a limit four megabytes of prompt would cost a verifier gigabytes.
    """
    return _FREE + _PER_TOKEN * tokens


class Tokenizer:
    """The tokenizer of an exact model."""

    def __init__(self, model: ExactModel) -> None:
        """Raises `UnsupportedModel` for a fragment, `DigestMismatch` for another tokenizer."""
        data = model.tokenizer_bytes()
        if data is None:
            raise UnsupportedModel(
                "a fragment has no tokenizer: its input is hidden states",
                hint="give it rows of integers: --hidden FILE",
            )
        self._open(data, model.specification.architecture.vocabulary)

    @classmethod
    def from_bytes(cls, data: bytes, vocabulary: int) -> Tokenizer:
        """That of a checkpoint; raises `InputError` as `parse` does."""
        tokenizer = cls.__new__(cls)
        tokenizer._open(data, vocabulary)  # noqa: SLF001 - of this class
        return tokenizer

    def _open(self, data: bytes, vocabulary: int) -> None:
        self._tokenizer: Any = parse(data, vocabulary)
        self._vocabulary = vocabulary

    def encode(self, text: str, what: str = "the prompt") -> tuple[int, ...]:
        """The ids of `text`, special tokens of the post-processor included.

        Raises `InputError` that names it as `what` if the tokenizer cannot spell it, or if it
        gives no token or one that the model has no row for.
        """
        try:
            text.encode()
        except UnicodeEncodeError as err:
            raise InputError(f"{what} is not valid Unicode at character {err.start}") from err
        ids = self._ids(text, what)
        if not ids:
            state = "gives no token" if text else "is empty"
            raise InputError(f"{what} {state}: expected at least one token")
        for i in ids:
            if i >= self._vocabulary:
                token = word(str(self._tokenizer.id_to_token(i)))
                raise InputError(
                    f"{what} has token {i}, '{token}', for which the model has no row: "
                    f"ids below {self._vocabulary} expected"
                )
        if len(text) > room(len(ids)):
            raise InputError(
                f"{what} is too long for its tokens: at most {room(len(ids))} characters "
                f"expected for {len(ids)} tokens, got {len(text)}"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included; raises `InputError` for a broken decoder."""
        with _guarded("the tokenizer cannot decode its tokens"):
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def completion(self, prompt_ids: Sequence[int], generated_ids: Sequence[int]) -> str:
        """What the generated tokens add to the text of the prompt's.

        A decoder may treat the first token, or bytes that make a character together, otherwise
        than tokens alone. Raises `InputError` where the text of all tokens does not begin with
        that of the prompt's, so that no text is what was added.
        """
        before = self.decode(prompt_ids)
        after = self.decode((*prompt_ids, *generated_ids))
        if not after.startswith(before):
            raise InputError(
                "the tokenizer's decoder has no text for the completion: the text of all tokens "
                f"was expected to begin with the prompt's, '{word(before[-40:])}' at its end",
                hint="ask for more tokens, which may complete a character, or for another prompt",
            )
        return after[len(before) :]

    def ids(self) -> list[int]:
        """The ids of the tokens that the model has rows for, in order."""
        ids = self._tokenizer.get_vocab(with_added_tokens=True).values()
        return sorted(i for i in ids if i < self._vocabulary)

    def parts(self) -> Any:
        """The tokenizer as parsed JSON, in the form of today, whatever the form of its file."""
        return json.loads(self._tokenizer.to_str())

    def _ids(self, text: str, what: str) -> tuple[int, ...]:
        try:
            with _guarded(f"the tokenizer cannot spell {what}"):
                return tuple(self._tokenizer.encode(text).ids)
        except InputError as err:
            odd = next((c for c in dict.fromkeys(text[:_FREE]) if not self._spells(c)), None)
            if odd is None:
                raise
            raise InputError(
                f"the tokenizer cannot spell {what}: expected known characters, got {odd!r}"
            ) from err

    def _spells(self, character: str) -> bool:
        with contextlib.suppress(InputError), _guarded(""):
            self._tokenizer.encode(character)
            return True
        return False


def parse(data: bytes, vocabulary: int) -> Any:
    """The tokenizer in `data`, for a model with `vocabulary` rows.

    Raises `InputError` if it is none, is one of another model, or is one whose ids or text are
    not the same every time, or not those that the file says.
    """
    import tokenizers

    limit = _FREE_BYTES + _BYTES_PER_TOKEN * vocabulary
    if len(data) > limit:
        raise InputError(
            f"tokenizer.json: at most {limit} bytes expected for {vocabulary} tokens, "
            f"got {len(data)}"
        )
    with _guarded("tokenizer.json: not a tokenizer"):
        tokenizer = tokenizers.Tokenizer.from_buffer(data)
    # Either would change the ids of a prompt, and padding may ask for any amount of memory.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _check_model(tokenizer.model)
    _check_ids(tokenizer, vocabulary)
    _check_growth(tokenizer)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as err:  # a number of more digits than Python reads
        raise InputError(f"tokenizer.json: not JSON: {str(err)[:120]}") from err
    _check_added(tokenizer, content.get("added_tokens") or [])
    return tokenizer


def _check_model(model: Any) -> None:
    """Raises `InputError` for chance, and for words that would take hours to split."""
    if getattr(model, "dropout", None):
        raise InputError(
            f"tokenizer.json: model.dropout must be null, got {model.dropout:g}",
            hint="it draws other ids for the same text each time, which is for training only",
        )
    longest = getattr(model, "max_input_chars_per_word", 0)
    if longest > _LONGEST_WORD:
        raise InputError(
            f"tokenizer.json: model.max_input_chars_per_word must be at most {_LONGEST_WORD}, "
            f"got {longest}"
        )


def _check_ids(tokenizer: Any, vocabulary: int) -> None:
    """Raises `InputError` unless every id has one token, of a fair length, and a row of the model.

    Tokens that were added need no row, as long as no prompt has them: many a tokenizer was given
    a padding token, and the model never the row.
    """
    size = tokenizer.get_vocab_size(with_added_tokens=False)
    if size > vocabulary:
        raise InputError(
            f"tokenizer.json: at most {vocabulary} tokens expected, got {size}",
            hint="this tokenizer belongs to another model",
        )
    ids = tokenizer.get_vocab(with_added_tokens=True)
    longest = max(map(len, ids), default=0)
    if longest > _LONGEST_TOKEN:
        raise InputError(
            f"tokenizer.json: tokens of at most {_LONGEST_TOKEN} characters expected, got {longest}"
        )
    if max(ids.values(), default=0) >= vocabulary:
        largest = max(tokenizer.get_vocab(with_added_tokens=False).values(), default=0)
        if largest >= vocabulary:
            raise InputError(f"tokenizer.json: ids below {vocabulary} expected, got {largest}")
    if len(set(ids.values())) < len(ids):
        # which of two tokens an id stands for would be chosen anew in every process
        owner: dict[int, str] = {}
        for token, i in sorted(ids.items()):
            if i in owner:
                raise InputError(
                    f"tokenizer.json: one token for each id expected, "
                    f"got '{word(owner[i])}' and '{word(token)}' for {i}"
                )
            owner[i] = token


def _check_added(tokenizer: Any, added: list[dict[str, Any]]) -> None:
    """Raises `InputError` where the library counts added tokens otherwise than the file.

    It numbers them by the size of the vocabulary, whatever their `id`, if that has holes.
    """
    for token in added:
        content, stated = token["content"], token["id"]
        given = tokenizer.token_to_id(content)
        if given != stated:
            raise InputError(
                f"tokenizer.json: added token '{word(content)}' has id {stated}, "
                f"but the library gives it {given}",
                hint="close the holes between the ids of the vocabulary",
            )


def _check_growth(tokenizer: Any) -> None:
    """Raises `InputError` for steps that would make a terabyte of one character."""
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        part = getattr(tokenizer, name)
        if part is not None and _growth(json.loads(part.__getstate__())) > _GROWTH:
            raise InputError(
                f"tokenizer.json: {name}: expected to make a text at most {_GROWTH} times as long"
            )


def _growth(part: dict[str, Any]) -> int:
    """How many times as long as before a text, or its ids, may be after the steps of `part`."""
    for steps in ("normalizers", "pretokenizers", "decoders"):
        if isinstance(part.get(steps), list):
            return math.prod(map(_growth, part[steps]))
    match part.get("type"):
        case "Replace":
            content, pattern = len(part["content"]), part["pattern"].get("String")
            # what may match nothing matches between any two characters
            return -(-content // len(pattern)) or 1 if pattern else 1 + content
        case "ByteLevel":
            return 4  # a character is as many as its bytes
        case "TemplateProcessing":
            return len(part["single"]) or 1
    return 1


@contextlib.contextmanager
def _guarded(what: str) -> Iterator[None]:
    """Raise `InputError` for whatever tokenizers raises; its panics are no `Exception`s."""
    try:
        with _held_stderr():
            yield
    except BaseException as err:
        if not isinstance(err, Exception) and type(err).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: {' '.join(str(err).split())[:120]}") from err


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """Keep back what is written to file 2, and pass it on unless the block panics.

    A panic writes a report of its own, with a backtrace; what happened is said in one line.
    """
    with _stderr, contextlib.ExitStack() as stack:
        try:
            kept = stack.enter_context(tempfile.TemporaryFile())
            real = os.dup(2)
        except OSError:  # no stderr, or nowhere to keep it: then it may speak
            yield
            return
        panicked = False
        try:
            os.dup2(kept.fileno(), 2)
            yield
        except BaseException as err:
            panicked = type(err).__name__ == "PanicException"
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
            if not panicked and kept.seek(0, os.SEEK_END):
                kept.seek(0)
                with contextlib.suppress(OSError):
                    os.write(2, kept.read())

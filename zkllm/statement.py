"""The statement: who claims what about which model, input and output.

The digest of a statement is the thing that evidence binds. A statement is a claim, nothing more,
until `zkllm.verifying.verify` returns it.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from typing import Any, Literal

from zkllm.digests import Digest, canonical_json, tagged
from zkllm.errors import InvalidBundle, StatementMismatch
from zkllm.exact.specification import Specification
from zkllm.records import from_json, to_json

MAX_NONCE = 256
"""Longest nonce, in characters."""

StopReason = Literal["stop", "length", "none"]


def is_nonce(text: str) -> bool:
    """Whether `text` may serve as a nonce: printable ASCII without white space; may be empty."""
    return len(text) <= MAX_NONCE and re.fullmatch(r"[!-~]*", text) is not None


@dataclass(frozen=True, slots=True)
class Statement:
    """What one run is claimed to be."""

    kind: Literal["text", "fragment"]
    model: Digest
    """Model digest of the exact model."""
    positions: int
    """T: rows of every boundary, padding included."""
    prompt_ids: tuple[int, ...]
    """Empty for a fragment, as all that follows but `boundaries` and `nonce`."""
    generated_ids: tuple[int, ...]
    max_new_tokens: int
    """How many tokens were asked for."""
    stop_ids: tuple[int, ...]
    stop_reason: StopReason
    """`stop` after a stop id, `length` after `max_new_tokens`, `none` for a fragment."""
    text: Digest | None
    """`text_digest` of prompt and completion."""
    boundaries: tuple[Digest, ...]
    """Digest of every boundary tensor, from the input of the first block on."""
    nonce: str
    """What the client asked the prover to repeat; empty if nothing. Evidence that absorbs the
    statement's digest binds it; every other field has to be true, whoever wrote it."""

    def to_json(self) -> dict[str, Any]:
        return typing.cast("dict[str, Any]", to_json(self))

    @classmethod
    def from_json(cls, value: Any) -> Statement:
        """Raises `InvalidBundle` for a field that is unknown, missing, mistyped or impossible."""
        statement = typing.cast("Statement", from_json(cls, value, "statement"))
        if not is_nonce(statement.nonce):
            raise InvalidBundle(
                f"statement.nonce: expected at most {MAX_NONCE} printable ASCII characters"
            )
        return statement

    @property
    def digest(self) -> Digest:
        return tagged("zkllm/statement/v1", canonical_json(self.to_json()))

    @property
    def needed_positions(self) -> int:
        """Rows that the tokens need: the last generated token is never an input."""
        return len(self.prompt_ids) + len(self.generated_ids) - 1

    def input_ids(self, pad_id: int) -> tuple[int, ...]:
        """The ids of all T positions: prompt, generated tokens but the last, padding."""
        ids = self.prompt_ids + self.generated_ids[:-1]
        return ids + (pad_id,) * (self.positions - len(ids))

    def check(self, specification: Specification) -> None:
        """Raises `StatementMismatch` unless this can be a run of `specification` at all.

        A completion that is cut short is a lie too: a stop id stands only at the end, and fewer
        tokens than asked for only after a stop id.
        """
        a = specification.architecture
        if self.model != specification.digest:
            raise StatementMismatch(
                f"statement.model: expected {specification.digest}, got {self.model}",
                clause="this is about another model",
            )
        if self.kind != specification.kind:
            raise StatementMismatch(
                f"statement.kind: expected {specification.kind}, got {self.kind}"
            )
        if not 1 <= self.positions <= a.context:
            raise StatementMismatch(
                f"statement.positions: expected 1 to {a.context}, got {self.positions}"
            )
        expected = len(specification.boundary_bounds())
        if len(self.boundaries) != expected:
            raise StatementMismatch(
                f"statement.boundaries: expected {expected}, got {len(self.boundaries)}"
            )
        if self.kind == "text":
            self._check_tokens(specification)
        elif (
            self.prompt_ids
            or self.generated_ids
            or self.max_new_tokens
            or self.stop_ids
            or self.stop_reason != "none"
            or self.text is not None
        ):
            raise StatementMismatch("statement: a fragment has no tokens and no text")

    def _check_tokens(self, specification: Specification) -> None:
        vocabulary = specification.architecture.vocabulary
        for name, ids in (("prompt_ids", self.prompt_ids), ("generated_ids", self.generated_ids)):
            if not ids:
                raise StatementMismatch(f"statement.{name}: expected at least one token")
            for i in ids:
                if not 0 <= i < vocabulary:
                    raise StatementMismatch(
                        f"statement.{name}: expected ids below {vocabulary}, got {i}"
                    )
        if self.positions < self.needed_positions:
            raise StatementMismatch(
                f"statement.positions: expected at least {self.needed_positions}, "
                f"got {self.positions}"
            )
        if self.stop_ids != specification.stop_ids:
            raise StatementMismatch(
                f"statement.stop_ids: expected {list(specification.stop_ids)!s:.80}, "
                f"got {list(self.stop_ids)!s:.80}"
            )
        count, early = len(self.generated_ids), set(self.generated_ids[:-1]) & set(self.stop_ids)
        if early:
            raise StatementMismatch(f"statement.generated_ids: goes on after stop id {min(early)}")
        if count > self.max_new_tokens:
            raise StatementMismatch(
                f"statement.generated_ids: expected at most {self.max_new_tokens}, got {count}"
            )
        stopped = self.generated_ids[-1] in self.stop_ids
        if not stopped and count < self.max_new_tokens:
            raise StatementMismatch(
                f"statement.generated_ids: expected {self.max_new_tokens} tokens or a stop id at "
                f"the end, got {count} without one: the completion was cut short"
            )
        reason = "stop" if stopped else "length"
        if self.stop_reason != reason:
            raise StatementMismatch(
                f"statement.stop_reason: expected {reason}, got {self.stop_reason}"
            )
        if self.text is None:
            raise StatementMismatch("statement.text: expected a digest, got none")


def text_digest(prompt: str, completion: str) -> Digest:
    """The digest of prompt and completion, each with its length, as UTF-8."""
    first, second = prompt.encode(), completion.encode()
    return tagged("zkllm/text/v1", len(first).to_bytes(8, "little"), first, second)

"""What a verifier asks of a bundle, and what may be believed once it is verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from zkllm.backends.base import INSECURE_ASSUMPTION, Checked
from zkllm.digests import Digest
from zkllm.errors import InputError
from zkllm.records import expect
from zkllm.statement import MAX_NONCE, Statement, is_nonce


@dataclass(frozen=True, slots=True)
class Request:
    """What the client asked for, where it wants the answer to be an answer to that."""

    nonce: str | None = None
    """To be bound, unless the policy says otherwise; the client chooses it anew, at random."""
    prompt: str | None = None
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        """Raises `InputError` for a nonce that no bundle can repeat, and for wrong types."""
        for kind, name in ((str, "nonce"), (str, "prompt"), (int, "max_new_tokens")):
            if getattr(self, name) is not None:
                expect(kind, getattr(self, name), name)
        if self.nonce is not None and not (self.nonce and is_nonce(self.nonce)):
            raise InputError(
                f"nonce: expected 1 to {MAX_NONCE} printable ASCII characters, got "
                f"{self.nonce!r:.80}"
            )
        if self.max_new_tokens is not None and self.max_new_tokens < 0:
            raise InputError(f"max_new_tokens: expected 0 or more, got {self.max_new_tokens}")


@dataclass(frozen=True, slots=True)
class Report:
    """A verified statement and how each of its units was checked."""

    statement: Statement
    """May be believed, under `assumptions`."""
    prompt: str
    """As it was given; `read` says what the model saw of it."""
    read: str
    """The text of the prompt's ids: what the tokenizer folds, drops or does not know is lost."""
    completion: str
    units: dict[str, Checked]
    """How each unit was checked, in the order of the computation."""
    assumptions: tuple[str, ...]
    request: Request
    """What the bundle was held against."""
    bundle: Digest
    """sha256 of the bundle's bytes."""
    size: int

    @property
    def fresh(self) -> bool:
        """Whether the nonce that the verifier gave is bound: a proof was made after it was known.

        The evidence of one unit is enough, since that of all others shows the same statement, which
        does not age. It does not say that the run is new, nor who made the proof: see section 13 of
        `docs/protocol.md`.
        """
        return self.request.nonce is not None and len(self.unbound_units) < len(self.units)

    @property
    def unbound_units(self) -> tuple[str, ...]:
        """The units whose evidence does not bind the nonce itself, and may be older."""
        return tuple(unit for unit, checked in self.units.items() if not checked.binds_nonce)

    @property
    def verdict(self) -> str:
        insecure = INSECURE_ASSUMPTION in self.assumptions
        return "verified (insecure development SRS)" if insecure else "verified"

    @property
    def soundness_bits(self) -> float | None:
        """-log2 of the chance that a false statement passed as far as sumcheck proves it.

        It is that of the weakest unit: where the statement is false some unit is false, since
        boundaries meet, and then the proof of this one unit must have passed. None without a unit
        of sumcheck.
        """
        return weakest(self.units.values())

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values; each unit with figures of its own."""
        return {
            "assumptions": list(self.assumptions),
            "bundle_digest": self.bundle,
            "completion": self.completion,
            "fresh": self.fresh,
            "prompt": self.prompt,
            "read": self.read,
            "size_bytes": self.size,
            "soundness_bits": self.soundness_bits,
            "statement": self.statement.to_json(),
            "unbound_units": list(self.unbound_units),
            "units": [
                {
                    "assumptions": list(checked.assumptions),
                    "checked": checked.words,
                    "details": checked.details,
                    "hidden": checked.hidden,
                    "unit": unit,
                }
                for unit, checked in self.units.items()
            ],
            "verdict": self.verdict,
        }


def weakest(units: Iterable[Checked]) -> float | None:
    """The least bits of soundness among `units`; None if none was proved by sumcheck."""
    bits = (checked.details.get("soundness_bits") for checked in units)
    return min((each for each in bits if each is not None), default=None)

"""The error tree of zkllm; each class carries the exit code of the command line.

::

    Error (1)
    ├── VerificationError (3)      a definite *no*: the bundle is refused
    │   ├── ProofRejected              evidence does not show what it claims
    │   ├── StatementMismatch          two things that must agree do not
    │   ├── DigestMismatch             an artefact is not the one that was named
    │   ├── PolicyViolation            the policy demands what the bundle does not give
    │   └── UntrustedMaterial          keys or parameters that the policy does not pin
    ├── InputError (4)             what was handed in cannot be used
    │   ├── WrongMaterial              a verifier's policy, model and keys do not fit each other
    │   ├── InvalidBundle              not a well-formed container
    │   ├── LimitExceeded              larger than the specification allows
    │   ├── UnsafePath                 a name or a link that leaves its folder
    │   ├── UnsupportedVersion         a format that this release does not read
    │   ├── UnsupportedModel           an architecture or a bound outside what is exact
    │   └── ConstraintViolation        a trace that does not satisfy the model
    └── BackendError (5)           a backend or the environment failed

Exit codes: 0 verified or done · 1 unexpected · 2 usage · 3 refused · 4 bad input ·
5 backend or environment · 130 interrupted, or 128 and the number of another signal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar


class Error(Exception):
    """Base of all errors that zkllm raises on purpose.

    `message` is one line that says what was expected and what was got; `clause`, where there is
    one, says before it in plain words what that means; `hint` says what to do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "", clause: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.clause = clause

    @property
    def sentence(self) -> str:
        """Clause and message; what the clause names already, the message does not say again."""
        if not self.clause:
            return self.message
        subject, colon, rest = self.message.partition(": ")
        said = colon and subject in self.clause.split()
        return f"{self.clause}: {rest if said else self.message}"


@contextlib.contextmanager
def meaning(clause: str) -> Iterator[None]:
    """Give `clause` to every refusal that leaves the block without one."""
    try:
        yield
    except VerificationError as refusal:
        refusal.clause = refusal.clause or clause
        raise


class VerificationError(Error):
    """The bundle is refused: at least one numbered check of `verify` failed."""

    exit_code = 3


class ProofRejected(VerificationError):
    """A piece of evidence does not prove the computation of its unit."""


class StatementMismatch(VerificationError):
    """Two things that must agree (boundaries, ids, text, nonce) do not."""


class DigestMismatch(VerificationError):
    """An artefact does not have the digest under which it was asked for."""


class PolicyViolation(VerificationError):
    """The bundle does not give what the policy demands."""


class UntrustedMaterial(VerificationError):
    """A key, its settings or its SRS is not pinned by the policy."""


class InputError(Error):
    """Something handed in cannot be used."""

    exit_code = 4


class WrongMaterial(InputError):
    """The verifier's own policy, model and keys do not fit each other: no bundle was judged.

    Likewise a model whose stored integers no model may hold, whoever reads it.
    """


class InvalidBundle(InputError):
    """Bytes that are not a well-formed, canonical container."""


class LimitExceeded(InputError):
    """Something is larger than the specification, or a fixed cap, allows."""


class UnsafePath(InputError):
    """A name, a link or a special file where a plain file inside a folder is due."""


class UnsupportedVersion(InputError):
    """A format or backend version that this release does not know."""


class UnsupportedModel(InputError):
    """A checkpoint that cannot be made exact: the message names the key and its value."""


class ConstraintViolation(InputError):
    """A trace that does not satisfy the exact model: names unit, operation and index."""


class BackendError(Error):
    """A backend failed, or the environment (memory, time, disk, a package) did."""

    exit_code = 5

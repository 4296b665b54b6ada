"""The error tree: exit codes, and the drawing in the docstring that promises them."""

from __future__ import annotations

import inspect
import re

import pytest

from zkllm import errors

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.Error)]
CODES = {
    errors.Error: 1,
    errors.VerificationError: 3,
    errors.InputError: 4,
    errors.BackendError: 5,
}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_the_exit_code_of_its_branch(kind: type[errors.Error]) -> None:
    branch = next(CODES[c] for c in kind.__mro__ if c in CODES)
    assert kind.exit_code == branch


def test_a_refusal_shares_its_code_with_no_accident() -> None:
    refused = {c for c in CLASSES if c.exit_code == 3}
    assert refused == {c for c in CLASSES if issubclass(c, errors.VerificationError)}


def test_the_drawing_shows_the_tree() -> None:
    """Names, parents and codes of the docstring are those of the classes."""
    drawn: dict[str, str] = {}
    parents: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?: \((\d)\))?", line)
        if match:
            depth = len(match[1])
            parents[depth] = match[2]
            drawn[match[2]] = parents[max((d for d in parents if d < depth), default=depth)]
            if match[3]:
                assert getattr(errors, match[2]).exit_code == int(match[3])
    assert drawn.pop("Error") == "Error"
    assert drawn == {c.__name__: c.__mro__[1].__name__ for c in CLASSES if c is not errors.Error}


def test_message_and_hint_are_kept() -> None:
    error = errors.DigestMismatch("expected a, got b", hint="look again")
    assert (str(error), error.message, error.hint) == (
        "expected a, got b",
        "expected a, got b",
        "look again",
    )
    assert errors.Error("alone").hint == ""


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("embed: tokens does not hold", "the proof of embed does not fit: tokens does not hold"),
        (
            "head: tokens does not hold",
            "the proof of embed does not fit: head: tokens does not hold",
        ),
        ("embed", "the proof of embed does not fit: embed"),
    ],
)
def test_a_sentence_names_nothing_twice(message: str, said: str) -> None:
    assert errors.Error(message, clause="the proof of embed does not fit").sentence == said
    assert errors.Error(message).sentence == message

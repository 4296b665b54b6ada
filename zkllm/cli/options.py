"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from zkllm.backends import DEFAULT
from zkllm.bundle import BACKENDS, MAX_EVIDENCE, MAX_TEXT
from zkllm.files import as_text, read_limited, read_stream

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

as_json = click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
force = click.option("--force", is_flag=True, help="Overwrite what is there.")
device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run; auto takes CUDA where there is one and says what it took.",
)
keys = click.option("--keys", type=PATH, metavar="DIR", help="Folder of keys, from zkllm setup.")
model = click.option(
    "--model", type=PATH, required=True, metavar="DIR", help="The exact model, from zkllm export."
)


backend = click.option(
    "--backend",
    # who makes no evidence has no keys
    type=click.Choice([name for name in BACKENDS if MAX_EVIDENCE[name]]),
    default=DEFAULT,
    show_default=True,
    help="Makes keys for every unit that it can prove.",
)
backends = click.option(
    "--backend",
    "backends",
    type=click.Choice(BACKENDS),
    multiple=True,
    help="Proves every unit that it can; may be repeated, the first that can wins; what ezkl alone "
    "cannot prove is replayed.  [default: sumcheck; ezkl where only its keys are in --keys]",
)
jobs = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most N processes prove units of sumcheck at once.  [default: one a core]",
)


STDIN = "-"
"""The name that stands for standard input."""


def units(others: str) -> Callable[[F], F]:
    """The option --unit, with a sentence on what becomes of the other units."""
    text = f"Only this unit, e.g. attention[0]; may be repeated. {others}"
    return click.option("--unit", "units", multiple=True, metavar="U", help=text)


def prompt_file(text: str) -> Callable[[F], F]:
    """The option --prompt-file, whose content `read_prompt` reads."""
    return click.option("--prompt-file", type=PATH, metavar="FILE", help=text)


def read_prompt(prompt: str | None, file: Path | None) -> str | None:
    """The prompt of -p TEXT, of -p - from standard input, or of a file; None if there is none.

    Bytes are taken as they are, a line break at their end included: it is part of what is proved.
    Raises `InputError` for what is not UTF-8.
    """
    if prompt is not None and file is not None:
        raise click.UsageError("give either --prompt TEXT or --prompt-file FILE")
    if file is not None and str(file) != STDIN:
        name, data = str(file), read_limited(file, MAX_TEXT)
    elif prompt == STDIN or file is not None:
        name = "standard input"
        data = read_stream(sys.stdin.buffer, name, MAX_TEXT)
    else:
        return prompt
    return as_text(data, name)


class BlockRange(click.ParamType):  # type: ignore[type-arg]
    """`i:j`, the blocks i to j-1."""

    name = "i:j"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        try:
            first, last = (int(part) for part in str(value).split(":"))
        except ValueError:
            self.fail(f"expected i:j, e.g. 0:1, got {value!r}", param, ctx)
        return first, last

"""The command line in this process: exit code, stdout, stderr."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

from zkllm import output
from zkllm.cli import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def zkllm(*arguments: object) -> Done:
    """Run `zkllm ARGUMENTS` as a shell would, without the cost of a new interpreter.

    Each argument is what `str` makes of it: a path, or text.
    """
    out, err = io.StringIO(), io.StringIO()
    argv = ["zkllm", *map(str, arguments)]
    output.begin()
    code = 0
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
    return Done(code, out.getvalue(), err.getvalue())

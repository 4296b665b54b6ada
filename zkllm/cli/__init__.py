"""The command line: one module a command, each a thin layer over the library.

`main` is where it begins. It loads nothing before it is ready to be interrupted.
"""

from __future__ import annotations

import contextlib
import io
import sys

from zkllm.cli import signals


def main() -> None:
    """Run the command line and exit; the only place where errors become exit codes."""
    with signals.handled():
        try:
            sys.exit(_run())
        except (signals.Interrupted, KeyboardInterrupt) as interrupt:
            with contextlib.suppress(OSError, AttributeError):
                # a terminal shows ^C, and goes on in the same line
                sys.stderr.write("\n" * sys.stderr.isatty() + signals.INTERRUPTED)
            sys.exit(getattr(interrupt, "exit_code", 130))


def _run() -> int:
    import click

    from zkllm.cli.commands import cli
    from zkllm.errors import BackendError, Error

    _survive_any_locale()
    try:
        return cli.main(prog_name="zkllm", standalone_mode=False) or 0
    except click.ClickException as failure:
        if "--json" in sys.argv:
            from zkllm import output, reports

            value = reports.usage_json(failure.format_message(), failure.exit_code)
            output.emit_json(value, unless_told=True)
        failure.show()
        return failure.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except (Error, MemoryError, OSError) as failure:
        # rich and numpy are loaded by those who need them: `--version` and `--help` do not
        with signals.deferred():
            from zkllm import output, reports

            output.load()
        if isinstance(failure, OSError):
            output.trouble(failure)
            return 1 if isinstance(failure, BrokenPipeError) else 5
        if isinstance(failure, MemoryError):
            failure = BackendError("out of memory")
        if "--json" in sys.argv:
            output.emit_json(reports.failure_json(failure), unless_told=True)
        output.error(failure)
        return failure.exit_code


def _survive_any_locale() -> None:
    """Let stdout and stderr escape what their encoding cannot spell, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

"""The command line: one module a command, each a thin layer over the library.

`main` is where it begins. It loads nothing before it is ready to be interrupted.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_COMMANDS = {
    "export": "make an exact model from a checkpoint",
    "run": "generate text with an exact model and keep the trace",
    "plan": "say what a proof will cost, before anything is spent",
    "setup": "make the keys of a backend",
    "srs": "import the parameters of a public ceremony",
    "policy": "write down what a verifier demands",
    "prove": "turn a trace into a bundle that convinces others",
    "verify": "check bundles under a policy; exit code 0 only for verified",
    "inspect": "show any artefact, without verifying it",
    "doctor": "show what this installation and this machine bring",
    "demo": "do all of it on the bundled model",
}

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Control-C, what supervisors send, and the end of a terminal."""


_INTERRUPTED = "interrupted: nothing half-written was left; the same command goes on\n"


class Interrupted(BaseException):
    """A signal asks the command to end: whatever is open is cleaned up on the way out.

    It is no `KeyboardInterrupt`, which other packages take for a wish of their own.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def main() -> None:
    """Run the command line and exit; the only place where errors become exit codes."""
    with _signals():
        try:
            sys.exit(_run())
        except (Interrupted, KeyboardInterrupt) as interrupt:
            with contextlib.suppress(OSError, AttributeError):
                # a terminal shows ^C, and goes on in the same line
                sys.stderr.write("\n" * sys.stderr.isatty() + _INTERRUPTED)
            sys.exit(getattr(interrupt, "exit_code", 128 + signal.SIGINT))


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
        from zkllm import output, reports

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


# Signals


_loading = True
"""Whether modules are still being loaded, and nothing else has begun."""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let signals that end a command end it in one way; what was ignored stays ignored."""
    before = {
        number: signal.getsignal(number)
        for number in (getattr(signal, name) for name in _ENDING if hasattr(signal, name))
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }
    with contextlib.suppress(ValueError):  # in another thread than the first
        for number in before:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _end:
                signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """The first signal ends the command; more of them must not disturb it while it cleans up."""
    if _loading:
        # Nothing is open yet, and an import that is torn apart tells so in its own way.
        os.write(2, _INTERRUPTED.encode())
        os._exit(128 + number)
    for name in _ENDING:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    raise Interrupted(number)


def loaded() -> None:
    """From now on something may be open that has to be cleaned up."""
    global _loading
    _loading = False

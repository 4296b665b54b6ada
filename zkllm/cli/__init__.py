"""The command line: one module a command, each a thin layer over the library."""

from __future__ import annotations

import importlib
import sys

import click

from zkllm import __version__
from zkllm.errors import Error

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


class _Commands(click.Group):
    """Imports a command's module when it is needed: `zkllm --help` loads nothing heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"zkllm.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zkllm")
def cli() -> None:
    """Run GPT models on exact integers, prove what was computed, verify it in one command.

    \b
    See all of it on the bundled model:
      zkllm demo
    Or step by step:
      zkllm export demo -o model
      zkllm run model -p "12+34=" -n 3 -o answer.trace
      zkllm prove answer.trace --model model -o answer.bundle
      zkllm policy init model -o policy.toml
      zkllm verify answer.bundle --policy policy.toml --model model

    \b
    Exit codes: 0 verified or done, 1 unexpected, 2 usage, 3 refused, 4 bad input,
    5 backend or environment, 130 interrupted.
    """


def main() -> None:
    """Run the command line and exit; the only place where errors become exit codes."""
    from zkllm import output

    output.survive_any_locale()
    try:
        sys.exit(cli.main(prog_name="zkllm", standalone_mode=False) or 0)
    except click.ClickException as failure:
        failure.show()
        sys.exit(failure.exit_code)
    except Error as failure:
        output.error(failure)
        sys.exit(failure.exit_code)
    except (click.Abort, KeyboardInterrupt):
        output.err.print("interrupted: nothing half-written was left; the same command goes on")
        sys.exit(130)
    except MemoryError:
        output.err.print("[bold red]error:[/] out of memory")
        sys.exit(5)
    except BrokenPipeError:
        output.abandon(sys.stdout)
        sys.exit(1)
    except OSError as failure:
        output.abandon(sys.stdout)
        output.err.print(f"[bold red]error:[/] {output.one_line(str(failure))}", markup=True)
        sys.exit(5)

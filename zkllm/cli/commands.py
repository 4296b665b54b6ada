"""The group of all commands."""

from __future__ import annotations

import importlib

import click

from zkllm import __version__
from zkllm.cli import _COMMANDS, loaded


class _Commands(click.Group):
    """Imports a command's module when it is needed: `zkllm --help` loads nothing heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"zkllm.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = super().resolve_command(ctx, args)
        loaded()
        return found

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
    5 backend or environment, 130 interrupted, 143 terminated.
    """

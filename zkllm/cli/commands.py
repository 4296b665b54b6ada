"""The group of all commands."""

from __future__ import annotations

import difflib
import importlib

import click

from zkllm import __version__
from zkllm.cli.signals import loaded

COMMANDS = {
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
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"zkllm.cli.{name}").command
        _let_choose_detail(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, 1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name[:40]!r}.{meant}")
        found = super().resolve_command(ctx, args)
        from zkllm import output

        if "--json" not in args or output.may_be_terminal():
            output.load()
        loaded()
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _let_choose_detail(command: click.Command) -> None:
    """Give `command`, and those below it, the options -q and -v, once."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _let_choose_detail(below)
    elif not any(option in command.params for option in _DETAIL):
        command.params += _DETAIL


def _choose(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from zkllm import output

        output.say("quiet" if option.name == "quiet" else "verbose")


_DETAIL: list[click.Parameter] = [
    click.Option(
        [f"-{name[0]}", f"--{name}"], is_flag=True, expose_value=False, callback=_choose, help=text
    )
    for name, text in (
        ("quiet", "Say nothing beside results, in short, and errors."),
        ("verbose", "Say every step, and what an error came from."),
    )
]


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

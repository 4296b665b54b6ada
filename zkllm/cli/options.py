"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zkllm.backends import AVAILABLE, DEFAULT

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
units = click.option(
    "--unit",
    "units",
    multiple=True,
    metavar="U",
    help="Only this unit, e.g. attention[0]; may be repeated. Others are replayed.",
)
keys = click.option("--keys", type=PATH, metavar="DIR", help="Folder of keys, from zkllm setup.")
model = click.option(
    "--model", type=PATH, required=True, metavar="DIR", help="The exact model, from zkllm export."
)


backend = click.option(
    "--backend",
    type=click.Choice([name for name in AVAILABLE if name != "replay"]),
    default=DEFAULT,
    show_default=True,
    help="Makes keys for every unit that it can prove.",
)
backends = click.option(
    "--backend",
    "backends",
    type=click.Choice(AVAILABLE),
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


class BlockRange(click.ParamType):  # type: ignore[type-arg]
    """`i:j`, the blocks i to j-1."""

    name = "i:j"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        try:
            first, last = (int(part) for part in str(value).split(":"))
        except ValueError:
            self.fail(f"expected i:j, e.g. 0:1, got {value!r}", param, ctx)
        return first, last

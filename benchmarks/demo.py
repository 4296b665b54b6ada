"""What the demo model costs, beside a plain ezkl export of the same attention block.

    make bench            (or: python -m benchmarks.demo [--no-plain])

Everything is measured in one run, and compared in ratios: the machines that run this are shared.
Seconds are wall-clock; memory is the peak of the process that did the work.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import answer, console, machine, table, timed
from zkllm.backends import get_backend
from zkllm.backends.base import Claim
from zkllm.data import bundled
from zkllm.demonstrating import NEW_TOKENS, PROMPT, TOKENS
from zkllm.engines.ezkl.srs import development_srs
from zkllm.exact.model import ExactModel
from zkllm.exporting import export
from zkllm.files import unit_file_name
from zkllm.sessions import Session
from zkllm.verifying import claims
from zkllm.wording import bytes_text


def prove_unit(model: ExactModel, claim: Claim, keys: Path) -> dict[str, Any]:
    """Setup, prove and verify of one unit with ezkl."""
    backend = get_backend("ezkl")
    setup_seconds, pin = timed(lambda: backend.setup(model, claim.unit, TOKENS, keys))
    prove_seconds, evidence = timed(lambda: backend.prove(model, claim, keys))
    verify_seconds, checked = timed(lambda: backend.verify(claim, evidence, model, pin, keys))
    estimate = backend.estimate(model.specification, claim.unit, TOKENS)
    return {
        "cells": estimate.rows,
        "key_bytes": (keys / unit_file_name(claim.unit) / "pk.key").stat().st_size,
        "logrows": estimate.logrows,
        "memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "proof_bytes": checked.details["proof_bytes"],
        "prove_seconds": prove_seconds,
        "setup_seconds": setup_seconds,
        "verify_seconds": verify_seconds,
    }


def plain_unit(block: int) -> dict[str, Any]:
    """The same unit as ezkl quantises it itself, in a process of its own."""
    return answer("benchmarks.plain_ezkl", bundled("demo"), block, TOKENS)


def show(units: dict[str, dict[str, Any]], plain: dict[str, Any] | None) -> None:
    """One row a unit, then the ratio of the first unit to the plain export."""
    rows = table("", "cells", "k", "setup", "prove", "verify", "key", "proof", "memory")

    def row(name: str, f: dict[str, Any]) -> None:
        rows.add_row(
            name,
            f"{f['cells']:,}",
            str(f["logrows"]),
            f"{f['setup_seconds']:.1f} s",
            f"{f['prove_seconds']:.1f} s",
            f"{f['verify_seconds']:.2f} s",
            bytes_text(f["key_bytes"]),
            bytes_text(f["proof_bytes"]),
            bytes_text(f["memory_bytes"]),
        )

    for name, figures in units.items():
        row(name, figures)
    if plain is not None:
        row("plain attention[0]", plain)
        own = units["attention[0]"]
        keys = (
            "cells",
            "setup_seconds",
            "prove_seconds",
            "verify_seconds",
            "key_bytes",
            "proof_bytes",
            "memory_bytes",
        )
        ratio = {key: f"{own[key] / plain[key]:.3f}" for key in keys}
        rows.add_row("ratio", ratio["cells"], "", *(ratio[key] for key in keys[1:]))
    console.print(rows)


def main() -> None:
    """Measure and print."""
    console.print(f"{machine()}; T = {TOKENS}; Freivalds' check off everywhere")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        seconds, _ = timed(lambda: export("demo", work / "model"))
        console.print(f"export {seconds:.2f} s")
        model = ExactModel.from_folder(work / "model")
        with contextlib.closing(Session(model, device="cpu")) as session:
            generate = partial(session.run, PROMPT, NEW_TOKENS, pad_to=TOKENS)
            first, trace = timed(generate)
            again, _ = timed(generate)
        console.print(
            f"run    {first:.2f} s, {NEW_TOKENS} tokens, with the opening of the model; "
            f"once more {again:.3f} s"
        )
        spec = model.specification
        # one SRS serves all circuits, so its making is no part of a unit's setup
        seconds, _ = timed(lambda: development_srs(work / "keys" / "srs", 14))
        console.print(f"SRS    {seconds:.2f} s, once for all units")
        units: dict[str, dict[str, Any]] = {}
        for claim in claims(trace, spec):
            if not get_backend("ezkl").unsupported(spec, claim.unit):
                console.print(f"[dim]proving {claim.unit}[/]")
                units[claim.unit] = prove_unit(model, claim, work / "keys")
            else:
                seconds, _ = timed(partial(get_backend("replay").prove, model, claim, None))
                console.print(f"replay {claim.unit}: {1000 * seconds:.1f} ms")
        plain = None
        if "--no-plain" not in sys.argv:
            console.print("[dim]the plain export (minutes)[/]")
            plain = plain_unit(0)
            if plain["freivalds_columns"]:
                sys.exit("the plain export used Freivalds' check: not comparable")
        show(units, plain)


if __name__ == "__main__":
    main()

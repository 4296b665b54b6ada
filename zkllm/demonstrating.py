"""The whole of the main job on the bundled model, ending in a forgery that is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zkllm import bundle as container
from zkllm.backends.base import Pin
from zkllm.bundle import BackendName, Bundle, boundary_digests
from zkllm.errors import VerificationError
from zkllm.exact.model import ExactModel
from zkllm.exporting import export
from zkllm.extras import installed
from zkllm.files import fresh_folder, write_atomically
from zkllm.keys import policy_for, setup
from zkllm.progress import Progress, silent
from zkllm.proving import prove
from zkllm.running import run
from zkllm.verdict import Report, Request
from zkllm.verifying import verify

PROMPT = "12+34="
NEW_TOKENS = 3
TOKENS = 8
"""Positions of the demo's circuits: prompt and new tokens, the last one excepted."""


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step, in words."""

    title: str
    result: str
    seconds: float


def has_ezkl() -> bool:
    """Whether the extra `ezkl` is installed."""
    return installed("ezkl")


def demonstrate(
    folder: Path, *, prompt: str = PROMPT, force: bool = False, progress: Progress = silent
) -> Iterator[Step | Report | VerificationError]:
    """Export, run, make keys, prove, verify, forge; yields what happened, step by step.

    The last two things that come are the `Report` of the honest bundle and the
    `VerificationError` that refuses the forged one. ezkl proves attention where it is installed,
    sumcheck every other unit.
    """
    fresh_folder(folder, force=force)
    clock = time.perf_counter()

    def step(title: str, result: str) -> Step:
        nonlocal clock
        seconds, clock = time.perf_counter() - clock, time.perf_counter()
        return Step(title, result, seconds)

    exported = export("demo", folder / "model", force=True, progress=progress)
    model = ExactModel.from_folder(exported.folder)
    yield step("export", f"exact model of {len(exported.units)} units")

    trace = run(model, prompt, NEW_TOKENS, device="cpu", pad_to=TOKENS)
    container.save(trace, model.specification, folder / "answer.trace")
    yield step("run", f"{prompt}{trace.completion.rstrip()}")

    ezkl = has_ezkl()
    keys = folder / "keys" if ezkl else None
    made: dict[str, Pin] = {}
    if keys is not None:
        made = setup(model, "ezkl", keys, tokens=TOKENS, audit=True, progress=progress)
        yield step("setup", f"keys of {', '.join(made)} over a development SRS, audited")

    backends: list[BackendName] = ["ezkl", "sumcheck"] if ezkl else ["sumcheck"]
    policy = policy_for(model, keys, backends=backends, insecure_srs=ezkl, made=made)
    with write_atomically(folder / "policy.toml") as file:
        file.write(policy.to_toml().encode())
    path = folder / "answer.bundle"
    prove(trace, model, backends, path, keys=keys, force=True, progress=progress)
    yield step("prove", f"bundle of {path.stat().st_size:,} bytes")

    request = Request(prompt=prompt, max_new_tokens=NEW_TOKENS)
    report = verify(path, policy, model=model, keys=keys, request=request, progress=progress)
    yield step("verify", report.verdict)
    yield report

    forged = forge(container.load(path, model.specification), model)
    container.save(forged, model.specification, folder / "forged.bundle")
    try:
        verify(folder / "forged.bundle", policy, model=model, keys=keys, request=request)
    except VerificationError as refusal:
        yield step("forge", "one integer of one hidden state raised by 1, digests made to fit")
        yield refusal


def forge(bundle: Bundle, model: ExactModel) -> Bundle:
    """`bundle` with one integer changed and every digest made to fit: only evidence can tell."""
    spec = model.specification
    boundaries = list(bundle.boundaries)
    boundaries[1] = boundaries[1].copy()
    boundaries[1][-1, 0] += 1
    digests = boundary_digests(spec, tuple(boundaries))
    statement = replace(bundle.statement, boundaries=digests)
    return replace(bundle, statement=statement, boundaries=tuple(boundaries))

"""The three things that may happen to a mutant; everything else is a fault."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import numpy as np

from tests.fuzz import plain
from tests.fuzz.mutants import Mutant, Spoiled, proven_again, write
from zkllm.backends.base import Claim, Pin
from zkllm.backends.replay import recompute
from zkllm.backends.sumcheck.backend import SumcheckBackend
from zkllm.digests import Digest
from zkllm.errors import Error, InputError, UntrustedMaterial
from zkllm.exact.check import check_bounds
from zkllm.exact.meaning import check_meaning
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.executing import Executor
from zkllm.tensors import IntArray

Outcome = Literal["refused by its form", "refused by the bounds", "true"]
ROWS = 3


def judge(mutant: Mutant, folder: Path, *, prove: bool) -> list[Outcome]:
    """What becomes of `mutant`, and then of it with the bounds that its weights prove.

    Raises `AssertionError`, or whatever escaped, for a fault. Who runs or proves a model does not
    prove its bounds first: where they are wrong, running and proving may end in any `Error`.
    """
    spoiled = mutant.make()
    first = judge_once(spoiled, folder, prove=prove)
    if first != "refused by the bounds":
        return [first]
    try:
        specification = Specification.from_bytes(spoiled.specification)
        again = proven_again(specification, spoiled.tensors)
    except Error:  # there are no such bounds
        return [first]
    second = Spoiled(again.to_bytes(), spoiled.tensors)
    return [first, judge_once(second, folder, prove=prove)]


def judge_once(spoiled: Spoiled, folder: Path, *, prove: bool) -> Outcome:
    """What becomes of a model as it is."""
    try:
        write(spoiled, folder)
        model = ExactModel.from_folder(folder)
    except InputError:
        return "refused by its form"
    try:
        check_bounds(model)
    except Error as err:
        if err.exit_code not in (3, 4):
            raise
        use_without_bounds(model, prove=prove)
        return "refused by the bounds"
    with contextlib.suppress(UntrustedMaterial):
        check_meaning(model)
    require_true(model, prove=prove)
    return "true"


def inputs_of(model: ExactModel, unit: str) -> IntArray:
    """Rows at the bounds of a unit: all ends, a spike, alternating signs, and chance."""
    specification = model.specification
    a = specification.architecture
    random = np.random.default_rng(7)
    rows = min(ROWS, a.context)
    if unit == "embed":
        return np.array([0, a.vocabulary - 1, 0][:rows], dtype=np.int64)
    readers = [name for name in specification.units() if name != "embed"]
    bound = dict(zip(readers, specification.boundary_bounds(), strict=False))[unit]
    x = random.integers(-bound, bound + 1, (rows, a.width))
    x[0] = np.where(np.arange(a.width) % 2, bound, -bound)
    if rows > 1:
        x[1] = 0
        x[1, 0] = bound
    return x


def claim_of(unit: str, x: IntArray, y: IntArray) -> Claim:
    return Claim(unit, x, y, Digest(""))


def require_true(model: ExactModel, *, prove: bool) -> None:
    """All executors give the integers that Python gives."""
    executor = Executor(model, "cpu", threads=1)
    backend = SumcheckBackend()
    for unit in model.specification.units():
        x = inputs_of(model, unit)
        expected = plain.run_unit(model, unit, x)
        got = recompute(model, claim_of(unit, x, x)) if unit != "head" else head_of(model, x)
        assert got.tolist() == expected, f"{unit}: numpy"
        assert run(executor, unit, x).tolist() == expected, f"{unit}: ONNX Runtime"
        if prove and not backend.unsupported(model.specification, unit):
            claim = claim_of(unit, x, got)
            backend.verify(claim, backend.prove(model, claim, None), model, Pin({}), None)


def head_of(model: ExactModel, x: IntArray) -> IntArray:
    return recompute(model, claim_of("head", x, np.zeros(len(x), dtype=np.int64)))


def run(executor: Executor, unit: str, x: IntArray) -> IntArray:
    return executor.run_unit(unit, x)[0]


def use_without_bounds(model: ExactModel, *, prove: bool) -> None:
    """Nothing but an `Error` escapes."""
    backend = SumcheckBackend()
    for unit in model.specification.units():
        x = inputs_of(model, unit)
        with contextlib.suppress(Error):
            y = head_of(model, x) if unit == "head" else recompute(model, claim_of(unit, x, x))
            if prove:
                claim = claim_of(unit, x, y)
                backend.verify(claim, backend.prove(model, claim, None), model, Pin({}), None)
    if prove:
        with contextlib.suppress(Error):
            executor = Executor(model, "cpu", threads=1)
            for unit in model.specification.units():
                run(executor, unit, inputs_of(model, unit))

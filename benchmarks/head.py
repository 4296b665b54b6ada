"""One attention head alone with ezkl, at a size that GPT-2 has.

python -m benchmarks.head [T] [d_head]        default: 16 64
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from zkllm.engines.ezkl import lowering, proofs, readings, recipe, srs
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import recipe_bound, recipe_lookup, recipe_table
from zkllm.engines.ezkl.process import Result, call
from zkllm.engines.ezkl.recipe import Recipe
from zkllm.operations import reading
from zkllm.operations.attention.exact import Attend, AttentionStep, attention
from zkllm.tensors import IntArray
from zkllm.wording import bytes_text

SHIFT = 8
BOUND = 1 << 11
"""Of |q|, |k| and |v|: 8 values to the left of the point, 8 fraction bits."""


@dataclass(frozen=True, slots=True)
class HeadShape:
    """A head that stands alone."""

    tokens: int
    width: int
    shift: int
    bound: int
    """Of |q|, |k| and |v|."""
    score: int
    """Of |s|."""


def head(shape: HeadShape, recipe: Recipe, output: IntArray) -> Circuit:
    """One head with q, k, v as public inputs and o == `output` demanded, all [T, 1, d_head]."""
    numbers = Attend(shape.shift, 0, shape.score, "", 0, 0, shape.bound)
    step = AttentionStep("attention", ("q", "k", "v"), "o", numbers, 1, shape.width, shape.tokens)
    circuit = Circuit(recipe.window, recipe_bound(recipe))
    size = (shape.tokens, 1, shape.width)
    given = [circuit.public_input(name, size, shape.bound) for name in step.reads]
    mixed = reading(step, "ezkl").equations(circuit, step, given, None)
    circuit.demand("output", mixed, output)
    readings.check_no_wrap(circuit)
    return circuit


def main() -> None:
    """Measure and print."""
    tokens, width = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (16, 64)
    console = Console(highlight=False)
    chosen = recipe.load("attention")
    window = chosen.window
    table = recipe_table(chosen)
    random = np.random.default_rng(0)
    # spread like trained queries and keys: scores of a few units, some far apart
    q, k, v = (
        np.clip(random.normal(0, 150, (1, tokens, width)), -BOUND, BOUND).astype(np.int64)
        for _ in range(3)
    )
    attended = attention(q, k, v, shift=SHIFT, table=table)
    score = int(np.abs(attended.score).max())
    shape = HeadShape(tokens, width, SHIFT, BOUND, score)
    circuit = head(shape, chosen, attended.output.swapaxes(0, 1))
    public = {name: x.swapaxes(0, 1) for name, x in (("q", q), ("k", k), ("v", v))}
    values = readings.flat_inputs(circuit, readings.honest(circuit, public, recipe_lookup(chosen)))

    peak = 0

    def run(operation: str, **arguments: object) -> Result:
        nonlocal peak
        result = call(operation, arguments, seconds=chosen.seconds, memory=chosen.memory)
        peak = max(peak, result.peak_bytes)
        return result

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = srs.development_srs(folder, window.logrows)
        model, settings, compiled = (folder / n for n in ("head.onnx", "settings.json", "compiled"))
        model.write_bytes(lowering.to_onnx(circuit, chosen.exp_scale))
        run("settings", model=model, settings=settings, run_args=chosen.run_args())
        run("compile", model=model, compiled=compiled, settings=settings)
        vk, pk = folder / "vk", folder / "pk"
        setup = run("setup", compiled=compiled, vk=vk, pk=pk, srs=source)
        data, witness, proof = (folder / n for n in ("input.json", "witness.json", "proof.json"))
        data.write_text(proofs.input_json(values), encoding="ascii")
        run("witness", data=data, compiled=compiled, output=witness)
        if not run("mock", witness=witness, compiled=compiled).value:
            sys.exit("the circuit refuses an honest witness")
        start = time.perf_counter()
        proving = run("prove", witness=witness, compiled=compiled, pk=pk, proof=proof, srs=source)
        seconds = time.perf_counter() - start
        checking = run(
            "verify", proof=proof, settings=settings, vk=vk, srs=source, reduced_srs=False
        )
        if checking.value is not True:
            sys.exit("the proof does not verify")
        size = len(proofs.proof_bytes(proof.read_bytes()))
        console.print(f"head of T = {tokens}, d_head = {width}: {readings.cells(circuit):,} cells")
        console.print(f"  setup   {setup.seconds:.1f} s, key {bytes_text(pk.stat().st_size)}")
        console.print(f"  prove   {seconds:.1f} s, peak {bytes_text(proving.peak_bytes)}")
        console.print(f"  verify  {checking.seconds:.2f} s, proof {bytes_text(size)}")
        console.print(f"  peak of all {bytes_text(peak)}")


if __name__ == "__main__":
    main()

"""Windows, compiled circuits and dishonest provers that the tests of circuits share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zkllm.engines.ezkl import lowering, readings, recipe
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import Lookup
from zkllm.engines.ezkl.expressions import FIELD, Expression, Integers, Values, integers
from zkllm.engines.ezkl.process import call
from zkllm.engines.ezkl.proofs import input_json
from zkllm.engines.ezkl.recipe import Recipe, Window
from zkllm.tensors import IntArray

Override = Callable[[Integers, Values], Integers]
"""From what an honest prover would put there, given the values before it, to something else."""


def small_recipe(logrows: int = 11, high: int = 0) -> Recipe:
    """The recipe of attention with another window: circuits that ezkl handles in no time."""
    return replace(recipe.load("attention"), window=Window(logrows, high))


def forge(
    circuit: Circuit,
    public: Mapping[str, IntArray],
    exp: Lookup,
    overrides: Mapping[str, Override],
) -> Values:
    """The values of a prover who chooses the hints `overrides` and fits all later ones to them."""

    def supply(node: Expression, values: Values) -> Integers:
        if node.index not in circuit.fills:
            return integers(public[node.detail])
        honest = circuit.fills[node.index](values)
        override = overrides.get(node.detail)
        return honest if override is None else override(honest, values)

    # Outside its window EXP has no entry; any number will do, for the lookup is refused.
    return readings.evaluate(circuit, supply, lambda a: exp(a) if a in circuit.window else 1, None)


def with_hint(circuit: Circuit, values: Values, name: str, hint: Integers, exp: Lookup) -> Values:
    """`values` with another hint, over the field, and nothing fitted to it."""

    def supply(node: Expression, _: Values) -> Integers:
        return hint if node.detail == name else values[node]

    def entry(argument: int) -> int:
        signed = argument if argument < FIELD // 2 else argument - FIELD
        return exp(signed) if signed in circuit.window else 1

    return readings.evaluate(circuit, supply, entry, FIELD)


def bump(place: tuple[int, ...], by: int) -> Override:
    """Add `by` to one element."""

    def change(honest: Integers, _: Values) -> Integers:
        changed = honest.copy()
        changed[place] += by
        return changed

    return change


@dataclass(frozen=True)
class Compiled:
    """A circuit that ezkl has compiled."""

    circuit: Circuit
    folder: Path

    @classmethod
    def of(cls, circuit: Circuit, chosen: Recipe, folder: Path) -> Compiled:
        folder.mkdir(parents=True, exist_ok=True)
        graph, settings = folder / "model.onnx", folder / "settings.json"
        graph.write_bytes(lowering.to_onnx(circuit, chosen.exp_scale))
        run("settings", model=graph, settings=settings, run_args=chosen.run_args())
        run("compile", model=graph, compiled=folder / "model.compiled", settings=settings)
        return cls(circuit, folder)

    @property
    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "settings.json").read_text())
        return found

    def outputs(self, inputs: Sequence[int]) -> list[int]:
        """What ezkl computes, as integers of least magnitude."""
        data, witness = self.folder / "input.json", self.folder / "witness.json"
        data.write_text(input_json(inputs))
        run("witness", data=data, compiled=self.folder / "model.compiled", output=witness)
        tensors = json.loads(witness.read_text())["outputs"]
        values = [int.from_bytes(bytes.fromhex(felt), "little") for t in tensors for felt in t]
        return [value if value < FIELD // 2 else value - FIELD for value in values]

    def accepts(self, inputs: Sequence[int]) -> bool:
        """Whether the constraints of the circuit hold; its outputs may be anything."""
        self.outputs(inputs)
        compiled = self.folder / "model.compiled"
        return bool(run("mock", witness=self.folder / "witness.json", compiled=compiled))


def run(operation: str, **arguments: Any) -> Any:
    return call(operation, arguments, seconds=300, memory=4 << 30).value

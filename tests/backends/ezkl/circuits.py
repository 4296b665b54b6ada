"""Models, circuits and dishonest provers that the tests of ezkl's circuits share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from zkllm.architectures.gpt2 import GPT2
from zkllm.backends.base import Claim, Pin
from zkllm.backends.ezkl import circuit as circuits
from zkllm.backends.ezkl import lowering, recipe
from zkllm.backends.ezkl.backend import EzklBackend
from zkllm.backends.ezkl.equations import Circuit, Expression, Integers, Lookup, Values, integers
from zkllm.backends.ezkl.process import call
from zkllm.backends.ezkl.proofs import input_json
from zkllm.backends.ezkl.recipe import FIELD, Recipe, Window
from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import PRECISIONS, build
from zkllm.exact.tables import exp_ezkl
from zkllm.tensors import IntArray

UNIT = "attention[0]"
TOKENS = 8
Override = Callable[[Integers, Values], Integers]
"""From what an honest prover would put there, given the values before it, to something else."""


def random_model(std: float, *, width: int = 8, heads: int = 2) -> ExactModel:
    """A fragment of one block with random weights, at ezkl's precision."""
    random = np.random.default_rng(7)
    network = GPT2(
        width=width,
        heads=heads,
        inner=4 * width,
        blocks=1,
        vocabulary=16,
        context=16,
        activation="gelu_new",
        epsilon=Fraction("1e-5"),
        scale_scores=True,
    )
    tensors = {
        name: random.normal(1.0 if "ln" in name and "weight" in name else 0.0, std, shape)
        for name, shape in network.shapes()
    }
    checkpoint = Checkpoint(network, tensors, None, sha256(b"random"), stop_ids=(0,))
    return ExactModel.in_memory(*build(checkpoint, PRECISIONS["ezkl"], (0, 1)))


def small_recipe(logrows: int = 11, high: int = 0) -> Recipe:
    """The recipe of attention with another window: circuits that ezkl handles in no time."""
    return replace(recipe.load("attention"), window=Window(logrows, high))


def boundaries(model: ExactModel, tokens: int = TOKENS, seed: int = 0) -> dict[str, IntArray]:
    """Some run of the first attention unit."""
    spec = model.specification
    bound = spec.boundary_bounds()[0]
    shape = (tokens, spec.architecture.width)
    x = np.random.default_rng(seed).integers(-bound, bound + 1, shape)
    return {"x": x, "output": reference.run_unit(model, UNIT, x)}


def unit_circuit(model: ExactModel, tokens: int = TOKENS) -> Circuit:
    chosen = recipe.load("attention")
    return circuits.attention(model.specification, UNIT, tokens, chosen, model.tensor)


def table_lookup(chosen: Recipe) -> Lookup:
    """EXP of a recipe."""
    window = chosen.window
    table = exp_ezkl(chosen.exp_scale, window.high, window.logrows)
    return circuits.exp_lookup(table, chosen)


def forge(
    circuit: Circuit,
    public: Mapping[str, IntArray],
    exp: Lookup,
    overrides: Mapping[str, Override],
) -> Values:
    """The values of a prover who chooses the hints `overrides` and fits all later ones to them."""

    def supply(node: Expression, values: Values) -> Integers:
        if node.index not in circuit._fills:
            return integers(public[node.detail])
        honest = circuit._fills[node.index](values)
        override = overrides.get(node.detail)
        return honest if override is None else override(honest, values)

    # Outside its window EXP has no entry; any number will do, for the lookup is refused.
    return circuit.evaluate(supply, lambda a: exp(a) if a in circuit.window else 1, None)


def with_hint(circuit: Circuit, values: Values, name: str, hint: Integers, exp: Lookup) -> Values:
    """`values` with another hint, over the field, and nothing fitted to it."""

    def supply(node: Expression, _: Values) -> Integers:
        return hint if node.detail == name else values[node]

    def entry(argument: int) -> int:
        signed = argument if argument < FIELD // 2 else argument - FIELD
        return exp(signed) if signed in circuit.window else 1

    return circuit.evaluate(supply, entry, FIELD)


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


FOLDER = "attention.0"
"""Where the keys of `UNIT` are."""


@dataclass(frozen=True)
class Proved:
    """A model, keys for it, and a proof of one of its runs."""

    model: ExactModel
    keys: Path
    pin: Pin
    claim: Claim
    evidence: bytes


def prove(model: ExactModel, keys: Path) -> Proved:
    """Make keys and prove a run."""
    pin = EzklBackend().setup(model, UNIT, TOKENS, keys)
    public = boundaries(model)
    claim = Claim(UNIT, public["x"], public["output"], sha256(b"statement"))
    return Proved(model, keys, pin, claim, EzklBackend().prove(model, claim, keys))


def run(operation: str, **arguments: Any) -> Any:
    return call(operation, arguments, seconds=300, memory=4 << 30).value

"""Single operations as whole proofs, with a witness that a test may spoil."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest

from zkllm.engines.sumcheck.equations import Scope
from zkllm.engines.sumcheck.field import Ext
from zkllm.engines.sumcheck.party import Party, Weights
from zkllm.engines.sumcheck.plan import Combination, Plan, Windowed
from zkllm.engines.sumcheck.protocol import Circuit, Context, check_proof, make_proof, run_protocol
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.tensors import Committed, Public
from zkllm.engines.sumcheck.weights import commit_weights
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ProofRejected
from zkllm.operations import reading
from zkllm.operations.step import Step
from zkllm.tensors import IntArray

Spoil = Callable[[Witness], None]


@dataclass(frozen=True)
class Alone(Circuit):
    """One operation, sealed in a plan of its own."""

    plan: Plan
    weights: Any
    fill: Callable[[Witness], object]
    examine: Callable[[Party], object]
    spoil: Spoil | None = field(default=None)

    def witness(self) -> Witness:
        witness = Witness(self.plan)
        self.fill(witness)
        if self.spoil is not None:
            self.spoil(witness)
        witness.count_lookups()
        return witness

    def check(self, party: Party) -> None:
        self.examine(party)

    def context(self, *, committed: bool = False) -> Context:
        root = commit_weights(self.plan, self.weights).root() if committed else None
        return Context((), root)

    def accept(self, *, committed: bool = False) -> None:
        """The honest proof holds."""
        context = self.context(committed=committed)
        assert check_proof(self, make_proof(self, context), context) > 100

    def refuse(self, label: str, spoil: Spoil, *, committed: bool = False) -> None:
        """With a spoiled witness every lookup holds, and yet the check `label` does not."""
        spoiled = replace(self, spoil=spoil)
        context = self.context(committed=committed)
        require_refused(label, self, make_proof(spoiled, context), context)

    def refuse_lie(self, said: str, label: str) -> None:
        """One more than the truth is sent under the label `said`: then `label` does not hold."""
        context, witness = self.context(), self.witness()

        class Liar(Prover):
            def exchange(
                self, label: str, make: Callable[[], Sequence[Ext]], count: int
            ) -> list[Ext]:
                lie = int(label == said)
                return super().exchange(label, lambda: [value + lie for value in make()], count)

        liar = Liar(witness, self.weights, None)
        run_protocol(liar, liar.committed, None, self, context)
        require_refused(label, self, liar.proof, context)


Kind: TypeAlias = Literal["public", "committed", "its own"]
"""How a value is seen; a value of its own has the form that the step gives it."""


@dataclass(frozen=True)
class Value:
    """What a step reads or writes."""

    integers: IntArray
    bound: int
    kind: Kind


class Stored:
    """Tensors by name, of any integers."""

    def __init__(self, **tensors: IntArray) -> None:
        self._tensors = tensors

    def integers(self, name: str, /) -> IntArray:
        return self._tensors[name]


class Staged:
    """One step, alone in a plan, between values of any kind."""

    def __init__(
        self, step: Step, weights: Weights, values: Mapping[str, Value], limb: int = 8
    ) -> None:
        self.step, self.values, self.limb = step, values, limb
        plan = Plan(limb)
        self.scope = Scope(plan, weights, len(next(iter(values.values())).integers))
        self.placed: dict[str, Windowed] = {}
        """Values that are committed to, but for those of the step's own."""
        for name, value in values.items():
            if value.kind == "public":
                self.scope.values[name] = Public(value.integers, value.bound)
            elif value.kind == "committed":
                number = plan.signed(name, value.integers.shape, value.bound)
                self.placed[name] = number
                self.scope.values[name] = Committed(number.value, number.largest)
        self.equations: Any = reading(step, "sumcheck").Equations(step, self.scope)
        plan.seal()
        self.circuit = Alone(plan, weights, self.fill, self.equations.check)

    def number(self, name: str) -> Windowed:
        """The number that the value `name` is."""
        return self.placed[name] if name in self.placed else self.scope.numbers[name]

    def fill(self, witness: Witness) -> None:
        for name, number in self.placed.items():
            witness.store_number(number, self.values[name].integers)
        given = [self.values[name].integers for name in self.step.reads]
        written = self.equations.fill(witness, given)
        assert np.array_equal(written, self.values[self.step.writes].integers)
        if self.step.writes in self.scope.numbers:
            witness.store_number(self.scope.numbers[self.step.writes], written)

    def lie(self, name: str, place: tuple[int, ...], by: int = 1) -> tuple[Alone, bytes]:
        """A circuit for which one entry of a value is another, and the proof of all else.

        What is public the verifier knows to be another, what is committed to is another column.
        """
        value, context = self.values[name], self.circuit.context()
        if value.kind != "public":
            spoiled = replace(self.circuit, spoil=shifted(self.number(name), place, by))
            return self.circuit, make_proof(spoiled, context)
        integers = value.integers.copy()
        integers[place] += by
        values = {**self.values, name: replace(value, integers=integers)}
        other = Staged(self.step, self.circuit.weights, values, self.limb)
        return other.circuit, make_proof(self.circuit, context)


def require_refused(label: str, circuit: Circuit, proof: bytes, context: Context) -> None:
    with pytest.raises(ProofRejected, match=f"^sumcheck: {re.escape(label)} does not hold$"):
        check_proof(circuit, proof, context)


def shifted(number: Windowed, place: tuple[int, ...], by: int) -> Spoil:
    """One entry of a number is another, inside its window."""

    def spoil(witness: Witness) -> None:
        values = witness.integers(number.value)
        values[place] += by
        witness.store_number(number, values)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    def spoil(witness: Witness) -> None:
        for each in spoils:
            each(witness)

    return spoil


def put(column: Combination, place: tuple[int, ...], value: int) -> Spoil:
    """One entry of a single column is `value`."""

    def spoil(witness: Witness) -> None:
        values = witness.integers(column)
        values[place] = value
        witness.store(column, values)

    return spoil

"""A prover that lies: it fills columns as it likes, and proves the rest as it should.

A `Trial` forges the proof of one unit and has it verified. Tests lie in single operations, for
which they put their own `fill` in the place of the honest one; whatever is computed from a lie
follows from it, up to the unit's output, which becomes the claim.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.arithmetic import HOMES
from zkllm.architectures.gpt2 import GPT2
from zkllm.backends.base import Claim
from zkllm.backends.sumcheck import units
from zkllm.backends.sumcheck.backend import context_of
from zkllm.backends.sumcheck.units import UnitCircuit, make_circuit
from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.engines.sumcheck import protocol
from zkllm.engines.sumcheck.committed import CommittedVector
from zkllm.engines.sumcheck.field import ZERO, Ext
from zkllm.engines.sumcheck.party import Opener, Weights
from zkllm.engines.sumcheck.plan import Combination, Lookup, Table, Windowed
from zkllm.engines.sumcheck.protocol import Circuit, Context, check_proof, run_protocol
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.rounds import Fractions
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.engines.sumcheck.weights import commit_weights
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ProofRejected
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm
from zkllm.operations.precision import Fractions as FractionBits
from zkllm.operations.precision import Precision
from zkllm.operations.tables import ExpTable
from zkllm.tensors import IntArray

PRECISION = Precision("small", 8, FractionBits(*[6] * 7), ExpTable("free", 5, 6, 0))
STATEMENT = sha256(b"a statement")
IDS = np.array([3, 1, 4, 1, 5])
GENERATED = 2
"""The head proves the tokens after the last `GENERATED` of `IDS`."""


SIZES = GPT2(6, 2, 11, 2, 13, 7, "gelu_new", Fraction(1, 100_000), True)
"""A network in which no dimension is a power of two but the numbers of heads and blocks."""
ONES = GPT2(1, 1, 1, 1, 1, 1, "gelu_new", Fraction(1, 100_000), True)
"""A network whose tensors have no variable."""


def checkpoint(seed: int, config: GPT2) -> Checkpoint:
    random = np.random.default_rng(seed)
    d, inner = config.width, config.inner

    def normal(spread: float, *shape: int, mean: float = 0) -> Any:
        return random.normal(mean, spread, shape)

    tensors = {
        "wte.weight": normal(1, config.vocabulary, d),
        "wpe.weight": normal(0.5, config.context, d),
        "ln_f.weight": normal(0.2, d, mean=1),
        "ln_f.bias": normal(0.1, d),
        "lm_head.weight": normal(1, config.vocabulary, d),
    }
    for i in range(config.blocks):
        tensors |= {
            f"h.{i}.ln_1.weight": normal(0.2, d, mean=1),
            f"h.{i}.ln_1.bias": normal(0.1, d),
            f"h.{i}.attn.c_attn.weight": normal(0.7, d, 3 * d),
            f"h.{i}.attn.c_attn.bias": normal(0.2, 3 * d),
            f"h.{i}.attn.c_proj.weight": normal(0.5, d, d),
            f"h.{i}.attn.c_proj.bias": normal(0.2, d),
            f"h.{i}.ln_2.weight": normal(0.2, d, mean=1),
            f"h.{i}.ln_2.bias": normal(0.1, d),
            f"h.{i}.mlp.c_fc.weight": normal(0.8, d, inner),
            f"h.{i}.mlp.c_fc.bias": normal(0.1, inner),
            f"h.{i}.mlp.c_proj.weight": normal(0.5, inner, d),
            f"h.{i}.mlp.c_proj.bias": normal(0.1, d),
        }
    # Two tokens of equal logits.
    tensors["lm_head.weight"][9:10] = tensors["lm_head.weight"][4:5]
    stop_ids = (12,) if config.vocabulary > 12 else ()
    return Checkpoint(config, tensors, b"{}", sha256(b"seed %d" % seed), stop_ids)


@functools.cache
def small_model(seed: int = 0, config: GPT2 = SIZES) -> ExactModel:
    """An exact model of width 6; another seed makes one of the same shapes."""
    return ExactModel.in_memory(*build(checkpoint(seed, config), PRECISION))


@functools.cache
def claims(seed: int = 0) -> Mapping[str, Claim]:
    """What the small model does with `IDS`, by unit."""
    model = small_model(seed)
    assert model.specification.head is not None
    rows = reference.forward(model, IDS)
    ids = reference.run_unit(model, "head", rows[-1][-GENERATED:])
    names = [name for name in model.specification.units() if name != "head"]
    found = {
        name: Claim(name, before, after, STATEMENT)
        for name, before, after in zip(names, [IDS, *rows], rows, strict=False)
    }
    return found | {"head": Claim("head", rows[-1], ids, STATEMENT, len(IDS) - GENERATED)}


def gpt2_sized() -> Specification:
    """A specification of GPT-2 small's shapes, with the bounds that weights like its own prove."""
    small = small_model().specification
    sizes: Any = {"width": 768, "heads": 12, "inner": 3072, "vocabulary": 50257, "context": 1024}
    norm = Norm(0, 128849, 28378, 37851603, 275086819136693777, 28392)

    def linear(layer: Linear, shift: int, accumulator: int) -> Linear:
        return replace(layer, shift=shift, accumulator=accumulator, output=accumulator >> shift)

    attention, mlp = (
        replace(
            small.attention[0],
            norm=norm,
            query=linear(small.attention[0].query, 15, 225608059),
            key=linear(small.attention[0].key, 12, 222657456),
            value=linear(small.attention[0].value, 12, 223983096),
            score_shift=10,
            product=19942962835,
            score=19475550,
            total=67108864,
            out=linear(small.attention[0].out, 9, 9593149297),
            output=18925801,
        ),
        replace(
            small.mlp[0],
            norm=norm,
            expand=linear(small.mlp[0].expand, 11, 119290706),
            project=linear(small.mlp[0].project, 7, 59008641491),
            output=479930813,
        ),
    )
    assert small.head is not None
    tables = {"table.exp": 12068, "table.gelu": 3645}
    return replace(
        small,
        architecture=replace(small.architecture, **sizes),
        attention=(attention, *small.attention[1:]),
        mlp=(mlp, *small.mlp[1:]),
        head=replace(small.head, norm=norm, logit=167493532),
        tensors={
            name: replace(stored, shape=(tables[name],)) if name in tables else stored
            for name, stored in small.tensors.items()
        },
    )


Lie = Callable[..., Any]
"""`lie(operation, honest, witness, *inputs)` in the place of `honest(witness, *inputs)`."""


class Tolerant(Witness):
    """A witness that takes what it is given, and counts the cells that are rows of a table."""

    def store_number(self, number: Windowed, values: IntArray) -> None:
        """The last limb has whatever the others leave."""
        raw = values + number.offset
        names = list(number.value.terms)
        for k, name in enumerate(names):
            limb = raw >> (k * number.limb)
            self.columns[name] = limb if name == names[-1] else limb % (1 << number.limb)

    def count_lookups(self) -> None:
        """A cell that is no row of its table counts where a table of that identifier has it."""
        tables = self.plan.tables
        counts = {name: np.zeros(table.rows, dtype=np.int64) for name, table in tables.items()}
        for lookup in self.plan.lookups:
            keys = self.integers(lookup.key)
            values = np.zeros_like(keys) if lookup.value is None else self.integers(lookup.value)
            counted = np.ones(keys.shape, dtype=bool)
            if lookup.causal:
                counted = np.broadcast_to(np.tri(keys.shape[-1], dtype=bool), keys.shape)
            for name, found in self._rows(lookup, keys, values):
                rows = keys[counted & found]
                counts[name] += np.bincount(rows, minlength=tables[name].rows)
                counted = counted & ~found
        for name, count in counts.items():
            self.columns[f"multiplicity of {name}"] = count

    def _rows(
        self, lookup: Lookup, keys: IntArray, values: IntArray
    ) -> Iterator[tuple[str, IntArray]]:
        identifier = self.plan.tables[lookup.table].identifier
        for name, table in self.plan.tables.items():
            if table.identifier == identifier:
                yield name, is_row(table, keys, values)


def is_row(table: Table, keys: IntArray, values: IntArray) -> IntArray:
    """Which pairs are rows of `table`."""
    inside = (keys >= 0) & (keys < table.rows)
    if table.values is None:
        return inside & (values == 0)
    return inside & (values == table.values[np.where(inside, keys, 0)])


class LyingProver(Prover):
    """A prover that looks at other integers than it committed to, where it is told to.

    `seen` are integers by combination, for the tables of sumchecks; `told` are messages by label;
    `counted` is the witness whose fractions are summed.
    """

    def __init__(self, witness: Witness, weights: Weights, root: bytes | None) -> None:
        super().__init__(witness, weights, root)
        self.seen: list[tuple[Combination, IntArray]] = []
        self.told: dict[str, list[Ext]] = {}
        self.counted = witness

    def commit_to(self, columns: Mapping[str, IntArray]) -> None:
        """Commit anew, to other `columns` and to what can be counted of them."""
        self.witness.columns |= columns
        self.witness.count_lookups()
        self.committed = CommittedVector(self.witness.committed(), self.plan.layout())

    def integers(self, combination: Combination) -> IntArray:
        for known, values in self.seen:
            if known == combination:
                return values
        return super().integers(combination)

    def exchange(self, label: str, make: Callable[[], Any], count: int) -> list[Ext]:
        told = self.told.get(label)
        return super().exchange(label, make if told is None else lambda: told, count)

    def fraction_tree(self, alpha: Ext, beta: Ext, gamma: Ext) -> Fractions:
        return Fractions(self.counted, alpha, beta, gamma)


Instruct = Callable[[LyingProver, Circuit], None]
Commit = Callable[[LyingProver, Circuit], Opener]


@dataclass
class Trial:
    """One attempt to have a forged proof of a unit accepted."""

    unit: str
    lies: Mapping[str, Lie] = field(default_factory=dict)
    """By step of the unit."""
    instruct: Instruct | None = None
    """What the prover is told before it proves."""
    commit: Commit | None = None
    """What opens the commitment instead of what was committed to."""
    change: Callable[[Claim], Claim] | None = None
    """The claim to prove, of the honest one; without it the one that follows from the lies."""
    model: ExactModel = field(default_factory=small_model)
    """The verifier's."""
    believes: ExactModel | None = None
    """The prover's model, if it has another."""
    weaken: list[Callable[[Circuit], None]] = field(default_factory=list)
    """Guards of the circuit that are switched off, for both parties."""
    committed: bool = False
    """Whether the verifier knows a commitment to the weights instead of the weights."""
    hidden: bool = False
    """Whether rows at the boundaries are columns instead of public."""

    @property
    def honest(self) -> Claim:
        return claims()[self.unit]

    def circuit(self, claim: Claim, model: ExactModel | None = None) -> UnitCircuit:
        """The circuit of `claim`, less the guards that are off."""
        circuit = make_circuit(model or self.model, claim, hidden=self.hidden)
        for switch_off in self.weaken:
            switch_off(circuit)
        return circuit

    def context(self, claim: Claim) -> Context:
        root = None
        if self.committed:
            root = commit_weights(self.circuit(claim).plan, self.model).root()
        return context_of(self.model, claim, root)

    def forge(self) -> tuple[Claim, bytes]:
        """The forged claim and its proof."""
        model = self.believes or self.model
        claim = self.honest if self.change is None else self.change(self.honest)
        circuit = self.circuit(claim, model)
        witness, rows = lying_witness(circuit, self.lies)
        if rows is not None and self.change is None:
            claim = replace(claim, outputs=rows)
            circuit = self.circuit(claim, model)
            if "output" in circuit.ends:
                end = circuit.ends["output"]
                end.fill(witness, rows + end.divisor // 2)
                witness.count_lookups()
        context = self.context(claim)
        prover = LyingProver(witness, model, context.weights_root)
        if self.instruct is not None:
            self.instruct(prover, circuit)
        committed: Opener | None = prover.committed
        if self.commit is not None:
            committed = self.commit(prover, circuit)
        weights = commit_weights(circuit.plan, model) if self.committed else None
        run_protocol(prover, committed, weights, circuit, context)
        return claim, prover.proof

    def verify(self) -> Claim:
        """The false claim, if the verifier believes it; raises `ProofRejected` if it does not."""
        claim, proof = self.forge()
        assert check_proof(self.circuit(claim), proof, self.context(claim)) > 100
        return claim


def lying_witness(circuit: UnitCircuit, lies: Mapping[str, Lie]) -> tuple[Witness, IntArray | None]:
    """All columns, and the output to which the lies lead."""
    outputs: list[IntArray] = []
    with ExitStack() as stack:
        for name, lie in lies.items():
            told = liar(circuit, name, lie)
            stack.enter_context(patch.object(circuit.steps[name], "fill", told))
        stack.enter_context(patch.object(units, "Witness", Tolerant))
        stack.enter_context(
            patch.object(units, "require_equal", lambda _, rows: outputs.append(rows))
        )
        return circuit.witness(), outputs[0] if outputs else None


def liar(circuit: UnitCircuit, name: str, lie: Lie) -> Callable[..., IntArray]:
    """What fills in the step `name` instead of what does it honestly."""
    equations = circuit.steps[name]
    (written,) = (step.writes for step in circuit.unit.steps if step.name == name)
    fill, number = equations.fill, circuit.scope.numbers.get(written)

    def honest(witness: Witness, *inputs: IntArray) -> IntArray:
        """As in the circuit, with what is written stored: a lie may look at it."""
        found = fill(witness, inputs)
        if number is not None:
            witness.store_number(number, found)
        return found

    def told(witness: Witness, given: Sequence[IntArray]) -> IntArray:
        found: IntArray = lie(equations, honest, witness, *given)
        return found

    return told


@contextmanager
def lying(name: str, lie: Callable[..., Any]) -> Iterator[None]:
    """The function `name` of exact arithmetic gives `lie(honest result, *arguments)`."""
    honest = getattr(HOMES[name], name)

    def told(*arguments: Any, **constants: Any) -> Any:
        return lie(honest(*arguments, **constants), *arguments, **constants)

    with patch.object(HOMES[name], name, told):
        yield


Off = Callable[[Any, pytest.MonkeyPatch], None]
"""Switches a guard off."""


def deaf_to(*labels: str) -> Off:
    """The verifier does not ask whether what is required under `labels` holds."""

    class Deaf(Verifier):
        def refuse(self, label: str) -> None:
            if label not in labels:
                super().refuse(label)

    return lambda _, monkeypatch: monkeypatch.setattr(protocol, "Verifier", Deaf)


def without_lookup(name: str) -> Off:
    """The last limb of a number, or a column, is not looked up."""

    def forget(circuit: Circuit) -> None:
        number = circuit.plan.numbers.get(name)
        column = name if number is None else list(number.value.terms)[-1]
        kept = [site for site in circuit.plan.lookups if column not in site.key.terms]
        assert len(kept) < len(circuit.plan.lookups)
        circuit.plan.lookups[:] = kept

    return lambda trial, _: trial.weaken.append(forget)


def with_shared_identifier(*tables: str) -> Off:
    """Several tables have the identifier of the first."""

    def share(circuit: Circuit) -> None:
        found = circuit.plan.tables
        for name in tables:
            identifier = found[tables[0]].identifier
            found[name] = replace(found[name], identifier=identifier)

    return lambda trial, _: trial.weaken.append(share)


def without_equation(module: Any, index: int) -> Off:
    """Of the equations that one zero-check has together, that number `index` counts for nothing."""
    honest = module.powers

    def powers(base: Ext, count: int) -> list[Ext]:
        result: list[Ext] = honest(base, count)
        result[index] = ZERO
        return result

    return lambda _, monkeypatch: monkeypatch.setattr(module, "powers", powers)


def other_model(name: str, change: Callable[[IntArray], IntArray]) -> ExactModel:
    """The small model with another tensor, under its own name."""
    model = small_model()
    tensors = {key: model.tensor(key) for key in model.specification.tensors}
    return ExactModel.in_memory(model.specification, tensors | {name: change(tensors[name])})


def other_quotient(by: int, *, remainder: str) -> Lie:
    """One quotient is off; its remainder goes with it, or stays."""

    def lie(linear: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
        y: IntArray = honest(witness, x)
        at = (2, *(0 for _ in y.shape[1:]))
        y[at] += by
        if remainder == "goes":
            rest = witness.integers(linear.rest.value)
            rest[at] -= by << linear.layer.shift
            linear.rest.fill(witness, rest)
        return y

    return lie


def refused(label: str) -> Any:
    """The proof is refused because what is required under `label` does not hold."""
    return pytest.raises(ProofRejected, match=f"^sumcheck: {label} does not hold$")

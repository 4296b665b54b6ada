"""What bounds allow, numpy, ONNX Runtime and the sumcheck prover compute alike, for drawn lists.

Dimensions, constants, weights and rows are drawn; `prove` refuses them, or holds what it says.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.engines.sumcheck.circuits import Stored
from tests.graphs import LEVELS, unit_session
from tests.toy.exact import Square, SquareStep
from zkllm.backends.base import Claim
from zkllm.backends.sumcheck.units import UnitCircuit, smallest_circuit
from zkllm.digests import Digest
from zkllm.engines.sumcheck.protocol import Context, check_proof, make_proof
from zkllm.engines.sumcheck.tensors import Committed
from zkllm.errors import UnsupportedModel
from zkllm.operations.activation.exact import Activation, ActivationStep
from zkllm.operations.attention.exact import Attend, AttentionStep
from zkllm.operations.head.exact import HeadStep, Logits
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.norm.exact import Norm, NormStep
from zkllm.operations.step import Dims, Step
from zkllm.operations.unit import Boundary, Ids, Rows, Unit
from zkllm.tensors import IntArray

CONTEXT = 5
KINDS = ("attention", "activation", "square", "head")


class Draw:
    """A unit with drawn dimensions, constants and tensors."""

    def __init__(self, kind: str, source: int, bits: int) -> None:
        self.random = np.random.default_rng(source)
        self.bits = bits
        """Of the largest weight."""
        self.tensors: dict[str, IntArray] = {}
        self.width = self.size(7)
        self.bound = 1 << self.size(4 * bits)
        norm = Norm(self.size(4) - 1, self.size(1 << bits), self.size(1 << 2 * bits), 0, 0, 0)
        steps: list[Step] = [NormStep("norm", ("x",), "normal", norm, self.width)]
        output: Boundary = Rows(self.width, 0)
        if kind == "head":
            vocabulary = self.size(9)
            logits = Logits(
                self.weight("w", self.width, vocabulary), self.weight("b", vocabulary), 0
            )
            steps.append(HeadStep("head", ("normal",), "ids", logits, self.width, vocabulary))
            output = Ids(vocabulary)
        elif kind == "attention":
            heads = (self.size(3), self.size(4))
            table = np.sort(self.random.integers(0, 1 << bits, self.size(9)))[::-1] + 1
            self.tensors["exp"] = table.astype(np.int64)
            attend = Attend(self.shift(), 0, 0, "exp", 0, 0, 0)
            parts = ("query", "key", "value")
            steps += [self.linear(part, "normal", part, (self.width,), heads) for part in parts]
            steps.append(AttentionStep("attention", parts, "mixed", attend, *heads, CONTEXT))
            steps.append(self.linear("out", "mixed", "change", heads, (self.width,)))
        else:
            inner = (self.size(3), self.size(4))
            steps.append(self.linear("expand", "normal", "hidden", (self.width,), inner))
            if kind == "square":
                steps.append(SquareStep("square", ("hidden",), "active", Square(0, 0), inner))
            else:
                places = np.arange(self.size(9))
                self.tensors["gelu"] = self.random.integers(0, places + 1)
                activation = Activation("gelu", 0)
                steps.append(ActivationStep("gelu", ("hidden",), "active", activation, inner))
            steps.append(self.linear("project", "active", "change", inner, (self.width,)))
        head = kind == "head"
        self.unit = Unit(
            "unit",
            Rows(self.width, self.bound),
            output,
            tuple(steps),
            writes="ids" if head else "change",
            residual=not head and bool(self.random.integers(2)),
        )

    def size(self, largest: int) -> int:
        return int(self.random.integers(1, largest + 1))

    def shift(self) -> int:
        return int(self.random.integers(0, 2 * self.bits))

    def weight(self, name: str, *dims: int) -> str:
        largest = 1 << self.bits
        self.tensors[name] = self.random.integers(-largest, largest + 1, dims)
        return name

    def linear(self, name: str, reads: str, writes: str, inner: Dims, outer: Dims) -> LinearStep:
        n, m = math.prod(inner), math.prod(outer)
        weight, bias = self.weight(f"{name}.weight", n, m), self.weight(f"{name}.bias", m)
        numbers = Linear(weight, bias, self.shift(), 0, 0)
        return LinearStep(name, (reads,), writes, numbers, inner, outer)

    def rows(self) -> IntArray:
        x = self.random.integers(-self.bound, self.bound + 1, (CONTEXT, self.width))
        x[0] = self.random.choice([-self.bound, self.bound], self.width)
        x[1:3] = self.random.integers(-1, 2, (2, self.width))
        return x


def require_proof(draw: Draw, unit: Unit, x: IntArray, y: IntArray) -> None:
    """The prover's columns hold what numpy computes, no equation wraps, and the verifier agrees."""
    claim = Claim(unit.name, x, y, Digest(""))

    def circuit() -> UnitCircuit:
        return smallest_circuit(unit, Stored(**draw.tensors), claim)

    made, values = circuit(), unit.values(x, draw.tensors.__getitem__)
    witness, seen = made.witness(), 0
    for name, tensor in made.scope.values.items():
        if isinstance(tensor, Committed):
            assert np.array_equal(witness.integers(tensor.value), values[name]), name
            assert tensor.largest >= np.abs(values[name]).max(), name
            seen += 1
    assert seen == len(unit.steps) - 1, "the last value is public, all others are columns"
    assert check_proof(circuit(), make_proof(made, Context((), None)), Context((), None)) > 100


def require_agreement(draw: Draw, unit: Unit, level: Any) -> None:
    x = draw.rows()
    values = unit.values(x, draw.tensors.__getitem__)
    for step in unit.steps:
        bound = getattr(step.numbers, "output", None)
        if bound is not None:
            assert np.abs(values[step.writes]).max() <= bound, step.name
    expected = unit.run(x, draw.tensors.__getitem__)
    if isinstance(unit.output, Rows):
        assert np.abs(expected).max() <= unit.output.bound
    session = unit_session(unit, draw.tensors, level)
    kept = {
        value.name: np.zeros([n if isinstance(n, int) else 0 for n in value.shape], dtype=np.int64)
        for value in session.get_inputs()
        if value.name != "x"
    }
    # one row after the other, with what is kept of those before
    names = [name.removeprefix("past_") for name in kept]
    for place in range(CONTEXT):
        got, *parts = session.run(
            ["ids" if isinstance(unit.output, Ids) else "output", *names],
            {"x": x[place : place + 1], **kept},
        )
        assert np.array_equal(got, expected[place : place + 1])
        kept = dict(zip(kept, parts, strict=True))
    require_proof(draw, unit, x, expected)


@given(
    st.sampled_from(KINDS),
    st.integers(0, 2**32),
    st.integers(1, 12),
    st.sampled_from(LEVELS),
)
@seed(20260102)
@settings(deadline=None, max_examples=60)
def test_a_list_is_refused_or_everybody_agrees(
    kind: str, source: int, bits: int, level: Any
) -> None:
    draw = Draw(kind, source, bits)
    try:
        unit = draw.unit.prove(draw.tensors.__getitem__)
    except UnsupportedModel:
        return
    require_agreement(draw, unit, level)


def test_lists_of_every_kind_are_refused_and_are_not() -> None:
    """Otherwise the agreement above would say little."""
    found: Counter[tuple[str, bool]] = Counter()
    for kind in KINDS:
        for source in range(40):
            draw = Draw(kind, source, 1 + source % 12)
            try:
                draw.unit.prove(draw.tensors.__getitem__)
            except UnsupportedModel:
                found[kind, False] += 1
            else:
                found[kind, True] += 1
    assert min(found[kind, accepted] for kind in KINDS for accepted in (True, False)) >= 3, found

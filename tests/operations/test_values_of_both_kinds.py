"""Values that operations read and write, public and committed to: honest proofs, and lies.

A lie is about one entry of one value, and all else is as it should be: what is public the verifier
knows to be another, what is committed to is another column. One equation refuses it; without that
one it is believed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tests.backends.sumcheck.forging import deaf_to
from tests.engines.sumcheck.circuits import Kind, Staged, Stored, Value, require_refused
from zkllm.engines.sumcheck.protocol import check_proof
from zkllm.operations.activation.exact import Activation, ActivationStep
from zkllm.operations.attention.exact import Attend, AttentionStep
from zkllm.operations.embed.exact import Embed, EmbedStep
from zkllm.operations.head.exact import HeadStep, Logits
from zkllm.operations.linear.exact import Linear, LinearStep
from zkllm.operations.norm.exact import NormStep
from zkllm.operations.norm.exact import prove as proven_norm
from zkllm.operations.step import Step
from zkllm.tensors import IntArray

ROWS, BOUND = 5, 300
RANDOM = np.random.default_rng(0)


def integers(*shape: int, bound: int = BOUND) -> IntArray:
    return RANDOM.integers(-bound, bound + 1, shape)


@dataclass(frozen=True)
class Case:
    """A step with what it reads, and the equation that ties each value to it."""

    step: Step
    reads: Mapping[str, IntArray]
    tied: Mapping[str, str]
    """By value: what refuses another."""
    weights: Stored
    computed: Mapping[str, str] = field(default_factory=dict)
    """By value: what refuses another that is committed to, where the prover computes with it."""
    bound: int = 1 << 12
    """On everything written."""

    def staged(self, kinds: Mapping[str, Kind]) -> Staged:
        written = self.step.run(list(self.reads.values()), self.weights.integers)
        values = {name: Value(x, BOUND, kinds[name]) for name, x in self.reads.items()}
        values[self.step.writes] = Value(written, self.bound, kinds[self.step.writes])
        return Staged(self.step, self.weights, values)


NORM = proven_norm("norm", BOUND, d=6, shift=1, epsilon=3, gain=200)
ATTEND = Attend(12, 1, 99, "t", 1, 1, BOUND)
CASES = {
    "norm": Case(
        NormStep("norm", ("x",), "y", NORM, 6),
        {"x": integers(ROWS, 6)},
        {"x": "norm: centred", "y": "norm: output"},
        Stored(),
    ),
    "linear": Case(
        LinearStep("linear", ("x",), "y", Linear("w", "b", 3, 1 << 20, 1 << 12), (2, 3), (7,)),
        {"x": integers(ROWS, 2, 3)},
        {"x": "linear", "y": "linear"},
        Stored(w=integers(6, 7, bound=9), b=integers(7)),
    ),
    "attention": Case(
        AttentionStep("attention", ("q", "k", "v"), "o", ATTEND, 2, 3, 9),
        {name: integers(ROWS, 2, 3) for name in "qkv"},
        {
            "q": "attention: products",
            "k": "attention: products",
            "v": "attention: mixed",
            "o": "attention: output",
        },
        Stored(t=np.array([64, 40, 25, 15, 9, 6, 4, 2, 1, 0])),
        {"q": "attention: cells", "k": "attention: cells", "v": "attention: output"},
    ),
    "activation": Case(
        ActivationStep("gelu", ("x",), "y", Activation("t", BOUND), (3, 2)),
        {"x": integers(ROWS, 3, 2)},
        {"x": "gelu: input", "y": "gelu: output"},
        Stored(t=np.array([0, 3, 5, 6, 5, 3, 1, 0])),
    ),
    "embed": Case(
        EmbedStep("embed", ("ids",), "x", Embed("t", "p", 2 * BOUND), 11, 7, 6),
        {"ids": np.array([3, 1, 4, 1, 5])},
        {"x": "embed"},
        Stored(t=integers(11, 6), p=integers(7, 6)),
    ),
    "head": Case(
        HeadStep("margin", ("x",), "ids", Logits("w", "b", 1 << 20), 6, 11),
        {"x": integers(ROWS, 6)},
        {"x": "margin"},
        Stored(w=integers(6, 11, bound=9), b=integers(11)),
    ),
}
"""Ids are public in all of them."""


def mixtures() -> Iterator[tuple[str, dict[str, Kind]]]:
    """Every operation with every value of either kind."""
    kinds: tuple[Kind, Kind] = ("public", "committed")
    for name, case in CASES.items():
        for chosen in itertools.product(kinds, repeat=len(case.tied)):
            yield name, {"ids": "public", **dict(zip(case.tied, chosen, strict=True))}


def named(value: object) -> str:
    if isinstance(value, str):
        return value
    assert isinstance(value, dict)
    return ", ".join(f"{name} {kind}" for name, kind in value.items() if name != "ids")


MIXTURES = list(mixtures())


@pytest.mark.parametrize(("name", "kinds"), MIXTURES, ids=named)
def test_values_of_either_kind_are_accepted(name: str, kinds: dict[str, Kind]) -> None:
    """Whether weights are held or committed to."""
    case = CASES[name]
    for committed in {False, bool(case.step.weights())}:
        case.staged(kinds).circuit.accept(committed=committed)


@pytest.mark.parametrize(("name", "kinds"), MIXTURES, ids=named)
def test_a_lie_about_a_value_is_refused_by_its_equation_alone(
    name: str, kinds: dict[str, Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    staged = case.staged(kinds)
    for value, label in case.tied.items():
        if kinds[value] == "committed":
            label = case.computed.get(value, label)
        last = tuple(n - 1 for n in staged.values[value].integers.shape)
        circuit, proof = staged.lie(value, last)
        require_refused(label, circuit, proof, circuit.context())
        with monkeypatch.context() as patch:
            deaf_to(label)(None, patch)
            assert check_proof(circuit, proof, circuit.context()) > 100


@pytest.mark.parametrize("name", CASES)
def test_a_value_of_another_shape_is_no_value_of_the_step(name: str) -> None:
    case = CASES[name]
    for value in case.tied:
        staged = case.staged(dict.fromkeys(("ids", *case.tied), "public"))
        cut = replace(staged.values[value], integers=staged.values[value].integers[..., :1])
        with pytest.raises(ValueError, match=f"{value}: expected the shape"):
            Staged(case.step, case.weights, {**staged.values, value: cut})

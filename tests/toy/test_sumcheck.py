"""An operation is added to proofs by `sumcheck.py` beside its record, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.backends.sumcheck.forging import deaf_to, refused
from tests.engines.sumcheck.circuits import Kind, Staged, Stored, Value, require_refused
from tests.toy import unit as toy
from tests.toy.exact import Square, SquareStep
from zkllm.backends.base import Claim
from zkllm.backends.sumcheck.units import UnitCircuit, smallest_circuit
from zkllm.digests import Digest
from zkllm.engines.sumcheck.protocol import Context, check_proof, make_proof
from zkllm.engines.sumcheck.weights import commit_weights
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.tensors import IntArray

CONTEXT = Context((), None)
BOUNDARIES = pytest.mark.parametrize("hidden", [False, True], ids=["public", "hidden"])


def circuit_of(x: IntArray, y: IntArray, *, hidden: bool = False) -> UnitCircuit:
    unit, tensors = toy.made()
    claim = Claim(unit.name, x, y, Digest(""))
    return smallest_circuit(unit, Stored(**tensors), claim, hidden=hidden)


def run(tokens: int) -> tuple[IntArray, IntArray]:
    unit, tensors = toy.made()
    x = toy.rows(tokens)
    return x, unit.run(x, tensors.__getitem__)


@BOUNDARIES
@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("tokens", [1, 7])
def test_a_unit_with_it_is_proved(tokens: int, committed: bool, hidden: bool) -> None:
    circuit = circuit_of(*run(tokens), hidden=hidden)
    root = commit_weights(circuit.plan, circuit.weights).root() if committed else None
    proof = make_proof(circuit, Context((), root))
    assert check_proof(circuit_of(*run(tokens), hidden=hidden), proof, Context((), root)) > 100


@BOUNDARIES
@pytest.mark.parametrize("by", [-1, 1, 1000])
def test_another_output_has_no_proof(by: int, hidden: bool) -> None:
    x, y = run(7)
    y[2, 3] += by
    with pytest.raises(ConstraintViolation, match=r"^toy: the model gives -?\d+ at \[2, 3\]"):
        make_proof(circuit_of(x, y, hidden=hidden), CONTEXT)


def test_another_output_is_refused() -> None:
    x, y = run(7)
    proof = make_proof(circuit_of(x, y), CONTEXT)
    y[2, 3] += 1
    with refused("project"):
        check_proof(circuit_of(x, y), proof, CONTEXT)


def staged(x_is: Kind, y_is: Kind) -> Staged:
    step = SquareStep("square", ("x",), "y", Square(300, 90_000), (3, 2))
    x = toy.rows(5).reshape(5, 3, 2) % 601 - 300
    values = {"x": Value(x, 300, x_is), "y": Value(x * x, 90_000, y_is)}
    return Staged(step, Stored(), values)


@pytest.mark.parametrize("y_is", ["public", "committed", "its own"])
@pytest.mark.parametrize("x_is", ["public", "committed"])
def test_a_lie_about_a_value_is_refused_by_its_equation_alone(
    x_is: Kind, y_is: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    square = staged(x_is, y_is)
    square.circuit.accept()
    lies = [square.lie(name, (4, 2, 1)) for name in ("x", "y")]
    for circuit, proof in lies:
        require_refused("square", circuit, proof, CONTEXT)
    deaf_to("square")(None, monkeypatch)
    for circuit, proof in lies:
        assert check_proof(circuit, proof, CONTEXT) > 100


def test_a_square_that_could_wrap_is_refused() -> None:
    square = staged("public", "its own")
    far = replace(square.values["x"], bound=1 << 32)
    with pytest.raises(UnsupportedModel, match="square could wrap"):
        Staged(square.step, Stored(), {**square.values, "x": far})

"""An operation is added to ezkl's circuits by `ezkl.py` beside its record, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.engines.ezkl.circuits import Compiled, forge, run, small_recipe
from tests.operations.circuits import EXP, circuit_of, honest, steps_off
from tests.toy import unit as toy
from tests.toy.exact import SquareStep
from zkllm.backends.ezkl import units
from zkllm.backends.ezkl.backend import relation
from zkllm.engines.ezkl import readings
from zkllm.engines.ezkl.audit import audit
from zkllm.errors import BackendError, ConstraintViolation, UnsupportedModel
from zkllm.operations.norm.exact import NormStep
from zkllm.operations.unit import Rows, Unit

TOKENS = 4


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The toy's unit, in a window of 2^11."""
    unit, tensors = toy.made()
    chosen = small_recipe()
    circuit = units.build(unit, TOKENS, chosen, tensors.__getitem__)
    return Compiled.of(circuit, chosen, tmp_path_factory.mktemp("toy"))


def test_an_honest_run_satisfies_it(compiled: Compiled) -> None:
    """In numpy, and in ezkl itself."""
    unit, tensors = toy.made()
    circuit, x = compiled.circuit, toy.rows(TOKENS)
    public = {"x": x, "output": honest(unit, circuit, x, tensors)}
    flat = readings.flat_inputs(circuit, readings.honest(circuit, public, EXP))
    assert compiled.outputs(flat) == readings.demanded(circuit, public)
    assert compiled.accepts(flat)


def test_no_operand_of_it_is_free(compiled: Compiled) -> None:
    """What ezkl's key enforces are the equations of its list, and not those of another."""
    folder, logrows = compiled.folder, compiled.circuit.window.logrows
    run("gen_srs", path=folder / "srs", logrows=logrows)
    files = {name: folder / name for name in ("vk", "pk", "srs")}
    run("setup", compiled=folder / "model.compiled", **files)

    def problems(unit: Unit) -> list[str]:
        built = units.build(unit, TOKENS, small_recipe(), toy.made()[1].__getitem__)
        report = audit(folder / "pk", folder / "settings.json", relation(built))
        assert report.free_operands == []
        return report.problems

    unit, _ = toy.made()
    assert problems(unit) == []
    other = tuple(
        replace(step, numbers=replace(step.numbers, epsilon=step.numbers.epsilon + 1))
        if isinstance(step, NormStep)
        else step
        for step in unit.steps
    )
    assert any(
        "is not what the relation demands" in each for each in problems(replace(unit, steps=other))
    )


@pytest.mark.parametrize("by", [-1, 1, 1 << 20])
def test_another_output_is_refused(by: int) -> None:
    unit, tensors = toy.made()
    circuit = circuit_of(unit, TOKENS, tensors)
    x = toy.rows(TOKENS)
    output = honest(unit, circuit, x, tensors)
    output[2, 3] += by
    with pytest.raises(ConstraintViolation, match=r"project\.remainder"):
        readings.honest(circuit, {"x": x, "output": output}, EXP)


def test_each_hint_is_the_only_one() -> None:
    unit, tensors = toy.made()
    circuit = circuit_of(unit, TOKENS, tensors)
    x = toy.rows(TOKENS)
    public = {"x": x, "output": honest(unit, circuit, x, tensors)}
    for name, overrides in steps_off(circuit):
        assert readings.violations(circuit, forge(circuit, public, EXP, overrides)), name


def test_alone_it_is_demanded_as_it_stands() -> None:
    """x² == output, and nothing that a prover could choose."""
    made, _ = toy.made()
    square = next(step for step in made.steps if isinstance(step, SquareStep))
    step = replace(square, reads=("x",), writes="squared", dims=(toy.WIDTH,))
    given = Rows(toy.WIDTH, toy.BOUND**2)
    unit = replace(made, output=given, steps=(step,), writes="squared", residual=False)
    circuit = circuit_of(unit, TOKENS, {})
    x = toy.rows(TOKENS)
    output = honest(unit, circuit, x, {})
    assert circuit.hints == []
    output[1, 1] += 1
    with pytest.raises(ConstraintViolation, match=r"square\[1, 1\]: expected 0, got -1"):
        readings.honest(circuit, {"x": x, "output": output}, EXP)


def test_squares_that_could_wrap_are_refused() -> None:
    """Whatever is put into the windows, no equation may hold modulo the field alone."""
    made, _ = toy.made()
    square = next(step for step in made.steps if isinstance(step, SquareStep))
    step = replace(square, reads=("x",), writes="squared", dims=(toy.WIDTH,))
    wide = Rows(toy.WIDTH, 1 << 128)
    unit = replace(made, input=wide, output=wide, steps=(step,), writes="squared")
    with pytest.raises(BackendError, match="square: its terms could reach"):
        circuit_of(unit, TOKENS, {})


def test_a_step_without_equations_cannot_be_said() -> None:
    unit, tensors = toy.made()
    elsewhere = type("Elsewhere", (SquareStep,), {"__module__": "tests.golden.exact"})
    steps = tuple(
        elsewhere(**vars(step)) if isinstance(step, SquareStep) else step for step in unit.steps
    )
    with pytest.raises(UnsupportedModel, match="square: ezkl has no words for the operation"):
        circuit_of(replace(unit, steps=steps), TOKENS, tensors)

"""The circuit of a unit: its steps between two public boundaries, whatever they are.

`docs/ezkl-circuits.md` has the argument why it leaves a prover no choice.
"""

from __future__ import annotations

import numpy as np

from zkllm.engines.ezkl.circuit import Circuit, Quotient
from zkllm.engines.ezkl.exp import recipe_bound
from zkllm.engines.ezkl.expressions import Expression
from zkllm.engines.ezkl.readings import check_no_wrap
from zkllm.engines.ezkl.recipe import Recipe
from zkllm.errors import UnsupportedModel
from zkllm.exact.specification import Specification
from zkllm.operations import reading
from zkllm.operations.step import Tensors
from zkllm.operations.unit import Rows, Unit

MAX_PRODUCTS = 1 << 22
"""No circuit has more: its proof would be too long, and its equations take memory to write."""

INPUT, OUTPUT = "x", "output"
"""The public inputs of every circuit, in this order: the boundaries of its unit."""


def unsupported(specification: Specification, name: str, recipe: Recipe) -> str:
    """Why the recipe cannot prove the unit `name` of this model; empty if it can."""
    unit = specification.units().get(name)
    if unit is None or not _sayable(unit):
        return f"{name}: ezkl proves attention units only"
    exp, window = specification.exp, recipe.window
    expected = ("ezkl", recipe.exp_scale, window.high, window.logrows)
    found = (exp.family, exp.argument_bits, exp.value_parameter, exp.logrows)
    for table in unit.tables():
        if found != expected or specification.tensors[table].digest != recipe.exp_digest:
            return f"{name}: its EXP table is not the one that the recipe looks up"
    return ""


def circuit_of(
    specification: Specification, name: str, tokens: int, recipe: Recipe, tensor: Tensors
) -> Circuit:
    """The circuit of the unit `name` for runs of `tokens` positions.

    Raises `UnsupportedModel` for another unit, table or number of positions than the recipe's.
    """
    reason = unsupported(specification, name, recipe)
    if reason:
        raise UnsupportedModel(reason, hint="export the model with --preset ezkl")
    if tokens not in recipe.tokens:
        raise UnsupportedModel(
            f"{name}: expected a run of {' or '.join(map(str, recipe.tokens))} positions, "
            f"got {tokens}",
            hint="zkllm run --pad T fills a run up",
        )
    unit = specification.units()[name]
    products = unit.work(tokens)
    if products > MAX_PRODUCTS:
        raise UnsupportedModel(
            f"{name}: expected at most {MAX_PRODUCTS} multiply-adds in a circuit, got {products}",
            hint="fewer --tokens, or another backend",
        )
    return build(unit, tokens, recipe, tensor)


def build(unit: Unit, tokens: int, recipe: Recipe, tensor: Tensors) -> Circuit:
    """Every equation of `unit`, whose steps look up no table but the recipe's.

    Public are its two boundaries `INPUT` and `OUTPUT`, [T, d]. What the equations demand does not
    depend on a tensor, so that a verifier may build the circuit with `no_weights`. Raises
    `UnsupportedModel` for a step or a boundary that ezkl has no words for.
    """
    read, given = unit.input, unit.output
    if not isinstance(read, Rows) or not isinstance(given, Rows):
        raise UnsupportedModel(f"{unit.name}: ezkl has no words for token ids")
    circuit = Circuit(recipe.window, recipe_bound(recipe))
    x = circuit.public_input(INPUT, (tokens, read.width), read.bound)
    output = circuit.public_input(OUTPUT, (tokens, given.width), given.bound)
    values = {unit.reads: x}
    for step in unit.order():
        operands = [values[name] for name in step.reads]
        written = reading(step, "ezkl").equations(circuit, step, operands, tensor)
        if step.writes == unit.writes:
            # The boundaries say what it must be: nobody has to choose it.
            change = output - x if unit.residual else output
            _require_equal(circuit, step.name, written, change)
            written = change
        elif isinstance(written, Quotient):
            written = written.hint(circuit)
        values[step.writes] = written
    check_no_wrap(circuit)
    return circuit


def _require_equal(
    circuit: Circuit, name: str, written: Expression | Quotient, known: Expression
) -> None:
    if isinstance(written, Quotient):
        written.equals(circuit, known)
    else:
        circuit.demand(name, written.reshape(*known.shape) - known)


def _sayable(unit: Unit) -> bool:
    """Whether ezkl has words for every step of `unit`."""
    try:
        for step in unit.steps:
            reading(step, "ezkl")
    except UnsupportedModel:
        return False
    return True


def no_weights(specification: Specification) -> Tensors:
    """Zeros in the place of every tensor, for whoever needs the demands and not the graph."""
    return lambda name: np.zeros(specification.tensors[name].shape, dtype=np.int64)

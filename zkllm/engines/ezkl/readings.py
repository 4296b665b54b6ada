"""What a circuit says: of a run, of any inputs over the field, and of what cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import Lookup
from zkllm.engines.ezkl.expressions import FIELD, Expression, Integers, Values, each, integers
from zkllm.errors import BackendError, ConstraintViolation
from zkllm.tensors import IntArray

EXP, RANGE = "Exp", "ACosh"
"""ezkl's names of the two tables: EXP, and the one that is zero and checks ranges."""


def evaluate(
    circuit: Circuit,
    inputs: Callable[[Expression, Values], Integers],
    exp: Lookup,
    modulus: int | None,
) -> Values:
    """The value of every expression, over the field of `modulus` or over the integers."""
    values = Values()
    for node in circuit.expressions:
        operands = [values[operand] for operand in node.operands]
        if node.operation == "input":
            value = inputs(node, values)
        elif node.operation == "exp":
            value = each(exp, operands[0])
        else:
            value = _APPLY[node.operation](node, *operands)
        array = np.asarray(value, dtype=object)
        values.append(array if modulus is None else array % modulus)
    return values


def honest(circuit: Circuit, public: Mapping[str, IntArray], exp: Lookup) -> Values:
    """What an honest prover computes from the public integers.

    Raises `ConstraintViolation` if they are not those of a run: then nothing can be proved,
    and ezkl would try for ever.
    """

    def supply(node: Expression, values: Values) -> Integers:
        if node.index in circuit.fills:
            return circuit.fills[node.index](values)
        return integers(public[node.detail])

    values = evaluate(circuit, supply, exp, None)
    for message in violations(circuit, values).values():
        raise ConstraintViolation(message, hint="the trace is not a run of this model")
    return values


def violations(circuit: Circuit, values: Values) -> dict[str, str]:
    """What is wrong with `values`: one line for each equation or range that does not hold."""
    found: dict[str, str] = {}
    for equation in circuit.equations:
        sides = (values[equation.expression] - equation.demanded) % FIELD
        wrong = np.argwhere(sides != 0)
        if len(wrong):
            place = tuple(int(i) for i in wrong[0])
            found[equation.name] = (
                f"{equation.name}{list(place)}: expected {equation.demanded[place]}, "
                f"got {values[equation.expression][place]}"
            )
    low, high = circuit.window.low, circuit.window.high
    for check in circuit.ranges:
        above = (values[check.expression] - low) % FIELD
        wrong = np.argwhere(above >= circuit.window.size)
        if len(wrong):
            place = tuple(int(i) for i in wrong[0])
            found[check.name] = (
                f"{check.name}{list(place)}: expected {low} to {high}, "
                f"got {values[check.expression][place]}"
            )
    return found


def flat_inputs(circuit: Circuit, values: Values) -> list[int]:
    """The tensor that the graph takes."""
    return _flat([values[node] for node in circuit.inputs])


def demanded(circuit: Circuit, public: Mapping[str, IntArray]) -> list[int]:
    """Every public output of the circuit, in the order of the graph.

    First twice the public integers, then the sum of the results of the range checks, which is
    zero because their table is, then what the equations demand.
    """
    known = [2 * integers(public[node.detail]) for node in circuit.public]
    demands = [equation.demanded for equation in circuit.equations]
    return [*_flat(known), 0, *_flat(demands)]


def over_field(
    circuit: Circuit,
    inputs: Sequence[int],
    table: Callable[[str, int], int],
    modulus: int,
) -> tuple[list[int], dict[str, list[int]]]:
    """Outputs, and the arguments of all lookups by table, for any flat tensor of inputs.

    `table` gives an entry of ezkl's table of that name. On honest inputs over the integers the
    outputs are `demanded`.
    """
    given: dict[int, Integers] = {}
    start = 0
    for node in circuit.inputs:
        end = start + math.prod(node.shape)
        given[node.index] = integers(list(inputs[start:end])).reshape(node.shape)
        start = end
    values = evaluate(
        circuit,
        lambda node, _: given[node.index],
        lambda argument: table(EXP, argument),
        modulus,
    )
    arguments = [n.operands[0] for n in circuit.expressions if n.operation == "exp"]
    lookups = {
        EXP: _flat([values[node] for node in arguments]),
        RANGE: _flat([values[check.expression] for check in circuit.ranges]),
    }
    zero = sum(table(RANGE, argument) for argument in lookups[RANGE]) % modulus
    known = _flat([values[node] for node in circuit.exposed])
    sides = _flat([values[equation.expression] for equation in circuit.equations])
    return [*known, zero, *sides], lookups


def check_no_wrap(circuit: Circuit) -> None:
    """Raises `BackendError` unless every equation modulo the field is one over the integers.

    Hints are integers of the window because each is looked up itself. So every expression is
    an integer with a known bound, and an equation whose two sides are closer than the field
    is long holds over the integers. A product that must be zero needs only its factors to be
    that small, for a field has no zero divisors.
    """
    for equation in circuit.equations:
        largest = max((abs(int(v)) for v in equation.demanded.ravel()), default=0)
        _check_sides(equation.name, equation.expression, largest)
    for check in circuit.checks:
        _check_sides(check.name, check.expression, circuit.window.magnitude)


def _check_sides(name: str, node: Expression, demanded: int) -> None:
    if demanded == 0 and node.operation in ("mul", "product", "concat"):
        for operand in node.operands:
            _check_sides(name, operand, 0)
    elif node.magnitude + demanded >= FIELD:
        raise BackendError(
            f"{name}: its terms could reach 2^{node.magnitude.bit_length()}, "
            f"the field has 2^{FIELD.bit_length() - 1} elements"
        )


def cells(circuit: Circuit) -> int:
    """How many cells ezkl will assign, within a percent.

    One for each input, each term or result of an operation and each output; two for a lookup,
    and one more to add its result up.
    """
    inputs = circuit.size
    checks = 3 * sum(math.prod(check.expression.shape) for check in circuit.ranges)
    outputs = sum(math.prod(node.shape) for node in circuit.exposed)
    outputs += sum(math.prod(equation.expression.shape) for equation in circuit.equations)
    return inputs + checks + outputs + sum(_cells(node) for node in circuit.expressions)


def _cells(node: Expression) -> int:
    """Cells of one expression; what only moves values has none."""
    match node.operation:
        case "add" | "sub" | "mul":
            return math.prod(node.shape)
        case "exp":
            return 2 * math.prod(node.shape)
        case "sum" | "product":
            return math.prod(node.operands[0].shape)
        case "einsum":
            left, right = (operand.shape for operand in node.operands)
            axes = node.detail.split("->")[0].replace(",", "")
            return math.prod(dict(zip(axes, left + right, strict=True)).values())
        case _:
            return 0


def _flat(parts: Sequence[Integers]) -> list[int]:
    return [int(value) for part in parts for value in part.ravel()]


_APPLY: Mapping[str, Callable[..., Integers]] = {
    "constant": lambda node: node.detail,
    "add": lambda _, a, b: a + b,
    "sub": lambda _, a, b: a - b,
    "mul": lambda _, a, b: a * b,
    "einsum": lambda node, a, b: np.einsum(node.detail, a, b),
    "sum": lambda _, a: a.sum(axis=0),
    "product": lambda _, a: a.prod(axis=0),
    "gather": lambda node, a: a[list(node.detail)],
    "reshape": lambda node, a: a.reshape(node.shape),
    "concat": lambda _, *parts: np.concatenate(parts),
}

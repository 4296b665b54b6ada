"""Equations over integers, written once and read in four ways.

A `Circuit` is a list of equations and range checks between public integers and *hints*, the
integers that only the prover knows. It is read

* by `honest`: the integers of a run, computed from the public ones;
* by `evaluate`: the values of all expressions for any inputs over the field, for the audit;
* by `check_no_wrap`: a proof that no equation can hold modulo the field without holding over the
  integers, for whatever a prover puts into the windows of the lookups;
* by `lowering.to_onnx`: the graph that ezkl compiles.

The first three need numpy only, so that a verifier can say what a proof must show without onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zkllm.backends.ezkl.recipe import FIELD, Window
from zkllm.errors import BackendError, ConstraintViolation, UnsupportedModel
from zkllm.tensors import IntArray

Integers = npt.NDArray[np.object_]
"""Python integers of any size."""
Operation = Literal[
    "input", "constant", "add", "sub", "mul", "einsum", "sum", "product", "gather", "reshape",
    "concat", "exp",
]  # fmt: skip
Lookup = Callable[[int], int]
"""The EXP table as a function."""

EXP, RANGE = "Exp", "ACosh"
"""ezkl's names of the two tables: EXP, and the one that is zero and checks ranges."""


def integers(values: Any) -> Integers:
    """`values` as an array of Python integers."""
    return np.asarray(values, dtype=object)


@dataclass(frozen=True, eq=False, slots=True)
class Expression:
    """A tensor of integers inside a circuit."""

    circuit: Circuit = field(repr=False)
    index: int
    """Position in `circuit.expressions`; operands come before what uses them."""
    operation: Operation
    shape: tuple[int, ...]
    operands: tuple[Expression, ...] = field(repr=False)
    detail: Any = field(repr=False)
    """An input's name, a constant's integers, an einsum's equation, an axis, indices."""
    magnitude: int
    """No value of an expression exceeds this, whatever the windows let a prover choose."""

    def __add__(self, other: Expression | Integers | int) -> Expression:
        return self._plus("add", other)

    def __sub__(self, other: Expression | Integers | int) -> Expression:
        return self._plus("sub", other)

    def __mul__(self, other: Expression | Integers | int) -> Expression:
        if isinstance(other, int) and other == 1:
            return self
        right = other if isinstance(other, Expression) else self.circuit.constant(other)
        return self._binary("mul", right, self.magnitude * right.magnitude)

    def _plus(
        self, operation: Literal["add", "sub"], other: Expression | Integers | int
    ) -> Expression:
        if isinstance(other, Expression):
            return self._binary(operation, other, self.magnitude + other.magnitude)
        if isinstance(other, int) and other == 0:
            return self
        result = self
        for part in _float32_parts(integers(other)):
            constant = self.circuit.constant(part)
            result = result._binary(operation, constant, result.magnitude + constant.magnitude)
        return result

    def _binary(self, operation: Operation, right: Expression, magnitude: int) -> Expression:
        shape = np.broadcast_shapes(self.shape, right.shape)
        return self.circuit.append(operation, shape, (self, right), None, magnitude)

    def sum(self) -> Expression:
        """Σ over the first axis."""
        size = self.shape[0] * self.magnitude
        return self.circuit.append("sum", self.shape[1:], (self,), None, size)

    def product(self) -> Expression:
        """Π over the first axis."""
        size = self.magnitude ** self.shape[0]
        return self.circuit.append("product", self.shape[1:], (self,), None, size)

    def gather(self, indices: Sequence[int]) -> Expression:
        """Rows `indices` along the first axis."""
        shape = (len(indices), *self.shape[1:])
        return self.circuit.append("gather", shape, (self,), tuple(indices), self.magnitude)

    def reshape(self, *shape: int) -> Expression:
        return self.circuit.append("reshape", shape, (self,), None, self.magnitude)


@dataclass(frozen=True, slots=True)
class Equation:
    """`expression` equals `demanded`; the verifier compares them element by element."""

    name: str
    expression: Expression
    demanded: Integers


@dataclass(frozen=True, slots=True)
class Range:
    """Every value of `expression` lies in the window of the lookups."""

    name: str
    expression: Expression


class Values:
    """The values of the expressions of one circuit."""

    def __init__(self) -> None:
        self._values: list[Integers] = []

    def append(self, value: Integers) -> None:
        self._values.append(value)

    def __getitem__(self, expression: Expression) -> Integers:
        return self._values[expression.index]


Fill = Callable[[Values], Integers]
"""How an honest prover computes a hint from what comes before it."""


@dataclass(slots=True)
class Circuit:
    """Public inputs, hints, equations and range checks of one circuit."""

    window: Window
    exp_bound: int
    """The largest entry of the EXP table."""
    expressions: list[Expression] = field(default_factory=list)
    public: list[Expression] = field(default_factory=list)
    exposed: list[Expression] = field(default_factory=list)
    """Twice each of `public`: outputs of the circuit, which the verifier compares."""
    hints: list[Expression] = field(default_factory=list)
    equations: list[Equation] = field(default_factory=list)
    checks: list[Range] = field(default_factory=list)
    """Besides those of all hints."""
    _fills: dict[int, Fill] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Expression]:
        """Public integers, then hints; the graph takes them in this order as one flat tensor."""
        return [*self.public, *self.hints]

    @property
    def size(self) -> int:
        """Number of integers that the graph takes."""
        return sum(math.prod(node.shape) for node in self.inputs)

    @property
    def ranges(self) -> list[Range]:
        """All range checks: of every hint, EXP's arguments among them, and of `checks`."""
        return [*(Range(hint.detail, hint) for hint in self.hints), *self.checks]

    # Expressions

    def append(
        self,
        operation: Operation,
        shape: tuple[int, ...],
        operands: tuple[Expression, ...],
        detail: Any,
        magnitude: int,
    ) -> Expression:
        """Add an expression; the methods of this class and of `Expression` call it."""
        index = len(self.expressions)
        node = Expression(self, index, operation, shape, operands, detail, magnitude)
        self.expressions.append(node)
        return node

    def constant(self, values: Integers | int) -> Expression:
        """Raises `UnsupportedModel` if ezkl, whose constants are float32, would round it."""
        array = integers(values)
        flat = array.ravel().tolist()
        for value in flat:
            if not _is_float32(value):
                raise UnsupportedModel(
                    f"a factor of the circuit must fit a float32 exactly, got {value}",
                    hint="fewer weight bits make it fit",
                )
        return self.append("constant", array.shape, (), array, max(abs(v) for v in flat))

    def einsum(self, equation: str, a: Expression, b: Expression) -> Expression:
        """Products of two tensors summed over the axes that the result does not have."""
        operands, kept = equation.split("->")
        left, right = operands.split(",")
        sizes = dict(zip(left + right, a.shape + b.shape, strict=True))
        terms = math.prod(size for axis, size in sizes.items() if axis not in kept)
        shape = tuple(sizes[axis] for axis in kept)
        return self.append("einsum", shape, (a, b), equation, terms * a.magnitude * b.magnitude)

    def concat(self, parts: Sequence[Expression]) -> Expression:
        """Join along the first axis."""
        shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        magnitude = max(part.magnitude for part in parts)
        return self.append("concat", shape, tuple(parts), None, magnitude)

    def exp(self, argument: Expression) -> Expression:
        """EXP by lookup, of a hint."""
        return self.append("exp", argument.shape, (argument,), None, self.exp_bound)

    # Inputs

    def public_input(self, name: str, shape: tuple[int, ...], bound: int) -> Expression:
        """Integers that the verifier knows, and has found to be at most `bound` in magnitude."""
        node = self.append("input", shape, (), name, bound)
        self.public.append(node)
        # What is exposed is the result of a gate, so that the proof never rests on how ezkl ties an
        # output that is an input as it came in.
        self.exposed.append(node + node)
        return node

    def hint(self, name: str, shape: tuple[int, ...], fill: Fill) -> Expression:
        """Integers of the window that the prover chooses: each is looked up, so it is one."""
        node = self.append("input", shape, (), name, self.window.magnitude)
        self.hints.append(node)
        self._fills[node.index] = fill
        return node

    def digits(
        self, name: str, shape: tuple[int, ...], limit: int, fill: Fill
    ) -> tuple[Expression, int]:
        """Something, and what to add to it to get a non-negative integer that reaches `limit`.

        The integer has as many digits in base W as `limit` needs, each a hint, so that it is
        bounded whatever the prover does.
        """
        base, low = self.window.size, self.window.low
        count = self.window.limbs(limit)

        def digit(place: int) -> Fill:
            return lambda values: fill(values) // base**place % base + low

        limbs = [self.hint(f"{name}.{i}", shape, digit(i)) for i in range(count)]
        raw = limbs.pop()
        while limbs:
            raw = raw * base + limbs.pop()
        return raw, -low * sum(base**i for i in range(count))

    def ranged(
        self, name: str, shape: tuple[int, ...], lowest: int, highest: int, fill: Fill
    ) -> Expression:
        """An integer from `lowest` that can be anything up to `highest`, bounded in any case."""
        raw, offset = self.digits(name, shape, highest - lowest, lambda v: fill(v) - lowest)
        return raw + (offset + lowest)

    # Demands

    def in_window(self, name: str, expression: Expression) -> None:
        """Demand that every value lies in the window of the lookups."""
        self.checks.append(Range(name, expression))

    def demand(self, name: str, expression: Expression, value: int | IntArray = 0) -> None:
        """Demand expression == value, element by element."""
        demanded = np.broadcast_to(integers(value), expression.shape)
        self.equations.append(Equation(name, expression, demanded))

    def at_least(self, name: str, expression: Expression, bound: int, span: int) -> None:
        """Demand expression >= bound, for one that an honest prover finds within `span` of it."""
        if self.window.limbs(span) == 1:
            self.in_window(name, expression + (self.window.low - bound))
            return
        gap, offset = self.digits(name, expression.shape, span, lambda v: v[expression] - bound)
        self.demand(name, expression - gap, bound + offset)

    def at_most(self, name: str, expression: Expression, bound: int, span: int) -> None:
        """Demand expression <= bound, for one that an honest prover finds within `span` of it."""
        if self.window.limbs(span) == 1:
            self.in_window(name, expression + (self.window.high - bound))
            return
        gap, offset = self.digits(name, expression.shape, span, lambda v: bound - v[expression])
        self.demand(name, expression + gap, bound - offset)

    def divide(
        self, name: str, numerator: Callable[[int], Expression], quotient: Expression, divisor: int
    ) -> None:
        """Demand quotient == round(n / divisor), where numerator(c) builds c·n.

        The remainder r = n + floor(divisor/2) - quotient·divisor must lie in 0 .. divisor - 1.
        Where the window allows it, all is multiplied by c = 2^k / divisor: c·r is a multiple of c,
        and of those the window holds `divisor`, so that one lookup says it.
        """
        factor = self.window.step(divisor) or 1
        self._divide(name, numerator(factor), factor, quotient, divisor)

    def quotient(
        self, name: str, numerator: Callable[[int], Expression], divisor: int, bound: int
    ) -> Expression:
        """round(n / divisor), at most `bound` in magnitude, as a hint that `divide` confines."""
        factor = self.window.step(divisor) or 1
        scaled = numerator(factor)
        quotient = self.ranged(
            name, scaled.shape, -bound, bound, lambda v: round_div(v[scaled] // factor, divisor)
        )
        self._divide(name, scaled, factor, quotient, divisor)
        return quotient

    def _divide(
        self, name: str, scaled: Expression, factor: int, quotient: Expression, divisor: int
    ) -> None:
        half = divisor // 2
        rest = scaled - quotient * (factor * divisor)  # factor·(r - half)
        if self.window.step(divisor):
            offset = factor * (half + self.window.first_multiple(factor))
            self.in_window(f"{name}.remainder", rest + offset)
            return
        self.at_least(f"{name}.remainder.low", rest, -half, divisor - 1)
        self.at_most(f"{name}.remainder.high", rest, divisor - 1 - half, divisor - 1)

    def quotient_by(
        self, name: str, numerator: Expression, divisor: Expression, limit: int, bound: int
    ) -> Expression:
        """round(numerator / divisor) for a divisor from 1 to `limit`, as a hint of its own.

        g = floor(divisor/2) is a hint with divisor - 2g in {0, 1}; then r = numerator + g -
        quotient·divisor with 0 <= r < divisor is `integers.round_div` word for word, for even
        and odd divisors.
        """
        low, high = self.window.low, self.window.high
        half = self.ranged(
            f"{name}.half", divisor.shape, 0, limit // 2, lambda values: values[divisor] // 2
        )
        odd = divisor - half * 2
        self.demand(f"{name}.half", odd * (odd - 1))
        quotient = self.ranged(
            name, numerator.shape, -bound, bound, lambda v: round_div(v[numerator], v[divisor])
        )
        # r + low: constants are cheap where they meet the few divisors and not every element.
        rest = numerator + (half + low) - quotient * divisor
        self.at_least(f"{name}.remainder.low", rest, low, limit - 1)
        last = divisor + (low - 1 - high)  # divisor - 1 + low, less high
        self.at_most(f"{name}.remainder.high", rest - last, high, limit - 1)
        return quotient

    # The readings

    def cells(self) -> int:
        """How many cells ezkl will assign, within a percent.

        One for each input, each term or result of an operation and each output; two for a lookup,
        and one more to add its result up.
        """
        inputs = self.size
        checks = 3 * sum(math.prod(check.expression.shape) for check in self.ranges)
        outputs = sum(math.prod(node.shape) for node in self.exposed)
        outputs += sum(math.prod(equation.expression.shape) for equation in self.equations)
        return inputs + checks + outputs + sum(_cells(node) for node in self.expressions)

    def flat_inputs(self, values: Values) -> list[int]:
        """The tensor that the graph takes."""
        return _flat([values[node] for node in self.inputs])

    def evaluate(
        self, inputs: Callable[[Expression, Values], Integers], exp: Lookup, modulus: int | None
    ) -> Values:
        """The value of every expression, over the field of `modulus` or over the integers."""
        values = Values()
        for node in self.expressions:
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

    def honest(self, public: Mapping[str, IntArray], exp: Lookup) -> Values:
        """What an honest prover computes from the public integers.

        Raises `ConstraintViolation` if they are not those of a run: then nothing can be proved,
        and ezkl would try for ever.
        """

        def supply(node: Expression, values: Values) -> Integers:
            if node.index in self._fills:
                return self._fills[node.index](values)
            return integers(public[node.detail])

        values = self.evaluate(supply, exp, None)
        for message in self.violations(values).values():
            raise ConstraintViolation(message, hint="the trace is not a run of this model")
        return values

    def violations(self, values: Values) -> dict[str, str]:
        """What is wrong with `values`: one line for each equation or range that does not hold."""
        found: dict[str, str] = {}
        for equation in self.equations:
            sides = (values[equation.expression] - equation.demanded) % FIELD
            wrong = np.argwhere(sides != 0)
            if len(wrong):
                place = tuple(int(i) for i in wrong[0])
                found[equation.name] = (
                    f"{equation.name}{list(place)}: expected {equation.demanded[place]}, "
                    f"got {values[equation.expression][place]}"
                )
        low, high = self.window.low, self.window.high
        for check in self.ranges:
            above = (values[check.expression] - low) % FIELD
            wrong = np.argwhere(above >= self.window.size)
            if len(wrong):
                place = tuple(int(i) for i in wrong[0])
                found[check.name] = (
                    f"{check.name}{list(place)}: expected {low} to {high}, "
                    f"got {values[check.expression][place]}"
                )
        return found

    def check_no_wrap(self) -> None:
        """Raises `BackendError` unless every equation modulo the field is one over the integers.

        Hints are integers of the window because each is looked up itself. So every expression is
        an integer with a known bound, and an equation whose two sides are closer than the field
        is long holds over the integers. A product that must be zero needs only its factors to be
        that small, for a field has no zero divisors.
        """
        for equation in self.equations:
            largest = max((abs(int(v)) for v in equation.demanded.ravel()), default=0)
            self._check_sides(equation.name, equation.expression, largest)
        for check in self.checks:
            self._check_sides(check.name, check.expression, self.window.magnitude)

    def _check_sides(self, name: str, node: Expression, demanded: int) -> None:
        if demanded == 0 and node.operation in ("mul", "product", "concat"):
            for operand in node.operands:
                self._check_sides(name, operand, 0)
        elif node.magnitude + demanded >= FIELD:
            raise BackendError(
                f"{name}: its terms could reach 2^{node.magnitude.bit_length()}, "
                f"the field has 2^{FIELD.bit_length() - 1} elements"
            )

    def demanded(self, public: Mapping[str, IntArray]) -> list[int]:
        """Every public output of the circuit, in the order of the graph.

        First twice the public integers, then the sum of the results of the range checks, which is
        zero because their table is, then what the equations demand.
        """
        known = [2 * integers(public[node.detail]) for node in self.public]
        demands = [equation.demanded for equation in self.equations]
        return [*_flat(known), 0, *_flat(demands)]

    def over_field(
        self, inputs: Sequence[int], table: Callable[[str, int], int], modulus: int
    ) -> tuple[list[int], dict[str, list[int]]]:
        """Outputs, and the arguments of all lookups by table, for any flat tensor of inputs.

        `table` gives an entry of ezkl's table of that name. On honest inputs over the integers the
        outputs are `demanded`.
        """
        given: dict[int, Integers] = {}
        start = 0
        for node in self.inputs:
            end = start + math.prod(node.shape)
            given[node.index] = integers(list(inputs[start:end])).reshape(node.shape)
            start = end
        values = self.evaluate(
            lambda node, _: given[node.index], lambda argument: table(EXP, argument), modulus
        )
        arguments = [n.operands[0] for n in self.expressions if n.operation == "exp"]
        lookups = {
            EXP: _flat([values[node] for node in arguments]),
            RANGE: _flat([values[check.expression] for check in self.ranges]),
        }
        zero = sum(table(RANGE, argument) for argument in lookups[RANGE]) % modulus
        known = _flat([values[node] for node in self.exposed])
        sides = _flat([values[equation.expression] for equation in self.equations])
        return [*known, zero, *sides], lookups


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


def _is_float32(value: int) -> bool:
    return abs(value) < 1 << 127 and int(np.float32(value)) == value


def _float32_parts(values: Integers, bits: int = 20) -> list[Integers]:
    """Summands of `values` that a float32 holds exactly: ezkl's constants are float32.

    `values` are multiples of 2^(bits - 20); what no float32 holds is left to `constant` to refuse.
    """
    if bits > 127 or all(map(_is_float32, values.ravel().tolist())):
        return [values]
    low = integers(values % (1 << bits))
    return [low, *_float32_parts(integers(values - low), bits + 20)]


def _flat(parts: Sequence[Integers]) -> list[int]:
    return [int(value) for part in parts for value in part.ravel()]


def round_div(n: Integers, d: Integers | int) -> Integers:
    """`integers.round_div` on Python integers."""
    return integers((n + d // 2) // d)


def each(function: Callable[[int], int], values: Integers) -> Integers:
    """`function` of every element."""
    return integers(np.frompyfunc(function, 1, 1)(values))


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

"""Expressions: tensors of integers inside a circuit, and how they are made of each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zkllm.errors import UnsupportedModel

FIELD = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
"""Order of BN254's scalar field, over which every equation of a circuit holds."""

Integers = npt.NDArray[np.object_]
"""Python integers of any size."""
Operation = Literal[
    "input", "constant", "add", "sub", "mul", "einsum", "sum", "product", "gather", "reshape",
    "concat", "exp",
]  # fmt: skip


def integers(values: Any) -> Integers:
    """`values` as an array of Python integers."""
    return np.asarray(values, dtype=object)


def round_div(n: Integers, d: Integers | int) -> Integers:
    """`integers.round_div` on Python integers."""
    return integers((n + d // 2) // d)


def each(function: Callable[[int], int], values: Integers) -> Integers:
    """`function` of every element."""
    return integers(np.frompyfunc(function, 1, 1)(values))


@dataclass(frozen=True, eq=False, slots=True)
class Expression:
    """A tensor of integers inside a circuit."""

    circuit: Expressions = field(repr=False)
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
        """The same values in another shape; itself where it has that shape."""
        if shape == self.shape:
            return self
        return self.circuit.append("reshape", shape, (self,), None, self.magnitude)


@dataclass(slots=True)
class Expressions:
    """The expressions of one circuit, operands before what uses them."""

    expressions: list[Expression] = field(default_factory=list, kw_only=True)

    def append(
        self,
        operation: Operation,
        shape: tuple[int, ...],
        operands: tuple[Expression, ...],
        detail: Any,
        magnitude: int,
    ) -> Expression:
        """Add an expression; the methods of a circuit and of `Expression` call it."""
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


class Values:
    """The values of the expressions of one circuit."""

    def __init__(self) -> None:
        self._values: list[Integers] = []

    def append(self, value: Integers) -> None:
        self._values.append(value)

    def __getitem__(self, expression: Expression) -> Integers:
        return self._values[expression.index]


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

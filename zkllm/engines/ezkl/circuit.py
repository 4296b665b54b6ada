"""Circuits: equations and range checks between public integers and *hints*.

A hint is an integer that only the prover knows. A circuit is written once and read in five ways:
`readings` has the integers of a run, the values over the field, what does not hold and why no
equation can wrap; `lowering` has the graph that ezkl compiles. All but that need numpy only, so
that a verifier can say what a proof must show without onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from zkllm.engines.ezkl.expressions import (
    Expression,
    Expressions,
    Integers,
    Values,
    integers,
    round_div,
)
from zkllm.engines.ezkl.recipe import Window
from zkllm.tensors import IntArray


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


Fill = Callable[[Values], Integers]
"""How an honest prover computes a hint from what comes before it."""


@dataclass(slots=True)
class Circuit(Expressions):
    """Public inputs, hints, equations and range checks of one circuit."""

    window: Window
    exp_bound: int
    """The largest entry of the EXP table."""
    public: list[Expression] = field(default_factory=list)
    exposed: list[Expression] = field(default_factory=list)
    """Twice each of `public`: outputs of the circuit, which the verifier compares."""
    hints: list[Expression] = field(default_factory=list)
    equations: list[Equation] = field(default_factory=list)
    checks: list[Range] = field(default_factory=list)
    """Besides those of all hints."""
    fills: dict[int, Fill] = field(default_factory=dict)
    """Of each of `hints`, by index."""

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
        self.fills[node.index] = fill
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

    def exp(self, argument: Expression) -> Expression:
        """EXP by lookup, of a hint."""
        return self.append("exp", argument.shape, (argument,), None, self.exp_bound)

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


@dataclass(frozen=True, slots=True)
class Quotient:
    """round(n / divisor), of which it is not said yet whether a hint holds it."""

    name: str
    numerator: Callable[[int], Expression]
    """c to c·n."""
    divisor: int
    bound: int
    """Of its magnitude, as a hint."""
    shape: tuple[int, ...]

    def hint(self, circuit: Circuit) -> Expression:
        """A hint that is the quotient."""
        quotient = circuit.quotient(self.name, self.numerator, self.divisor, self.bound)
        return quotient.reshape(*self.shape)

    def equals(self, circuit: Circuit, known: Expression) -> None:
        """Demand that `known`, in the shape of n, is the quotient: that takes no hint."""
        circuit.divide(self.name, self.numerator, known, self.divisor)

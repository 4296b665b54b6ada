"""Squares as equations of an ezkl circuit."""

from __future__ import annotations

from collections.abc import Sequence

from tests.toy.exact import SquareStep
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.expressions import Expression
from zkllm.operations.step import Tensors


def equations(
    circuit: Circuit, step: SquareStep, given: Sequence[Expression], tensor: Tensors
) -> Expression:
    """x², [T, *dims]: of a known integer it is known, and takes no hint."""
    (x,) = given
    return x * x

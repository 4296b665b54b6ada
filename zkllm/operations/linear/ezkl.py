"""A linear layer as equations of an ezkl circuit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zkllm.engines.ezkl.circuit import Circuit, Quotient
from zkllm.engines.ezkl.expressions import Expression, integers
from zkllm.operations.linear.exact import LinearStep
from zkllm.operations.step import Tensors


def equations(
    circuit: Circuit, step: LinearStep, given: Sequence[Expression], tensor: Tensors
) -> Quotient:
    """round((x·W + b) / 2^s), [T, *outer]."""
    (x,), layer = given, step.numbers
    tokens = x.shape[0]
    rows = x.reshape(tokens, math.prod(step.inner))  # [T, n]
    weight, bias = integers(tensor(layer.weight)), integers(tensor(layer.bias))  # [n, m], [m]

    def scaled(factor: int) -> Expression:  # [T, m]
        product = circuit.einsum("tn,nm->tm", rows, circuit.constant(weight * factor))
        return product + integers(bias * factor)

    shape = (tokens, *step.outer)
    return Quotient(step.name, scaled, 1 << layer.shift, layer.output, shape)

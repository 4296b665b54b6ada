"""LayerNorm as equations of an ezkl circuit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.expressions import Expression, each, integers
from zkllm.operations.norm.exact import NormStep
from zkllm.operations.step import Tensors


def equations(
    circuit: Circuit, step: NormStep, given: Sequence[Expression], tensor: Tensors
) -> Expression:
    """x̂ of `layer_norm`, [T, d]."""
    (x,), n = given, step.numbers
    tokens, width = x.shape
    ones = circuit.constant(integers(np.ones(width, dtype=np.int64)))
    total = circuit.einsum("td,d->t", x, ones).reshape(tokens, 1)
    centred = circuit.quotient(  # [T, d]
        "centred", lambda c: x * (c * width) - total * c, width << n.shift, n.centred
    )
    variance = circuit.einsum("td,td->t", centred, centred) + n.epsilon  # [T]
    largest = math.isqrt(n.variance)
    root = circuit.ranged(  # [T]
        "root", (tokens,), 0, largest, lambda values: each(math.isqrt, values[variance])
    )
    # root = isqrt(V): V - root² >= 0 and 2·root - (V - root²) >= 0
    above = root * root - variance
    circuit.at_most("root.square", above, 0, 2 * largest)
    circuit.at_most("root.next", variance - root * root - root * 2, 0, 2 * largest)
    sigma = (root + 1).reshape(tokens, 1)
    return circuit.quotient_by("normalised", centred * n.gain, sigma, largest + 1, n.output)

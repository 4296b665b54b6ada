"""Causal attention as equations of an ezkl circuit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.expressions import Expression, Integers, Values, round_div
from zkllm.operations.attention.exact import AttentionStep
from zkllm.operations.step import Tensors


def equations(
    circuit: Circuit, step: AttentionStep, given: Sequence[Expression], tensor: Tensors
) -> Expression:
    """O of the exact `attention`, [T, h, d_head], of q, k and v in the same shape.

    Only the causal pairs j <= i exist, P = T·(T + 1)/2 of them, so that no mask is needed; they
    stand row after row. Its EXP is the one table that the circuit looks up.
    """
    (query, key, value), n = given, step.numbers
    tokens, heads, size = query.shape
    window, shift = circuit.window, n.shift
    rows = [range(i * (i + 1) // 2, (i + 1) * (i + 2) // 2) for i in range(tokens)]
    row_of = [i for i in range(tokens) for _ in range(i + 1)]
    column_of = [j for i in range(tokens) for j in range(i + 1)]
    queries, keys = query.gather(row_of), key.gather(column_of)  # [P, h, d_head]
    products = circuit.einsum("phd,phd->ph", queries, keys)

    def scores(values: Values) -> Integers:
        return round_div(values[products], 1 << shift)

    def largest(values: Values) -> Integers:
        return np.array([scores(values)[list(row)].max(axis=0) for row in rows], dtype=object)

    maximum = circuit.ranged("maximum", (tokens, heads), -n.score, n.score, largest)
    # y = high - u, so that EXP's own lookup shows 0 <= u <= cap and gives e
    cap = window.size - 1
    argument = circuit.hint(  # [P, h]
        "argument",
        products.shape,
        lambda values: window.high - np.minimum(values[maximum][row_of] - scores(values), cap),
    )
    exponential = circuit.exp(argument)
    below = argument - window.high  # -u
    score_of = uncut = maximum.gather(row_of) + below  # m - u
    if 2 * n.score > cap:
        # z = u + w: either nothing was cut off, or u is the cap
        beyond = circuit.ranged(  # [P, h]
            "beyond",
            products.shape,
            0,
            2 * n.score - cap,
            lambda values: values[uncut] - scores(values),
        )
        circuit.demand("clamp", beyond * (below + cap))
        score_of = uncut - beyond
    circuit.divide("score", lambda c: products * c, score_of, 1 << shift)
    # u >= 0 for every j, and u = 0 for one of them: m is attained
    attained = [below.gather(row).product().reshape(1, heads) for row in rows]
    circuit.demand("attained", circuit.concat(attained))
    totals, sums = [], []
    for row in rows:
        weights = exponential.gather(row)  # [i + 1, h]
        totals.append(weights.sum().reshape(1, heads, 1))
        seen = value.gather(range(len(row)))  # [i + 1, h, d_head]
        sums.append(circuit.einsum("jh,jhd->hd", weights, seen).reshape(1, heads, size))
    total = tokens * circuit.exp_bound
    return circuit.quotient_by(
        "mixed", circuit.concat(sums), circuit.concat(totals), total, n.output
    )

"""The circuits of the attention unit: every equation of the exact model, as an ezkl circuit.

`docs/ezkl-circuits.md` has the argument why they leave a prover no choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zkllm.backends.ezkl.equations import (
    Circuit,
    Expression,
    Integers,
    Lookup,
    Values,
    each,
    integers,
    round_div,
)
from zkllm.backends.ezkl.recipe import Recipe
from zkllm.errors import UnsupportedModel
from zkllm.exact import tables
from zkllm.exact.format1 import Attention
from zkllm.exact.specification import Specification
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm
from zkllm.tensors import IntArray

MAX_PRODUCTS = 1 << 22
"""No circuit has more: its proof would be too long, and its equations take memory to write."""

Tensors = Callable[[str], IntArray]
"""The integers of a tensor of the model by its name."""


def unsupported(specification: Specification, unit: str, recipe: Recipe) -> str:
    """Why the recipe cannot prove `unit` of this model; empty if it can."""
    layers = specification.units().get(unit)
    if not isinstance(layers, Attention):
        return f"{unit}: ezkl proves attention units only"
    exp, window = specification.exp, recipe.window
    expected = ("ezkl", recipe.exp_scale, window.high, window.logrows)
    found = (exp.family, exp.argument_bits, exp.value_parameter, exp.logrows)
    if found != expected or specification.tensors[layers.exp].digest != recipe.exp_digest:
        return f"{unit}: its EXP table is not the one that the recipe looks up"
    return ""


def exp_lookup(table: IntArray, recipe: Recipe) -> Lookup:
    """EXP as ezkl has it: the table of the model as a function of high - z."""
    entries = table.tolist()
    return lambda argument: int(entries[recipe.window.high - argument])


def attention(
    specification: Specification, unit: str, tokens: int, recipe: Recipe, tensors: Tensors
) -> Circuit:
    """The whole unit: LayerNorm, queries, keys, values, all heads, projection and residual.

    Public are its two boundaries `x` and `output`, [T, d]. What the equations demand depends on
    the specification alone, so that a verifier may build the circuit with `no_weights`. Raises
    `UnsupportedModel` for another unit, table or number of positions than the recipe's.
    """
    layers = specification.units().get(unit)
    reason = unsupported(specification, unit, recipe)
    if not isinstance(layers, Attention) or reason:
        raise UnsupportedModel(reason, hint="export the model with --preset ezkl")
    if tokens not in recipe.tokens:
        raise UnsupportedModel(
            f"{unit}: expected a run of {' or '.join(map(str, recipe.tokens))} positions, "
            f"got {tokens}",
            hint="zkllm run --pad T fills a run up",
        )
    products = specification.lists[unit].work(tokens)
    if products > MAX_PRODUCTS:
        raise UnsupportedModel(
            f"{unit}: expected at most {MAX_PRODUCTS} multiply-adds in a circuit, got {products}",
            hint="fewer --tokens, or another backend",
        )
    architecture = specification.architecture
    width, heads = architecture.width, architecture.heads
    circuit = Circuit(recipe.window, layers.total // architecture.context)
    x = circuit.public_input("x", (tokens, width), specification.input_bound(unit))
    output = circuit.public_input("output", (tokens, width), layers.output)
    normalised = _layer_norm(circuit, x, layers.norm)
    named = {"query": layers.query, "key": layers.key, "value": layers.value}
    query, key, value = (
        _linear(circuit, name, normalised, layer, tensors).reshape(tokens, heads, width // heads)
        for name, layer in named.items()
    )
    mixed = heads_of_attention(
        circuit,
        query,
        key,
        value,
        shift=layers.score_shift,
        score=layers.score,
        bound=layers.value.output,
    )
    rows = mixed.reshape(tokens, width)
    product = _affine(circuit, rows, layers.out, tensors)
    circuit.divide("out", product, output - x, 1 << layers.out.shift)
    circuit.check_no_wrap()
    return circuit


def no_weights(specification: Specification) -> Tensors:
    """Zeros in the place of every tensor, for whoever needs the demands and not the graph."""
    return lambda name: np.zeros(specification.tensors[name].shape, dtype=np.int64)


def _layer_norm(circuit: Circuit, x: Expression, norm: Norm) -> Expression:
    """x̂ of `layer_norm`, [T, d]."""
    tokens, width = x.shape
    ones = circuit.constant(integers(np.ones(width, dtype=np.int64)))
    total = circuit.einsum("td,d->t", x, ones).reshape(tokens, 1)
    centred = circuit.quotient(
        "centred", lambda c: x * (c * width) - total * c, width << norm.shift, norm.centred
    )
    variance = circuit.einsum("td,td->t", centred, centred) + norm.epsilon
    largest = math.isqrt(norm.variance)
    root = circuit.ranged(
        "root",
        (tokens,),
        0,
        largest,
        lambda values: each(math.isqrt, values[variance]),
    )
    # root = isqrt(V): V - root² >= 0 and 2·root - (V - root²) >= 0
    above = root * root - variance
    circuit.at_most("root.square", above, 0, 2 * largest)
    circuit.at_most("root.next", variance - root * root - root * 2, 0, 2 * largest)
    sigma = (root + 1).reshape(tokens, 1)
    return circuit.quotient_by("normalised", centred * norm.gain, sigma, largest + 1, norm.output)


def _affine(
    circuit: Circuit, x: Expression, layer: Linear, tensors: Tensors
) -> Callable[[int], Expression]:
    """C ↦ c·(x·W + b), [T, m]."""
    weight, bias = tensors(layer.weight), tensors(layer.bias)

    def scaled(factor: int) -> Expression:
        product = circuit.einsum("tn,nm->tm", x, circuit.constant(integers(weight) * factor))
        constants: Integers = integers(bias) * factor
        return product + constants

    return scaled


def _linear(
    circuit: Circuit, name: str, x: Expression, layer: Linear, tensors: Tensors
) -> Expression:
    """round((x·W + b) / 2^s), [T, m]."""
    return circuit.quotient(
        name, _affine(circuit, x, layer, tensors), 1 << layer.shift, layer.output
    )


def heads_of_attention(
    circuit: Circuit,
    query: Expression,
    key: Expression,
    value: Expression,
    *,
    shift: int,
    score: int,
    bound: int,
) -> Expression:
    """O of the exact `attention`, [T, h, d_head], of q, k and v in the same shape.

    `score` bounds |s|, `bound` the values. Only the causal pairs j <= i exist, so that no mask is
    needed; they stand row after row.
    """
    tokens, heads, _ = query.shape
    window = circuit.window
    rows = [range(i * (i + 1) // 2, (i + 1) * (i + 2) // 2) for i in range(tokens)]
    row_of = [i for i in range(tokens) for _ in range(i + 1)]
    column_of = [j for i in range(tokens) for j in range(i + 1)]
    products = circuit.einsum("phd,phd->ph", query.gather(row_of), key.gather(column_of))

    def scores(values: Values) -> Integers:
        return round_div(values[products], 1 << shift)

    def largest(values: Values) -> Integers:
        return np.array([scores(values)[list(row)].max(axis=0) for row in rows], dtype=object)

    maximum = circuit.ranged("maximum", (tokens, heads), -score, score, largest)
    # y = high - u, so that EXP's own lookup shows 0 <= u <= cap and gives e
    cap = window.size - 1
    argument = circuit.hint(
        "argument",
        products.shape,
        lambda values: window.high - np.minimum(values[maximum][row_of] - scores(values), cap),
    )
    exponential = circuit.exp(argument)
    below = argument - window.high  # -u
    score_of = uncut = maximum.gather(row_of) + below  # m - u
    if 2 * score > cap:
        # z = u + w: either nothing was cut off, or u is the cap
        beyond = circuit.ranged(
            "beyond",
            products.shape,
            0,
            2 * score - cap,
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
        weights = exponential.gather(row)
        totals.append(weights.sum().reshape(1, heads, 1))
        seen = value.gather(range(len(row)))
        sums.append(circuit.einsum("jh,jhd->hd", weights, seen).reshape(1, heads, value.shape[2]))
    return circuit.quotient_by(
        "mixed", circuit.concat(sums), circuit.concat(totals), tokens * circuit.exp_bound, bound
    )


@dataclass(frozen=True, slots=True)
class HeadShape:
    """A head that stands alone, for measurements."""

    tokens: int
    width: int
    shift: int
    bound: int
    """Of |q|, |k| and |v|."""
    score: int
    """Of |s|."""


def head(shape: HeadShape, recipe: Recipe, output: IntArray) -> Circuit:
    """One head with q, k, v as public inputs and o == `output` demanded, all [T, 1, d_head]."""
    table = tables.exp_ezkl(recipe.exp_scale, recipe.window.high, recipe.window.logrows)
    circuit = Circuit(recipe.window, int(table[0]))
    size = (shape.tokens, 1, shape.width)
    query, key, value = (circuit.public_input(name, size, shape.bound) for name in "qkv")
    mixed = heads_of_attention(
        circuit, query, key, value, shift=shape.shift, score=shape.score, bound=shape.bound
    )
    circuit.demand("output", mixed, output)
    circuit.check_no_wrap()
    return circuit

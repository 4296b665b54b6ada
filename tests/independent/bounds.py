"""Section 17: every bound of a specification, proven from the integers of the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import isqrt
from typing import NamedTuple

from tests.independent.field import require

EXACT = 2**52
ROOM = 2**63
"""What provers need of their field, which is a little larger."""
LIMITS = {"shift": 62, "score_shift": 62, "epsilon": 2**61, "variance": 2**61}
"""What constants and bounds of these names stay below; all others below EXACT."""

Tensors = Mapping[str, list[int]]
"""The integers of every tensor, row by row."""


class Vector(NamedTuple):
    """What is known of every row of a tensor."""

    entries: list[int]
    """β: |x_j| <= β_j"""
    norm: int
    """N: ‖x‖₂ <= N"""


def prove_bounds(specification: dict, tensors: Tensors) -> None:
    """Refuse a specification unless its bounds are those that the tensors prove."""
    sizes, bound = specification["architecture"], specification["input"]
    require(0 < bound < EXACT, "input: out of range")
    if specification["embed"] is not None:
        bound = embed(specification["embed"], tensors, sizes)
        equal("input", specification["input"], bound)
    blocks = zip(specification["attention"], specification["mlp"], strict=True)
    for i, (attention_unit, mlp_unit) in enumerate(blocks, sizes["first_block"]):
        bound = attention(f"attention[{i}]", attention_unit, tensors, sizes, bound)
        bound = mlp(f"mlp[{i}]", mlp_unit, tensors, sizes, bound)
    if specification["head"] is not None:
        head(specification["head"], tensors, sizes, bound)


def check_integers(tensors: Tensors) -> None:
    """No stored integer is so large that a float64 could not hold it beside another."""
    for name, integers in tensors.items():
        require(all(-EXACT < n < EXACT for n in integers), f"{name}: a stored integer out of range")


def check_tables(specification: dict, tensors: Tensors) -> None:
    """EXP never rises and starts above 0; GELU's table is not negative, nor above its index."""
    for name in {unit["exp"] for unit in specification["attention"]} & tensors.keys():
        exp = tensors[name]
        falls = all(x >= y for x, y in pairwise(exp))
        require(
            exp != [] and falls and exp[0] > 0 and exp[-1] >= 0, f"{name}: no table of exponentials"
        )
    for name in {unit["gelu"] for unit in specification["mlp"]} & tensors.keys():
        within = all(0 <= entry <= u for u, entry in enumerate(tensors[name]))
        require(within and tensors[name] != [], f"{name}: no table of GELU")


def embed(numbers: dict, tensors: Tensors, sizes: dict) -> int:
    largest = 0
    for name, rows in (("tokens", sizes["vocabulary"]), ("positions", sizes["context"])):
        integers = tensors[numbers[name]]
        require(len(integers) == rows * sizes["width"], f"embed: {name} of another shape")
        largest += max(map(abs, integers))
    return bound_of("embed", "output", numbers, largest)


def attention(unit: str, numbers: dict, tensors: Tensors, sizes: dict, bound: int) -> int:
    width, heads, context = sizes["width"], sizes["heads"], sizes["context"]
    x = norm(unit, numbers["norm"], width, bound)
    q, k, v = (
        linear(f"{unit}.{name}", numbers[name], tensors, x, width)
        for name in ("query", "key", "value")
    )
    shift = constant(unit, "score_shift", numbers)
    terms = [a * b for a, b in zip(q.entries, k.entries, strict=True)]
    size = width // heads
    largest = max(sum(terms[i : i + size]) for i in range(0, width, size))
    product = bound_of(unit, "product", numbers, largest + half(shift))
    bound_of(unit, "score", numbers, product // 2**shift + 1)
    total = bound_of(unit, "total", numbers, context * tensors[numbers["exp"]][0])
    bound_of(unit, "mixed", numbers, total * max(v.entries) + total)
    o = Vector([b + 1 for b in v.entries], v.norm + half_root(width))
    out = linear(f"{unit}.out", numbers["out"], tensors, o, width)
    output = bound_of(unit, "output", numbers, bound + max(out.entries))
    require_room(f"{unit}.out", numbers["out"], bound + output)
    score, cap = numbers["score"], len(tensors[numbers["exp"]]) - 1
    scores = (above(score) + cap + above(2 * score) + 2) * 2**shift
    products = size * above(max(q.entries)) * above(max(k.entries))
    require(products + scores < ROOM, f"{unit}: no room for scores")
    return output


def mlp(unit: str, numbers: dict, tensors: Tensors, sizes: dict, bound: int) -> int:
    x = norm(unit, numbers["norm"], sizes["width"], bound)
    hidden = linear(f"{unit}.expand", numbers["expand"], tensors, x, sizes["inner"])
    y = linear(f"{unit}.project", numbers["project"], tensors, hidden, sizes["width"])
    output = bound_of(unit, "output", numbers, bound + max(y.entries))
    cap = len(tensors[numbers["gelu"]]) - 1
    require_room(f"{unit}.expand", numbers["expand"], cap + above(max(hidden.entries)))
    require_room(f"{unit}.project", numbers["project"], bound + output)
    return output


def head(numbers: dict, tensors: Tensors, sizes: dict, bound: int) -> None:
    x = norm("head", numbers["norm"], sizes["width"], bound)
    logits, _ = sums("head", numbers, tensors, x, sizes["vocabulary"], 0)
    bound_of("head", "logit", numbers, max(logits))


def norm(unit: str, numbers: dict, width: int, bound: int) -> Vector:
    unit = f"{unit}.norm"
    shift, epsilon, gain = (constant(unit, name, numbers) for name in ("shift", "epsilon", "gain"))
    difference = 2 * width * bound + half(shift, width)
    require(difference < EXACT, f"{unit}: d·x - Σx may leave the exact range")
    centred = bound_of(unit, "centred", numbers, 2 * ceil(bound, 2**shift) + 1)
    variance = bound_of(unit, "variance", numbers, ceil(width * centred**2, 4) + epsilon)
    reaches = centred * gain + isqrt(variance) + 1
    require(reaches < EXACT, f"{unit}: c·K may leave the exact range")
    output = bound_of(unit, "output", numbers, gain + half_root(width))
    divided = centred * gain + (above(output) + 4) * above(isqrt(variance))
    require(divided < ROOM, f"{unit}: no room for x̂·σ")
    return Vector([output] * width, output)


def linear(name: str, numbers: dict, tensors: Tensors, x: Vector, m: int) -> Vector:
    """round((x·W + b) / 2^s), of `m` outputs."""
    shift = constant(name, "shift", numbers)
    accumulators, frobenius = sums(name, numbers, tensors, x, m, shift)
    bound_of(name, "accumulator", numbers, max(accumulators))
    entries = [a // 2**shift + 1 for a in accumulators] if shift > 0 else accumulators
    bound_of(name, "output", numbers, max(entries))
    length = ceil(frobenius, 2**shift) + half_root(m)
    return Vector(entries, min(length, ceil_root(sum(b * b for b in entries))))


def sums(
    name: str, numbers: dict, tensors: Tensors, x: Vector, m: int, shift: int
) -> tuple[list[int], int]:
    """Bounds of x·W + b + half: of the magnitudes of the terms, added up, and of the 2-norm."""
    weight, bias = tensors[numbers["weight"]], tensors[numbers["bias"]]
    fits = len(weight) == len(x.entries) * m and len(bias) == m
    require(fits, f"{name}: weights of another shape")
    accumulators, squares = [], 0
    for k in range(m):
        column = weight[k::m]
        square = sum(w * w for w in column)
        squares += square
        absolute = sum(abs(w) * b for w, b in zip(column, x.entries, strict=True))
        product = min(ceil_root(square) * x.norm, absolute)
        accumulators.append(product + abs(bias[k]) + half(shift))
    frobenius = ceil_root(squares) * x.norm + ceil_root(sum(b * b for b in bias))
    return accumulators, frobenius


def bound_of(what: str, name: str, numbers: dict, proven: int) -> int:
    """`proven`, which must be what the specification says and below the limit."""
    require(proven < LIMITS.get(name, EXACT), f"{what}.{name}: out of range")
    equal(f"{what}.{name}", numbers[name], proven)
    return proven


def equal(what: str, says: int, proven: int) -> None:
    require(says == proven, f"{what}: the tensors prove another bound")


def constant(what: str, name: str, numbers: dict) -> int:
    value = numbers[name]
    require(0 <= value < LIMITS.get(name, EXACT), f"{what}.{name}: out of range")
    return value


def ceil(n: int, d: int) -> int:
    """⌈n / d⌉"""
    return -(-n // d)


def ceil_root(n: int) -> int:
    """⌈√n⌉"""
    root = isqrt(n)
    return root if root * root == n else root + 1


def half_root(m: int) -> int:
    """½√m rounded up: ⌈⌈√m⌉ / 2⌉"""
    return ceil(ceil_root(m), 2)


def half(shift: int, factor: int = 1) -> int:
    """⌊factor·2^s / 2⌋"""
    return factor * 2**shift // 2


def above(n: int) -> int:
    """The least power of two above n."""
    return 2 ** n.bit_length()


def require_room(name: str, layer: dict, largest: int) -> None:
    reaches = layer["accumulator"] + (largest + 2) * 2 ** layer["shift"]
    require(reaches < ROOM, f"{name}: no room for its quotient")

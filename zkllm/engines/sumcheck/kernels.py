"""The prover's loops, compiled by numba on first use and kept; the only module that imports it.

Arrays are those of `field`: canonical `uint64`, a last axis of length 2 for the extension. Each
public function has a plain-integer twin in the tests. Large work is cut into pieces for threads
(`zkllm.threads`); what comes out does not depend on their number.

A sum of products is kept in three words (low, high, overflow) and reduced once at its end, since
a reduction costs more than a product.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import event
from numba.extending import intrinsic

from zkllm.engines.sumcheck import cache
from zkllm.engines.sumcheck.field import (
    MODULUS,
    NON_RESIDUE,
    Words,
    add,
    bit_reversal,
    root_of_unity,
    root_powers,
)
from zkllm.progress import Progress, silent
from zkllm.threads import in_pieces

_P = np.uint64(MODULUS)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_8 = np.uint64(8)
_7 = np.uint64(NON_RESIDUE)
_0 = np.uint64(0)
_GRAIN = 1 << 13
"""Fewer elements than this are not worth another thread."""
_TILE = 256
"""Pairs that stay in the cache while a round polynomial is evaluated at all its points."""
_LANES = 16
"""Columns that are hashed beside each other, one in every lane of a vector."""
_VECTOR = 8
"""Places of a row that are transformed beside each other."""

# --- compilation -------------------------------------------------------------------------------

_KERNELS: list[tuple[Any, str]] = []
"""Every kernel with the one signature that it is used with."""


_SOURCE = cache.source()


def _kernel(signature: str) -> Callable[[Any], Any]:
    """A compiled function that runs beside other threads."""

    def decorate(function: Any) -> Any:
        function = cache.come_from(function, _SOURCE)
        compiled = njit(cache=True, nogil=True, error_model="numpy")(function)
        _KERNELS.append((compiled, signature))
        return compiled

    return decorate


_inline: Any = njit(forceinline=True, error_model="numpy")
"""A part of kernels, compiled into each of them."""


class _Announcement(event.Listener):  # type: ignore[misc]
    """Says once that compilation takes a while; what is loaded from the cache is no compilation."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._made = False

    def on_start(self, event: Any) -> None:
        if not self._made:
            self._made = True
            self._progress("compiling the prover's kernels, once per machine: about 10 s")

    def on_end(self, event: Any) -> None:
        """Nothing: one kernel more is compiled."""


def prepare(progress: Progress = silent) -> None:
    """Load all kernels from the cache, or compile them, which `progress` is told beforehand."""
    with event.install_listener("numba:compile", _Announcement(progress)):
        for kernel, signature in _KERNELS:
            kernel.compile(signature)


# --- the field ---------------------------------------------------------------------------------


@intrinsic  # type: ignore[untyped-decorator]
def _high(_context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of a 128-bit product."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        left, right = (builder.zext(argument, wide) for argument in arguments)
        product = builder.mul(left, right)
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@_inline
def _add(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    total = a + b
    if total < a:
        total += _LOW
    if total >= _P:
        total -= _P
    return total


@_inline
def _subtract(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    difference = a - b
    if a < b:
        difference -= _LOW
    return difference


@_inline
def _reduce(low, high):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The word of low + 2^64·high mod p, by 2^64 = 2^32 - 1 and 2^96 = -1."""
    top = high >> _32
    reduced = low - top
    if low < top:
        reduced -= _LOW
    rest = (high & _LOW) * _LOW
    total = reduced + rest
    if total < rest:
        total += _LOW
    if total >= _P:
        total -= _P
    return total


@_inline
def _multiply(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return _reduce(a * b, _high(a, b))


@_inline
def _more(low, high, over, a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A sum of products, and a·b more."""
    product = a * b
    upper = _high(a, b)
    low = low + product
    # the upper half of a product is below 2^64 - 1
    upper = upper + np.uint64(low < product)
    high = high + upper
    return low, high, over + np.uint64(high < upper)


@_inline
def _sum(low, high, over):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A sum of fewer than 2^31 products mod p, by 2^128 = -2^32."""
    return _subtract(_reduce(low, high), over << _32)


@_inline
def _seven(a):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """7·a as a word that need not be below p."""
    low = a * _7
    carried = _high(a, _7) * _LOW
    total = low + carried
    if total < carried:
        total += _LOW
    return total


@_inline
def _multiply_ext(a0, a1, b0, b1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    x, y, z = _more(a0 * b0, _high(a0, b0), _0, a1, _seven(b1))
    u, v, w = _more(a0 * b1, _high(a0, b1), _0, a1, b0)
    return _sum(x, y, z), _sum(u, v, w)


@_kernel("void(uint64[:, ::1], int64, uint64, uint64, int64, int64)")
def _double_eq(table, half, r0, r1, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(start, stop):
        high0, high1 = _multiply_ext(table[i, 0], table[i, 1], r0, r1)
        table[half + i, 0] = high0
        table[half + i, 1] = high1
        table[i, 0] = _subtract(table[i, 0], high0)
        table[i, 1] = _subtract(table[i, 1], high1)


def eq_table(point: Words) -> Words:
    """eq(i, point) for all i below 2^k; `point` has shape [k, 2], the result [2^k, 2]."""
    table = np.empty((1 << len(point), 2), dtype=np.uint64)
    table[0] = 1, 0
    for bit, (r0, r1) in enumerate(point):
        half = 1 << bit
        in_pieces(half, _GRAIN, functools.partial(_double_eq, table, half, r0, r1))
    return table


@_kernel("UniTuple(uint64, 2)(uint64[::1], uint64[:, ::1], int64, int64)")
def _dot(values, weights, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    x = y = z = u = v = w = _0
    for i in range(start, stop):
        x, y, z = _more(x, y, z, values[i], weights[i, 0])
        u, v, w = _more(u, v, w, values[i], weights[i, 1])
    return _sum(x, y, z), _sum(u, v, w)


def dot(values: Words, weights: Words) -> tuple[int, int]:
    """Σ values·weights: values [n] of the base field, weights [n, 2] of the extension."""
    parts = in_pieces(len(values), _GRAIN, functools.partial(_dot, values, weights))
    return sum(int(a) for a, _ in parts) % MODULUS, sum(int(b) for _, b in parts) % MODULUS


@_kernel("void(uint64[:, ::1], uint64[:, ::1], uint64, uint64, int64, int64)")
def _accumulate(target, weights, factor0, factor1, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(start, stop):
        term0, term1 = _multiply_ext(weights[i, 0], weights[i, 1], factor0, factor1)
        target[i, 0] = _add(target[i, 0], term0)
        target[i, 1] = _add(target[i, 1], term1)


def accumulate(target: Words, weights: Words, factor0: np.uint64, factor1: np.uint64) -> None:
    """Add factor·weights to `target` in the extension, shapes [n, 2]."""
    work = functools.partial(_accumulate, target, weights, factor0, factor1)
    in_pieces(len(target), _GRAIN, work)


@_kernel("void(uint64[:, ::1], uint64[::1], uint64, uint64, int64, int64)")
def _accumulate_values(target, values, factor0, factor1, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(start, stop):
        target[i, 0] = _add(target[i, 0], _multiply(values[i], factor0))
        target[i, 1] = _add(target[i, 1], _multiply(values[i], factor1))


def accumulate_values(target: Words, values: Words, factor0: np.uint64, factor1: np.uint64) -> None:
    """Add factor·values to `target` [n, 2]: values [n] of the base field, factor in the other."""
    work = functools.partial(_accumulate_values, target, values, factor0, factor1)
    in_pieces(len(target), _GRAIN, work)


# --- rounds of a sumcheck ----------------------------------------------------------------------


@_kernel("void(uint64[:, :, :, ::1], uint64[:, :, :, ::1], uint64, uint64, int64, int64)")
def _fold(tables, out, r0, r1, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n, half, inner = tables.shape[1], out.shape[1], tables.shape[2]
    k, pair = start // half, start % half
    for _ in range(start, stop):
        if 2 * pair + 1 < n:
            for i in range(inner):
                a0, a1 = tables[k, 2 * pair, i, 0], tables[k, 2 * pair, i, 1]
                b0, b1 = tables[k, 2 * pair + 1, i, 0], tables[k, 2 * pair + 1, i, 1]
                term0, term1 = _multiply_ext(_subtract(b0, a0), _subtract(b1, a1), r0, r1)
                out[k, pair, i, 0] = _add(a0, term0)
                out[k, pair, i, 1] = _add(a1, term1)
        else:
            for i in range(inner):
                a0, a1 = tables[k, 2 * pair, i, 0], tables[k, 2 * pair, i, 1]
                term0, term1 = _multiply_ext(a0, a1, r0, r1)
                out[k, pair, i, 0] = _subtract(a0, term0)
                out[k, pair, i, 1] = _subtract(a1, term1)
        pair += 1
        if pair == half:
            k, pair = k + 1, 0


def fold(tables: Words, r0: np.uint64, r1: np.uint64, room: Words) -> Words:
    """Bind the next variable to r: tables [k, n, m, 2] become [k, ceil(n/2), m, 2], within `room`.

    The variable runs over neighbours of axis 1; a last entry without neighbour has a zero there.
    """
    count, n, inner, _ = tables.shape
    shape = (count, (n + 1) // 2, inner, 2)
    out = room.reshape(-1)[: math.prod(shape)].reshape(shape)
    work = functools.partial(_fold, tables, out, r0, r1)
    in_pieces(count * shape[1], _GRAIN // inner, work)
    return out


@_kernel("void(uint64[:, ::1], uint64[:, ::1], int64, int64)")
def _add_neighbours(table, out, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(start, stop):
        out[i, 0] = _add(table[2 * i, 0], table[2 * i + 1, 0])
        out[i, 1] = _add(table[2 * i, 1], table[2 * i + 1, 1])


def add_neighbours(table: Words) -> Words:
    """Entries 2i and 2i+1 added, shape [n, 2] to [floor(n/2), 2]."""
    out = np.empty((len(table) // 2, 2), dtype=np.uint64)
    in_pieces(len(out), _GRAIN, functools.partial(_add_neighbours, table, out))
    return out


@_inline
def _line(first, second, t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The value at t = 0 .. 3 of the line through (0, first) and (1, second)."""
    if t == 0:
        return first
    value = second
    if t > 1:
        step = _subtract(second, first)
        value = _add(value, step)
        if t == 3:
            value = _add(value, step)
    return value


@_kernel("uint64[:, ::1](uint64[:, :, :, ::1], int64[:, ::1], int64[:, ::1], int64, int64, int64)")
def _product_round(tables, groups, products, degree, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    count, n = tables.shape[0], tables.shape[2]
    half = (n + 1) // 2
    sums = np.zeros((3, 2), dtype=np.uint64)
    at = np.empty((_TILE, count, 2), dtype=np.uint64)
    for tile in range(start, stop, _TILE):
        size = min(_TILE, stop - tile)
        for point in range(degree):
            t = point + 1 if point else 0
            for k in range(count):
                row, pair = tile // half, tile % half
                for i in range(size):
                    for side in range(2):
                        first = tables[k, row, 2 * pair, side]
                        second = tables[k, row, 2 * pair + 1, side] if 2 * pair + 1 < n else _0
                        at[i, k, side] = _line(first, second, t)
                    pair += 1
                    if pair == half:
                        row, pair = row + 1, 0
            a = b = c = d = e = f = _0
            for i in range(size):
                here = at[i]
                for g in range(len(groups)):
                    weight, linear = groups[g, 0], groups[g, 1]
                    x = y = z = u = v = w = _0
                    for m in range(groups[g, 2], groups[g, 3]):
                        j, k = products[m, 0], products[m, 1]
                        l0, l1 = here[k, 0], here[k, 1]
                        x, y, z = _more(x, y, z, here[j, 0], l0)
                        x, y, z = _more(x, y, z, here[j, 1], _seven(l1))
                        u, v, w = _more(u, v, w, here[j, 0], l1)
                        u, v, w = _more(u, v, w, here[j, 1], l0)
                    value0, value1 = _sum(x, y, z), _sum(u, v, w)
                    if linear >= 0:
                        value0 = _add(value0, here[linear, 0])
                        value1 = _add(value1, here[linear, 1])
                    w0, w1 = here[weight, 0], here[weight, 1]
                    a, b, c = _more(a, b, c, value0, w0)
                    a, b, c = _more(a, b, c, value1, _seven(w1))
                    d, e, f = _more(d, e, f, value0, w1)
                    d, e, f = _more(d, e, f, value1, w0)
            sums[point, 0] = _add(sums[point, 0], _sum(a, b, c))
            sums[point, 1] = _add(sums[point, 1], _sum(d, e, f))
    return sums


def product_round(
    tables: Words, groups: npt.NDArray[np.int64], products: npt.NDArray[np.int64], degree: int
) -> Words:
    """The round polynomial of Σ_g weight_g·(linear_g + Σ products of g) at t = 0, 2, 3.

    `tables` [k, rows, n, 2]; the variable runs over neighbours of axis 2, and a last entry without
    neighbour has a zero beside it. `groups` [g, 4] are weight and linear table (-1 for none), first
    and last + 1 product; `products` [m, 2] two tables each. Result [3, 2], for degree 2 the last
    point is zero.
    """
    pairs = tables.shape[1] * ((tables.shape[2] + 1) // 2)
    work = functools.partial(_product_round, tables, groups, products, degree)
    return _added(in_pieces(pairs, _GRAIN // 4, work))


def _added(parts: list[Words]) -> Words:
    """Partial results, added."""
    result = parts[0]
    for part in parts[1:]:
        result = add(result, part)
    return result


@_kernel("uint64[:, ::1](uint64[::1], uint64[:, ::1], int64, int64)")
def _value_round(values, weights, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    sums = np.zeros((2, 2), dtype=np.uint64)
    n = len(values)
    for tile in range(start, stop, _TILE):
        for point in range(2):
            x = y = z = u = v = w = _0
            for pair in range(tile, min(tile + _TILE, stop)):
                whole = 2 * pair + 1 < n
                b = values[2 * pair + 1] if whole else _0
                b0 = weights[2 * pair + 1, 0] if whole else _0
                b1 = weights[2 * pair + 1, 1] if whole else _0
                value = _line(values[2 * pair], b, 2 * point)
                x, y, z = _more(x, y, z, value, _line(weights[2 * pair, 0], b0, 2 * point))
                u, v, w = _more(u, v, w, value, _line(weights[2 * pair, 1], b1, 2 * point))
            sums[point, 0] = _add(sums[point, 0], _sum(x, y, z))
            sums[point, 1] = _add(sums[point, 1], _sum(u, v, w))
    return sums


def value_round(values: Words, weights: Words) -> Words:
    """The first round polynomial of Σ values·weights at t = 0, 2; result [2, 2].

    Values [n] of the base field, weights [n, 2] of the extension.
    """
    work = functools.partial(_value_round, values, weights)
    return _added(in_pieces((len(values) + 1) // 2, _GRAIN // 2, work))


@_kernel("void(uint64[::1], uint64[:, ::1], uint64, uint64, int64, int64)")
def _fold_values(values, out, r0, r1, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for pair in range(start, stop):
        first = values[2 * pair]
        second = values[2 * pair + 1] if 2 * pair + 1 < len(values) else _0
        step = _subtract(second, first)
        out[pair, 0] = _add(first, _multiply(step, r0))
        out[pair, 1] = _multiply(step, r1)


def fold_values(values: Words, r0: np.uint64, r1: np.uint64, out: Words) -> None:
    """Bind the next variable of values [n] of the base field to r, into `out` [ceil(n/2), 2]."""
    in_pieces(len(out), _GRAIN, functools.partial(_fold_values, values, out, r0, r1))


# --- fractions ---------------------------------------------------------------------------------


@_kernel(
    "void(uint64[:, ::1], uint64[::1], uint64[::1], uint64, uint64, uint64, uint64, uint64, "
    "uint64, int64, int64)"
)
def _fingerprints(out, keys, values, base0, base1, beta0, beta1, square0, square1, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(start, stop):
        first = _subtract(base0, _multiply(keys[i], beta0))
        second = _subtract(base1, _multiply(keys[i], beta1))
        if len(values):
            first = _subtract(first, _multiply(values[i], square0))
            second = _subtract(second, _multiply(values[i], square1))
        out[i, 0] = first
        out[i, 1] = second


def fingerprints(
    out: Words, keys: Words, values: Words | None, base: Words, beta: Words, square: Words
) -> None:
    """Set `out` [n, 2] to base - β·key - β²·value.

    Keys and values [n] of the base field, no values for zeros; base, β and β² have shape [2].
    """
    none = np.empty(0, dtype=np.uint64)
    factors = (base[0], base[1], beta[0], beta[1], square[0], square[1])
    work = functools.partial(_fingerprints, out, keys, none if values is None else values, *factors)
    in_pieces(len(keys), _GRAIN, work)


@_kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], int64, int64)")
def _fraction_sums(top, bottom, above, below, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(start, stop):
        p00, p01, p10, p11 = top[2 * i, 0], top[2 * i, 1], top[2 * i + 1, 0], top[2 * i + 1, 1]
        d00, d01 = bottom[2 * i, 0], bottom[2 * i, 1]
        d10, d11 = bottom[2 * i + 1, 0], bottom[2 * i + 1, 1]
        x, y, z = _more(p00 * d10, _high(p00, d10), _0, p01, _seven(d11))
        x, y, z = _more(x, y, z, p10, d00)
        x, y, z = _more(x, y, z, p11, _seven(d01))
        u, v, w = _more(p00 * d11, _high(p00, d11), _0, p01, d10)
        u, v, w = _more(u, v, w, p10, d01)
        u, v, w = _more(u, v, w, p11, d00)
        above[i, 0] = _add(_sum(x, y, z), _add(p00, p10))
        above[i, 1] = _add(_sum(u, v, w), _add(p01, p11))
        product0, product1 = _multiply_ext(d00, d01, d10, d11)
        below[i, 0] = _add(product0, _add(d00, d10))
        below[i, 1] = _add(product1, _add(d01, d11))


def fraction_sums(top: Words, bottom: Words) -> tuple[Words, Words]:
    """The next layer: fractions 2i and 2i+1 added. Denominators are less 1, shapes [n, 2].

    The results have an even number of entries, like the arguments, unless there is only one: where
    need be a last fraction 0/1 is added, two zeros.
    """
    half = len(top) // 2
    room = half + half % 2 if half > 1 else 1
    above, below = (np.empty((room, 2), dtype=np.uint64) for _ in range(2))
    above[half:], below[half:] = 0, 0
    work = functools.partial(_fraction_sums, top, bottom, above, below)
    in_pieces(half, _GRAIN // 2, work)
    return above, below


@_kernel("void(uint64[:, :, ::1], uint64[:, :, ::1], uint64, uint64, int64, int64)")
def _mix_children(top, bottom, l0, l1, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(start, stop):
        term0, term1 = _multiply_ext(bottom[i, 0, 0], bottom[i, 0, 1], l0, l1)
        top[i, 0, 0] = _add(top[i, 0, 0], term0)
        top[i, 0, 1] = _add(top[i, 0, 1], term1)


def mix_children(top: Words, bottom: Words, l0: np.uint64, l1: np.uint64) -> None:
    """Add λ·d0 to p0: `top` [n, 2, 2] holds p0, p1 and `bottom` [n, 2, 2] d0, d1 = q0 - 1, q1 - 1.

    The summand p0·q1 + p1·q0 + λ·(q0·q1 - 1) is then p0 + p1 + (p0 + λ)·d1 + p1·d0.
    """
    in_pieces(len(top), _GRAIN, functools.partial(_mix_children, top, bottom, l0, l1))


@_kernel(
    "uint64[:, ::1](uint64[:, ::1], uint64[:, :, ::1], uint64[:, :, ::1], uint64, uint64, "
    "int64, int64)"
)
def _fraction_round(weights, top, bottom, l0, l1, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    sums = np.zeros((3, 2), dtype=np.uint64)
    for tile in range(start, stop, _TILE):
        end = min(tile + _TILE, stop)
        for t in range(3):
            a = b = c = d = e = f = _0
            for i in range(tile, end):
                p00 = _line(top[2 * i, 0, 0], top[2 * i + 1, 0, 0], t)
                p01 = _line(top[2 * i, 0, 1], top[2 * i + 1, 0, 1], t)
                p10 = _line(top[2 * i, 1, 0], top[2 * i + 1, 1, 0], t)
                p11 = _line(top[2 * i, 1, 1], top[2 * i + 1, 1, 1], t)
                d00 = _line(bottom[2 * i, 0, 0], bottom[2 * i + 1, 0, 0], t)
                d01 = _line(bottom[2 * i, 0, 1], bottom[2 * i + 1, 0, 1], t)
                d10 = _line(bottom[2 * i, 1, 0], bottom[2 * i + 1, 1, 0], t)
                d11 = _line(bottom[2 * i, 1, 1], bottom[2 * i + 1, 1, 1], t)
                m0, m1 = _add(p00, l0), _add(p01, l1)
                x, y, z = _more(m0 * d10, _high(m0, d10), _0, m1, _seven(d11))
                x, y, z = _more(x, y, z, p10, d00)
                x, y, z = _more(x, y, z, p11, _seven(d01))
                u, v, w = _more(m0 * d11, _high(m0, d11), _0, m1, d10)
                u, v, w = _more(u, v, w, p10, d01)
                u, v, w = _more(u, v, w, p11, d00)
                value0 = _add(_sum(x, y, z), _add(p00, p10))
                value1 = _add(_sum(u, v, w), _add(p01, p11))
                w0, w1 = weights[i, 0], weights[i, 1]
                a, b, c = _more(a, b, c, value0, w0)
                a, b, c = _more(a, b, c, value1, _seven(w1))
                d, e, f = _more(d, e, f, value0, w1)
                d, e, f = _more(d, e, f, value1, w0)
            sums[t, 0] = _add(sums[t, 0], _sum(a, b, c))
            sums[t, 1] = _add(sums[t, 1], _sum(d, e, f))
    return sums


def fraction_round(
    weights: Words, top: Words, bottom: Words, l0: np.uint64, l1: np.uint64, pairs: int
) -> Words:
    """Σ weights[i]·summand_i(t) at t = 0, 1, 2 over the first `pairs` pairs.

    Children 2i and 2i+1 make pair i; `weights` [n, 2] of the extension, `top` and `bottom`
    [n, 2, 2] as `mix_children` leaves them, for the same λ. Result [3, 2].
    """
    work = functools.partial(_fraction_round, weights, top, bottom, l0, l1)
    return _added(in_pieces(pairs, _GRAIN // 4, work))


# --- the commitment ----------------------------------------------------------------------------


@functools.cache
def _twiddles(logarithm: int) -> Words:
    """Entry h + k is the k-th power of a primitive 2h-th root of unity, h = 1, 2, 4, ..."""
    table = np.ones(1 << logarithm, dtype=np.uint64)
    for log in range(logarithm):
        half = 1 << log
        table[half : 2 * half] = root_powers(root_of_unity(log + 1), half)
    return table


def _vector_field(builder: Any) -> tuple[Any, Any, Any]:
    """Addition, subtraction and multiplication of vectors: LLVM makes none of the scalar loops.

    A product is put together from those of 32-bit halves, for which processors have instructions.
    """
    vector = ir.VectorType(ir.IntType(64), _VECTOR)
    low32, by32, modulus, zero = (
        ir.Constant(vector, [n] * _VECTOR) for n in (0xFFFFFFFF, 32, MODULUS, 0)
    )

    def where(x: Any, comparison: str, y: Any, value: Any) -> Any:
        return builder.select(builder.icmp_unsigned(comparison, x, y), value, zero)

    def carried(total: Any, term: Any) -> Any:
        total = builder.add(total, where(total, "<", term, low32))
        return builder.sub(total, where(total, ">=", modulus, modulus))

    def add(x: Any, y: Any) -> Any:
        return carried(builder.add(x, y), y)

    def subtract(x: Any, y: Any) -> Any:
        return builder.sub(builder.sub(x, y), where(x, "<", y, low32))

    def halves(x: Any) -> tuple[Any, Any]:
        return builder.and_(x, low32), builder.lshr(x, by32)

    def multiply(x: Any, y: Any) -> Any:
        (x0, x1), (y0, y1) = halves(x), halves(y)
        kept, carry = halves(builder.mul(x0, y0))
        middle, first = halves(builder.add(builder.mul(x1, y0), carry))
        middle, second = halves(builder.add(builder.mul(x0, y1), middle))
        low = builder.or_(builder.shl(middle, by32), kept)
        high = builder.add(builder.add(builder.mul(x1, y1), first), second)
        rest, top = halves(high)
        rest = builder.sub(builder.shl(rest, by32), rest)
        return carried(builder.add(subtract(low, top), rest), rest)

    return add, subtract, multiply


@intrinsic  # type: ignore[untyped-decorator]
def _butterflies(_context: Any, places: Any, step: Any, twiddles: Any) -> Any:
    """Two layers of a transform of `_VECTOR` places at each of four addresses, `step` apart.

    At the first address of `twiddles` are those of the layer, at the next two those of the layer
    that follows.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        add, subtract, multiply = _vector_field(builder)
        kind = ir.VectorType(ir.IntType(64), _VECTOR).as_pointer()

        def pointers(first: Any, count: int) -> list[Any]:
            addresses = [first]
            while len(addresses) < count:
                addresses.append(builder.add(addresses[-1], arguments[1]))
            return [builder.inttoptr(address, kind) for address in addresses]

        places = pointers(arguments[0], 4)
        a, b, c, d = (builder.load(place, align=8) for place in places)
        v, w, x = (builder.load(place, align=8) for place in pointers(arguments[2], 3))
        b, d = multiply(b, v), multiply(d, v)
        a, b, c, d = add(a, b), subtract(a, b), add(c, d), subtract(c, d)
        c, d = multiply(c, w), multiply(d, x)
        results = add(a, c), add(b, d), subtract(a, c), subtract(b, d)
        for result, place in zip(results, places, strict=True):
            builder.store(result, place, align=8)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp), generate


@_kernel("void(uint64[:, ::1], uint64[:, ::1], int64[::1], uint64[::1], int64, int64)")
def _encode_rows(matrix, out, order, twiddles, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n, length = matrix.shape[1], out.shape[1]
    blowup = length // n
    for r in range(start, stop):
        row = out[r]
        # The first layers meet zeros only beside each coefficient: they copy it.
        for i in range(n):
            first = blowup * order[i]
            for k in range(blowup):
                row[first + k] = matrix[r, i]
        half = blowup
        layers = 0
        while half << layers < length:
            layers += 1
        while half < length and (half < _VECTOR or layers % 2 == 1):
            for first in range(0, length, 2 * half):
                for k in range(first, first + half):
                    low = row[k]
                    high = _multiply(row[k + half], twiddles[half + k - first])
                    row[k] = _add(low, high)
                    row[k + half] = _subtract(low, high)
            half *= 2
            layers -= 1
        while half < length:
            step = np.uint64(8 * half)
            factors = np.uint64(twiddles.ctypes.data) + step
            for first in range(0, length, 4 * half):
                places = np.uint64(row.ctypes.data) + np.uint64(8 * first)
                for k in range(0, half, _VECTOR):
                    skip = np.uint64(8 * k)
                    _butterflies(places + skip, step, factors + skip)
            half *= 4


def encode(matrix: Words, blowup: int) -> Words:
    """Rows [r, n] as coefficients of polynomials, evaluated on all roots of unity of order n·b."""
    rows, n = matrix.shape
    out = np.empty((rows, n * blowup), dtype=np.uint64)
    encode_into(matrix, out)
    return out


def encode_into(matrix: Words, out: Words) -> None:
    """Encode rows [r, n] into `out` [r, n·b]."""
    rows, n = matrix.shape
    order = bit_reversal(n.bit_length() - 1)
    twiddles = _twiddles(out.shape[1].bit_length() - 1)
    in_pieces(rows, 1, functools.partial(_encode_rows, matrix, out, order, twiddles))


@_kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], int64, int64)")
def _combine_rows(matrix, coefficients, out, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for j in range(start, stop):
        out[j, 0] = _0
        out[j, 1] = _0
    for i in range(len(matrix)):
        c0, c1 = coefficients[i, 0], coefficients[i, 1]
        for j in range(start, stop):
            value = matrix[i, j]
            if value != _0:
                out[j, 0] = _add(out[j, 0], _multiply(value, c0))
                out[j, 1] = _add(out[j, 1], _multiply(value, c1))


def combine_rows(matrix: Words, coefficients: Words) -> Words:
    """Σ_i coefficients[i]·matrix[i]: coefficients [rows, 2] of the extension; result [n, 2]."""
    rows, columns = matrix.shape
    out = np.empty((columns, 2), dtype=np.uint64)
    work = functools.partial(_combine_rows, matrix, coefficients, out)
    in_pieces(columns, _GRAIN // rows, work)
    return out


def _primes(count: int) -> list[int]:
    candidates = itertools.count(2)
    found: list[int] = []
    while len(found) < count:
        n = next(candidates)
        if all(n % prime for prime in found):
            found.append(n)
    return found


def _fraction_bits(n: int, degree: int) -> int:
    """The first 32 bits after the point of the root of n, as FIPS 180-4 takes its constants."""
    power, root = n << 32 * degree, 0
    for bit in reversed(range(40)):
        if (root + (1 << bit)) ** degree <= power:
            root += 1 << bit
    return root & 0xFFFFFFFF


_ROUND_CONSTANTS = [_fraction_bits(prime, 3) for prime in _primes(64)]
_INITIAL = np.array([_fraction_bits(prime, 2) for prime in _primes(8)], dtype=np.uint32)


@intrinsic  # type: ignore[untyped-decorator]
def _compress(_context: Any, state: Any, words: Any) -> Any:
    """SHA-256's compression of one block in each lane, at the addresses of [8] and [16] vectors."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(32), _LANES)
        states, message = (builder.inttoptr(a, vector.as_pointer()) for a in arguments)

        def constant(n: int) -> Any:
            return ir.Constant(vector, [n] * _LANES)

        def entry(pointer: Any, i: int) -> Any:
            return builder.gep(pointer, [ir.Constant(ir.IntType(64), i)])

        def rotated(x: Any, n: int) -> Any:
            right = builder.lshr(x, constant(n))
            return builder.or_(right, builder.shl(x, constant(32 - n)))

        def mixed(x: Any, first: int, second: int, third: Any) -> Any:
            return builder.xor(builder.xor(rotated(x, first), rotated(x, second)), third)

        def total(*terms: Any) -> Any:
            return functools.reduce(builder.add, terms)

        before = [builder.load(entry(states, i), align=4) for i in range(8)]
        w = [builder.load(entry(message, i), align=4) for i in range(16)]
        a, b, c, d, e, f, g, h = before
        for t, k in enumerate(_ROUND_CONSTANTS):
            if t >= 16:
                x, y = w[(t - 15) % 16], w[(t - 2) % 16]
                s0 = mixed(x, 7, 18, builder.lshr(x, constant(3)))
                s1 = mixed(y, 17, 19, builder.lshr(y, constant(10)))
                w[t % 16] = total(w[t % 16], s0, w[(t - 7) % 16], s1)
            choice = builder.xor(g, builder.and_(e, builder.xor(f, g)))
            majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
            first = total(h, mixed(e, 6, 11, rotated(e, 25)), choice, constant(k), w[t % 16])
            second = builder.add(mixed(a, 2, 13, rotated(a, 22)), majority)
            h, g, f, e = g, f, e, builder.add(d, first)
            d, c, b, a = c, b, a, builder.add(first, second)
        for i, after in enumerate((a, b, c, d, e, f, g, h)):
            builder.store(builder.add(before[i], after), entry(states, i), align=4)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp), generate


@_inline
def _swapped(word):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The bytes of a word in reverse."""
    bytes_ = np.uint64(0x00FF00FF00FF00FF)
    pairs = np.uint64(0x0000FFFF0000FFFF)
    word = ((word & bytes_) << _8) | ((word >> _8) & bytes_)
    word = ((word & pairs) << np.uint64(16)) | ((word >> np.uint64(16)) & pairs)
    return (word << _32) | (word >> _32)


@_kernel("void(uint64[:, ::1], uint64, uint32[::1], uint32[:, ::1], int64, int64)")
def _hash_columns(matrix, prefix, initial, out, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    rows = len(matrix)
    # one byte before the column, one and a length after it, in blocks of eight words
    words = (rows + 2 + 7) // 8 * 8
    state = np.empty((8, _LANES), dtype=np.uint32)
    block = np.empty((16, _LANES), dtype=np.uint32)
    kept = np.empty(_LANES, dtype=np.uint64)
    for first in range(start, stop, _LANES):
        size = min(_LANES, stop - first)
        for lane in range(_LANES):
            kept[lane] = prefix << np.uint64(56)
            for i in range(8):
                state[i, lane] = initial[i]
        for word in range(words):
            i = 2 * (word & 7)
            if word < rows:
                row = matrix[word, first : first + size]
                for lane in range(size):
                    swapped = _swapped(row[lane])
                    whole = kept[lane] | (swapped >> _8)
                    kept[lane] = swapped << np.uint64(56)
                    block[i, lane] = np.uint32(whole >> _32)
                    block[i + 1, lane] = np.uint32(whole)
            else:
                for lane in range(_LANES):
                    whole = _0
                    if word == rows:
                        whole = kept[lane] | np.uint64(0x80 << 48)
                    elif word == words - 1:
                        whole = np.uint64(8 * (8 * rows + 1))
                    block[i, lane] = np.uint32(whole >> _32)
                    block[i + 1, lane] = np.uint32(whole)
            if i == 14:
                _compress(state.ctypes.data, block.ctypes.data)
        for lane in range(size):
            for i in range(8):
                out[first + lane, i] = state[i, lane]


def hash_columns(prefix: int, matrix: Words) -> npt.NDArray[np.uint8]:
    """sha256 of one byte `prefix` and each column of `matrix` [r, n], little endian: [n, 32]."""
    columns = matrix.shape[1]
    out = np.empty((columns, 8), dtype=np.uint32)
    work = functools.partial(_hash_columns, matrix, np.uint64(prefix), _INITIAL, out)
    in_pieces(columns, 1 << 10, work)
    return out.astype(">u4").view(np.uint8)

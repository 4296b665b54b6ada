"""The prover's loops, compiled by numba on first use and cached; the only module that imports it.

Each kernel has a plain-integer twin in the tests. Arrays are those of `field`: canonical `uint64`,
a last axis of length 2 for the extension. Kernels release the interpreter lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from zkllm.backends.sumcheck.field import MODULUS, Words, root_of_unity

_P = np.uint64(MODULUS)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_7 = np.uint64(7)
_0 = np.uint64(0)
_1 = np.uint64(1)


@intrinsic  # type: ignore[untyped-decorator]
def _high(_context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of a 128-bit product."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        left, right = (builder.zext(argument, wide) for argument in arguments)
        product = builder.mul(left, right)
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@njit(inline="always")
def _add(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    total = a + b
    if total < a:
        total += _LOW
    if total >= _P:
        total -= _P
    return total


@njit(inline="always")
def _subtract(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    difference = a - b
    if a < b:
        difference += _P
    return difference


@njit(inline="always")
def _multiply(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    low = a * b
    high = _high(a, b)
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


@njit(inline="always")
def _multiply_ext(a0, a1, b0, b1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    tail = _multiply(_multiply(a1, b1), _7)
    first = _add(_multiply(a0, b0), tail)
    second = _add(_multiply(a0, b1), _multiply(a1, b0))
    return first, second


@njit(cache=True, nogil=True)
def multiply(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """a·b of values, element by element, shapes [n]."""
    out = np.empty_like(a)
    for i in range(len(a)):
        out[i] = _multiply(a[i], b[i])
    return out


@njit(cache=True, nogil=True)
def multiply_ext(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """a·b of elements of the extension, shapes [n, 2]."""
    out = np.empty_like(a)
    for i in range(len(a)):
        out[i, 0], out[i, 1] = _multiply_ext(a[i, 0], a[i, 1], b[i, 0], b[i, 1])
    return out


@njit(cache=True, nogil=True)
def eq_table(point):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """eq(i, point) for all i below 2^k; `point` has shape [k, 2], the result [2^k, 2]."""
    k = len(point)
    table = np.empty((1 << k, 2), dtype=np.uint64)
    table[0, 0] = _1
    table[0, 1] = _0
    for bit in range(k):
        half = 1 << bit
        for i in range(half):
            high0, high1 = _multiply_ext(
                table[i, 0], table[i, 1], point[bit, 0], point[bit, 1]
            )
            table[half + i, 0] = high0
            table[half + i, 1] = high1
            table[i, 0] = _subtract(table[i, 0], high0)
            table[i, 1] = _subtract(table[i, 1], high1)
    return table


@njit(cache=True, nogil=True)
def dot(values, weights):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Σ values·weights: values [n] of the base field, weights [n, 2] of the extension."""
    sum0 = _0
    sum1 = _0
    for i in range(len(values)):
        value = values[i]
        if value != _0:
            sum0 = _add(sum0, _multiply(value, weights[i, 0]))
            sum1 = _add(sum1, _multiply(value, weights[i, 1]))
    return sum0, sum1


@njit(cache=True, nogil=True)
def accumulate(target, weights, factor0, factor1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """target += factor·weights in the extension, shapes [n, 2]."""
    for i in range(len(target)):
        term0, term1 = _multiply_ext(weights[i, 0], weights[i, 1], factor0, factor1)
        target[i, 0] = _add(target[i, 0], term0)
        target[i, 1] = _add(target[i, 1], term1)


@njit(cache=True, nogil=True)
def round_sums(tables, monomials, degree):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Sums of every monomial at t = 0, 2, 3 of the next variable.

    `tables` [k, rows, n, 2] hold the factors; the variable runs over neighbours of axis 2, and a
    last entry without neighbour has a zero beside it. `monomials` [m, 3] are indices of tables, -1
    where there are fewer than three. Result [m, 3, 2]; the last point only for degree 3.
    """
    count, rows, n = tables.shape[0], tables.shape[1], tables.shape[2]
    points = 3 if degree == 3 else 2
    sums = np.zeros((len(monomials), 3, 2), dtype=np.uint64)
    at = np.empty((count, 3, 2), dtype=np.uint64)
    for row in range(rows):
        for pair in range((n + 1) // 2):
            for k in range(count):
                for side in range(2):
                    first = tables[k, row, 2 * pair, side]
                    second = tables[k, row, 2 * pair + 1, side] if 2 * pair + 1 < n else _0
                    step = _subtract(second, first)
                    at[k, 0, side] = first
                    next_value = _add(second, step)
                    at[k, 1, side] = next_value
                    at[k, 2, side] = _add(next_value, step)
            for m in range(len(monomials)):
                i, j, l = monomials[m, 0], monomials[m, 1], monomials[m, 2]
                for t in range(points):
                    value0 = at[i, t, 0]
                    value1 = at[i, t, 1]
                    if j >= 0:
                        value0, value1 = _multiply_ext(value0, value1, at[j, t, 0], at[j, t, 1])
                    if l >= 0:
                        value0, value1 = _multiply_ext(value0, value1, at[l, t, 0], at[l, t, 1])
                    sums[m, t, 0] = _add(sums[m, t, 0], value0)
                    sums[m, t, 1] = _add(sums[m, t, 1], value1)
    return sums


@njit(cache=True, nogil=True)
def fold(tables, r0, r1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Bind the next variable to r: tables [k, rows, n, 2] become [k, rows, ceil(n/2), 2]."""
    count, rows, n = tables.shape[0], tables.shape[1], tables.shape[2]
    half = (n + 1) // 2
    out = np.empty((count, rows, half, 2), dtype=np.uint64)
    for k in range(count):
        for row in range(rows):
            for pair in range(half):
                first0 = tables[k, row, 2 * pair, 0]
                first1 = tables[k, row, 2 * pair, 1]
                second0 = tables[k, row, 2 * pair + 1, 0] if 2 * pair + 1 < n else _0
                second1 = tables[k, row, 2 * pair + 1, 1] if 2 * pair + 1 < n else _0
                term0, term1 = _multiply_ext(
                    _subtract(second0, first0), _subtract(second1, first1), r0, r1
                )
                out[k, row, pair, 0] = _add(first0, term0)
                out[k, row, pair, 1] = _add(first1, term1)
    return out


@njit(cache=True, nogil=True)
def fraction_round(weights, children, l0, l1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The round polynomial of one layer of fractions at t = 0, 2, 3; result [3, 2].

    `weights` [n, 2] is eq, `children` [4, n, 2] are p0, p1, q0 - 1, q1 - 1, λ = (l0, l1). The
    summand is eq·(p0·q1 + p1·q0 + λ·(q0·q1 - 1)).
    """
    n = len(weights)
    sums = np.zeros((3, 2), dtype=np.uint64)
    at = np.empty((5, 3, 2), dtype=np.uint64)
    for pair in range((n + 1) // 2):
        whole = 2 * pair + 1 < n
        for k in range(5):
            for side in range(2):
                if k == 4:
                    first = weights[2 * pair, side]
                    second = weights[2 * pair + 1, side] if whole else _0
                else:
                    first = children[k, 2 * pair, side]
                    second = children[k, 2 * pair + 1, side] if whole else _0
                step = _subtract(second, first)
                at[k, 0, side] = first
                next_value = _add(second, step)
                at[k, 1, side] = next_value
                at[k, 2, side] = _add(next_value, step)
        for t in range(3):
            # p0 + p1 + p0·d1 + p1·d0 + λ·(d0 + d1 + d0·d1), where d = q - 1
            a0, a1 = _multiply_ext(at[0, t, 0], at[0, t, 1], at[3, t, 0], at[3, t, 1])
            b0, b1 = _multiply_ext(at[1, t, 0], at[1, t, 1], at[2, t, 0], at[2, t, 1])
            c0, c1 = _multiply_ext(at[2, t, 0], at[2, t, 1], at[3, t, 0], at[3, t, 1])
            c0 = _add(c0, _add(at[2, t, 0], at[3, t, 0]))
            c1 = _add(c1, _add(at[2, t, 1], at[3, t, 1]))
            c0, c1 = _multiply_ext(c0, c1, l0, l1)
            a0 = _add(_add(a0, b0), _add(_add(at[0, t, 0], at[1, t, 0]), c0))
            a1 = _add(_add(a1, b1), _add(_add(at[0, t, 1], at[1, t, 1]), c1))
            a0, a1 = _multiply_ext(a0, a1, at[4, t, 0], at[4, t, 1])
            sums[t, 0] = _add(sums[t, 0], a0)
            sums[t, 1] = _add(sums[t, 1], a1)
    return sums


@njit(cache=True, nogil=True)
def fraction_sums(numerators, denominators):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The next layer: fractions 2i and 2i+1 added. Denominators are less 1, shapes [n, 2]."""
    n = len(numerators)
    half = (n + 1) // 2
    top = np.empty((half, 2), dtype=np.uint64)
    bottom = np.empty((half, 2), dtype=np.uint64)
    for i in range(half):
        if 2 * i + 1 == n:
            top[i] = numerators[2 * i]
            bottom[i] = denominators[2 * i]
            continue
        p0, p1 = numerators[2 * i], numerators[2 * i + 1]
        d0, d1 = denominators[2 * i], denominators[2 * i + 1]
        a0, a1 = _multiply_ext(p0[0], p0[1], d1[0], d1[1])
        b0, b1 = _multiply_ext(p1[0], p1[1], d0[0], d0[1])
        c0, c1 = _multiply_ext(d0[0], d0[1], d1[0], d1[1])
        top[i, 0] = _add(_add(a0, b0), _add(p0[0], p1[0]))
        top[i, 1] = _add(_add(a1, b1), _add(p0[1], p1[1]))
        bottom[i, 0] = _add(c0, _add(d0[0], d1[0]))
        bottom[i, 1] = _add(c1, _add(d0[1], d1[1]))
    return top, bottom


@njit(cache=True, nogil=True)
def _transform_rows(rows, twiddles):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n = rows.shape[1]
    log = 0
    while 1 << log < n:
        log += 1
    for r in range(len(rows)):
        row = rows[r]
        j = 0
        for i in range(1, n):
            bit = n >> 1
            while j & bit:
                j ^= bit
                bit >>= 1
            j ^= bit
            if i < j:
                kept = row[i]
                row[i] = row[j]
                row[j] = kept
        length = 1
        while length < n:
            stride = n // (2 * length)
            for start in range(0, n, 2 * length):
                for k in range(length):
                    low = row[start + k]
                    high = _multiply(row[start + k + length], twiddles[k * stride])
                    row[start + k] = _add(low, high)
                    row[start + k + length] = _subtract(low, high)
            length *= 2


@njit(cache=True, nogil=True)
def _powers(root, count):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    out = np.empty(count, dtype=np.uint64)
    value = _1
    for i in range(count):
        out[i] = value
        value = _multiply(value, root)
    return out


def encode(matrix: Words, blowup: int) -> Words:
    """Rows [r, n] as coefficients of polynomials, evaluated on all roots of unity of order n·b."""
    rows, n = matrix.shape
    length = n * blowup
    out = np.zeros((rows, length), dtype=np.uint64)
    out[:, :n] = matrix
    root = np.uint64(root_of_unity(length.bit_length() - 1))
    _transform_rows(out, _powers(root, max(1, length // 2)))
    return out


@njit(cache=True, nogil=True)
def combine_rows(matrix, coefficients):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Σ_i coefficients[i]·matrix[i]: coefficients [rows, 2] of the extension; result [n, 2]."""
    out = np.zeros((matrix.shape[1], 2), dtype=np.uint64)
    for i in range(len(matrix)):
        c0, c1 = coefficients[i, 0], coefficients[i, 1]
        for j in range(matrix.shape[1]):
            value = matrix[i, j]
            if value != _0:
                out[j, 0] = _add(out[j, 0], _multiply(value, c0))
                out[j, 1] = _add(out[j, 1], _multiply(value, c1))
    return out


@njit(cache=True, nogil=True)
def fingerprints(keys, values, base0, base1, beta0, beta1, square0, square1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """base - β·key - β²·value: keys and values [n] of the base field, result [n, 2]."""
    out = np.empty((len(keys), 2), dtype=np.uint64)
    for i in range(len(keys)):
        first = _subtract(base0, _multiply(keys[i], beta0))
        second = _subtract(base1, _multiply(keys[i], beta1))
        if values[i] != _0:
            first = _subtract(first, _multiply(values[i], square0))
            second = _subtract(second, _multiply(values[i], square1))
        out[i, 0] = first
        out[i, 1] = second
    return out

"""The end of a proof: all claims of the ledger in one, and the commitment opened for that one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zkllm.engines.sumcheck import commitment, multilinear
from zkllm.engines.sumcheck.commitment import HASH, Shape
from zkllm.engines.sumcheck.field import (
    MODULUS,
    ONE,
    ZERO,
    Ext,
    Words,
    add,
    dot,
    multiply,
    multiply_ext,
    powers,
    root_of_unity,
    subtract,
    words,
)
from zkllm.engines.sumcheck.field import total as total_of
from zkllm.engines.sumcheck.multilinear import Coordinates
from zkllm.engines.sumcheck.party import (
    Ledger,
    Matrix,
    Opener,
    Owed,
    Party,
    Rounds,
    Summed,
    Tabled,
)
from zkllm.engines.sumcheck.plan import Slot
from zkllm.errors import ProofRejected


@dataclass(frozen=True, slots=True)
class Vector:
    """One committed vector as both parties know it: slots of its tensors, length, and root."""

    label: str
    layout: dict[str, list[Slot]]
    length: int
    root: bytes


def show_claims(party: Party, ledger: Ledger, vector: Vector, committed: Opener | None) -> None:
    """Empty the ledger: every claim is one about `vector`. Only the prover has `committed`."""
    label, count = vector.label, vector.length
    claims = ledger.take()
    gamma = party.challenge(f"{label}: gamma", len(claims))
    factors = powers(gamma, len(claims))
    total = sum((f * claim.value for f, claim in zip(factors, claims, strict=True)), ZERO)

    state = _batch(party, count, committed, claims, factors)
    (point,), reached = party.rounds(f"{label}: batch", (count,), total, state, 2)
    (value,) = party.exchange(
        f"{label}: value", lambda: [] if committed is None else committed.value_at(point), 1
    )
    weight = party.held(lambda: batch_weight(vector.layout, claims, factors, point))
    party.require_equal(f"{label}: batch", reached, value * weight)
    matrix = None if committed is None else committed.matrix
    _open(party, label, commitment.levels_of(count), vector.root, matrix, point, value)


def _batch(
    party: Party,
    count: int,
    committed: Opener | None,
    claims: list[Owed],
    factors: list[Ext],
) -> Rounds | None:
    """The prover's state of the sumcheck over the vector and Σ factor·form."""
    if isinstance(committed, Summed):
        return committed.batch_rounds(claims, factors)

    def tables() -> list[Words]:
        return committed.batch_tables(claims, factors) if isinstance(committed, Tabled) else []

    return party.begin((count,), tables, [(ONE, (0, 1))])


def batch_weight(
    layout: dict[str, list[Slot]],
    claims: list[Owed],
    factors: list[Ext],
    point: Coordinates,
) -> Ext:
    """The extension of Σ factor·form at `point`."""
    result = ZERO
    prefixes: dict[tuple[int, int], Ext] = {}
    # many columns are claimed at one point
    suffixes: dict[Coordinates, Ext] = {}
    for claim, gamma in zip(claims, factors, strict=True):
        inner = ZERO
        for slot, (factor, local) in zip(layout[claim.column], claim.linear_form, strict=True):
            bits = slot.block.bits
            if (slot.offset, bits) not in prefixes:
                prefixes[slot.offset, bits] = multilinear.eq(slot.offset >> bits, point[bits:])
            if local not in suffixes:
                suffixes[local] = multilinear.eq_points(local, point[:bits])
            inner += factor * prefixes[slot.offset, bits] * suffixes[local]
        result += gamma * inner
    return result


def _open(
    party: Party,
    label: str,
    levels: tuple[Shape, ...],
    root: bytes,
    matrix: Matrix | None,
    point: Coordinates,
    value: Ext,
) -> None:
    """Show that what is committed to under `root` has `value` at `point`."""
    shape, *deeper = levels
    low, high = point[: shape.log_columns], point[shape.log_columns :]
    factors = commitment.of_words(multilinear.eq_table(high)[: shape.rows], shape.width)
    for step, error in zip(("rows", "columns"), commitment.proximity_error(shape), strict=True):
        party.errors.append((f"{label}: {step}", error))
    if not deeper:
        row = party.exchange_words(f"{label}: row", lambda: _row(matrix, factors), shape.columns)
        reached = party.held(lambda: dot(row, multilinear.eq_table(low)))
        party.require_equal(f"{label}: value", reached, value)
        indices, sums = _open_columns(party, label, shape, root, matrix, factors)
        encoded = commitment.transform(np.ascontiguousarray(row.T), shape.log_length)
        for entry, expected in zip(sums, encoded[:, indices].T, strict=True):
            left, right = Ext.from_words(entry), Ext.from_words(expected)
            party.require_equal(f"{label}: columns", left, right)
        return
    inner = f"{label} row"
    long = None if matrix is None else matrix.commit(factors, deeper[0])
    inner_root = party.exchange_bytes(
        f"{inner}: commitment", lambda: b"" if long is None else long.root(), HASH
    )
    # The row has `value` at `low`, and in each opened column the value that the column gives: the
    # value at x of the polynomial whose coefficients are the row.
    indices, sums = _open_columns(party, label, shape, root, matrix, factors)
    gamma = party.challenge(f"{inner}: gamma", len(indices))
    scales = powers(gamma, len(indices) + 1)
    total = scales[0] * value
    for scale, entry in zip(scales[1:], sums, strict=True):
        total += scale * Ext.from_words(entry)

    def tables() -> list[Words]:
        return [] if long is None else long.row_tables(low, indices, scales, shape.log_length)

    (at,), reached = party.sumcheck(
        f"{inner}: batch", (shape.columns,), total, tables, [(ONE, (0, 1))]
    )
    (left,) = party.exchange(
        f"{inner}: value", lambda: [] if long is None else [long.value_at(at)], 1
    )
    weight = party.held(lambda: row_weight(low, indices, scales, shape.log_length, at))
    party.require_equal(f"{inner}: batch", reached, left * weight)
    _open(party, inner, tuple(deeper), inner_root, long, at, left)


def row_weight(
    low: Coordinates, indices: list[int], scales: list[Ext], log_length: int, at: Coordinates
) -> Ext:
    """The extension at `at` of eq(·, low) + Σ_q scales[q + 1]·x_q^(·), where x_q = ω^indices[q]."""
    omega = root_of_unity(log_length)
    x = np.array([pow(omega, index, MODULUS) for index in indices], dtype=np.uint64)
    products = words(scales[1:])
    for r in at:
        less = subtract(x, np.uint64(1))[:, None]
        # r·(x - 1) + 1
        products = multiply_ext(products, add(multiply(less, r.to_words()), ONE.to_words()))
        x = multiply(x, x)
    return scales[0] * multilinear.eq_points(low, at) + Ext.from_words(total_of(products))


def _open_columns(
    party: Party,
    label: str,
    shape: Shape,
    root: bytes,
    matrix: Matrix | None,
    factors: Words,
) -> tuple[list[int], Words]:
    """Random columns of the encoded matrix, and Σ factors·column of each, shape [queries, 2]."""
    queries = shape.code.queries
    indices = party.transcript.indices(f"{label}: columns", queries, shape.log_length)
    data = party.exchange_bytes(
        f"{label}: columns",
        lambda: b"" if matrix is None else matrix.opened_columns(indices),
        shape.opening_bytes,
    )
    cap, pieces = data[: HASH << shape.log_cap], data[HASH << shape.log_cap :]
    columns = np.empty((queries, shape.words), dtype=np.uint64)
    leaves, paths = [], []
    for query in range(queries):
        piece = pieces[query * shape.piece_bytes : (query + 1) * shape.piece_bytes]
        leaves.append(piece[: 8 * shape.words])
        paths.append(piece[8 * shape.words :])
        columns[query] = np.frombuffer(leaves[query], dtype="<u8")
    if (columns >= np.uint64(MODULUS)).any():
        raise ProofRejected("sumcheck: a field element is not below p")

    def paths_hold() -> bool:
        if commitment.root_from_cap(cap) != root:
            return False
        for leaf, path, index in zip(leaves, paths, indices, strict=True):
            node = commitment.node_from_path(commitment.leaf_hash(leaf), index, path)
            start = HASH * (index >> (shape.log_length - shape.log_cap))
            if node != cap[start : start + HASH]:
                return False
        return True

    party.require_hashes(f"{label}: paths", paths_hold)
    return indices, commitment.combined(columns, factors)


def _row(matrix: Matrix | None, factors: Words) -> bytes:
    return b"" if matrix is None else matrix.combined_row(factors).astype("<u8").tobytes()

"""The end of a proof: all claims of the ledger in one, and the commitment opened for that one."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from zkllm.backends.sumcheck import commitment, shapes
from zkllm.backends.sumcheck.commitment import HASH, QUERIES
from zkllm.backends.sumcheck.field import MODULUS, ONE, ZERO, Ext, Words, dot, powers
from zkllm.backends.sumcheck.party import Committed, Ledger, Opening, Party
from zkllm.backends.sumcheck.plan import Place
from zkllm.backends.sumcheck.shapes import Coordinates
from zkllm.errors import ProofRejected


@dataclass(frozen=True, slots=True)
class Vector:
    """One committed vector as both parties know it: places of its tensors, length, and root."""

    label: str
    layout: dict[str, list[Place]]
    length: int
    root: bytes


def show_claims(party: Party, ledger: Ledger, vector: Vector, committed: Committed | None) -> None:
    """Empty the ledger: every claim is one about `vector`. Only the prover has `committed`."""
    label, count = vector.label, vector.length
    claims = ledger.take()
    gamma = party.challenge(f"{label}: gamma", len(claims))
    factors = powers(gamma, len(claims))
    total = sum((f * claim.value for f, claim in zip(factors, claims, strict=True)), ZERO)

    def tables() -> list[Words]:
        return [] if committed is None else committed.batch_tables(claims, factors)

    (point,), reached = party.sumcheck(f"{label}: batch", (count,), total, tables, [(ONE, (0, 1))])
    (value,) = party.exchange(
        f"{label}: value", lambda: [] if committed is None else committed.value_at(point), 1
    )
    party.require(
        f"{label}: batch",
        lambda: reached == value * batch_weight(vector.layout, claims, factors, point),
    )
    _open(party, vector, committed, point, value)


def batch_weight(
    layout: dict[str, list[Place]],
    claims: list[Opening],
    factors: list[Ext],
    point: Coordinates,
) -> Ext:
    """The extension of Σ factor·functional at `point`."""
    result = ZERO
    prefixes: dict[tuple[int, int], Ext] = {}
    for claim, gamma in zip(claims, factors, strict=True):
        inner = ZERO
        for place, (factor, local) in zip(layout[claim.column], claim.functional, strict=True):
            bits = place.block.bits
            if (place.offset, bits) not in prefixes:
                prefixes[place.offset, bits] = shapes.eq(place.offset >> bits, point[bits:])
            inner += factor * prefixes[place.offset, bits] * shapes.eq_points(local, point[:bits])
        result += gamma * inner
    return result


def _open(
    party: Party, vector: Vector, committed: Committed | None, point: Coordinates, value: Ext
) -> None:
    """Show that the vector under its root has `value` at `point`."""
    shape = commitment.shape_of(vector.length)
    low, high = point[: shape.log_columns], point[shape.log_columns :]
    mixing = party.transcript.challenges(f"{vector.label}: mixing", shape.rows)
    for label, error in zip(
        (f"{vector.label}: mixing", f"{vector.label}: columns"),
        commitment.proximity_error(shape),
        strict=True,
    ):
        party.errors.append((label, error))
    both = [
        np.array([[m.a, m.b] for m in mixing], dtype=np.uint64),
        np.ascontiguousarray(shapes.eq_table(high)[: shape.rows]),
    ]
    rows = []
    for label, factors in zip(
        (f"{vector.label}: mixed row", f"{vector.label}: value row"), both, strict=True
    ):
        make = functools.partial(_combined_row, committed, factors)
        rows.append(party.exchange_words(label, make, shape.columns))
    party.require(f"{vector.label}: value", lambda: dot(rows[1], shapes.eq_table(low)) == value)
    indices = party.transcript.indices(f"{vector.label}: columns", QUERIES, shape.log_length)
    length = 8 * shape.rows + HASH * shape.log_length
    data = party.exchange_bytes(
        f"{vector.label}: columns",
        lambda: b"" if committed is None else committed.opened_columns(indices),
        QUERIES * length,
    )

    def columns_hold() -> bool:
        columns = np.empty((QUERIES, shape.rows), dtype=np.uint64)
        for query, index in enumerate(indices):
            piece = data[query * length : (query + 1) * length]
            column, path = piece[: 8 * shape.rows], piece[8 * shape.rows :]
            if commitment.root_from_path(commitment.leaf_hash(column), index, path) != vector.root:
                return False
            columns[query] = np.frombuffer(column, dtype="<u8")
        if (columns >= np.uint64(MODULUS)).any():
            raise ProofRejected("sumcheck: a field element is not below p")
        return all(
            commitment.columns_agree(shape, row, factors, columns, indices)
            for row, factors in zip(rows, both, strict=True)
        )

    party.require(f"{vector.label}: columns", columns_hold)


def _combined_row(committed: Committed | None, factors: Words) -> bytes:
    return b"" if committed is None else committed.combined_row(factors)

"""The end of a proof: all claims of the ledger in one, and the commitment opened for that one."""

from __future__ import annotations

import functools

import numpy as np

from zkllm.backends.sumcheck import commitment, shapes
from zkllm.backends.sumcheck.commitment import HASH, QUERIES
from zkllm.backends.sumcheck.field import MODULUS, ONE, ZERO, Ext, Words, dot, powers
from zkllm.backends.sumcheck.party import Committed, Opening, Party
from zkllm.backends.sumcheck.plan import Place
from zkllm.backends.sumcheck.shapes import Coordinates
from zkllm.errors import ProofRejected


def show_claims(party: Party, committed: Committed | None, root: bytes) -> None:
    """Empty the ledger: every claim is one about the vector under `root`."""
    claims = party.ledger.take()
    count = party.plan.size()
    gamma = party.challenge("batch: gamma", len(claims))
    factors = powers(gamma, len(claims))
    total = sum((f * claim.value for f, claim in zip(factors, claims, strict=True)), ZERO)

    def tables() -> list[Words]:
        return [] if committed is None else committed.batch_tables(claims, factors)

    (point,), reached = party.sumcheck("batch", (count,), total, tables, [(ONE, (0, 1))])
    (value,) = party.exchange(
        "batch: value", lambda: [] if committed is None else committed.value_at(point), 1
    )
    party.require(
        "batch",
        lambda: reached == value * batch_weight(party.plan.layout(), claims, factors, point),
    )
    _open(party, committed, root, point, value)


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
    party: Party, committed: Committed | None, root: bytes, point: Coordinates, value: Ext
) -> None:
    """Show that the vector under `root` has `value` at `point`."""
    shape = commitment.shape_of(party.plan.size())
    low, high = point[: shape.log_columns], point[shape.log_columns :]
    mixing = party.transcript.challenges("opening: mixing", shape.rows)
    for label, error in zip(
        ("opening: mixing", "opening: columns"), commitment.proximity_error(shape), strict=True
    ):
        party.errors.append((label, error))
    both = [
        np.array([[m.a, m.b] for m in mixing], dtype=np.uint64),
        np.ascontiguousarray(shapes.eq_table(high)[: shape.rows]),
    ]
    rows = []
    for label, factors in zip(("opening: mixed row", "opening: value row"), both, strict=True):
        make = functools.partial(_combined_row, committed, factors)
        rows.append(party.exchange_words(label, make, shape.columns))
    party.require("opening: value", lambda: dot(rows[1], shapes.eq_table(low)) == value)
    indices = party.transcript.indices("opening: columns", QUERIES, shape.log_length)
    length = 8 * shape.rows + HASH * shape.log_length
    data = party.exchange_bytes(
        "opening: columns",
        lambda: b"" if committed is None else committed.opened_columns(indices),
        QUERIES * length,
    )

    def columns_hold() -> bool:
        columns = np.empty((QUERIES, shape.rows), dtype=np.uint64)
        for query, index in enumerate(indices):
            piece = data[query * length : (query + 1) * length]
            column, path = piece[: 8 * shape.rows], piece[8 * shape.rows :]
            if commitment.root_from_path(commitment.leaf_hash(column), index, path) != root:
                return False
            columns[query] = np.frombuffer(column, dtype="<u8")
        if (columns >= np.uint64(MODULUS)).any():
            raise ProofRejected("sumcheck: a field element is not below p")
        return all(
            commitment.columns_agree(shape, row, factors, columns, indices)
            for row, factors in zip(rows, both, strict=True)
        )

    party.require("opening: columns", columns_hold)


def _combined_row(committed: Committed | None, factors: Words) -> bytes:
    return b"" if committed is None else committed.combined_row(factors)

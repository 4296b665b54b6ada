"""How finely a checkpoint is cut into integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zkllm.operations.tables import ExpTable


@dataclass(frozen=True, slots=True)
class Fractions:
    """Fraction bits f of each kind of activation: value = n·2^-f."""

    residual: int
    norm: int
    query: int
    key: int
    value: int
    score: int
    hidden: int


@dataclass(frozen=True, slots=True)
class Precision:
    """How finely a checkpoint is cut into integers."""

    name: str
    weight_bits: int
    """Bits of a weight, sign included."""
    fractions: Fractions
    exp: ExpTable


PRECISIONS: Mapping[str, Precision] = {
    # Fidelity first.
    "wide": Precision(
        "wide",
        12,
        Fractions(residual=12, norm=10, query=10, key=10, value=10, score=10, hidden=10),
        ExpTable("free", 10, 16, 0),
    ),
    # Small models whose attention ezkl is to prove: every integer inside one lookup window.
    "ezkl": Precision(
        "ezkl",
        10,
        Fractions(residual=8, norm=8, query=8, key=8, value=8, score=8, hidden=8),
        ExpTable("ezkl", 8, 240, 14),
    ),
}
DEFAULT_PRESET = "wide"
"""Fidelity first: whoever wants ezkl's proofs says so."""

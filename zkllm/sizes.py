"""How large a model may be: above every one there is, below what shapes alone make dear."""

from __future__ import annotations

from collections.abc import Mapping

MAX_STOP_IDS = 256
MAX_SIZES: Mapping[str, int] = {
    "width": 1 << 16,
    "heads": 1 << 10,
    "inner": 1 << 18,
    "vocabulary": 1 << 20,
    "context": 1 << 17,
    "first_block": 1 << 10,
    "blocks": 1 << 10,
}
"""The caps of a network, as checkpoints and specifications are held to them."""

"""What graphs take and give besides a unit's own input and output, by name.

Whoever runs a graph reads here what to feed it, and needs to know no operation.
"""

from __future__ import annotations

FIRST = "first_position"
"""An input []: the position of the first row."""
PAST = "past_"
"""The input `past_NAME` is what the output `NAME` gave after the positions before, P of them."""
LOGITS = "logits"
"""An output [T, vocabulary] whose arg-max the ids are.

Ties go to the lowest id on the CPU; no other device promises anything about them.
"""

"""A verifier of the sumcheck protocol that was written from docs/protocol.md alone.

It shares no line with the package and imports nothing but the standard library: plain integers,
the shortest way from the document's words to a verdict, and no thought of speed. Modules are the
document's sections, and names are its names.
"""

from tests.independent.field import Refused
from tests.independent.protocol import COMMITTED, PROVEN, TOO_WIDE, Verdict, commitment, verify
from tests.independent.units import Claim

__all__ = [
    "COMMITTED",
    "PROVEN",
    "TOO_WIDE",
    "Claim",
    "Refused",
    "Verdict",
    "commitment",
    "verify",
]

"""Windows, to which a prover's integers are confined, and what follows: no equation wraps."""

from __future__ import annotations

from zkllm.engines.sumcheck.field import MODULUS
from zkllm.engines.sumcheck.multilinear import Dims, Point
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Combination, Lookup, Plan, Windowed
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import UnsupportedModel
from zkllm.tensors import IntArray


def require_no_wrap(name: str, *magnitudes: int) -> None:
    """Raises `UnsupportedModel` unless an equation of these magnitudes holds over the integers.

    Magnitudes are those of windows, to which the prover is confined, for what the prover chooses,
    and proven bounds for what is determined before.
    """
    largest = sum(magnitudes)
    if largest >= MODULUS:
        raise UnsupportedModel(
            f"sumcheck: {name} could wrap: its sides differ by up to 2^{largest.bit_length() - 1}, "
            "the field has fewer than 2^64 elements"
        )


def bits_of(largest: int) -> int:
    """Bits of a window that holds 0 .. `largest`; one at least."""
    return max(1, largest.bit_length())


class Remainder:
    """Integers in 0 .. divisor - 1."""

    def __init__(self, plan: Plan, name: str, dims: Dims, divisor: int) -> None:
        self.name = name
        self.divisor = divisor
        self.value = Combination(dims, {})
        self.number: Windowed | None = None
        self.complement: Windowed | None = None
        if divisor == 1:
            return
        bits = (divisor - 1).bit_length()
        self.number = plan.unsigned(name, dims, bits)
        self.value = self.number.value
        if divisor == 1 << bits:
            return
        # A window is wider than the divisor: divisor - 1 - r must lie in one as well.
        rest = -self.value + (divisor - 1)
        if len(self.value.terms) == 1:
            plan.lookups.append(Lookup(plan.range_table(bits), rest))
        else:
            self.complement = plan.unsigned(f"{name} complement", dims, bits)

    def fill(self, witness: Witness, values: IntArray) -> None:
        if self.number is not None:
            witness.store_number(self.number, values)
        if self.complement is not None:
            witness.store_number(self.complement, self.divisor - 1 - values)

    def check(self, party: Party, point: Point) -> None:
        if self.complement is not None:
            both = self.value + self.complement.value - (self.divisor - 1)
            party.require_zero(f"{self.name}: below the divisor", both, point)

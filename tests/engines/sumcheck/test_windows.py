import numpy as np
import pytest

from tests.engines.sumcheck.circuits import Alone, shifted
from zkllm.engines.sumcheck.field import MODULUS
from zkllm.engines.sumcheck.plan import Plan
from zkllm.engines.sumcheck.windows import Remainder, bits_of, require_no_wrap
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.tensors import IntArray

LIMBS = [4, 16]

# Nothing wraps


@pytest.mark.parametrize("magnitudes", [(MODULUS - 1,), (MODULUS - 3, 1, 1), (0,)])
def test_an_equation_whose_sides_differ_by_less_than_p_holds(magnitudes: tuple[int, ...]) -> None:
    require_no_wrap("x", *magnitudes)


@pytest.mark.parametrize("magnitudes", [(MODULUS,), (MODULUS - 1, 1), (1 << 63, 1 << 63)])
def test_an_equation_that_could_wrap_is_refused(magnitudes: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedModel, match=r"sumcheck: x could wrap: .* up to 2\^6[34]"):
        require_no_wrap("x", *magnitudes)


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 4, 255, 256, 2**40])
def test_a_window_holds_its_largest_number_and_is_no_wider(largest: int) -> None:
    assert largest < 1 << bits_of(largest)
    assert largest < 2 or largest >= 1 << (bits_of(largest) - 1)


# Remainders


DIVISORS = [1, 2, 3, 12, 16, 17, 255, 256, 12 << 7]


def remainder(model: ExactModel, divisor: int, values: IntArray, limb: int) -> Alone:
    plan = Plan(limb)
    rest = Remainder(plan, "rest", values.shape, divisor)
    # divisor 1 has no column, and a plan must have one
    plan.unsigned("other", (1,), 1)
    plan.seal()

    def fill(witness: Witness) -> None:
        witness.store_number(plan.numbers["other"], np.zeros(1, dtype=np.int64))
        rest.fill(witness, values)
        assert witness.integers(rest.value).tolist() == values.tolist()

    return Alone(
        plan, model, fill, lambda party: rest.check(party, party.point("at", values.shape))
    )


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("divisor", DIVISORS)
def test_every_remainder_below_the_divisor_is_accepted(
    divisor: int, limb: int, tiny_model: ExactModel
) -> None:
    remainder(tiny_model, divisor, np.arange(divisor), limb).accept()


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("divisor", DIVISORS[1:])
def test_no_other_remainder_has_a_witness(divisor: int, limb: int, tiny_model: ExactModel) -> None:
    for wrong in (-1, divisor):
        with pytest.raises(ConstraintViolation, match="rest"):
            remainder(tiny_model, divisor, np.array([0, wrong]), limb).witness()


def test_what_a_remainder_lacks_to_the_divisor_is_its_complement(tiny_model: ExactModel) -> None:
    circuit = remainder(tiny_model, 100, np.arange(7), 4)
    complement = circuit.plan.numbers["rest complement"]
    circuit.refuse("rest: below the divisor", shifted(complement, (3,), 1))
    circuit.refuse("rest: below the divisor", shifted(circuit.plan.numbers["rest"], (3,), -1))

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.engines.sumcheck.plain import (
    EDGES,
    P,
    Pair,
    Source,
    eq,
    eq_all,
    inner,
    pair,
    plus,
    point_pairs,
    times,
)
from zkllm.engines.sumcheck import party as module
from zkllm.engines.sumcheck.field import MODULUS, ONE, ZERO, Ext, Words, to_field
from zkllm.engines.sumcheck.multilinear import Dims, Point, eq_within, weights
from zkllm.engines.sumcheck.party import (
    Ledger,
    Monomial,
    Owed,
    decode_elements,
    encode_elements,
    interpolate,
    linear_form_at,
    slots_at,
)
from zkllm.engines.sumcheck.plan import Combination, Plan
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.transcript import Transcript
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ProofRejected
from zkllm.exact.model import ExactModel

ROOT = bytes(32)

# Elements on the wire


def test_elements_are_two_little_endian_words() -> None:
    elements = [Ext(1, 256), Ext(P - 1, 0)]
    data = encode_elements(elements)
    assert data == bytes([1, *[0] * 8, 1, *[0] * 6]) + (P - 1).to_bytes(8, "little") + bytes(8)
    assert decode_elements(data) == elements
    assert decode_elements(b"") == []


@pytest.mark.parametrize("word", [P, P + 1, 2**64 - 1])
@pytest.mark.parametrize("place", range(4))
def test_a_coordinate_that_is_not_below_p_is_refused(
    word: int, place: int, tiny_model: ExactModel
) -> None:
    words = [P - 1] * 4
    words[place] = word
    data = b"".join(value.to_bytes(8, "little") for value in words)
    with pytest.raises(ProofRejected, match="a field element is not below p"):
        decode_elements(data)
    verifier = Verifier(Plan(8), tiny_model, None, data * 2)
    with pytest.raises(ProofRejected, match="a field element is not below p"):
        verifier.exchange("elements", list, 2)
    with pytest.raises(ProofRejected, match="a field element is not below p"):
        verifier.exchange_words("words", bytes, 2)


# Interpolation


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("edge", EDGES)
def test_interpolation_gives_the_polynomial_of_that_degree(degree: int, edge: int) -> None:
    source = Source(edge + degree)
    coefficients = source.pairs(degree + 1)

    def polynomial(x: Pair) -> Pair:
        return plus((0, 0), *(times(c, *[x] * k) for k, c in enumerate(coefficients)))

    values = [Ext(*polynomial((t, 0))) for t in range(degree + 1)]
    for x in [(edge, 0), (0, edge), (edge, P - 1)]:
        assert pair(interpolate(values, Ext(*x))) == polynomial(x)


# Linear forms


@pytest.mark.parametrize("dims", [(1,), (37,), (64,), (65,), (3, 5), (2, 3, 6)], ids=str)
def test_a_linear_form_weighs_every_entry_by_eq(dims: Dims) -> None:
    point = tuple(Source(n + k).point((n - 1).bit_length()) for k, n in enumerate(dims))
    expected = eq_all(dims, [point_pairs(r) for r in point])
    plan = Plan(8)
    plan.column("x", dims)
    places = plan.layout()["x"]
    linear_form = linear_form_at(dims, point)
    found = {}
    for place, (factor, local) in zip(places, linear_form, strict=True):
        entries = itertools.product(
            *(range(n)[s] for n, s in zip(dims, place.block.slices, strict=True))
        )
        for i, entry in enumerate(entries):
            found[entry] = times(pair(factor), eq(i, point_pairs(local)))
    assert found == expected


def test_a_linear_form_of_a_vector_weighs_every_cell_by_eq() -> None:
    plan = Plan(8)
    plan.column("a", (37,))
    plan.column("b", (5, 3))
    point = Source(0).point(6)
    for places in plan.layout().values():
        for place, (factor, local) in zip(places, slots_at(places, point), strict=True):
            for i in range(1 << place.block.bits):
                expected = eq(place.offset + i, point_pairs(point))
                assert times(pair(factor), eq(i, point_pairs(local))) == expected


# The ledger


CLAIM = Owed("x", (), ONE)


def test_a_ledger_gives_its_claims_once() -> None:
    ledger = Ledger()
    ledger.require_empty()
    ledger.enter(CLAIM)
    with pytest.raises(ProofRejected, match="1 claims were never shown"):
        ledger.require_empty()
    assert ledger.take() == [CLAIM]
    ledger.require_empty()


# Both parties


class Pairing:
    """A prover with one tensor of integers, and the verifier of what it sent."""

    def __init__(self, model: ExactModel, dims: Dims = (3, 5), root: bytes | None = None) -> None:
        self.model, self.dims, self.root = model, dims, root
        self.plan = Plan(8)
        self.x, self.y = self.plan.column("x", dims), self.plan.column("y", dims)
        self.witness = Witness(self.plan)
        random = np.random.default_rng(0)
        for column in (self.x, self.y):
            self.witness.store(column, random.integers(-(2**40), 2**40, dims))
        self.prover = Prover(self.witness, model, root)

    def verifier(self, proof: bytes | None = None) -> Verifier:
        proof = self.prover.proof if proof is None else proof
        return Verifier(self.plan, self.model, self.root, proof)

    def value(self, combination: Combination, point: Point) -> Pair:
        """By the definition of an extension."""
        weights = eq_all(self.dims, [point_pairs(r) for r in point])
        entries = self.witness.integers(combination).reshape(-1)
        return inner([int(n) % P for n in entries], weights.values())


@pytest.fixture
def both(tiny_model: ExactModel) -> Pairing:
    return Pairing(tiny_model)


def test_a_value_is_that_of_the_combination_for_both(both: Pairing) -> None:
    combination = both.x * 3 - both.y + 11
    point = both.prover.point("point", both.dims)
    found = both.prover.value(combination, point)
    assert pair(found) == both.value(combination, point)
    verifier = both.verifier()
    assert verifier.point("point", both.dims) == point
    assert verifier.value(combination, point) == found
    assert verifier.transcript.challenge("same") == both.prover.transcript.challenge("same")
    assert [claim.column for claim in verifier.ledger.open] == ["x", "y"]
    assert verifier.ledger.open == both.prover.ledger.open


def test_a_column_is_claimed_once_at_a_point(both: Pairing) -> None:
    prover = both.prover
    point, other = (prover.point(label, both.dims) for label in ("point", "other"))
    prover.value(both.x, point)
    sent = len(prover.proof)
    prover.value(both.x * 2 + 1, point)
    assert len(prover.proof) == sent
    prover.value(both.x + both.y, point)
    prover.value(both.x, other)
    assert [claim.column for claim in prover.ledger.open] == ["x", "y", "x"]


def test_a_combination_that_is_zero_everywhere_is_accepted(both: Pairing) -> None:
    point = both.prover.point("point", both.dims)
    both.witness.store(both.y, 2 * both.witness.columns["x"] + 7)
    both.prover = Prover(both.witness, both.model, None)
    zero = both.x * 2 - both.y + 7
    both.prover.require_zero("zero", zero, point)
    both.verifier().require_zero("zero", zero, point)
    with pytest.raises(ProofRejected, match="zero does not hold"):
        both.verifier().require_zero("zero", zero + 1, point)


def test_a_point_deals_challenges_first_dimension_first(both: Pairing) -> None:
    transcript = Transcript()
    challenges = transcript.challenges("point", 5)
    found = both.prover.point("point", (5, 1, 4))
    assert found == (tuple(challenges[:3]), (), tuple(challenges[3:]))
    assert both.prover.transcript.challenge("next") == transcript.challenge("next")


def test_everything_sent_is_absorbed_under_its_label(both: Pairing) -> None:
    linear_form = linear_form_at(both.dims, both.prover.point("point", both.dims))
    elements = [Ext(3, 4), Ext(5, 6)]
    data = encode_elements(elements)
    said: list[tuple[str, bytes, Callable[[Prover | Verifier], object]]] = [
        ("a", data, lambda party: party.exchange("a", lambda: elements, 2)),
        ("b", data, lambda party: party.exchange_words("b", lambda: data, 2)),
        ("c", b"xyz", lambda party: party.exchange_bytes("c", lambda: b"xyz", 3)),
        ("value of x", b"", lambda party: party.claim("x", linear_form)),
    ]
    for label, sent, say in said:
        prover = Prover(both.witness, both.model, None)
        say(prover)
        assert prover.proof == sent or not sent
        transcript = Transcript()
        transcript.absorb(label, prover.proof)
        expected = transcript.challenge("next")
        assert prover.transcript.challenge("next") == expected
        verifier = both.verifier(prover.proof)
        say(verifier)
        assert verifier.transcript.challenge("next") == expected


# Weights


def weight_of(model: ExactModel) -> str:
    return next(name for name, t in model.specification.tensors.items() if len(t.shape) == 2)


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
def test_a_weight_is_evaluated_if_held_and_claimed_if_committed(
    committed: bool, tiny_model: ExactModel
) -> None:
    both = Pairing(tiny_model, root=ROOT if committed else None)
    name = weight_of(tiny_model)
    tensor = tiny_model.tensor(name)
    both.plan.weight(name, tensor.shape)
    point = both.prover.point("point", tensor.shape)
    said = both.prover.weight(name, point)
    flat = [int(n) % P for n in tensor.reshape(-1)]
    weights = eq_all(tensor.shape, [point_pairs(r) for r in point])
    verifier = both.verifier()
    found = verifier.weight(name, point)
    assert pair(found) == inner(flat, weights.values())
    # the prover says it, or has no use for it
    assert said == (found if committed else ZERO)
    claims = [Owed(name, linear_form_at(tensor.shape, point), found)] if committed else []
    for party in (both.prover, verifier):
        assert party.weights_ledger.open == claims
        assert party.ledger.open == []
    assert len(both.prover.proof) == 16 * committed


def test_a_committed_weight_is_claimed_each_time(tiny_model: ExactModel) -> None:
    both = Pairing(tiny_model, root=ROOT)
    name = weight_of(tiny_model)
    shape = tiny_model.tensor(name).shape
    both.plan.weight(name, shape)
    point = both.prover.point("point", shape)
    both.prover.weight(name, point)
    both.prover.weight(name, point)
    assert len(both.prover.weights_ledger.open) == 2


# Sumchecks

MONOMIALS: dict[str, list[Monomial]] = {
    "degree 2": [(ONE, (0, 1))],
    "degree 3": [(ONE, (0, 1, 1)), (Ext(5, 9), (0, 2))],
}


@pytest.mark.parametrize("monomials", MONOMIALS.values(), ids=MONOMIALS)
@pytest.mark.parametrize("dims", [(1,), (1, 1), (2,), (37,), (3, 5), (2, 1, 12)], ids=str)
def test_a_sumcheck_ends_in_the_value_of_the_summand(
    dims: Dims, monomials: list[Monomial], tiny_model: ExactModel
) -> None:
    both = Pairing(tiny_model, dims)
    point = both.prover.point("point", dims)
    eqs = eq_all(dims, [point_pairs(r) for r in point])
    columns = [both.witness.columns[name].reshape(-1) for name in "xy"]
    plain = [
        [eqs[place], *((int(column[i]) % P, 0) for column in columns)]
        for i, place in enumerate(np.ndindex(dims))
    ]

    def summand(values: list[Pair]) -> Pair:
        return plus(
            (0, 0),
            *(times(pair(factor), *(values[k] for k in indices)) for factor, indices in monomials),
        )

    total = Ext(*plus((0, 0), *map(summand, plain)))

    def tables() -> list[Words]:
        return [
            weights(dims, point).reshape(*dims, 2),
            *(to_field(both.witness.columns[name]) for name in "xy"),
        ]

    at, value = both.prover.sumcheck("sum", dims, total, tables, monomials)
    across = ONE
    for n, r, s in zip(dims, point, at, strict=True):
        across = across * eq_within(n, r, s)
    expected = summand([pair(across), both.value(both.x, at), both.value(both.y, at)])
    assert pair(value) == expected
    verifier = both.verifier()
    assert verifier.point("point", dims) == point
    assert verifier.sumcheck("sum", dims, total, tables, monomials) == (at, value)
    verifier.finish()
    # A wrong total ends in another value, which is what the caller refuses.
    _, wrong = both.verifier().sumcheck("sum", dims, total + 1, tables, monomials)
    assert wrong != value


def test_soundness_adds_up_all_errors(both: Pairing) -> None:
    both.prover.challenge("a", 3)
    both.prover.point("b", (5, 3))
    both.prover.count_error("c", 2**40)
    numerators = [3, 3 + 2, 2**40]
    assert [error for _, error in both.prover.errors] == [n / MODULUS**2 for n in numerators]
    assert both.prover.soundness_bits() == pytest.approx(-math.log2(sum(numerators) / MODULUS**2))


def test_a_sumcheck_counts_its_degree_in_every_round(both: Pairing) -> None:
    both.prover.rounds("sum", (5, 3), ZERO, Silent(), 3)
    assert both.prover.errors == [("sum", 3 * (3 + 2) / MODULUS**2)]


class Silent:
    """Rounds that send zeros."""

    def message(self, degree: int) -> list[Ext]:
        return [ZERO] * degree

    def bind(self, challenge: Ext) -> None:
        """Nothing is bound."""


def test_the_verifier_is_never_asked_for_values() -> None:
    assert module.message_of(None, 3) == []

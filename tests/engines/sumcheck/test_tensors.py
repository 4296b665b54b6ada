from collections.abc import Callable

import numpy as np
import pytest

from tests.engines.sumcheck.circuits import Alone, Stored, shifted
from zkllm.engines.sumcheck.equations import Scope, require_same
from zkllm.engines.sumcheck.multilinear import value_at
from zkllm.engines.sumcheck.party import Party
from zkllm.engines.sumcheck.plan import Plan, Windowed
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.tensors import Committed, Difference, Public, Tensor, public_ids
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation, UnsupportedModel

X = np.random.default_rng(0).integers(-500, 501, (3, 5))
Y = np.random.default_rng(1).integers(-500, 501, (3, 5))


class Both:
    """The tensors X and Y as columns, and those who speak of them."""

    def __init__(self) -> None:
        self.plan = Plan(4)
        self.numbers = [self.plan.signed(name, X.shape, 500) for name in ("x", "y")]
        self.plan.seal()

    def committed(self, k: int) -> Committed:
        return Committed(self.numbers[k].value, self.numbers[k].largest)

    def fill(self, witness: Witness) -> None:
        for number, values in zip(self.numbers, (X, Y), strict=True):
            witness.store_number(number, values)

    def alone(self, examine: Callable[[Party], object]) -> Alone:
        return Alone(self.plan, Stored(), self.fill, examine)


def tensors(both: Both) -> dict[str, tuple[Tensor, np.ndarray]]:
    x, y = Public(X, 500), Public(Y, 500)
    return {
        "public": (x, X),
        "committed": (both.committed(0), X),
        "a difference": (Difference(x, both.committed(1)), X - Y),
        "another difference": (Difference(both.committed(0), y), X - Y),
        "a difference of public ones": (Difference(x, y), X - Y),
        "a difference of columns": (Difference(both.committed(0), both.committed(1)), X - Y),
    }


@pytest.mark.parametrize("name", list(tensors(Both())))
def test_a_tensor_has_its_extensions_values(name: str) -> None:
    both = Both()
    tensor, integers = tensors(both)[name]
    assert tensor.dims == (3, 5)
    assert np.abs(integers).max() <= tensor.largest
    asked = []

    def examine(party: Party) -> None:
        point = party.point("point", tensor.dims)
        found = tensor.at(party, point)
        if isinstance(party, Verifier):
            assert found == value_at(integers, point)
            asked.append(party)
        else:
            assert isinstance(party, Prover)
            assert np.array_equal(tensor.integers(party), integers)

    both.alone(examine).accept()
    assert asked


def test_differences_are_as_large_as_both_together() -> None:
    assert Difference(Public(X, 500), Public(Y, 12)).largest == 512


def test_two_tensors_are_the_same_if_all_their_integers_are() -> None:
    both = Both()
    x = both.committed(0)
    circuit = both.alone(lambda party: require_same(party, "x", Public(X, 500), x))
    circuit.accept()
    for place in [(0, 0), (2, 4)]:
        circuit.refuse("x", shifted(both.numbers[0], place, 1))
    other = both.alone(lambda party: require_same(party, "x", Public(Y, 500), x))
    other.refuse("x", lambda _: None)


def test_a_tensor_is_the_same_as_itself_without_a_word() -> None:
    x = Public(X, 500)
    party = Verifier(Plan(4), Stored(), None, b"")
    before = party.transcript.challenge("next")
    fresh = Verifier(Plan(4), Stored(), None, b"")
    require_same(fresh, "x", x, x)
    assert fresh.transcript.challenge("next") == before


# Ids


def test_ids_are_public_and_below_their_count() -> None:
    assert public_ids("ids", Public(np.array([0, 4, 4]), 4), 5) == (0, 4, 4)
    with pytest.raises(ConstraintViolation, match=r"^ids: id 1 must lie in 0\.\.4, got 5$"):
        public_ids("ids", Public(np.array([0, 5]), 9), 5)
    with pytest.raises(ConstraintViolation, match=r"^ids: id 0 must lie in 0\.\.4, got -1$"):
        public_ids("ids", Public(np.array([-1, 5]), 9), 5)
    hidden = Committed(Plan(4).column("ids", (2,)), 4)
    message = "^sumcheck: ids: token ids are public, they are never hidden$"
    with pytest.raises(UnsupportedModel, match=message):
        public_ids("ids", hidden, 5)


# Where steps meet


@pytest.fixture
def scope() -> Scope:
    return Scope(Plan(4), Stored(), 3)


def test_a_value_is_read_after_it_has_a_form(scope: Scope) -> None:
    with pytest.raises(ValueError, match="x: no step before gives it a form"):
        scope.read("x", (3, 5))
    scope.values["x"] = Public(X, 500)
    assert scope.read("x", (3, 5)) is scope.values["x"]
    with pytest.raises(ValueError, match=r"x: expected the shape \(3, 4\), got \(3, 5\)"):
        scope.read("x", (3, 4))


def test_a_value_that_is_written_is_a_number_unless_it_has_a_form(scope: Scope) -> None:
    found = scope.write("y", "output", (3, 5), 100)
    number: Windowed = scope.numbers["y"]
    assert number is scope.plan.numbers["output"]
    assert found == Committed(number.value, number.largest) == scope.read("y", (3, 5))
    assert scope.write("y", "again", (3, 5), 7) is found
    assert "again" not in scope.plan.numbers
    with pytest.raises(ValueError, match="y: expected the shape"):
        scope.write("y", "again", (3, 6), 7)


def test_a_form_is_given_to_a_value_that_has_none(scope: Scope) -> None:
    first, second = Public(X, 500), Public(Y, 500)
    assert scope.give("x", first) is first
    assert scope.give("x", second) is first
    assert not scope.numbers
    with pytest.raises(ValueError, match="x: expected the shape"):
        scope.give("x", Public(X.T, 500))

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import MakeCheckpoint
from tests.inner import input_bound
from zkllm.backends.base import Claim
from zkllm.backends.sumcheck.units import UnitCircuit, make_circuit
from zkllm.checkpoints import Checkpoint
from zkllm.digests import Digest
from zkllm.engines.sumcheck.protocol import Context, check_proof, make_proof, run_protocol
from zkllm.engines.sumcheck.prover import Prover
from zkllm.engines.sumcheck.weights import commit_weights
from zkllm.errors import ConstraintViolation, ProofRejected
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.operations.precision import PRECISIONS

CONTEXT = Context((), None)


def ids_of(model: ExactModel, count: int) -> np.ndarray:
    vocabulary = model.specification.architecture.vocabulary
    return np.random.default_rng(count).integers(0, vocabulary, count)


def honest(model: ExactModel, count: int) -> dict[str, Claim]:
    """What is true of every unit in a run of `count` positions."""
    ids = ids_of(model, count)
    rows = [ids, *reference.forward(model, ids)]
    found = {}
    for k, name in enumerate(model.specification.units()):
        if name == "head":
            first = count // 2
            chosen = reference.run_unit(model, "head", rows[-1][first:])
            found[name] = Claim(name, rows[-1], chosen, Digest(""), first)
        else:
            found[name] = Claim(name, rows[k], rows[k + 1], Digest(""))
    return found


def require_accepted(model: ExactModel, claim: Claim) -> None:
    circuit = make_circuit(model, claim)
    proof = make_proof(circuit, CONTEXT)
    assert check_proof(make_circuit(model, claim), proof, CONTEXT) > 100


@pytest.mark.parametrize("count", [1, 3, 12])
def test_every_unit_of_a_run_is_accepted(count: int, tiny_model: ExactModel) -> None:
    for claim in honest(tiny_model, count).values():
        require_accepted(tiny_model, claim)


@pytest.fixture(scope="module")
def long_model(make_checkpoint: MakeCheckpoint) -> ExactModel:
    """One block of width 18 and three heads, for 65 positions."""
    folder = make_checkpoint(n_embd=18, n_head=3, n_layer=1, n_positions=65)
    return ExactModel.in_memory(*build(Checkpoint.from_folder(folder), PRECISIONS["wide"]))


@pytest.mark.parametrize("count", [37, 64, 65])
def test_every_unit_of_a_longer_run_is_accepted(count: int, long_model: ExactModel) -> None:
    for claim in honest(long_model, count).values():
        require_accepted(long_model, claim)


def test_units_of_a_model_with_another_table_are_accepted(demo_model: ExactModel) -> None:
    for name, claim in honest(demo_model, 3).items():
        if "[1]" not in name:
            require_accepted(demo_model, claim)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_other_activations_are_accepted(activation: str, make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint(
        n_embd=18, n_head=2, n_layer=1, n_inner=7, activation_function=activation
    )
    checkpoint = Checkpoint.from_folder(folder)
    model = ExactModel.in_memory(*build(checkpoint, PRECISIONS["wide"]))
    require_accepted(model, honest(model, 5)["mlp[0]"])


# Boundaries that are columns


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_unit_is_accepted_with_hidden_rows(
    count: int, committed: bool, tiny_model: ExactModel
) -> None:
    for claim in honest(tiny_model, count).values():
        circuit = make_circuit(tiny_model, claim, hidden=True)
        ends = {"embed": ["output"], "head": ["input"]}.get(claim.unit, ["input", "output"])
        assert list(circuit.ends) == ends
        root = commit_weights(circuit.plan, tiny_model).root() if committed else None
        proof = make_proof(circuit, Context((), root))
        again = make_circuit(tiny_model, without_rows(claim), hidden=True)
        assert check_proof(again, proof, Context((), root)) > 100


def without_rows(claim: Claim) -> Claim:
    """All that a verifier knows of hidden rows: how many there are."""
    inputs, outputs = (rows * (rows.ndim == 1) for rows in (claim.inputs, claim.outputs))
    return replace(claim, inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("hidden", [False, True], ids=["public", "hidden"])
def test_a_value_may_be_declared_before_the_step_that_would_give_it_a_form(
    hidden: bool, tiny_model: ExactModel
) -> None:
    """An activation after the layer that it reads: two forms of one value, which are equal."""
    unit = tiny_model.specification.units()["mlp[0]"]
    claim = honest(tiny_model, 3)["mlp[0]"]
    usual, other = (
        UnitCircuit(replace(unit, steps=steps), tiny_model, claim, 8, hidden=hidden)
        for steps in (unit.steps, unit.order())
    )
    assert set(usual.plan.columns) < set(other.plan.columns)
    proof = make_proof(other, CONTEXT)
    assert check_proof(other, proof, CONTEXT) > 100
    (hidden_value,) = (step.writes for step in unit.steps if step.name == "expand")
    witness = other.witness()
    number = other.scope.numbers[hidden_value]
    values = witness.integers(number.value)
    values[1, 2] += 1
    witness.store_number(number, values)
    witness.count_lookups()
    prover = Prover(witness, tiny_model, None)
    run_protocol(prover, prover.committed, None, other, CONTEXT)
    with pytest.raises(ProofRejected, match="expand does not hold"):
        check_proof(other, prover.proof, CONTEXT)


def test_a_unit_whose_output_nobody_writes_is_none(tiny_model: ExactModel) -> None:
    claim = honest(tiny_model, 3)["mlp[0]"]
    unit = tiny_model.specification.units()["mlp[0]"]
    UnitCircuit(unit, tiny_model, claim, 8)
    for name in ("nothing", unit.reads):
        with pytest.raises(ValueError, match=rf"mlp\[0\]: nothing writes {name}$"):
            UnitCircuit(replace(unit, writes=name), tiny_model, claim, 8)


def test_a_step_whose_equations_another_would_hide_is_refused(tiny_model: ExactModel) -> None:
    """Two layers of one name, of which only the last would be checked: any output could be said."""
    claim = honest(tiny_model, 3)["mlp[0]"]
    unit = tiny_model.specification.units()["mlp[0]"]
    steps = [
        replace(step, name="project") if step.name == "expand" else step for step in unit.steps
    ]
    with pytest.raises(ValueError, match=r"mlp\[0\]: two steps are called project$"):
        UnitCircuit(replace(unit, steps=tuple(steps)), tiny_model, claim, 8)


# The limb


@pytest.mark.parametrize("unit", ["attention[0]", "mlp[1]", "head"])
@pytest.mark.parametrize("count", [1, 12])
def test_limbs_have_the_size_that_costs_least(
    unit: str, count: int, tiny_model: ExactModel
) -> None:
    claim, found = honest(tiny_model, count)[unit], tiny_model.specification.units()[unit]
    circuits = [UnitCircuit(found, tiny_model, claim, limb) for limb in range(4, 17)]
    costs = {circuit.plan.limb: circuit.plan.cost() for circuit in circuits}
    chosen = make_circuit(tiny_model, claim).plan
    assert chosen.cost() == min(costs.values())
    assert chosen.limb == min(limb for limb, cost in costs.items() if cost == chosen.cost())


def test_circuits_follow_from_shapes_alone(tiny_model: ExactModel) -> None:
    claims = honest(tiny_model, 3), honest(tiny_model, 12)
    for unit, claim in claims[0].items():
        if unit in ("embed", "head"):
            continue
        other = claims[1][unit]
        other = replace(other, inputs=other.inputs[-3:], outputs=other.outputs[-3:])
        first, second = (make_circuit(tiny_model, c).plan for c in (claim, other))
        assert first.columns == second.columns
        assert first.weights == second.weights
        assert first.limb == second.limb


def test_units_read_the_boundary_before_them(tiny_model: ExactModel) -> None:
    specification = tiny_model.specification
    boundaries = specification.boundary_bounds()
    readers = [name for name in specification.units() if name != "embed"]
    assert [input_bound(specification, name) for name in readers] == boundaries


# Claims that no witness has


UNITS = ["embed", "attention[0]", "mlp[0]", "attention[1]", "mlp[1]"]


@pytest.mark.parametrize("unit", UNITS)
def test_another_output_is_refused_at_its_first_place(unit: str, tiny_model: ExactModel) -> None:
    claim = honest(tiny_model, 3)[unit]
    outputs = claim.outputs.copy()
    outputs[1, 7] += 1
    outputs[2, 3] -= 1
    right = int(claim.outputs[1, 7])
    message = f"^{unit}: the model gives {right} at [1, 7], the claim says {right + 1}$".replace(
        "[", r"\["
    )
    with pytest.raises(ConstraintViolation, match=message):
        make_circuit(tiny_model, replace(claim, outputs=outputs)).witness()


def test_another_token_is_refused(tiny_model: ExactModel) -> None:
    claim = honest(tiny_model, 3)["head"]
    outputs = claim.outputs.copy()
    outputs[1] = (outputs[1] + 1) % 29
    with pytest.raises(ConstraintViolation, match=f"head: row 1 .* the claim says {outputs[1]}"):
        make_circuit(tiny_model, replace(claim, outputs=outputs)).witness()


Change = Callable[[Claim], Claim]


def first_input(value: int) -> Change:
    def change(claim: Claim) -> Claim:
        inputs = claim.inputs.copy()
        inputs[(0,) * inputs.ndim] = value
        return replace(claim, inputs=inputs)

    return change


def first_output(value: int) -> Change:
    def change(claim: Claim) -> Claim:
        outputs = claim.outputs.copy()
        outputs[(0,) * outputs.ndim] = value
        return replace(claim, outputs=outputs)

    return change


def fewer(name: str, rows: slice, *columns: slice) -> Change:
    return lambda claim: replace(claim, **{name: getattr(claim, name)[(rows, *columns)]})


ROWS_BEYOND = np.zeros((13, 32), dtype=np.int64)
IMPOSSIBLE: list[tuple[str, Change, str]] = [
    ("embed", first_input(29), r"embed: id 0 must lie in 0\.\.28, got 29"),
    ("embed", first_input(-1), r"embed: id 0 must lie in 0\.\.28, got -1"),
    ("embed", fewer("outputs", slice(2)), r"embed: expected shape \[3, 32\], got \[2, 32\]"),
    (
        "embed",
        lambda c: replace(c, inputs=np.zeros(13, np.int64), outputs=np.zeros((13, 32), np.int64)),
        "embed: expected at most 12 rows, got 13",
    ),
    (
        "embed",
        lambda c: replace(c, inputs=c.inputs[:, None]),
        r"embed: expected shape \[3\], got \[3, 1\]",
    ),
    (
        "head",
        lambda c: replace(c, outputs=c.outputs[:, None]),
        r"head: expected shape \[2\], got \[2, 1\]",
    ),
    ("head", lambda c: replace(c, first_row=-2), "head: expected a row from 0 on, got -2"),
    ("mlp[0]", lambda c: replace(c, first_row=1), r"mlp\[0\]: expected the first row 0, got 1"),
    (
        "attention[0]",
        lambda c: replace(c, inputs=ROWS_BEYOND, outputs=ROWS_BEYOND),
        r"attention\[0\]: expected at most 12 rows, got 13",
    ),
    ("attention[0]", fewer("outputs", slice(2)), r"attention\[0\]: expected shape \[3, 32\]"),
    (
        "attention[0]",
        lambda c: replace(c, inputs=c.inputs[:, :31], outputs=c.outputs[:, :31]),
        r"expected shape \[3, 32\], got \[3, 31\]",
    ),
    ("mlp[1]", fewer("outputs", slice(2)), r"mlp\[1\]: expected shape \[3, 32\], got \[2, 32\]"),
    (
        "mlp[1]",
        lambda c: replace(c, inputs=c.inputs[:0], outputs=c.outputs[:0]),
        r"mlp\[1\]: expected shape \[0, 32\], got \[0, 32\]",
    ),
    ("head", first_output(29), r"head: id 0 must lie in 0\.\.28, got 29"),
    ("head", first_output(-1), r"head: id 0 must lie in 0\.\.28, got -1"),
    ("head", lambda c: replace(c, first_row=2), r"head: expected shape \[2, 32\], got \[1, 32\]"),
    ("head", fewer("outputs", slice(0)), r"head: expected shape \[0, 32\], got \[0, 32\]"),
]


@pytest.mark.parametrize(("unit", "change", "message"), IMPOSSIBLE)
def test_claims_that_no_run_can_make_have_no_circuit(
    unit: str, change: Change, message: str, tiny_model: ExactModel
) -> None:
    claim = honest(tiny_model, 3)[unit]
    make_circuit(tiny_model, claim)
    with pytest.raises(ConstraintViolation, match=message):
        make_circuit(tiny_model, change(claim))


def sides() -> list[tuple[str, str]]:
    return [(unit, side) for unit in UNITS[1:] for side in ("input", "output")] + [
        ("embed", "output"),
        ("head", "input"),
    ]


@pytest.mark.parametrize(("unit", "side"), sides())
@pytest.mark.parametrize("sign", [1, -1])
def test_boundaries_stay_within_their_bounds(
    unit: str, side: str, sign: int, tiny_model: ExactModel
) -> None:
    claim = honest(tiny_model, 3)[unit]
    names = list(tiny_model.specification.units())
    bound = tiny_model.specification.boundary_bounds()[
        names.index(unit) - (1 if side == "input" else 0)
    ]
    change = first_input if side == "input" else first_output
    make_circuit(tiny_model, change(sign * bound)(claim))
    message = f"{side}: expected at most {bound} in magnitude, got {sign * (bound + 1)} at "
    with pytest.raises(ConstraintViolation, match=message + r"\[0, 0\]"):
        make_circuit(tiny_model, change(sign * (bound + 1))(claim))

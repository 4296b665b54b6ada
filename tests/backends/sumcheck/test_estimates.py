import pytest

from tests.backends.sumcheck.test_units import honest
from zkllm.backends.sumcheck import estimates
from zkllm.backends.sumcheck.units import make_circuit
from zkllm.engines.sumcheck.protocol import Context, check_proof, make_proof
from zkllm.engines.sumcheck.weights import commit_weights
from zkllm.exact.model import ExactModel

UNITS = ["embed", "attention[0]", "mlp[0]", "head"]


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_rehearsal_knows_the_length_and_the_soundness_of_a_proof(
    unit: str, committed: bool, tiny_model: ExactModel
) -> None:
    claim = honest(tiny_model, 3)[unit]
    circuit = make_circuit(tiny_model, claim)
    root = commit_weights(circuit.plan, tiny_model).root() if committed else None
    context = Context((), root)
    proof = make_proof(circuit, context)
    assert estimates.rehearse(circuit, committed=committed) == (
        len(proof),
        check_proof(circuit, proof, context),
    )


@pytest.mark.parametrize("unit", UNITS)
def test_an_estimate_needs_no_weights(unit: str, tiny_model: ExactModel) -> None:
    claim = honest(tiny_model, 1 if unit == "head" else 3)[unit]
    plan = make_circuit(tiny_model, claim).plan
    planned = estimates.circuit_of(tiny_model.specification, unit, 3).plan
    assert planned.columns == plan.columns
    assert planned.limb == plan.limb
    estimate = estimates.estimate(tiny_model.specification, unit, 3)
    assert estimate.rows == plan.cost()
    length, _ = estimates.rehearse(make_circuit(tiny_model, claim))
    assert estimate.evidence_bytes == length
    assert estimate.verify_seconds > 0
    assert estimate.prove_seconds > 0

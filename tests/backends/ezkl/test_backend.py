"""The backend: keys, proofs and every reason to refuse them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.ezkl.circuits import (
    FOLDER,
    TOKENS,
    UNIT,
    Proved,
    boundaries,
    random_model,
    unit_circuit,
)
from tests.engines.ezkl.circuits import Compiled, Override, bump, forge, run
from zkllm.backends.base import Claim, Pin
from zkllm.backends.ezkl import backend as backends
from zkllm.backends.ezkl import witness
from zkllm.backends.ezkl.backend import EzklBackend, relation
from zkllm.backends.ezkl.keys import VERIFYING
from zkllm.backends.ezkl.settings import check_settings
from zkllm.digests import Digest, canonical_json, sha256
from zkllm.engines.ezkl import lowering, proofs, readings, recipe, srs
from zkllm.engines.ezkl.audit import audit
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import recipe_lookup
from zkllm.engines.ezkl.expressions import Expression
from zkllm.errors import (
    BackendError,
    ConstraintViolation,
    DigestMismatch,
    Error,
    InputError,
    InvalidBundle,
    LimitExceeded,
    ProofRejected,
    StatementMismatch,
    UnsupportedModel,
    UntrustedMaterial,
)
from zkllm.exact import reference
from zkllm.exact.model import ExactModel

STATEMENT = sha256(b"statement")
BACKEND = EzklBackend()
RECIPE = recipe.load("attention")


@pytest.fixture(scope="module")
def model() -> ExactModel:
    return random_model(0.3)


def claim_of(model: ExactModel, seed: int = 0) -> Claim:
    run = boundaries(model, seed=seed)
    return Claim(UNIT, run["x"], run["output"], STATEMENT)


def without_weights(model: ExactModel) -> ExactModel:
    """All that a verifier has."""
    return ExactModel(model.specification, None)


def pin_of(keys: Path) -> Pin:
    return Pin({name: sha256((keys / FOLDER / name).read_bytes()) for name in VERIFYING})


# Keys that are none: everything that is refused before ezkl is asked


@pytest.fixture(scope="module")
def settings(model: ExactModel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    compiled = Compiled.of(unit_circuit(model), RECIPE, tmp_path_factory.mktemp("settings"))
    return (compiled.folder / "settings.json").read_bytes()


@pytest.fixture
def keys(settings: bytes, tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "vk.key").write_bytes(b"key")
    (folder / "settings.json").write_bytes(settings)
    (folder / "kzg1.srs").write_bytes(bytes(srs.REDUCED_BYTES))
    return tmp_path


def refused(
    error: type[Error],
    match: str,
    model: ExactModel,
    keys: Path | None,
    pin: Pin | None = None,
    claim: Claim | None = None,
    evidence: bytes = b"proof",
) -> None:
    demanded = pin if pin is not None or keys is None else pin_of(keys)
    with pytest.raises(error, match=match):
        BACKEND.verify(
            claim or claim_of(model), evidence, without_weights(model), demanded or Pin({}), keys
        )


def test_no_keys(model: ExactModel, tmp_path: Path) -> None:
    refused(InputError, "expected a folder of keys, got none", model, None)
    refused(InputError, r"expected the keys of attention\[0\]", model, tmp_path, Pin({}))


@pytest.mark.parametrize("name", list(VERIFYING))
def test_a_missing_file(model: ExactModel, keys: Path, name: str) -> None:
    pin = pin_of(keys)
    (keys / FOLDER / name).unlink()
    refused(InputError, f"{name}: no such file", model, keys, pin)
    with pytest.raises(InputError, match=f"{name}: no such file"):
        BACKEND.pin(model, UNIT, keys)


@pytest.mark.parametrize("name", list(VERIFYING))
def test_a_file_too_large(model: ExactModel, keys: Path, name: str) -> None:
    pin = pin_of(keys)
    with (keys / FOLDER / name).open("ab") as file:
        file.truncate(VERIFYING[name] + 1)
    refused(LimitExceeded, f"{name}: at most {VERIFYING[name]} bytes", model, keys, pin)


@pytest.mark.parametrize("name", list(VERIFYING))
def test_another_file_than_the_pinned_one(model: ExactModel, keys: Path, name: str) -> None:
    pin = pin_of(keys)
    path = keys / FOLDER / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    refused(DigestMismatch, f"{name}: the policy pins sha256:", model, keys, pin)


@pytest.mark.parametrize("name", list(VERIFYING))
def test_a_file_that_is_not_pinned(model: ExactModel, keys: Path, name: str) -> None:
    digests = dict(pin_of(keys).digests)
    del digests[name]
    refused(UntrustedMaterial, f"the policy does not pin {name}", model, keys, Pin(digests))


@pytest.mark.parametrize("size", [0, proofs.MAX_PROOF + 1])
def test_evidence_of_no_possible_length(model: ExactModel, keys: Path, size: int) -> None:
    refused(InvalidBundle, f"65536 bytes, got {size}", model, keys, evidence=bytes(size))


@pytest.mark.parametrize("name", ["inputs", "outputs"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_boundary_beyond_its_bound(model: ExactModel, keys: Path, name: str, sign: int) -> None:
    """The window argument of the circuit begins here: x and x' are not checked inside."""
    bounds = model.specification.boundary_bounds()
    bound = bounds[0 if name == "inputs" else 1]
    claim = claim_of(model)
    rows = getattr(claim, name).copy()
    rows[1, 1] = sign * (bound + 1)
    match = f"{name[:-1]}: expected at most {bound} in magnitude"
    refused(StatementMismatch, match, model, keys, claim=replace(claim, **{name: rows}))


@pytest.mark.parametrize("name", ["inputs", "outputs"])
def test_a_boundary_of_another_shape(model: ExactModel, keys: Path, name: str) -> None:
    claim = claim_of(model)
    changes: Any = {name: np.pad(getattr(claim, name), ((0, 0), (0, 1)))}
    refused(
        StatementMismatch,
        r"expected shape \[8, 8\], got \[8, 9\]",
        model,
        keys,
        claim=replace(claim, **changes),
    )


Edit = Callable[[dict[str, Any]], None]


def _run_arg(name: str, value: Any) -> Edit:
    return lambda settings: settings["run_args"].__setitem__(name, value)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda s: s["einsum_params"].update(total_einsum_col_size=8), "total_einsum_col_size"),
        (lambda s: s["required_range_checks"].append([0, 1]), "required_range_checks"),
        (lambda s: s.update(num_dynamic_lookups=1), "num_dynamic_lookups"),
        (lambda s: s.update(num_shuffles=1), "num_shuffles"),
        (lambda s: s["model_instance_shapes"].append([1]), "instances"),
        (lambda s: s.update(version="23.0.4"), "version"),
        (lambda s: s.pop("run_args"), "settings"),
        (_run_arg("lookup_range", [-16134, 240]), "lookup_range"),
        (_run_arg("lookup_range", [-16135, 241]), "lookup_range"),
        (_run_arg("logrows", 15), "logrows"),
        (_run_arg("num_inner_cols", 2), "num_inner_cols"),
        (_run_arg("disable_freivalds", False), "disable_freivalds"),
        (_run_arg("scale_rebase_multiplier", 1), "scale_rebase_multiplier"),
        (_run_arg("param_scale", 7), "param_scale"),
        (_run_arg("input_visibility", "Public"), "visibilities"),
        (_run_arg("output_visibility", "Private"), "output_visibility"),
        (_run_arg("output_visibility", "Fixed"), "visibilities"),
        (_run_arg("param_visibility", "Private"), "param_visibility"),
    ],
)
def test_settings_that_leave_freedom(model: ExactModel, keys: Path, edit: Edit, match: str) -> None:
    """Even if the policy pins them."""
    path = keys / FOLDER / "settings.json"
    changed = json.loads(path.read_bytes())
    edit(changed)
    path.write_text(json.dumps(changed))
    refused(UntrustedMaterial, rf"attention\[0\]: .*{match}", model, keys)


def test_units_of_other_kinds(model: ExactModel) -> None:
    spec = model.specification
    assert BACKEND.unsupported(spec, UNIT) == ""
    assert "attention units only" in BACKEND.unsupported(spec, "mlp[0]")


def test_estimate(model: ExactModel, settings: bytes) -> None:
    estimate = BACKEND.estimate(model.specification, UNIT, TOKENS)
    assert estimate.rows == pytest.approx(json.loads(settings)["num_rows"], rel=0.03)
    assert estimate.logrows == RECIPE.window.logrows
    longer = BACKEND.estimate(model.specification, UNIT, 16)
    assert longer.rows > 1.9 * estimate.rows
    assert longer.prove_seconds > estimate.prove_seconds
    assert longer.memory_bytes >= estimate.memory_bytes


def test_proofs_that_would_be_too_long_are_refused_before_anything_is_spent(
    model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "MAX_PROOF", 1000)
    with pytest.raises(UnsupportedModel, match="expected a proof of at most 1000 bytes"):
        BACKEND.estimate(model.specification, UNIT, TOKENS)


def test_a_false_claim_is_not_tried(model: ExactModel, keys: Path) -> None:
    claim = claim_of(model)
    claim.outputs[3, 3] += 1
    with pytest.raises(ConstraintViolation, match=r"out\.remainder\[3, 3\]: expected"):
        BACKEND.prove(model, claim, keys)


@pytest.mark.parametrize(
    ("name", "value"), [("model", "sha256:"), ("unit", "attention[1]"), ("tokens", 16)]
)
def test_proving_with_keys_for_something_else(
    model: ExactModel, keys: Path, name: str, value: object
) -> None:
    about = {"model": model.digest, "unit": UNIT, "tokens": TOKENS} | {name: value}
    (keys / FOLDER / "about.json").write_bytes(canonical_json(about))
    with pytest.raises(InputError, match=f"{name}: the keys are for"):
        BACKEND.prove(model, claim_of(model), keys)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 20_000, '{"tokens":8.0}'])
def test_proving_with_keys_for_nobody_knows_what(model: ExactModel, keys: Path, text: str) -> None:
    (keys / FOLDER / "about.json").write_text(text)
    with pytest.raises(InputError, match=r"about\.json( is n|: expected the model)"):
        BACKEND.prove(model, claim_of(model), keys)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"proof": []}', b'{"proof": [256]}'])
def test_no_proof_in_what_ezkl_wrote(data: bytes) -> None:
    with pytest.raises(BackendError, match=r"no proof|expected a proof"):
        proofs.proof_bytes(data)


# Real keys and proofs


def verify(proved: Proved, keys: Path | None = None, **changes: Any) -> Any:
    """Verify with the specification alone, and with `changes` to what was proved."""
    case = replace(proved, **changes)
    spec_only = without_weights(case.model)
    return BACKEND.verify(case.claim, case.evidence, spec_only, case.pin, keys or case.keys)


@pytest.mark.slow
def test_a_proof_verifies(proved: Proved, tmp_path: Path) -> None:
    """With the three pinned files and nothing else of the keys."""
    (tmp_path / FOLDER).mkdir()
    for name in VERIFYING:
        shutil.copy(proved.keys / FOLDER / name, tmp_path / FOLDER / name)
    checked = verify(proved, tmp_path)
    assert checked.words == "proved (ezkl)"
    assert "weights" in checked.hidden
    assert checked.assumptions == ("insecure-srs",)
    assert not checked.binds_nonce
    assert checked.details["proof_bytes"] == len(proved.evidence) < 8000


@pytest.mark.slow
def test_a_public_srs_is_no_assumption(proved: Proved, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = proved.pin.digests["kzg1.srs"].removeprefix("sha256:")
    monkeypatch.setattr(srs, "PUBLIC_SHA256", {1: digest})
    assert verify(proved).assumptions == ()


@pytest.mark.slow
def test_the_audit_sees_other_weights(proved: Proved) -> None:
    """A key of one model is not that of a model that differs in one integer."""
    spec = proved.model.specification
    tensors = {name: proved.model.tensor(name).copy() for name in spec.tensors}
    tensors["attention[0].key.weight"][2, 2] += 1
    folder = proved.keys / FOLDER
    other = relation(unit_circuit(ExactModel.in_memory(spec, tensors)))
    problems = audit(folder / "pk.key", folder / "settings.json", other).problems
    assert any("not what the relation demands" in line for line in problems)
    own = relation(unit_circuit(proved.model))
    assert audit(folder / "pk.key", folder / "settings.json", own).ok


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inputs", "outputs"])
def test_another_boundary_is_refused(proved: Proved, name: str) -> None:
    rows = getattr(proved.claim, name).copy()
    rows[7, 7] -= 1
    with pytest.raises(ProofRejected, match="the proof does not show the claim"):
        verify(proved, claim=replace(proved.claim, **{name: rows}))


@pytest.mark.slow
def test_evidence_of_another_run_is_refused(proved: Proved) -> None:
    with pytest.raises(ProofRejected, match="does not show the claim"):
        verify(proved, claim=claim_of(proved.model, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("extra", [b"\0", bytes(32), b"proof" * 100])
def test_trailing_bytes_are_refused(proved: Proved, extra: bytes) -> None:
    with pytest.raises(ProofRejected, match="bytes follow the proof"):
        verify(proved, evidence=proved.evidence + extra)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 700, -1])
def test_a_changed_proof_is_refused(proved: Proved, place: int) -> None:
    changed = bytearray(proved.evidence)
    changed[place] ^= 1
    for evidence in (bytes(changed), proved.evidence[:-1], proved.evidence[:100]):
        with pytest.raises(ProofRejected, match="does not show the claim"):
            verify(proved, evidence=evidence)


@pytest.mark.slow
def test_another_srs_is_refused(proved: Proved, tmp_path: Path) -> None:
    """Even if it is pinned: a proof is one under the SRS with which it was made."""
    shutil.copytree(proved.keys / FOLDER, tmp_path / FOLDER)
    run("gen_srs", path=tmp_path / "other", logrows=4)
    (tmp_path / FOLDER / "kzg1.srs").write_bytes(srs.reduce(tmp_path / "other"))
    with pytest.raises(ProofRejected, match="does not show the claim"):
        verify(proved, tmp_path, pin=pin_of(tmp_path))


@pytest.mark.slow
def test_what_is_verified_is_what_was_hashed(
    proved: Proved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that change after they were read change nothing."""
    shutil.copytree(proved.keys / FOLDER, tmp_path / FOLDER)
    check = check_settings

    def swap(*arguments: Any) -> None:
        check(*arguments)
        for name in VERIFYING:
            (tmp_path / FOLDER / name).write_bytes(b"")

    monkeypatch.setattr(backends, "check_settings", swap)
    assert verify(proved, tmp_path).words == "proved (ezkl)"


@pytest.mark.slow
def test_proving_verifies_its_own_proof(proved: Proved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_verifies", lambda *_: False)
    with pytest.raises(ProofRejected):
        BACKEND.prove(proved.model, proved.claim, proved.keys)


@pytest.mark.slow
def test_proving_under_a_replaced_srs(proved: Proved, tmp_path: Path) -> None:
    shutil.copytree(proved.keys / FOLDER, tmp_path / FOLDER)
    (tmp_path / "srs").mkdir()
    with pytest.raises(InputError, match="expected the SRS with which the keys were made"):
        BACKEND.prove(proved.model, proved.claim, tmp_path)


@pytest.mark.slow
def test_setup_refuses_a_circuit_that_an_honest_run_does_not_satisfy(
    model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = witness.honest

    def dishonest(*arguments: Any) -> list[int]:
        values = honest(*arguments)
        values[-1] = RECIPE.window.high + 1
        return values

    monkeypatch.setattr(witness, "honest", dishonest)
    monkeypatch.setattr(srs, "development_srs", lambda *_: tmp_path / "none")
    with pytest.raises(BackendError, match="the circuit refuses the witness of an honest run"):
        BACKEND.setup(model, UNIT, TOKENS, tmp_path)
    assert not list(tmp_path.iterdir())


# A prover who compiles another circuit, under the settings and keys of the right one


def _other_weights(circuit: Circuit) -> Circuit:
    constants = [node for node in circuit.expressions if node.operation == "constant"]
    weight = next(node for node in constants if node.shape == (8, 8))
    weight.detail[2, 2] += RECIPE.window.step(1 << 8) or 1
    return circuit


def _operand(circuit: Circuit, node: Expression, operand: Expression, place: int = 0) -> None:
    operands = list(node.operands)
    operands[place] = operand
    circuit.expressions[node.index] = replace(node, operands=tuple(operands))


def _unchecked(name: str) -> Callable[[Circuit], Circuit]:
    """A range check that looks at a hint in the place of what it is about."""

    def change(circuit: Circuit) -> Circuit:
        place = next(i for i, check in enumerate(circuit.checks) if check.name == name)
        check = circuit.checks[place]
        hint = next(h for h in circuit.hints if h.shape == check.expression.shape)
        circuit.checks[place] = replace(check, expression=hint)
        return circuit

    return change


def _sees_the_future(circuit: Circuit) -> Circuit:
    """The values of the first row are those of the second position."""
    gathers = [node for node in circuit.expressions if node.operation == "gather"]
    first = next(node for node in gathers if node.detail == (0,) and len(node.shape) == 3)
    circuit.expressions[first.index] = replace(first, detail=(1,))
    return circuit


REWIRED: list[tuple[str, Callable[[Circuit], Circuit], dict[str, Override]]] = [
    ("weights", _other_weights, {}),
    ("output", _unchecked("out.remainder"), {}),
    ("mixed", _unchecked("mixed.remainder.low"), {"mixed.0": bump((2, 1, 1), 1)}),
    ("future", _sees_the_future, {}),
]


@pytest.mark.slow
def test_neutral_rewiring_is_accepted(proved: Proved, tmp_path: Path) -> None:
    """The control: what refuses the others is what they changed."""
    circuit = unit_circuit(proved.model)
    claim = proved.claim
    assert _forged(proved, circuit, claim, {}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rewire", "overrides"), REWIRED, ids=[r[0] for r in REWIRED])
def test_rewired_provers_are_refused(
    proved: Proved,
    name: str,
    rewire: Callable[[Circuit], Circuit],
    overrides: dict[str, Override],
    tmp_path: Path,
) -> None:
    circuit = rewire(unit_circuit(proved.model))
    claim = proved.claim
    if name == "output":
        outputs = claim.outputs.copy()
        outputs[0, 0] += 1
        claim = replace(claim, outputs=outputs)
    assert not _forged(proved, circuit, claim, overrides, tmp_path)


def _forged(
    proved: Proved,
    circuit: Circuit,
    claim: Claim,
    overrides: dict[str, Override],
    folder: Path,
) -> bool:
    """Whether a proof by the prover of `circuit` is accepted for what the verifier demands."""
    keys = proved.keys / FOLDER
    graph, compiled = folder / "model.onnx", folder / "model.compiled"
    graph.write_bytes(lowering.to_onnx(circuit, RECIPE.exp_scale))
    run("compile", model=graph, compiled=compiled, settings=keys / "settings.json")
    public = {"x": claim.inputs, "output": claim.outputs}
    values = forge(circuit, public, recipe_lookup(RECIPE), overrides)
    # A witness outside a table would never end in a proof, and nothing would have been tried.
    output = _fitting_output(circuit, claim, values)
    claim = replace(claim, outputs=output)
    public["output"] = output
    values = forge(circuit, public, recipe_lookup(RECIPE), overrides)
    data, inputs, proof = (folder / n for n in ("input.json", "witness.json", "proof.json"))
    data.write_text(proofs.input_json(readings.flat_inputs(circuit, values)))
    run("witness", data=data, compiled=compiled, output=inputs)
    source = srs.find_matching(
        proved.keys / "srs", RECIPE.window.logrows, (keys / "kzg1.srs").read_bytes()
    )
    try:
        run(
            "prove",
            witness=inputs,
            compiled=compiled,
            pk=keys / "pk.key",
            proof=proof,
            srs=source,
        )
    except BackendError:
        return False
    evidence = proofs.proof_bytes(proof.read_bytes())
    try:
        BACKEND.verify(claim, evidence, without_weights(proved.model), proved.pin, proved.keys)
    except (ProofRejected, StatementMismatch):
        return False
    return True


def _fitting_output(circuit: Circuit, claim: Claim, values: Any) -> Any:
    """The output to which forged hints lead, so that the last division holds."""
    check = next(c for c in circuit.checks if c.name == "out.remainder")
    scale = 1 << RECIPE.window.logrows
    excess = (values[check.expression] - circuit.window.low) // scale
    return claim.outputs + excess.astype(np.int64)


@pytest.mark.slow
def test_the_demo_model_end_to_end(
    demo_model: ExactModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A whole attention unit of width 32."""
    keys = tmp_path_factory.mktemp("demo-keys")
    unit = "attention[1]"
    pin = BACKEND.setup(demo_model, unit, TOKENS, keys, audit=True)
    ids = np.arange(TOKENS) % demo_model.specification.architecture.vocabulary
    rows = reference.forward(demo_model, ids)
    claim = Claim(unit, rows[2], rows[3], Digest(""))
    evidence = BACKEND.prove(demo_model, claim, keys)
    checked = BACKEND.verify(claim, evidence, without_weights(demo_model), pin, keys)
    assert checked.details["proof_bytes"] < 8000
    assert "no free operand" in pin.audit

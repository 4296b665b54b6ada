import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.traces import trace
from zkllm.backends.base import Claim, Pin
from zkllm.backends.sumcheck import backend as module
from zkllm.backends.sumcheck.backend import COMMITMENT, SumcheckBackend
from zkllm.checkpoints import Checkpoint
from zkllm.digests import canonical_json, sha256
from zkllm.engines.sumcheck import protocol
from zkllm.errors import (
    ConstraintViolation,
    DigestMismatch,
    Error,
    InputError,
    InvalidBundle,
    LimitExceeded,
    ProofRejected,
    UntrustedMaterial,
)
from zkllm.exact import reference
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.files import unit_file_name
from zkllm.operations.precision import PRECISIONS
from zkllm.verifying import claims

BACKEND = SumcheckBackend()
UNITS = ["embed", "attention[0]", "mlp[0]", "head"]
MODES = ["held", "committed"]


@pytest.fixture(scope="module")
def run(tiny_model: ExactModel) -> dict[str, Claim]:
    """What is claimed of each unit in an honest run."""
    bundle = trace(tiny_model, "a cat", 3)
    return {claim.unit: claim for claim in claims(bundle, tiny_model.specification)}


@pytest.fixture(scope="module")
def made(tiny_model: ExactModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commitments to the weights of `UNITS`."""
    folder = tmp_path_factory.mktemp("keys")
    for unit in UNITS:
        BACKEND.setup(tiny_model, unit, 1, folder)
    return folder


@pytest.fixture(scope="module")
def evidence(
    tiny_model: ExactModel, run: dict[str, Claim], made: Path
) -> dict[tuple[str, str], bytes]:
    """Proofs of `UNITS` in both modes."""
    keys = {"held": None, "committed": made}
    return {
        (unit, mode): BACKEND.prove(tiny_model, run[unit], keys[mode])
        for unit in UNITS
        for mode in MODES
    }


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    """A copy of the commitments, to be spoiled."""
    return Path(shutil.copytree(made, tmp_path / "keys"))


@pytest.fixture
def verifier(tiny_model: ExactModel, tmp_path: Path) -> ExactModel:
    """The model as far as a verifier of committed weights needs it: its specification."""
    assert tiny_model.folder is not None
    folder = tmp_path / "specification"
    folder.mkdir()
    shutil.copy(tiny_model.folder / "spec.json", folder)
    return ExactModel.from_folder(folder)


@pytest.fixture(scope="module")
def other_model(
    tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> ExactModel:
    """The same network with one weight changed."""
    changed = {name: values.copy() for name, values in tiny_checkpoint.tensors.items()}
    changed["h.0.mlp.c_fc.weight"][0, 0] += 0.05
    specification, tensors = build(replace(tiny_checkpoint, tensors=changed), PRECISIONS["wide"])
    folder = tmp_path_factory.mktemp("other")
    return save(specification, tensors, tiny_checkpoint.tokenizer, folder)


def path_of(keys: Path, unit: str) -> Path:
    return keys / unit_file_name(unit) / COMMITMENT


def pin_of(keys: Path, unit: str) -> Pin:
    return Pin({COMMITMENT: sha256(path_of(keys, unit).read_bytes())})


# Both modes


@pytest.mark.parametrize("unit", UNITS)
def test_held_weights_are_read_by_the_verifier(
    unit: str,
    tiny_model: ExactModel,
    run: dict[str, Claim],
    evidence: dict[tuple[str, str], bytes],
) -> None:
    data = evidence[unit, "held"]
    checked = BACKEND.verify(run[unit], data, tiny_model, Pin({}), None)
    assert checked.words == "proved (sumcheck, not zero-knowledge, unaudited)"
    assert checked.hidden == ""
    assert checked.binds_nonce
    assert checked.details["proof_bytes"] == len(data)
    assert checked.details["soundness_bits"] >= 100
    assert checked.details["weights"] == "held"


@pytest.mark.parametrize("unit", UNITS)
def test_committed_weights_are_not_needed_by_the_verifier(
    unit: str,
    verifier: ExactModel,
    run: dict[str, Claim],
    made: Path,
    evidence: dict[tuple[str, str], bytes],
) -> None:
    data = evidence[unit, "committed"]
    checked = BACKEND.verify(run[unit], data, verifier, pin_of(made, unit), made)
    assert checked.binds_nonce
    assert checked.details["proof_bytes"] == len(data)
    assert checked.details["soundness_bits"] >= 100
    assert checked.details["weights"] == "committed"


def test_what_lacks_soundness_is_refused(
    tiny_model: ExactModel,
    run: dict[str, Claim],
    evidence: dict[tuple[str, str], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the prover who chose how long the run is."""
    monkeypatch.setattr(protocol, "MIN_BITS", 120)
    with pytest.raises(ProofRejected, match="expected at least 120 bits of soundness"):
        BACKEND.verify(run["head"], evidence["head", "held"], tiny_model, Pin({}), None)


def test_held_weights_are_needed_by_the_verifier(
    verifier: ExactModel, run: dict[str, Claim], evidence: dict[tuple[str, str], bytes]
) -> None:
    with pytest.raises(InputError, match=r"expected weights.safetensors, found none"):
        BACKEND.verify(run["embed"], evidence["embed", "held"], verifier, Pin({}), None)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("mode", MODES)
def test_evidence_of_one_mode_is_refused_in_the_other(
    unit: str,
    mode: str,
    tiny_model: ExactModel,
    run: dict[str, Claim],
    made: Path,
    evidence: dict[tuple[str, str], bytes],
) -> None:
    pin = pin_of(made, unit) if mode == "held" else Pin({})
    with pytest.raises(ProofRejected, match=r"the proof is one (for|under)"):
        BACKEND.verify(run[unit], evidence[unit, mode], tiny_model, pin, made)


@pytest.mark.parametrize("mode", MODES)
def test_evidence_is_that_of_its_statement(
    mode: str,
    tiny_model: ExactModel,
    run: dict[str, Claim],
    made: Path,
    evidence: dict[tuple[str, str], bytes],
) -> None:
    pin = pin_of(made, "mlp[0]") if mode == "committed" else Pin({})
    claim = replace(run["mlp[0]"], statement=sha256(b"another nonce"))
    with pytest.raises(ProofRejected, match="does not hold"):
        BACKEND.verify(claim, evidence["mlp[0]", mode], tiny_model, pin, made)


def test_a_claim_that_no_run_can_make_is_refused(
    tiny_model: ExactModel, run: dict[str, Claim], evidence: dict[tuple[str, str], bytes]
) -> None:
    claim = replace(run["head"], outputs=run["head"].outputs + 29)
    with pytest.raises(ProofRejected, match=r"head: id 0 must lie in 0\.\.28"):
        BACKEND.verify(claim, evidence["head", "held"], tiny_model, Pin({}), None)


@pytest.mark.parametrize("mode", MODES)
def test_a_claim_that_is_not_true_is_not_proved(
    mode: str, tiny_model: ExactModel, run: dict[str, Claim], made: Path
) -> None:
    claim = run["mlp[0]"]
    outputs = claim.outputs.copy()
    outputs[2, 5] += 1
    with pytest.raises(ConstraintViolation, match=r"mlp\[0\]: the model gives .* at \[2, 5\]"):
        BACKEND.prove(
            tiny_model, replace(claim, outputs=outputs), made if mode == "committed" else None
        )


# Commitments


def test_a_commitment_is_the_same_each_time(
    tiny_model: ExactModel, made: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    pin = BACKEND.setup(tiny_model, "mlp[0]", 99, tmp_path, lines.append)
    assert pin == BACKEND.setup(tiny_model, "mlp[0]", 1, tmp_path) == pin_of(tmp_path, "mlp[0]")
    assert path_of(tmp_path, "mlp[0]").read_bytes() == path_of(made, "mlp[0]").read_bytes()
    assert "mlp[0]: committing to the weights" in lines


def test_commitments_of_different_units_differ(made: Path) -> None:
    roots = {json.loads(path_of(made, unit).read_bytes())["root"] for unit in UNITS}
    assert len(roots) == len(UNITS)


def test_a_commitment_to_another_model_is_not_overwritten(
    other_model: ExactModel, keys: Path
) -> None:
    before = path_of(keys, "mlp[0]").read_bytes()
    with pytest.raises(InputError, match="expected a commitment to this model, found another"):
        BACKEND.setup(other_model, "mlp[0]", 1, keys)
    assert path_of(keys, "mlp[0]").read_bytes() == before


def test_a_pin_is_the_digest_of_the_file(tiny_model: ExactModel, made: Path) -> None:
    assert BACKEND.pin(tiny_model, "mlp[0]", made) == pin_of(made, "mlp[0]")
    assert BACKEND.pin(tiny_model, "mlp[0]", made, recompute=True) == pin_of(made, "mlp[0]")
    assert BACKEND.pin(tiny_model, "mlp[0]", None) == Pin({})
    assert BACKEND.pin(tiny_model, "mlp[1]", made) == Pin({})


def test_a_recomputed_pin_is_that_of_the_model(other_model: ExactModel, made: Path) -> None:
    with pytest.raises(DigestMismatch, match=r"not the commitment to this model's mlp\[0\]"):
        BACKEND.pin(other_model, "mlp[0]", made, recompute=True)


def test_a_commitment_to_something_else_is_refused_before_anything_is_proved(
    tiny_model: ExactModel, other_model: ExactModel, keys: Path
) -> None:
    with pytest.raises(InputError, match=f"model: the commitment is to {tiny_model.digest[:20]}"):
        BACKEND.pin(other_model, "mlp[0]", keys)
    path_of(keys, "mlp[1]").parent.mkdir(exist_ok=True)
    shutil.copy(path_of(keys, "mlp[0]"), path_of(keys, "mlp[1]"))
    with pytest.raises(InputError, match=r"unit: the commitment is to mlp\[0\], expected mlp\[1\]"):
        BACKEND.pin(tiny_model, "mlp[1]", keys)


def test_other_weights_than_the_committed_are_not_proved(
    other_model: ExactModel, run: dict[str, Claim], made: Path
) -> None:
    claim = run["mlp[0]"]
    outputs = reference.run_unit(other_model, "mlp[0]", claim.inputs)
    with pytest.raises(ConstraintViolation, match="the commitment is to other weights"):
        BACKEND.prove(other_model, replace(claim, outputs=outputs), made)


@pytest.fixture
def check(
    verifier: ExactModel,
    run: dict[str, Claim],
    evidence: dict[tuple[str, str], bytes],
    keys: Path,
) -> Callable[..., None]:
    """Verify one unit under what lies in `keys`, pinned as it is unless told otherwise."""

    def refuse(error: type[Error], match: str, unit: str = "attention[0]", **changes: Any) -> None:
        pin = changes.pop("pin", None) or pin_of(keys, unit)
        folder = changes.pop("keys", keys)
        with pytest.raises(error, match=match):
            BACKEND.verify(run[unit], evidence[unit, "committed"], verifier, pin, folder)

    return refuse


def spoil(keys: Path, **changes: object) -> None:
    """Change fields of the commitment to attention[0]; those that are None are left out."""
    path = path_of(keys, "attention[0]")
    fields = json.loads(path.read_bytes()) | changes
    path.write_bytes(canonical_json({k: v for k, v in fields.items() if v is not None}))


Check = Callable[..., None]


def test_another_file_than_the_pinned_is_refused(check: Check, keys: Path) -> None:
    pin = pin_of(keys, "attention[0]")
    spoil(keys, root="0" * 64)
    check(DigestMismatch, r"attention\[0\]: commitment.json: expected sha256:.*, got ", pin=pin)


def test_another_root_is_refused(check: Check, keys: Path) -> None:
    spoil(keys, root="0" * 64)
    check(ProofRejected, "sumcheck: .* does not hold")


def test_the_commitment_of_another_unit_is_refused(check: Check, keys: Path) -> None:
    shutil.copy(path_of(keys, "mlp[0]"), path_of(keys, "attention[0]"))
    check(UntrustedMaterial, r"attention\[0\]: the commitment is that of 'mlp\[0\]'")


def test_the_commitment_to_another_model_is_refused(
    check: Check, keys: Path, other_model: ExactModel
) -> None:
    path_of(keys, "attention[0]").unlink()
    BACKEND.setup(other_model, "attention[0]", 1, keys)
    check(UntrustedMaterial, f"the commitment is to '{other_model.digest}', the model is ")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda data: data[:-1], "commitment.json is not strict JSON"),
        (lambda data: b"", "commitment.json is not strict JSON"),
        (lambda data: data + b"\n", "commitment.json is not canonical JSON"),
        (lambda data: data.replace(b":", b": ", 1), "commitment.json is not canonical JSON"),
        (lambda data: b"[]", "commitment.json"),
        (lambda data: b"\xff", "commitment.json is not strict JSON"),
    ],
    ids=["truncated", "empty", "longer", "spaced", "list", "no text"],
)
def test_a_commitment_is_canonical(
    change: Callable[[bytes], bytes], match: str, check: Check, keys: Path
) -> None:
    path = path_of(keys, "attention[0]")
    path.write_bytes(change(path.read_bytes()))
    check(InvalidBundle, match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 2}, "expected format 1, got 2"),
        ({"root": "0" * 63}, "expected a root of 32 bytes"),
        ({"root": "G" * 64}, "expected a root of 32 bytes"),
        ({"root": "A" * 64}, "expected a root of 32 bytes"),
        ({"root": "0" * 64 + "\n"}, "expected a root of 32 bytes"),
        ({"root": None}, "root"),
        ({"unit": 3}, "unit"),
        ({"tables": [1]}, "tables"),
        ({"more": 1}, "more"),
        ({"tables": {}}, r"attention\[0\]: the commitment lacks the table"),
    ],
    ids=str,
)
def test_a_commitment_has_its_fields_and_no_others(
    changes: dict[str, object], match: str, check: Check, keys: Path
) -> None:
    spoil(keys, **changes)
    check(InvalidBundle, match)


@pytest.mark.parametrize("wrong", ["entry", "longer", "empty", "too large"])
def test_tables_are_the_models(wrong: str, check: Check, keys: Path) -> None:
    ((name, table),) = json.loads(path_of(keys, "attention[0]").read_bytes())["tables"].items()
    changed = {
        "entry": [*table[:-1], table[-1] + 1],
        "longer": [*table, 0],
        "empty": [],
        "too large": [*table[:-1], 1 << 50],
    }
    spoil(keys, tables={name: changed[wrong]})
    check(DigestMismatch, rf"attention\[0\]: the table {name} is not the model's")


def test_a_commitment_that_is_missing_is_named(check: Check, keys: Path) -> None:
    pin = pin_of(keys, "attention[0]")
    check(InputError, r"attention\[0\]: its weights are committed to", pin=pin, keys=None)
    path_of(keys, "attention[0]").unlink()
    check(InputError, r"attention\.0/commitment\.json: no such file", pin=pin)
    check(InputError, "no such file", pin=pin, keys=keys / "none")


def test_a_commitment_is_limited(check: Check, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMMITMENT", 1000)
    check(LimitExceeded, "at most 1000 bytes expected")


@pytest.mark.parametrize("names", [["vk.key"], ["commitment.json", "vk.key"]])
def test_a_pin_names_the_commitment_alone(names: list[str], check: Check, keys: Path) -> None:
    digest = pin_of(keys, "attention[0]").digests[COMMITMENT]
    check(
        UntrustedMaterial,
        "expected a pin of commitment.json alone, got " + ", ".join(names),
        pin=Pin(dict.fromkeys(names, digest)),
    )


# What can be proved


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_supported(unit: str, tiny_model: ExactModel) -> None:
    assert BACKEND.unsupported(tiny_model.specification, unit) == ""


def test_a_model_whose_equations_could_wrap_is_not_supported(tiny_model: ExactModel) -> None:
    specification = tiny_model.specification
    assert specification.head is not None
    wide = replace(specification, head=replace(specification.head, logit=1 << 62))
    assert "margin could wrap" in BACKEND.unsupported(wide, "head")
    assert BACKEND.unsupported(wide, "mlp[0]") == ""


def test_a_proof_is_bound_to_all_of_its_claim(
    tiny_model: ExactModel, run: dict[str, Claim]
) -> None:
    claim = run["head"]
    rows = claim.inputs.copy()
    rows[0, 0] += 1
    claimed = [
        claim,
        replace(claim, unit="mlp[0]"),
        replace(claim, statement=sha256(b"")),
        replace(claim, first_row=claim.first_row + 1),
        replace(claim, inputs=rows),
        replace(claim, inputs=claim.inputs.reshape(-1, 16)),
        replace(claim, outputs=claim.outputs[::-1]),
        replace(claim, outputs=np.append(claim.outputs, 0)),
    ]
    contexts = [module.context_of(tiny_model, each, None).items for each in claimed]
    assert len(set(contexts)) == len(claimed)

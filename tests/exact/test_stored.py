"""Integers that no model may hold: every reader refuses them, in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.commands import Done, zkllm
from tests.exact.test_extremes import with_an_idle_weight
from tests.fitting import disguised, fitted, on_disk, tensors_of, with_entry
from tests.traces import seal, trace
from zkllm import bundle as container
from zkllm.backends.sumcheck.backend import Commitment
from zkllm.bundle import BackendName, Bundle, Evidence
from zkllm.digests import canonical_json
from zkllm.errors import UntrustedMaterial, WrongMaterial
from zkllm.exact import model as models
from zkllm.exact.check import check_bounds, prove_unit
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.exact.stored import check_stored
from zkllm.keys import setup
from zkllm.policy import Policy
from zkllm.tensors import IntArray

LEAST = -(2**63)
PLACES = {
    "embed.tokens": 3,
    "embed.positions": 3,
    "attention[0].query.weight": 3,
    "attention[1].value.weight": 700,
    "attention[1].out.weight": 0,
    "mlp[0].expand.weight": 3,
    "mlp[1].project.weight": 3,
    "head.logits.weight": 3,
    "attention[0].key.bias": 1,
    "head.logits.bias": 28,
    "table.exp": -1,
    "table.gelu": 5,
}
"""A place in a tensor of every kind."""


# What may be stored


@pytest.mark.parametrize("value", [2**52, -(2**52), 2**53, 2**63 - 1, LEAST])
def test_an_integer_of_2_to_the_52_is_refused(tiny_model: ExactModel, value: int) -> None:
    name = "mlp[0].expand.weight"
    values = np.zeros((32, 128), dtype=np.int64)
    values[31, 127] = value
    message = rf"^tensor mlp\[0\].expand.weight: expected integers below 2\^52 .*, got {value}$"
    with pytest.raises(WrongMaterial, match=message):
        check_stored(tiny_model.specification, name, values)
    values[31, 127] = 2**52 - 1
    values[0, 0] = 1 - 2**52
    check_stored(tiny_model.specification, name, values)


@pytest.mark.parametrize(("place", "value"), [(0, 0), (-1, -1), (3, 1 << 40), (0, LEAST)])
def test_a_table_of_exponentials_falls(tiny_model: ExactModel, place: int, value: int) -> None:
    refuse_table(tiny_model, "table.exp", place, value, "2^52|which falls from above 0 to 0")


def test_all_positions_together_are_below_the_limit(tiny_model: ExactModel) -> None:
    """Otherwise the sum of the exponentials could leave int64, whatever `total` claims."""
    refuse_table(tiny_model, "table.exp", 0, 2**52 // 12 + 1, "12 positions add up to less than")
    tensors = with_entry(tensors_of(tiny_model), "table.exp", 0, 2**52 // 12)
    ExactModel.in_memory(tiny_model.specification, tensors)


@pytest.mark.parametrize(("place", "value"), [(5, 6), (0, 1), (7, -1), (0, LEAST)])
def test_a_table_of_gelu_keeps_the_output_within_the_input(
    tiny_model: ExactModel, place: int, value: int
) -> None:
    refuse_table(tiny_model, "table.gelu", place, value, rf"2^52|got D[{place}] = {value}")


def refuse_table(model: ExactModel, name: str, place: int, value: int, words: str) -> None:
    """One of `words` stands in the refusal, with the name of the tensor."""
    with pytest.raises(WrongMaterial) as caught:
        ExactModel.in_memory(model.specification, with_entry(tensors_of(model), name, place, value))
    assert caught.value.message.startswith(f"tensor {name}: expected ")
    assert any(word in caught.value.message for word in words.split("|"))


def test_narrow_types_hold_their_least_integer(tiny_model: ExactModel) -> None:
    """-128 in int8 is as good as any."""
    changed = with_entry(tensors_of(tiny_model), "embed.tokens", 5, -128)
    fitted(tiny_model.specification, changed)


# The attack: a weight whose measure wraps around to zero


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the rule away: tensors are then read as they are."""
    monkeypatch.setattr(models, "check_stored", lambda *_: None)


# Of tables bounds demand nothing: they rest on the rule.
@pytest.mark.parametrize("name", [name for name in PLACES if not name.startswith("table.")])
def test_bounds_are_proven_without_the_rule(
    name: str, tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are measured in integers that do not wrap: each of both guards stands alone."""
    specification, tensors = disguised(
        tiny_model.specification, tensors_of(tiny_model), name, PLACES[name], LEAST
    )
    blind(monkeypatch)
    with pytest.raises(UntrustedMaterial, match=r"spec.json: .*: the proven bound of .* is \d{16}"):
        check_bounds(ExactModel.in_memory(specification, tensors))


def test_what_the_attack_was(tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """In int64 the weight counts for nothing, and the specification is the proven one."""
    name, place = "mlp[0].expand.weight", PLACES["mlp[0].expand.weight"]
    specification, tensors = disguised(
        tiny_model.specification, tensors_of(tiny_model), name, place, LEAST
    )
    blind(monkeypatch)
    with monkeypatch.context() as patched:
        measured_in_int64(patched)
        model = ExactModel.in_memory(specification, tensors)
        proven = prove_unit(model, "mlp[0]")
    assert proven == specification.mlp[0]


def measured_in_int64(monkeypatch: pytest.MonkeyPatch) -> None:
    from zkllm.operations import bounds

    def square_sums(weight: IntArray) -> list[int]:
        return [int(n) for n in (weight * weight).sum(axis=0)]

    def absolute_sums(weight: IntArray, entries: list[int]) -> list[int]:
        wrapped = np.array(entries) @ np.abs(weight)
        return [int(n) if n >= 0 else 1 << 62 for n in wrapped]

    monkeypatch.setattr(bounds, "square_sums", square_sums)
    monkeypatch.setattr(bounds, "absolute_sums", absolute_sums)


# The same on disk, by every command


@pytest.fixture(scope="module", params=PLACES)
def hostile(
    request: pytest.FixtureRequest,
    tiny_model: ExactModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A compiled model on disk, all digests right, with the least int64 in one tensor."""
    folder = tmp_path_factory.mktemp("hostile")
    specification, tensors = disguised(
        tiny_model.specification,
        tensors_of(tiny_model),
        request.param,
        PLACES[request.param],
        LEAST,
    )
    return on_disk(specification, tensors, folder, tiny_model.tokenizer_bytes())


def refused(done: Done) -> None:
    """One line that names a tensor, and nothing else."""
    assert done.code == 4, done.err
    assert done.out == ""
    (line,) = [line for line in done.err.splitlines() if "tensor " in line]
    assert "expected" in line
    assert "Traceback" not in done.err


def test_no_policy_for_it(hostile: Path) -> None:
    for more in ([], ["--backend", "sumcheck"]):
        refused(zkllm("policy", "init", hostile, *more))


def test_no_commitment_to_it(hostile: Path, tmp_path: Path) -> None:
    refused(zkllm("setup", hostile, "--backend", "sumcheck", "--keys", tmp_path / "keys"))
    assert not (tmp_path / "keys").exists()


def test_it_does_not_run(hostile: Path) -> None:
    refused(zkllm("run", hostile, "-p", "a", "--device", "cpu"))


def claimed(hostile: Path, honest: ExactModel) -> tuple[Bundle, Specification]:
    """The run of an honest model under the hostile one's name."""
    specification = ExactModel.from_folder(hostile).specification
    run = trace(honest, "a cat", 2)
    named = replace(run, statement=replace(run.statement, model=specification.digest))
    kinds = zip(run.boundaries, specification.boundary_bounds(), strict=True)
    inside = tuple(np.clip(rows, -bound, bound) for rows, bound in kinds)
    other = ExactModel(specification, None)
    return seal(other, replace(named, boundaries=inside)), specification


@pytest.mark.parametrize("backend", ["replay", "sumcheck"])
def test_nothing_of_it_is_proved_or_verified(
    backend: BackendName, hostile: Path, tiny_model: ExactModel, tmp_path: Path
) -> None:
    run, specification = claimed(hostile, tiny_model)
    container.save(run, specification, tmp_path / "run.trace")
    done = zkllm(
        *("prove", tmp_path / "run.trace", "--model", hostile, "--backend", backend),
        *("-o", tmp_path / "run.bundle", "--jobs", "1"),
    )
    assert not (tmp_path / "run.bundle").exists()
    assert done.code == 4
    assert "Traceback" not in done.err
    # a policy that somebody wrote by hand
    units = dict.fromkeys(specification.units(), backend)
    policy = tmp_path / "policy.toml"
    policy.write_text(Policy(model=specification.digest, units=units).to_toml())
    evidence = Evidence(backend, b"" if backend == "replay" else b"x")
    claim = run.with_evidence(dict.fromkeys(units, evidence))
    container.save(claim, specification, tmp_path / "run.bundle")
    done = zkllm("verify", tmp_path / "run.bundle", "--policy", policy, "--model", hostile)
    assert "Traceback" not in done.err
    if backend == "replay":  # of sumcheck the evidence is nonsense, and may be refused before
        assert done.code == 4
        assert "invalid" not in done.err
        assert "tensor " in done.err
    assert done.code in (3, 4)


def test_what_reads_no_weight_shows_it(hostile: Path) -> None:
    assert zkllm("inspect", hostile).code == 0
    assert zkllm("plan", hostile, "--backend", "sumcheck").code == 0


def test_the_largest_integer_runs_and_is_proved_where_it_never_counts(
    tiny_model: ExactModel, tmp_path: Path
) -> None:
    """Its neighbour is refused; this one is multiplied with zeros alone, and harms nobody."""
    made = with_an_idle_weight(tiny_model)
    tokenizer = tiny_model.tokenizer_bytes()
    folder = on_disk(made.specification, tensors_of(made), tmp_path / "model", tokenizer)
    policy, run, proof = (tmp_path / name for name in ("policy.toml", "run.trace", "run.bundle"))
    for arguments in (
        ("policy", "init", folder, "-o", policy),
        ("run", folder, "-p", "a cat", "-n", "2", "--device", "cpu", "-o", run),
        ("prove", run, "--model", folder, "--jobs", "1", "-o", proof),
        ("verify", proof, "--policy", policy, "--model", folder),
    ):
        done = zkllm(*arguments)
        assert done.code == 0, done.err


# Commitments


def with_table(path: Path, change: dict[str, list[int]]) -> None:
    commitment = json.loads(path.read_bytes())
    path.write_bytes(canonical_json(commitment | {"tables": commitment["tables"] | change}))


@pytest.mark.parametrize("value", [2**52, -(2**63), 2**63, 2**70, -(2**70)])
def test_a_table_of_a_commitment_is_held_to_the_rule(
    value: int, tiny_model: ExactModel, tmp_path: Path
) -> None:
    setup(tiny_model, "sumcheck", tmp_path / "keys", units=["mlp[0]"])
    path = tmp_path / "keys" / "mlp.0" / "commitment.json"
    table = tiny_model.tensor("table.gelu").tolist()
    table[9] = value
    with_table(path, {"table.gelu": table})
    message = rf"table table.gelu: expected integers below 2\^52 in magnitude, got {value}$"
    with pytest.raises(WrongMaterial, match=message):
        Commitment.from_bytes(path.read_bytes(), "commitment.json")
    specification = tiny_model.specification
    container.save(trace(tiny_model, "a cat", 2), specification, tmp_path / "run.trace")
    assert tiny_model.folder is not None
    for done in (
        zkllm("inspect", path),
        zkllm(
            *("prove", tmp_path / "run.trace", "--model", tiny_model.folder),
            *("--backend", "sumcheck", "--keys", tmp_path / "keys", "--jobs", "1"),
            *("-o", tmp_path / "run.bundle"),
        ),
    ):
        assert done.code == 4, done.err
        assert "expected integers below 2^52" in done.err
        assert "Traceback" not in done.err

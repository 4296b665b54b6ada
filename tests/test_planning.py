"""Plans say what work costs, and refuse what will not fit, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.commands import zkllm
from zkllm import keys, planning
from zkllm.backends.sumcheck.backend import SumcheckBackend
from zkllm.engines.sumcheck import protocol
from zkllm.errors import BackendError, InputError, UnsupportedModel
from zkllm.exact.model import ExactModel


def test_every_unit_has_an_estimate(demo_model: ExactModel) -> None:
    made = planning.plan(demo_model.specification, "ezkl", 8)
    assert list(made.estimates) == list(demo_model.specification.units())
    assert made.backends["attention[0]"] == "ezkl"
    assert made.backends["mlp[0]"] == "replay"
    attention = made.estimates["attention[0]"]
    assert 50_000 < attention.rows < 80_000
    assert attention.logrows == 14
    assert attention.multiply_adds == 4 * 8 * 32 * 32 + 8 * 9 * 32
    assert made.memory_bytes == max(e.memory_bytes for e in made.estimates.values())
    assert made.memory_available > 0


def test_longer_runs_cost_more(demo_model: ExactModel) -> None:
    spec = demo_model.specification
    short, long = (planning.plan(spec, "ezkl", t).estimates["attention[0]"] for t in (8, 16))
    assert long.rows > 1.9 * short.rows
    assert long.memory_bytes > short.memory_bytes


def test_what_is_generated_and_committed_to_costs_as_well(demo_model: ExactModel) -> None:
    spec = demo_model.specification
    plain, longer, committed = (
        planning.plan(spec, "sumcheck", 8, **more).estimates["head"]
        for more in ({}, {"generated": 3}, {"keys": True})
    )
    assert plain.rows < longer.rows
    assert plain.evidence_bytes < longer.evidence_bytes
    assert plain.setup_seconds == 0 < committed.setup_seconds
    assert plain.evidence_bytes < committed.evidence_bytes
    assert plain.memory_bytes < committed.memory_bytes


@pytest.mark.parametrize("generated", [0, 9])
def test_impossible_numbers_of_new_tokens(generated: int, demo_model: ExactModel) -> None:
    with pytest.raises(InputError, match=f"new tokens: expected 1 to 8, got {generated}"):
        planning.plan(demo_model.specification, "sumcheck", 8, generated=generated)


def test_units_that_lack_soundness_are_refused_before_anything_is_spent(
    demo_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MIN_BITS", 120)
    with pytest.raises(UnsupportedModel, match="expected at least 120 bits of soundness"):
        planning.plan(demo_model.specification, "sumcheck", 8)


@pytest.mark.parametrize("tokens", [0, 17, -1])
def test_impossible_lengths(tokens: int, demo_model: ExactModel) -> None:
    with pytest.raises(InputError, match=f"tokens: expected 1 to 16, got {tokens}"):
        planning.plan(demo_model.specification, "replay", tokens)


def test_work_that_will_not_fit_is_refused_with_the_number(
    demo_model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "memory_available", lambda: 100 << 20)
    made = planning.plan(demo_model.specification, "ezkl", 8)
    with pytest.raises(BackendError, match=r"attention\[0\]: about \d+ bytes of memory needed"):
        made.require_fit()
    with pytest.raises(BackendError, match=str(100 << 20)):
        keys.setup(demo_model, "ezkl", tmp_path / "keys", tokens=8)
    assert not (tmp_path / "keys").exists()
    assert demo_model.folder is not None
    done = zkllm("plan", demo_model.folder, "--backend", "ezkl", "--tokens", "8")
    assert done.code == 5
    assert "attention[0]" in done.out
    assert "104857600 available" in done.err


def test_a_machine_that_does_not_say_refuses_nothing(
    demo_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "memory_available", lambda: 0)
    planning.plan(demo_model.specification, "ezkl", 8).require_fit()


def test_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_cgroup_room", lambda: 123)
    monkeypatch.setattr(planning, "_proc_available", lambda: 456)
    assert planning.memory_available() == 123
    monkeypatch.setattr(planning, "_cgroup_room", lambda: None)
    assert planning.memory_available() == 456
    monkeypatch.setattr(planning, "_proc_available", lambda: None)
    assert planning.memory_available() > 1 << 20


# Which backend proves which unit


def with_keys(folder: Path, *files: str) -> Path:
    """A folder of keys in which such files stand, whatever they hold."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


@pytest.mark.parametrize(
    ("files", "by_ezkl"),
    [
        ([], []),
        (["attention.0/vk.key"], ["attention[0]"]),
        (["attention.0/vk.key", "attention.1/vk.key", "srs/x"], ["attention[0]", "attention[1]"]),
        (["attention.0/vk.key", "attention.0/commitment.json"], []),
        (["attention.0/vk.key", "attention.1/commitment.json"], ["attention[0]"]),
        (["mlp.0/commitment.json", "notes/vk.key"], []),
    ],
)
def test_sumcheck_proves_what_nobody_asked_another_backend_for(
    files: list[str], by_ezkl: list[str], demo_model: ExactModel, tmp_path: Path
) -> None:
    spec, folder = demo_model.specification, with_keys(tmp_path, *files)
    expected = {unit: "ezkl" if unit in by_ezkl else "sumcheck" for unit in spec.units()}
    assert planning.assign(spec, keys=folder) == expected
    # a policy demands what `prove` gives
    assert {u: keys._backend_for(spec, u, folder, ()) for u in spec.units()} == expected
    assert set(planning.assign(spec).values()) == {"sumcheck"}


@pytest.mark.parametrize("ask", [planning.assign, keys.policy_for])
def test_keys_of_no_backend(ask: Any, demo_model: ExactModel, tmp_path: Path) -> None:
    folder = with_keys(tmp_path, "attention.0/settings.json")
    model = demo_model.specification if ask is planning.assign else demo_model
    with pytest.raises(InputError, match=r"attention\.0: expected commitment.json or vk.key"):
        ask(model, keys=folder)


def test_a_unit_that_sumcheck_cannot_prove_is_not_replayed_unasked(
    demo_model: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = demo_model.specification
    monkeypatch.setattr(
        SumcheckBackend, "unsupported", lambda _, __, unit: "too wide" if unit == "mlp[0]" else ""
    )
    with pytest.raises(InputError, match=r"sumcheck cannot prove mlp\[0\]: too wide") as caught:
        planning.assign(spec)
    assert "--backend replay" in caught.value.hint
    with pytest.raises(InputError, match=r"sumcheck cannot prove mlp\[0\]: too wide"):
        keys.policy_for(demo_model)
    asked = planning.assign(spec, ["sumcheck", "replay"])
    assert asked == dict.fromkeys(spec.units(), "sumcheck") | {"mlp[0]": "replay"}
    assert keys.policy_for(demo_model, backends=["sumcheck", "replay"]).units == asked


def test_what_ezkl_alone_cannot_prove_is_replayed(demo_model: ExactModel) -> None:
    found = planning.assign(demo_model.specification, "ezkl")
    assert found == {unit: "ezkl" if "attention" in unit else "replay" for unit in found}

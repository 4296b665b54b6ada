"""Evidence is made without files: the same as in the bundle of `prove`, in one process or two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.traces import trace
from zkllm.bundle import Bundle, Evidence
from zkllm.errors import ConstraintViolation, InputError
from zkllm.evidence import check_assignment, expected_costs, make_evidence, pin_keys
from zkllm.exact.model import ExactModel
from zkllm.keys import policy_for, setup
from zkllm.planning import assign
from zkllm.proving import prove
from zkllm.tokenization import Tokenizer
from zkllm.verifying import claims, verify
from zkllm.workers import Workers


@pytest.fixture(scope="module")
def run(tiny_model: ExactModel) -> Bundle:
    return trace(tiny_model, "a cat", 3)


def test_what_is_made_is_what_prove_writes(
    tiny_model: ExactModel, run: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, empty = tmp_path / "b", tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    spec = tiny_model.specification
    assignment = assign(spec, "sumcheck", ["mlp[0]", "head"])
    made = dict(make_evidence(tiny_model, claims(run, spec), assignment))
    assert {unit: evidence.backend for unit, evidence in made.items()} == assignment
    data = run.with_evidence(made).to_bytes(spec)
    prove(run, tiny_model, assignment, path)
    assert path.read_bytes() == data
    assert not list(empty.iterdir())


def test_workers_that_stay_serve_several_runs(tiny_model: ExactModel, run: Bundle) -> None:
    spec = tiny_model.specification
    assignment = assign(spec, "sumcheck")
    told: list[str] = []
    with Workers(tiny_model, 2) as workers:
        for each in (run, trace(tiny_model, "no", 1)):
            wanted = list(claims(each, spec))
            made = dict(
                make_evidence(tiny_model, wanted, assignment, workers=workers, progress=told.append)
            )
            assert made == dict(make_evidence(tiny_model, wanted, assignment))
            bundle = each.with_evidence(made).to_bytes(spec)
            assert verify(bundle, policy_for(tiny_model), model=tiny_model).verdict == "verified"
    assert told == [f"proving {len(assignment)} units in 2 processes"] * 2


def test_it_comes_as_it_is_finished(tiny_model: ExactModel, run: Bundle) -> None:
    spec = tiny_model.specification
    told: list[str] = []
    making = make_evidence(
        tiny_model,
        claims(run, spec),
        assign(spec, "sumcheck", ["attention[0]"]),
        progress=lambda line: told.append(line) if ":" in line or line in spec.units() else None,
    )
    assert next(making) == ("embed", Evidence("replay", b""))
    assert told == ["embed"]
    unit, evidence = next(making)
    assert (unit, evidence.backend) == ("attention[0]", "sumcheck")
    assert told[1] == "attention[0]: proving (sumcheck)"


def test_no_evidence_for_what_is_not_true(tiny_model: ExactModel, run: Bundle) -> None:
    spec = tiny_model.specification
    true = next(claim for claim in claims(run, spec) if claim.unit == "mlp[1]")
    false = replace(true, outputs=true.outputs.copy())
    false.outputs[0, 0] ^= 1
    for backend in ("replay", "sumcheck"):
        with pytest.raises(ConstraintViolation, match=r"^mlp\[1\]: "):
            list(make_evidence(tiny_model, [false], {"mlp[1]": backend}))


ASSIGNMENTS: dict[str, tuple[Any, str]] = {
    "too few": ({"embed": "replay"}, r"assignment: attention\[0\] has no backend"),
    "none": ({}, "assignment: embed has no backend"),
    "too many": ({"mlp[9]": "replay"}, r"assignment: mlp\[9\] is no unit of the model"),
    "no name": ({7: "replay"}, "assignment: 7 is no unit of the model"),
    "unknown": ({"head": "magic"}, "backend: expected one of replay, ezkl, sumcheck, got 'magic'"),
    "a list": ({"head": ["replay"]}, r"backend: expected one of .*, got \['replay'\]"),
}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_assignments_that_are_none(
    name: str, tiny_model: ExactModel, run: Bundle, tmp_path: Path
) -> None:
    found, words = ASSIGNMENTS[name]
    whole = dict.fromkeys(tiny_model.specification.units(), "replay")
    given = found if name in ("too few", "none") else whole | found
    with pytest.raises(InputError, match=words):
        check_assignment(tiny_model.specification, given)
    with pytest.raises(InputError, match=words):
        prove(run, tiny_model, given, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_pins_are_what_a_policy_pins(tiny_model: ExactModel, tmp_path: Path) -> None:
    made = setup(tiny_model, "sumcheck", tmp_path / "keys", units=["mlp[0]"])
    assignment = assign(tiny_model.specification, "sumcheck", ["mlp[0]", "head"])
    pins = pin_keys(tiny_model, assignment, tmp_path / "keys")
    assert {unit: pin for unit, pin in pins.items() if pin.digests} == made
    assert not any(pin.digests for pin in pin_keys(tiny_model, assignment, None).values())
    with pytest.raises(InputError, match="expected keys of a unit that is proved, found none"):
        pin_keys(tiny_model, dict.fromkeys(assignment, "replay"), tmp_path / "keys")


def test_only_what_goes_beside_others_has_costs(tiny_model: ExactModel, run: Bundle) -> None:
    spec = tiny_model.specification
    wanted = list(claims(run, spec))
    replayed = assign(spec, "replay")
    pins = pin_keys(tiny_model, replayed, None)
    assert expected_costs(tiny_model, wanted, replayed, pins, 2) is None
    some = assign(spec, "sumcheck", ["mlp[0]", "head"])
    costs = expected_costs(tiny_model, wanted, some, pin_keys(tiny_model, some, None), 1)
    assert costs is not None
    assert set(costs.estimates) == {"mlp[0]", "head"}
    assert costs.tokens == len(wanted[0].inputs)


def test_prove_reads_a_tokenizer_once(
    tiny_model: ExactModel, run: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real = Tokenizer._open

    def counted(self: Tokenizer, data: bytes, vocabulary: int) -> None:
        opened.append(len(data))
        real(self, data, vocabulary)

    monkeypatch.setattr(Tokenizer, "_open", counted)
    prove(run, tiny_model, "replay", tmp_path / "b")
    assert len(opened) == 1

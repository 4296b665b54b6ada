"""Both verifiers add up the errors of section 14's table, label by label and at GPT-2's size."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import independent
from tests.backends.sumcheck.forging import gpt2_sized
from tests.independent import ledger, protocol
from tests.independent.conversation import Conversation
from tests.independent.field import Element
from tests.test_independent import MODES, MODULES, UNITS, network, prove, run
from zkllm.backends.sumcheck.backend import context_of
from zkllm.backends.sumcheck.estimates import circuit_of, rehearse
from zkllm.backends.sumcheck.units import make_circuit
from zkllm.engines.sumcheck.protocol import run_protocol
from zkllm.engines.sumcheck.verifier import Verifier


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", UNITS)
def test_every_challenge_has_the_error_of_the_table(
    unit: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = network("odd"), list[Conversation]()
    vector = prove(model, run(model, 3, 2)[unit], mode, tmp_path)
    monkeypatch.setattr(Conversation, "end", lambda talk: found.append(talk))
    assert vector.independent() is not None
    circuit = make_circuit(vector.model, vector.claim)
    verifier = Verifier(circuit.plan, circuit.weights, vector.root, vector.proof)
    context = context_of(vector.model, vector.claim, vector.root)
    run_protocol(verifier, None, None, circuit, context)
    assert by_label(found[0].errors.items()) == pytest.approx(
        by_label(verifier.errors), rel=1e-9, abs=0
    )


def by_label(errors: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """Errors of all challenges of a label: of a sumcheck's rounds, of an opening's `high`."""
    found: dict[str, float] = {}
    for label, error in errors:
        name = label.removesuffix(": bind").replace(": rows", ": high")
        found[name] = found.get(name, 0) + float(error)
    return {label: error for label, error in found.items() if error}


class Rehearsed(Conversation):
    """A prover that says nothing but zeros, and challenges of which none is like another."""

    def __init__(self, _: bytes) -> None:
        super().__init__(b"")
        self.transcript.challenges = self.drawn  # type: ignore[method-assign]
        self.numbers = itertools.count(2)

    def receive(self, label: str, size: int) -> bytes:
        return bytes(size)

    def drawn(self, label: str, n: int) -> list[Element]:
        return [Element(next(self.numbers), 0) for _ in range(n)]


@pytest.mark.parametrize(
    ("unit", "positions", "mode"),
    [
        ("embed", 64, "committed"),
        ("attention[0]", 64, "committed"),
        ("attention[0]", 256, "held"),
        ("mlp[0]", 64, "held"),
        ("head", 64, "committed"),
    ],
)
def test_soundness_at_the_size_of_gpt2(
    unit: str, positions: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the package says before any proof is made is what the table adds up to."""
    spec = gpt2_sized()
    circuit = circuit_of(spec, unit, positions)
    _, bits = rehearse(circuit, committed=mode == "committed")
    for module in MODULES:
        if hasattr(module, "require"):
            monkeypatch.setattr(module, "require", lambda holds, what: None)
    monkeypatch.setattr(protocol, "Conversation", Rehearsed)
    monkeypatch.setattr(ledger.Held, "value", lambda *_: Element(0, 0))
    specification, tensors = json.loads(spec.to_bytes()), {}
    if unit in ("attention[0]", "mlp[0]"):
        name = {"attention[0]": "table.exp", "mlp[0]": "table.gelu"}[unit]
        tensors = {name: circuit.weights.tensor(name).tolist()}
    x, y = (
        ([0] * positions if unit == "embed" else [[0] * 768] * positions),
        [[0] * 768] * positions,
    )
    claim = independent.Claim(unit, x, [0] if unit == "head" else y, "model", "statement")
    root = bytes(32) if mode == "committed" else None
    found = independent.verify(specification, tensors, claim, root, b"")
    assert found.bits == pytest.approx(bits, abs=1e-6)

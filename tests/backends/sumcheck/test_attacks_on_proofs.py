"""Proofs that were changed, cut, moved to another claim, or never made."""

from __future__ import annotations

import functools
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.backends.sumcheck.forging import (
    ONES,
    STATEMENT,
    Trial,
    claims,
    gpt2_sized,
    small_model,
)
from zkllm.backends.base import Claim, Pin
from zkllm.backends.sumcheck import estimates
from zkllm.backends.sumcheck.backend import SumcheckBackend, context_of
from zkllm.backends.sumcheck.units import make_circuit
from zkllm.bundle import MAX_EVIDENCE
from zkllm.digests import sha256
from zkllm.engines.sumcheck import protocol
from zkllm.engines.sumcheck.field import MODULUS, Ext
from zkllm.engines.sumcheck.plan import total
from zkllm.engines.sumcheck.protocol import Circuit, Context, check_proof, run_protocol
from zkllm.engines.sumcheck.transcript import Transcript
from zkllm.engines.sumcheck.verifier import Verifier
from zkllm.errors import ProofRejected
from zkllm.exact import reference
from zkllm.exact.model import ExactModel

UNITS = ("embed", "attention[1]", "mlp[0]", "head")
OPENED = "columns: columns"


@dataclass(frozen=True)
class Message:
    label: str
    start: int
    length: int

    @property
    def elements(self) -> bool:
        """Whether it consists of field elements from end to end."""
        return self.label not in ("commitment", OPENED)


@dataclass(frozen=True)
class Proved:
    """A proof that holds, and what it consists of."""

    circuit: Circuit
    context: Context
    proof: bytes
    messages: tuple[Message, ...]

    def refuse(self, proof: bytes, match: str = "^sumcheck: ") -> None:
        with pytest.raises(ProofRejected, match=match):
            check_proof(self.circuit, proof, self.context)

    def altered(self, at: int, data: bytes) -> bytes:
        return self.proof[:at] + data + self.proof[at + len(data) :]


@functools.cache
def proved(unit: str) -> Proved:
    trial = Trial(unit)
    claim, proof = trial.forge()
    assert claim is trial.honest or np.array_equal(claim.outputs, trial.honest.outputs)
    circuit, context = trial.circuit(claim), trial.context(claim)
    messages: list[Message] = []

    class Listing(Verifier):
        def exchange_bytes(self, label: str, make: Callable[[], bytes], length: int) -> bytes:
            messages.append(Message(label, self._position, length))
            return super().exchange_bytes(label, make, length)

    verifier = Listing(circuit.plan, circuit.weights, None, proof)
    run_protocol(verifier, None, None, circuit, context)
    verifier.finish()
    return Proved(circuit, context, proof, tuple(messages))


# Bytes


def places(case: Proved) -> Iterator[int]:
    """All bytes of a short proof; of a longer one, one byte of each piece of every message.

    Which byte of a piece it is changes from one to the next.
    """
    if len(case.proof) < 1000:
        yield from range(len(case.proof))
        return
    turn = itertools.count()
    usual = 40 if len(case.messages) > 160 else 8
    for message in case.messages:
        step = {OPENED: 1009, "columns: row": 72}.get(message.label, usual)
        for offset in range(0, message.length, step):
            yield message.start + offset + 5 * next(turn) % min(step, message.length - offset)


@pytest.mark.parametrize("unit", UNITS)
def test_no_byte_can_be_changed(unit: str) -> None:
    case = proved(unit)
    for k, at in enumerate(places(case)):
        case.refuse(case.altered(at, bytes([case.proof[at] ^ 1 << k % 8])))


@pytest.mark.parametrize("unit", UNITS)
def test_no_proof_is_shorter(unit: str) -> None:
    case = proved(unit)
    for k, message in enumerate(case.messages):
        end = message.start + (message.length - 1) * (k % 2)
        case.refuse(case.proof[:end], f"ends at {message.label}$")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rest", [b"\0", b"\0" * 16, b"a second proof"])
def test_no_proof_is_longer(unit: str, rest: bytes) -> None:
    case = proved(unit)
    case.refuse(case.proof + rest, f"{len(rest)} bytes follow the proof$")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("number", [0, 1, 255])
def test_no_message_can_be_left_out_or_sent_twice(unit: str, number: int) -> None:
    case = proved(unit)
    message = case.messages[number % len(case.messages)]
    end = message.start + message.length
    case.refuse(case.proof[: message.start] + case.proof[end:])
    case.refuse(case.proof[:end] + case.proof[message.start :])


@pytest.mark.parametrize("unit", UNITS)
def test_coordinates_are_below_p(unit: str) -> None:
    """Refused when they are read, whatever would have become of them."""
    case = proved(unit)
    values = itertools.cycle([MODULUS, MODULUS + 1, 2**64 - 1])
    for k, message in enumerate(case.messages):
        if message.elements:
            at = message.start + (message.length - 8) * (k % 2)
            data = next(values).to_bytes(8, "little")
            case.refuse(case.altered(at, data), "a field element is not below p$")


@pytest.mark.parametrize("unit", UNITS[1:])
def test_no_element_has_two_encodings(unit: str) -> None:
    """A small one fits into 8 bytes with p added."""
    case = proved(unit)
    small = [
        (at, value)
        for message in case.messages
        if message.elements
        for at in range(message.start, message.start + message.length, 8)
        if (value := int.from_bytes(case.proof[at : at + 8], "little")) + MODULUS < 2**64
    ]
    assert small
    for at, value in small:
        data = (value + MODULUS).to_bytes(8, "little")
        case.refuse(case.altered(at, data), "a field element is not below p$")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("make", [bytes, lambda n: b"\xff" * n, np.random.default_rng(0).bytes])
@pytest.mark.parametrize("share", [0, 1, 40])
def test_what_is_no_proof_at_all(unit: str, make: Callable[[int], bytes], share: int) -> None:
    case = proved(unit)
    case.refuse(make(share * len(case.proof)))


# The transcript


def test_all_that_is_read_is_absorbed_before_anything_is_drawn() -> None:
    """A challenge that does not depend on a message could be answered by it."""
    case = proved("attention[1]")
    said: list[tuple[str, int]] = []

    class Listening(Transcript):
        def absorb(self, label: str, data: bytes) -> None:
            said.append((label, len(data)))
            super().absorb(label, data)

        def _words(self, label: str) -> Iterator[int]:
            assert sum(length for _, length in said[before:]) == verifier._position
            return super()._words(label)

    verifier = Verifier(case.circuit.plan, case.circuit.weights, None, case.proof)
    verifier.transcript = Listening()
    before = len(case.context.items) + 2
    run_protocol(verifier, None, None, case.circuit, case.context)
    assert [label for label, _ in said[:before]] == [
        "protocol",
        *(label for label, _ in case.context.items),
        "weights",
    ]
    assert said[before:] == [(message.label, message.length) for message in case.messages]


@pytest.mark.parametrize("unit", UNITS)
def test_every_challenge_is_of_full_size_and_counts_as_an_error(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short one could be guessed, one that is not counted could be guessed for nothing."""
    honest = Transcript.challenges
    drawn: set[str] = set()

    def challenges(self: Transcript, label: str, count: int) -> list[Ext]:
        found = honest(self, label, count)
        assert all(min(r.a, r.b) > 2**40 for r in found)
        drawn.add(label.removesuffix(": bind"))
        return found

    monkeypatch.setattr(Transcript, "challenges", challenges)
    trial = Trial(unit, committed=True)
    claim, proof = trial.forge()
    context = trial.context(claim)
    verifier = Verifier(trial.circuit(claim).plan, small_model(), context.weights_root, proof)
    run_protocol(verifier, None, None, trial.circuit(claim), context)
    errors = dict(verifier.errors)
    assert drawn <= set(errors)
    opened = ["weights", *["columns"] * bool(verifier.plan.columns)]
    for label in opened:
        assert 0 < errors[f"{label}: columns"] < 2**-113
        assert 0 < errors[f"{label}: rows"] < 2**-110


ITEMS = [label for label, _ in proved("head").context.items]


def with_other(context: Context, item: str) -> Context:
    """One item of the context with a bit of it flipped."""
    items = dict(context.items)
    items[item] = bytes([items[item][0] ^ 1]) + items[item][1:]
    return replace(context, items=tuple(items.items()))


def deaf_transcript(monkeypatch: pytest.MonkeyPatch, deaf_to: str) -> None:
    """Both parties leave `deaf_to` out of their transcripts."""
    honest = Transcript.absorb

    def absorb(self: Transcript, label: str, data: bytes) -> None:
        honest(self, label, b"" if label == deaf_to else data)

    monkeypatch.setattr(Transcript, "absorb", absorb)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("item", ITEMS)
def test_a_proof_holds_for_its_own_context_only(unit: str, item: str) -> None:
    case = proved(unit)
    with pytest.raises(ProofRejected):
        check_proof(case.circuit, case.proof, with_other(case.context, item))


@pytest.mark.parametrize("item", ITEMS)
def test_without_its_absorption_an_item_can_be_exchanged(
    item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf_transcript(monkeypatch, item)
    trial = Trial("mlp[0]")
    claim, proof = trial.forge()
    check_proof(trial.circuit(claim), proof, with_other(trial.context(claim), item))


def other_limb(circuit: Circuit, _: pytest.MonkeyPatch) -> None:
    circuit.plan.limb += 1


def other_version(_: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "VERSION", protocol.VERSION + 1)


def other_code(name: str, **change: int) -> Callable[[Circuit, pytest.MonkeyPatch], None]:
    code = replace(getattr(protocol, name), **change)
    return lambda _, monkeypatch: monkeypatch.setattr(protocol, name, code)


def more_weights(_: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "total", lambda tensors: total(tensors) + 1)


PARAMETERS = {
    "version": other_version,
    "rate of vectors": other_code("VECTOR", blowup=2),
    "queries of vectors": other_code("VECTOR", queries=1),
    "rate of rows": other_code("ROW", blowup=2),
    "queries of rows": other_code("ROW", queries=1),
    "limb": other_limb,
    "weights": more_weights,
}


@pytest.mark.parametrize("change", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("absorbed", [True, False])
def test_a_proof_holds_for_its_own_parameters_only(
    change: Callable[[Circuit, pytest.MonkeyPatch], None],
    absorbed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not absorbed:
        deaf_transcript(monkeypatch, "protocol")
    trial = Trial("mlp[0]")
    claim, proof = trial.forge()
    circuit = trial.circuit(claim)
    change(circuit, monkeypatch)
    with nullcontext() if not absorbed else pytest.raises(ProofRejected):
        check_proof(circuit, proof, trial.context(claim))


def test_a_root_of_the_weights_is_absorbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deaf to all else, the verifier sees that a column is not opened under the other root."""
    trial = Trial("mlp[0]", committed=True)
    claim, proof = trial.forge()
    context = trial.context(claim)
    assert context.weights_root is not None
    other = replace(context, weights_root=bytes(32))
    with pytest.raises(ProofRejected):
        check_proof(trial.circuit(claim), proof, other)
    labels: list[str] = []

    class Noting(Verifier):
        def refuse(self, label: str) -> None:
            labels.append(label)

    monkeypatch.setattr(protocol, "Verifier", Noting)
    check_proof(trial.circuit(claim), proof, other)
    assert len(labels) > 20
    labels.clear()
    deaf_transcript(monkeypatch, "weights")
    claim, proof = trial.forge()
    check_proof(trial.circuit(claim), proof, other)
    assert labels == ["weights: paths"]


# Replays


def verify(claim: Claim, proof: bytes, model: ExactModel | None = None) -> None:
    SumcheckBackend().verify(claim, proof, model or small_model(), Pin({}), None)


@pytest.mark.parametrize("unit", UNITS)
def test_a_proof_is_believed_once(unit: str) -> None:
    """It is one of its statement, hence of its nonce."""
    case, claim = proved(unit), claims()[unit]
    verify(claim, case.proof)
    with pytest.raises(ProofRejected):
        verify(replace(claim, statement=sha256(b"the same with another nonce")), case.proof)


@pytest.mark.parametrize("unit", ["attention", "mlp"])
def test_a_proof_of_another_block_of_equal_shapes(unit: str) -> None:
    first, second = f"{unit}[0]", f"{unit}[1]"
    claim, proof = claims()[first], proved(first).proof
    verify(claim, proof)
    for other in (claims()[second], replace(claim, unit=second)):
        with pytest.raises(ProofRejected):
            verify(other, proof)


@pytest.mark.parametrize("unit", UNITS)
def test_a_proof_of_another_model_of_equal_shapes(unit: str) -> None:
    other = small_model(1)
    claim = claims(1)[unit]
    proof = SumcheckBackend().prove(other, claim, None)
    verify(claim, proof, other)
    for held in (claim, claims()[unit]):
        with pytest.raises(ProofRejected):
            verify(held, proof)


def test_a_proof_of_other_tokens_and_of_other_rows() -> None:
    claim, proof = claims()["head"], proved("head").proof
    rolled = replace(claim, inputs=np.roll(claim.inputs, 1, axis=0))
    others = [
        replace(claim, outputs=claim.outputs[::-1].copy()),
        replace(claim, outputs=claim.outputs[:1]),
        replace(claim, first_row=claim.first_row - 1),
        replace(rolled, first_row=claim.first_row - 1),
        rolled,
    ]
    for other in others:
        with pytest.raises(ProofRejected):
            verify(other, proof)


@pytest.mark.parametrize("unit", UNITS)
def test_held_and_committed_weights_are_not_confused(unit: str) -> None:
    held, committed = Trial(unit), Trial(unit, committed=True)
    claim, proof = held.forge()
    with pytest.raises(ProofRejected):
        check_proof(held.circuit(claim), proof, committed.context(claim))
    claim, proof = committed.forge()
    with pytest.raises(ProofRejected):
        check_proof(held.circuit(claim), proof, held.context(claim))


@pytest.mark.parametrize("unit", ["embed", "attention[0]", "mlp[0]"])
def test_nothing_is_believed_where_no_tensor_has_a_variable(unit: str) -> None:
    model = small_model(config=ONES)
    ids = np.array([0])
    rows = [ids, *reference.forward(model, ids)]
    index = ("embed", "attention[0]", "mlp[0]").index(unit)
    claim = Claim(unit, rows[index], rows[index + 1], STATEMENT)
    proof = SumcheckBackend().prove(model, claim, None)
    verify(claim, proof, model)
    for by in (1, -1):
        with pytest.raises(ProofRejected):
            verify(replace(claim, outputs=claim.outputs + by), proof, model)


# Claims that no run can make


def flat(claim: Claim) -> Claim:
    return replace(claim, inputs=claim.inputs.reshape(-1))


def wide(claim: Claim) -> Claim:
    return replace(claim, inputs=np.pad(claim.inputs, ((0, 0), (0, 1))))


def wide_output(claim: Claim) -> Claim:
    return replace(claim, outputs=np.pad(claim.outputs, ((0, 0), (0, 1))))


def none_at_all(claim: Claim) -> Claim:
    return replace(claim, inputs=claim.inputs[:0], outputs=claim.outputs[:0])


def nested(claim: Claim) -> Claim:
    return replace(claim, inputs=claim.inputs[:, None])


def nested_ids(claim: Claim) -> Claim:
    return replace(claim, outputs=claim.outputs[:, None])


def large(claim: Claim) -> Claim:
    return replace(claim, outputs=claim.outputs + (1 << 40))


def large_input(claim: Claim) -> Claim:
    return replace(claim, inputs=claim.inputs - (1 << 40))


def smallest(claim: Claim) -> Claim:
    """The integer that has no magnitude."""
    return replace(claim, outputs=np.full_like(claim.outputs, -(2**63)))


def many(claim: Claim) -> Claim:
    return replace(
        claim,
        inputs=np.resize(claim.inputs, (8, *claim.inputs.shape[1:])),
        outputs=np.resize(claim.outputs, (8, *claim.outputs.shape[1:])),
    )


def from_row(row: int) -> Callable[[Claim], Claim]:
    return lambda claim: replace(claim, first_row=row)


IMPOSSIBLE: dict[str, list[Callable[[Claim], Claim]]] = {
    "embed": [nested, wide_output, none_at_all, large, smallest, many, large_input],
    "attention[1]": [flat, wide, wide_output, none_at_all, large, smallest, large_input],
    "mlp[0]": [flat, wide, wide_output, none_at_all, large, smallest, large_input],
    "head": [flat, wide, nested_ids, none_at_all, large, smallest, large_input]
    + [from_row(row) for row in (-2, -5, 4, 2**63, 2**64)],
}


@pytest.mark.parametrize(
    ("unit", "change"),
    [(unit, change) for unit, changes in IMPOSSIBLE.items() for change in changes],
)
def test_a_claim_that_no_run_can_make_is_refused_in_one_line(
    unit: str, change: Callable[[Claim], Claim]
) -> None:
    with pytest.raises(ProofRejected) as caught:
        verify(change(claims()[unit]), proved(unit).proof)
    assert "\n" not in caught.value.message


def test_a_position_beyond_the_context_has_no_row_of_zeros() -> None:
    """That is what is read where a weight ends."""
    model, ids = small_model(), np.arange(8)
    embed = model.specification.embed
    assert embed is not None
    places = np.pad(model.tensor(embed.positions), ((0, 1), (0, 0)))
    claim = Claim("embed", ids, model.tensor(embed.tokens)[ids] + places, STATEMENT)
    with pytest.raises(ProofRejected, match="at most 7 rows, got 8"):
        verify(claim, b"")


# Bombs


def gpt2_claim(unit: str, positions: int) -> tuple[Circuit, Claim]:
    """A claim that means nothing, of a unit of GPT-2 small; the head generates all tokens."""
    specification = gpt2_sized()
    rows = np.zeros((positions, specification.architecture.width), dtype=np.int64)
    ids = np.zeros(positions, dtype=np.int64)
    claim = Claim(
        unit, ids if unit == "embed" else rows, ids if unit == "head" else rows, STATEMENT
    )
    tables = {
        name: np.zeros(specification.tensors[name].shape, dtype=np.int64)
        for name in ("table.exp", "table.gelu")
    }
    tables["table.exp"][0] = 1 << 16
    model = ExactModel.in_memory(specification, tables)
    return make_circuit(model, claim), claim


GPT2_UNITS = ("embed", "attention[0]", "mlp[0]", "head")


@pytest.mark.parametrize("unit", GPT2_UNITS)
@pytest.mark.parametrize("length", [0, 100, 100_000])
def test_a_small_file_cannot_make_a_verifier_of_gpt2_work(unit: str, length: int) -> None:
    """It takes no memory for what a proof only says to have."""
    circuit, claim = gpt2_claim(unit, 1024)
    assert isinstance(circuit.weights, ExactModel)
    context = context_of(circuit.weights, claim, bytes(32))
    tracemalloc.start()
    try:
        with pytest.raises(ProofRejected):
            check_proof(circuit, bytes(length), context)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("unit", GPT2_UNITS)
def test_every_unit_of_gpt2_has_100_bits_at_its_full_context(unit: str) -> None:
    circuit, _ = gpt2_claim(unit, 1024)
    for committed in (False, True):
        length, bits = estimates.rehearse(circuit, committed=committed)
        assert bits > 100
        assert 4 * length < MAX_EVIDENCE["sumcheck"]


def test_no_bundle_of_gpt2_fills_the_memory() -> None:
    """All of a bundle is read before anything of it can be refused."""
    units = 2 + 2 * 12
    assert units * MAX_EVIDENCE["sumcheck"] < 1 << 29

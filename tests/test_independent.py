"""The package and the independent verifier agree on every vector, honest and spoiled.

What one believes the other believes, with the same soundness, and what one refuses the other does.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import json
import pkgutil
import random
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import independent
from tests.backends.sumcheck.forging import (
    ONES,
    PRECISION,
    SIZES,
    STATEMENT,
    LyingProver,
    Trial,
    checkpoint,
    other_quotient,
)
from tests.backends.sumcheck.test_attacks_by_provers import ATTACKS, COMPLEMENTED, MLP, Attack
from tests.backends.sumcheck.test_attacks_on_openings import (
    Fitted,
    OtherTree,
    commit_to_equations,
    commit_to_lookups,
    forgery,
    inside,
    mixed,
    three_levels,
)
from tests.independent import ledger, plan
from tests.independent.conversation import Conversation
from tests.independent.field import Element, P
from tests.independent.opening import ROW, VECTOR, Level, shortest
from tests.independent.plan import choose, length
from tests.independent.tensors import blocks, flat
from tests.independent.transcript import Transcript
from tests.independent.units import declare
from tests.traces import trace
from zkllm.backends.base import Claim, Pin
from zkllm.backends.sumcheck import units
from zkllm.backends.sumcheck.backend import COMMITMENT, SumcheckBackend, context_of
from zkllm.backends.sumcheck.units import make_circuit
from zkllm.digests import Digest, canonical_json, sha256
from zkllm.engines.sumcheck import commitment
from zkllm.engines.sumcheck.field import ONE, ZERO
from zkllm.engines.sumcheck.plan import total
from zkllm.engines.sumcheck.protocol import Circuit, check_proof
from zkllm.errors import UnsupportedModel, VerificationError
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.files import unit_file_name
from zkllm.operations.precision import PRECISIONS
from zkllm.verifying import claims

BACKEND = SumcheckBackend()
MODES = ["held", "committed"]
UNITS = ["embed", "attention[0]", "mlp[0]", "head"]
MODULES = [
    importlib.import_module(f"tests.independent.{module.name}")
    for module in pkgutil.iter_modules(independent.__path__)
]
Statement = tuple[dict[str, Any], dict[str, Any], independent.Claim]


@dataclass(frozen=True)
class Vector:
    """One proof, and all that a verifier has beside it."""

    model: ExactModel
    claim: Claim
    proof: bytes
    keys: Path | None = None
    """Where the commitment to the weights is; none if they are held."""

    @property
    def commitment(self) -> bytes | None:
        if self.keys is None:
            return None
        return (self.keys / unit_file_name(self.claim.unit) / COMMITMENT).read_bytes()

    @property
    def root(self) -> bytes | None:
        data = self.commitment
        return None if data is None else bytes.fromhex(json.loads(data)["root"])

    def package(self) -> float | None:
        """The bits of soundness that the package finds; none if it refuses."""
        data = self.commitment
        pin = Pin({} if data is None else {COMMITMENT: sha256(data)})
        try:
            checked = BACKEND.verify(self.claim, self.proof, self.model, pin, self.keys)
        except VerificationError:
            return None
        circuit = make_circuit(self.model, self.claim)
        bits = check_proof(circuit, self.proof, context_of(self.model, self.claim, self.root))
        assert 0 <= bits - checked.details["soundness_bits"] < 0.1
        return bits

    def independent(self) -> float | None:
        """The same of the independent verifier."""
        specification, tensors, claim = in_plain_integers(self.model, self.claim)
        data = self.commitment
        if data is not None:
            tensors = json.loads(data)["tables"]
        try:
            verdict = independent.verify(specification, tensors, claim, self.root, self.proof)
        except independent.Refused:
            return None
        assert verdict.bounds == (independent.PROVEN if data is None else independent.COMMITTED)
        return verdict.bits

    def verdict(self) -> float | None:
        """What both say, which must be the same."""
        bits = self.package()
        assert self.independent() == pytest.approx(bits, abs=1e-6)
        return bits


@functools.cache
def specification_and_tensors(model: ExactModel) -> tuple[dict[str, Any], dict[str, Any]]:
    specification = json.loads(model.specification.to_bytes())
    return specification, {name: model.tensor(name).tolist() for name in specification["tensors"]}


def in_plain_integers(model: ExactModel, claim: Claim) -> Statement:
    given = independent.Claim(
        claim.unit,
        claim.inputs.tolist(),
        claim.outputs.tolist(),
        model.digest,
        claim.statement,
        claim.first_row,
    )
    return *specification_and_tensors(model), given


def prove(model: ExactModel, claim: Claim, mode: str, keys: Path) -> Vector:
    """An honest proof, whose commitment, if it has one, is in the folder `keys`."""
    if mode == "held":
        return Vector(model, claim, BACKEND.prove(model, claim, None))
    BACKEND.setup(model, claim.unit, len(claim.inputs), keys)
    return Vector(model, claim, BACKEND.prove(model, claim, keys), keys)


# Honest proofs

SMALL = replace(SIZES, blocks=1, context=8)
NETWORKS = {
    "odd": (SMALL, PRECISION),
    "ones": (replace(ONES, context=8), PRECISION),
    "wide": (replace(SMALL, width=8, heads=4, activation="relu"), PRECISIONS["wide"]),
    "ezkl": (replace(SMALL, width=9, heads=3, activation="gelu"), PRECISIONS["ezkl"]),
}


@functools.cache
def network(name: str) -> ExactModel:
    config, precision = NETWORKS[name]
    return ExactModel.in_memory(*build(checkpoint(2, config), precision))


def run(model: ExactModel, positions: int, generated: int) -> dict[str, Claim]:
    """What is claimed of each unit of an honest run."""
    spec = model.specification
    assert spec.head is not None
    ids = np.arange(positions) * 5 % spec.architecture.vocabulary
    rows = reference.forward(model, ids)
    last = rows[-1][positions - generated :]
    before, after = [ids, *rows], [*rows, reference.run_unit(model, "head", last)]
    found = {
        unit: Claim(unit, x, y, STATEMENT)
        for unit, x, y in zip(spec.units(), before, after, strict=True)
    }
    found["head"] = replace(found["head"], first_row=positions - generated)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("name", "positions", "generated"),
    [
        ("odd", 1, 1),
        ("odd", 3, 2),
        ("odd", 8, 1),
        ("ones", 1, 1),
        ("ones", 5, 5),
        ("wide", 3, 1),
        ("wide", 8, 5),
        ("ezkl", 5, 3),
    ],
)
def test_honest_proofs(
    name: str, positions: int, generated: int, unit: str, mode: str, tmp_path: Path
) -> None:
    model = network(name)
    vector = prove(model, run(model, positions, generated)[unit], mode, tmp_path)
    assert vector.verdict() is not None


@pytest.mark.parametrize("mode", MODES)
def test_a_run_of_the_tiny_model(tiny_model: ExactModel, mode: str, tmp_path: Path) -> None:
    bundle = trace(tiny_model, "abc", 3)
    for claim in claims(bundle, tiny_model.specification):
        if not claim.unit.endswith("[1]"):
            assert prove(tiny_model, claim, mode, tmp_path).verdict() is not None


@pytest.mark.parametrize("mode", MODES)
def test_a_fragment(mode: str, tmp_path: Path) -> None:
    """Its block has the number that it has in the checkpoint."""
    built = build(checkpoint(1, replace(SMALL, blocks=2)), PRECISION, (1, 2))
    model = ExactModel.in_memory(*built)
    rows = np.random.default_rng(0).integers(-500, 500, (3, 6))
    assert list(model.specification.units()) == ["attention[1]", "mlp[1]"]
    for unit in model.specification.units():
        output = reference.run_unit(model, unit, rows)
        vector = prove(model, Claim(unit, rows, output, STATEMENT), mode, tmp_path)
        assert vector.verdict() is not None
        rows = output


def test_rows_that_are_committed_to_in_turn(tmp_path: Path) -> None:
    """The vector of these weights is so long that its opening has three levels."""
    config = replace(SMALL, width=64, inner=3, vocabulary=22_200)
    model = ExactModel.in_memory(*build(checkpoint(0, config), PRECISION))
    vector = prove(model, run(model, 3, 1)["embed"], "committed", tmp_path)
    assert vector.verdict() is not None
    assert len(shortest(64 * (22_200 + 8))[1]) == 3
    for place in (-1, -40_000, -120_000):
        spoiled = replace(vector, proof=flipped(vector.proof, len(vector.proof) + place, 3))
        assert spoiled.verdict() is None


@pytest.mark.parametrize("unit", UNITS)
def test_commitments_to_weights(unit: str, tmp_path: Path) -> None:
    model = network("odd")
    claim = run(model, 3, 1)[unit]
    vector = prove(model, claim, "committed", tmp_path)
    assert independent.commitment(*in_plain_integers(model, claim)) == vector.root


def statement_digest(statement: dict[str, Any]) -> str:
    """The digest of a statement, from `docs/format.md` alone."""
    domain = b"zkllm/statement/v1"
    text = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(struct.pack('<H', len(domain)) + domain + text).hexdigest()}"


def test_a_nonce_that_somebody_edited(tiny_model: ExactModel, tmp_path: Path) -> None:
    """Both verifiers absorb the statement with its nonce, and neither believes in another."""
    bundle = trace(tiny_model, "abc", 3)
    bundle = replace(bundle, statement=replace(bundle.statement, nonce="one"))
    for claim in claims(bundle, tiny_model.specification):
        if claim.unit in ("embed", "head"):
            vector = prove(tiny_model, claim, "held", tmp_path)
            for nonce in ("one", "two", ""):
                given = bundle.statement.to_json() | {"nonce": nonce}
                statement = Digest(statement_digest(given))
                edited = replace(vector, claim=replace(claim, statement=statement))
                assert (edited.verdict() is not None) == (nonce == "one")


# Plans and openings without a proof


def in_both(model: ExactModel, claim: Claim) -> tuple[Any, Any]:
    """Limb and lengths of the plan as both verifiers find it; none where an equation may wrap."""
    specification, tensors, given = in_plain_integers(model, claim)
    integers = {name: flat(tensor) for name, tensor in tensors.items()}
    found: list[Any] = []
    try:
        ours = make_circuit(model, claim).plan
        found.append((ours.limb, ours.size(), total(ours.weights), ours.cost()))
    except UnsupportedModel:
        found.append(None)
    try:
        mine, _ = choose(lambda draft: declare(draft, specification, integers, given))
        lengths = (length(list(dims.values())) for dims in (mine.columns, mine.weights))
        found.append((mine.limb, *lengths, mine.cost))
    except independent.Refused:
        found.append(None)
    return found[0], found[1]


NUMBERS = [
    ("attention[0]", "score_shift"),
    ("attention[0]", "score"),
    ("attention[0]", "norm gain"),
    ("attention[0]", "norm shift"),
    ("attention[0]", "query output"),
    ("attention[0]", "value output"),
    ("attention[0]", "out shift"),
    ("mlp[0]", "norm variance"),
    ("mlp[0]", "norm centred"),
    ("mlp[0]", "expand output"),
    ("mlp[0]", "project accumulator"),
    ("head", "logit"),
    ("head", "norm output"),
]


@pytest.mark.parametrize(("unit", "path"), NUMBERS)
def test_which_bounds_would_let_an_equation_wrap(unit: str, path: str) -> None:
    """One number of the specification grows until both verifiers refuse it, at the same place."""
    model = network("odd")
    claim = run(model, 3, 1)[unit]
    grown = range(1, 62) if path.endswith("shift") else (3 << bits for bits in range(64))
    verdicts = []
    for number in grown:
        changed = ExactModel.in_memory(with_number(model, unit, path, number), model_tensors(model))
        ours, theirs = in_both(changed, claim)
        assert ours == theirs
        verdicts.append(ours is None)
    assert not verdicts[0]
    assert verdicts[-1]


def model_tensors(model: ExactModel) -> dict[str, Any]:
    return {name: model.tensor(name) for name in model.specification.tensors}


def with_number(model: ExactModel, unit: str, path: str, number: int) -> Any:
    """The specification with another number in `unit`."""

    def put(part: Any, names: list[str]) -> Any:
        name, *rest = names
        return replace(part, **{name: put(getattr(part, name), rest) if rest else number})

    spec = model.specification
    changed = put(spec.records[unit], path.split())
    kind = unit.split("[")[0]
    put_in: Any = {kind: changed if kind in ("embed", "head") else (changed,)}
    return replace(spec, **put_in)


def test_levels_of_openings() -> None:
    random_lengths = random.Random(0)
    lengths = [*range(1, 300), *(random_lengths.randrange(1 << k) + 1 for k in range(8, 28))]
    for n in lengths:
        theirs = [(shape.rows, shape.log_columns) for shape in commitment.levels_of(n)]
        assert [(level.rows, level.c) for level in shortest(n)[1]] == theirs


# Spoiled proofs


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Vector]:
    """Proofs to spoil, by unit and mode."""
    model, folder = network("odd"), tmp_path_factory.mktemp("keys")
    found = run(model, 3, 2)
    return {
        (unit, mode): prove(model, found[unit], mode, folder) for unit in UNITS for mode in MODES
    }


def messages(vector: Vector, monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """The places of everything that the prover of an honest proof sends."""
    found: list[range] = []
    honest_receive = Conversation.receive

    def receive(self: Conversation, label: str, size: int) -> bytes:
        found.append(range(self.read, self.read + size))
        return honest_receive(self, label, size)

    with monkeypatch.context() as patched:
        patched.setattr(Conversation, "receive", receive)
        assert vector.independent() is not None
    assert found[-1].stop == len(vector.proof)
    return found


def flipped(proof: bytes, place: int, bit: int) -> bytes:
    return proof[:place] + bytes([proof[place] ^ 1 << bit]) + proof[place + 1 :]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", UNITS)
def test_a_flipped_bit_in_any_message(
    honest: dict[tuple[str, str], Vector], unit: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = honest[unit, mode]
    chosen = random.Random(f"{unit} {mode}")
    # up to the weights, both modes have the same messages: each mode takes its part of them
    mine = slice(0, None, 2) if mode == "committed" else slice(1, None, 4)
    for message in messages(vector, monkeypatch)[mine]:
        proof = flipped(vector.proof, chosen.choice(message), chosen.randrange(8))
        assert replace(vector, proof=proof).verdict() is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", UNITS)
def test_proofs_of_another_length(
    honest: dict[tuple[str, str], Vector], unit: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = honest[unit, mode]
    ends = [message.stop for message in messages(vector, monkeypatch)]
    shorter = [vector.proof[:end] for end in [0, 1, *ends[:-1:12], *ends[-6:-1]]]
    for proof in (*shorter, vector.proof[:-1], vector.proof + b"\0", vector.proof * 2):
        assert replace(vector, proof=proof).verdict() is None


@pytest.mark.parametrize("unit", UNITS)
def test_elements_that_are_not_canonical(
    honest: dict[tuple[str, str], Vector], unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every coordinate that could also be written as one above p, and the largest word."""
    vector = honest[unit, "committed"]
    sent = messages(vector, monkeypatch)[::12]
    proofs = [overwritten(vector.proof, message.start, 2**64 - 1) for message in sent]
    for place in range(0, len(vector.proof) - 7, 8):
        word = int.from_bytes(vector.proof[place : place + 8], "little")
        if word + P < 2**64:
            proofs.append(overwritten(vector.proof, place, word + P))
    assert len(proofs) > len(sent)
    for proof in proofs:
        assert replace(vector, proof=proof).verdict() is None


def overwritten(proof: bytes, place: int, word: int) -> bytes:
    return proof[:place] + word.to_bytes(8, "little") + proof[place + 8 :]


# Other claims


def other_claims(claim: Claim) -> Iterator[Claim]:
    """Claims that the proof of `claim` does not show."""
    yield replace(claim, statement=sha256(b"another"))
    for name in ("inputs", "outputs"):
        array = getattr(claim, name)
        yield replace(claim, **{name: array + (array == array.flat[0])})
        yield replace(claim, **{name: array[::-1]})
        yield replace(claim, **{name: array[:-1]})
        yield replace(claim, **{name: array[:0]})
        yield replace(claim, **{name: array[..., None]})
        yield replace(claim, **{name: array + (1 << 51)})
        yield replace(claim, **{name: array - (1 << 51)})
    yield replace(claim, inputs=claim.outputs, outputs=claim.inputs)
    if claim.unit == "head":
        for first_row in (0, 2, 3, -1):
            yield replace(claim, first_row=first_row)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", UNITS)
def test_other_claims(honest: dict[tuple[str, str], Vector], unit: str, mode: str) -> None:
    vector = honest[unit, mode]
    for claim in other_claims(vector.claim):
        assert replace(vector, claim=claim).verdict() is None


@pytest.mark.parametrize("unit", UNITS)
def test_another_model(honest: dict[tuple[str, str], Vector], unit: str) -> None:
    """One of another digest, and one of the same digest with other weights."""
    vector = honest[unit, "held"]
    spec = vector.model.specification
    tensors = model_tensors(vector.model)
    renamed = ExactModel.in_memory(replace(spec, source=sha256(b"another")), tensors)
    assert replace(vector, model=renamed).verdict() is None
    name = next(name for name in tensors if name.startswith(unit) and "table" not in name)
    changed = tensors[name].copy()
    changed.flat[-1] += 1
    others = ExactModel.in_memory(spec, tensors | {name: changed})
    assert replace(vector, model=others).verdict() is None


@pytest.mark.parametrize("unit", UNITS)
def test_another_root(honest: dict[tuple[str, str], Vector], unit: str, tmp_path: Path) -> None:
    """A proof is for one commitment, or for none."""
    vector, held = honest[unit, "committed"], honest[unit, "held"]
    assert replace(vector, keys=None).verdict() is None
    assert replace(held, keys=vector.keys).verdict() is None
    assert vector.commitment is not None
    fields = json.loads(vector.commitment)
    fields["root"] = flipped(bytes.fromhex(fields["root"]), 31, 7).hex()
    path = tmp_path / unit_file_name(unit) / COMMITMENT
    path.parent.mkdir()
    path.write_bytes(canonical_json(fields))
    assert replace(vector, keys=tmp_path).verdict() is None


# Provers that lie


def judge(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forged proof is refused, by one check alone: without it the verifier believes it."""
    claim, proof = trial.forge()
    root = trial.context(claim).weights_root
    refused_by_one_check((*in_plain_integers(trial.model, claim), root, proof), monkeypatch)


def refused_by_one_check(given: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(independent.Refused) as refusal:
        independent.verify(*given)

    def require(holds: bool, what: str) -> None:
        if not holds and what != str(refusal.value):
            raise independent.Refused(what)

    for module in MODULES:
        if hasattr(module, "require"):
            monkeypatch.setattr(module, "require", require)
    assert independent.verify(*given).bits > 100


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_lies_about_a_unit(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(attack.trial(), monkeypatch)


@pytest.mark.parametrize("attack", COMPLEMENTED.values(), ids=COMPLEMENTED)
def test_lies_in_small_limbs(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "MIN_LIMB", 2)
    monkeypatch.setattr(units, "MAX_LIMB", 2)
    monkeypatch.setattr(plan, "LIMBS", [2])
    judge(attack.trial(), monkeypatch)


def say_zero(prover: LyingProver, _: Circuit) -> None:
    prover.told["lookups: sum"] = [ZERO, ONE]


def count_others(prover: LyingProver, _: Circuit) -> None:
    """The fractions of another witness, all of whose cells are rows."""
    prover.counted = inside(prover)


OFF_BY_ONE = {"project": other_quotient(1, remainder="goes")}
FORGED = {
    "a sum that is said to be zero": Trial(MLP, OFF_BY_ONE, instruct=say_zero),
    "fractions of other cells": Trial(MLP, OFF_BY_ONE, instruct=count_others),
    "a range check of another witness": forgery(commit_to_equations),
    "equations of another witness": forgery(commit_to_lookups),
    "a row that fits a false claim": forgery(lambda prover, _: Fitted(prover, 1)),
    "columns of another vector": Trial(MLP, commit=mixed()),
    "a row of another vector": Trial(MLP, commit=mixed("combined")),
    "a value of another vector": Trial(MLP, commit=mixed("evaluated", "combined")),
    "a sum over another vector": Trial(MLP, commit=mixed("summed", "evaluated", "combined")),
    "another cap": Trial(MLP, commit=lambda prover, _: other_tree(prover, own_cap=True)),
    "another path": Trial(MLP, commit=lambda prover, _: other_tree(prover, own_cap=False)),
}


def other_tree(prover: LyingProver, *, own_cap: bool) -> OtherTree:
    assert prover.committed is not None
    return OtherTree(prover.committed, own_cap=own_cap)


@pytest.mark.parametrize("trial", FORGED.values(), ids=FORGED)
def test_lies_about_lookups_and_openings(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(trial, monkeypatch)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_lies_about_rows_that_are_committed_to(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def levels(vector_length: int) -> tuple[int, list[Level]]:
        shapes = three_levels(vector_length)
        codes = VECTOR, ROW, ROW
        return 0, [
            Level(code, s.rows, s.log_columns) for code, s in zip(codes, shapes, strict=True)
        ]

    monkeypatch.setattr(commitment, "levels_of", three_levels)
    monkeypatch.setattr(ledger, "shortest", levels)
    judge(forgery(lambda prover, _: Fitted(prover, depth)), monkeypatch)


def impossible(name: str) -> Claim:
    """What the odd network computes, and what no statement says of it."""
    model = network("odd")
    bound, context = model.specification.input, model.specification.architecture.context
    rows = np.random.default_rng(0).integers(-bound, bound + 1, (context + 1, 6))
    if name == "more positions than the context":
        return Claim("mlp[0]", rows, reference.run_unit(model, "mlp[0]", rows), STATEMENT)
    rows = rows[:3]
    rows[1, 2] = bound + 1 if name == "an entry above its bound" else bound
    output = reference.run_unit(model, "attention[0]", rows)
    first_row = 1 if name == "a first row that is not the head's" else 0
    return Claim("attention[0]", rows, output, STATEMENT, first_row)


@pytest.mark.parametrize(
    "name",
    [
        "an entry above its bound",
        "more positions than the context",
        "a first row that is not the head's",
    ],
)
def test_true_claims_that_no_statement_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prover that does not look at ranges can prove them: what refuses them comes before."""
    model, claim = network("odd"), impossible(name)
    monkeypatch.setattr(units, "check_ranges", lambda *_: None)
    proof = BACKEND.prove(model, claim, None)
    refused_by_one_check((*in_plain_integers(model, claim), None, proof), monkeypatch)


# Examples of the document, and what the independent verifier may know


def test_the_examples_of_the_document() -> None:
    transcript = Transcript()
    states = [transcript.state]
    transcript.absorb("protocol", bytes(range(4)))
    states.append(transcript.state)
    challenge = transcript.challenges("a point", 1)
    states.append(transcript.state)
    assert [state.hex() for state in states] == [
        "f407da5a564e2aaebaf25a3818956450480987501bc409e72c3969b27cc81016",
        "963fd7120532d625983812e08f81d473a74c138a90ddb83c13ffb97d9e593815",
        "16ac6ce6f18234443c086ce2346c6cb598e61c7a9d1896ab8f9e573a43018f8e",
    ]
    assert challenge == [Element(2693187784480246586, 15230840961690603361)]
    assert transcript.indices("opening: columns", 3, 10) == [449, 278, 568]
    lengths = [tuple(1 << k for k in block.logs) for block in blocks((37, 12))]
    assert lengths == [(32, 8), (32, 4), (4, 8), (4, 4), (1, 8), (1, 4)]


def test_the_independent_verifier_imports_the_standard_library_alone() -> None:
    known = {module.__name__ for module in MODULES}
    assert len(MODULES) > 10
    for path in Path(independent.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported: list[str | None] = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported = [node.module]
            for name in imported:
                top = str(name).split(".")[0]
                assert name in known or top in sys.stdlib_module_names, f"{path}: {name}"

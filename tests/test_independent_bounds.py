"""The independent verifier proves every bound itself, before it looks at a proof.

Each attack is a proof that it believes once the check that refuses it is off.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import independent
from tests.backends.sumcheck.forging import (
    IDS,
    PRECISION,
    SIZES,
    STATEMENT,
    Lie,
    Trial,
    checkpoint,
    claims,
    small_model,
)
from tests.exact.test_agreement import TOGETHER
from tests.exact.test_agreement import moved as with_constant
from tests.fitting import fitted, with_unit
from tests.independent import bounds, protocol
from tests.independent.field import P
from tests.independent.tensors import flat
from tests.inner import normalise
from tests.test_independent import (
    BACKEND,
    NETWORKS,
    in_plain_integers,
    network,
    prove,
    refused_by_one_check,
    run,
    specification_and_tensors,
    with_number,
)
from zkllm import integers
from zkllm.architectures.gpt2 import GPT2
from zkllm.backends.base import Claim
from zkllm.exact import model as models
from zkllm.exact import reference
from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification
from zkllm.operations.embed.exact import Embed
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm
from zkllm.operations.precision import PRECISIONS
from zkllm.operations.tables import ActivationKind
from zkllm.tensors import IntArray


@pytest.fixture(autouse=True)
def _read_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package reads no such integers and tables; here it makes proofs of them all the same."""
    monkeypatch.setattr(models, "check_stored", lambda *_: None)


EXTREMES = [-(2**63), 2**63 - 1, -(2**62), -(2**52), 2**52]


def proven(model: ExactModel) -> None:
    """Raises `Refused` unless the independent verifier proves every bound of the model."""
    specification, tensors = specification_and_tensors(model)
    integers = {name: flat(tensor) for name, tensor in tensors.items()}
    assert protocol.check_bounds(specification, integers, held=True) == independent.PROVEN


# Honest models


@pytest.mark.parametrize("name", NETWORKS)
def test_bounds_of_small_networks(name: str) -> None:
    proven(network(name))


def test_bounds_of_trained_models(tiny_model: ExactModel, demo_model: ExactModel) -> None:
    proven(tiny_model)
    proven(demo_model)


@pytest.mark.parametrize("seed", range(12))
def test_bounds_of_random_shapes(seed: int) -> None:
    """Both verifiers prove the same numbers, from a block of the middle too."""
    random = np.random.default_rng(seed)
    heads, size, blocks = (int(n) for n in random.integers(1, 5, 3))
    inner, vocabulary, context = (int(n) for n in random.integers(1, 40, 3))
    activations: tuple[ActivationKind, ...] = ("gelu_new", "gelu", "relu")
    activation = activations[seed % 3]
    shape = heads * size, heads, inner, blocks, vocabulary, context
    network = GPT2(*shape, activation, Fraction(1, 10 ** (seed % 7)), bool(seed % 2))
    precision = (PRECISION, PRECISIONS["wide"], PRECISIONS["ezkl"])[seed % 3]
    part = None if seed % 4 else (blocks - 1, blocks)
    proven(ExactModel.in_memory(*build(checkpoint(seed, network), precision, part)))


# Whose word it takes


def test_whose_word_is_taken(tmp_path: Path) -> None:
    """Its own up to width 64, else that of whoever wrote the policy."""
    for width, said in ((64, independent.PROVEN), (65, independent.TOO_WIDE)):
        config = replace(SIZES, width=width, heads=1, blocks=1, context=3)
        model = ExactModel.in_memory(*build(checkpoint(1, config), PRECISION))
        claim = run(model, 1, 1)["embed"]
        for mode, expected in (("held", said), ("committed", independent.COMMITTED)):
            vector = prove(model, claim, mode, tmp_path / str(width))
            specification, tensors, given = in_plain_integers(model, claim)
            if mode == "committed":
                tensors = {}
            verdict = independent.verify(specification, tensors, given, vector.root, vector.proof)
            assert verdict.bounds == expected


# Bounds that are not the proven ones


def bound_paths(part: Any, path: str = "") -> Iterator[str]:
    """The fields of a unit that are bounds, by path."""
    constants = {"shift", "epsilon", "gain", "score_shift"}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Norm | Linear):
            yield from bound_paths(value, f"{path}{field.name} ")
        elif isinstance(value, int) and field.name not in constants:
            yield path + field.name


FIELDS = [
    (unit, path)
    for unit in ("embed", "attention[0]", "mlp[0]", "head")
    for path in bound_paths(small_model().specification.records[unit])
]


def test_every_bound_has_an_attack() -> None:
    kinds = Embed, Norm, Linear, Attention, Mlp, Head
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    names -= {"shift", "epsilon", "gain", "score_shift", "norm", "exp", "gelu", "weight", "bias"}
    names -= {"query", "key", "value", "out", "expand", "project", "tokens", "positions"}
    assert {path.split()[-1] for _, path in FIELDS} == names


def moved(model: ExactModel, unit: str, path: str, by: int) -> ExactModel:
    """`model` with another number in its specification, and the tensors that it has."""
    if unit == "input":
        spec = replace(model.specification, input=model.specification.input + by)
    else:
        number = functools.reduce(getattr, path.split(), model.specification.records[unit])
        spec = with_number(model, unit, path, number + by)  # type: ignore[operator]
    return ExactModel.in_memory(spec, tensors_of(model))


def tensors_of(model: ExactModel) -> dict[str, IntArray]:
    return {name: model.tensor(name) for name in model.specification.tensors}


@pytest.mark.parametrize(("unit", "path"), [*FIELDS, ("input", "")])
def test_a_bound_that_is_off_by_one(unit: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One check alone refuses it: without it, a proof of this model is believed."""
    model = network("odd")
    with pytest.raises(independent.Refused, match="prove another bound"):
        proven(moved(model, unit, path, 1))
    changed = moved(model, unit, path, -1)
    claim = run(changed, 3, 1)["embed" if unit == "input" else unit]
    proof = BACKEND.prove(changed, claim, None)
    refused_by_one_check((*in_plain_integers(changed, claim), None, proof), monkeypatch)


@pytest.mark.parametrize("path", ["norm shift", "norm epsilon", "norm gain", "query shift"])
def test_constants_decide_bounds(path: str) -> None:
    with pytest.raises(independent.Refused, match="prove another bound"):
        proven(moved(network("odd"), "attention[0]", path, 1))


LIMITS = [
    ("attention[0]", {"norm shift": 51}, "norm: d·x - Σx may leave"),
    ("attention[0]", {"norm shift": 62}, "norm.shift: out of range"),
    ("mlp[0]", {"norm gain": 2**45}, "norm: c·K may leave"),
    ("head", {"norm epsilon": 2**61 - 1}, "norm.variance: out of range"),
    ("head", {"norm epsilon": 2**60, "norm gain": 2**33}, "norm: no room for x̂·σ"),
    ("attention[0]", {"score_shift": 52}, "no room for scores"),
    ("attention[0]", {"score_shift": 53}, "product: out of range"),
    ("attention[0]", {"query shift": 62}, "query.shift: out of range"),
    ("attention[0]", {"query shift": 53}, "query.accumulator: out of range"),
    ("attention[0]", {"out shift": 52}, "out: no room for its quotient"),
    ("mlp[0]", {"expand shift": 52}, "expand: no room for its quotient"),
    ("mlp[0]", {"project shift": 52}, "project: no room for its quotient"),
]


@pytest.mark.parametrize(("unit", "constants", "refused"), LIMITS)
def test_constants_that_no_executor_or_prover_holds(
    unit: str, constants: dict[str, int], refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever bounds go with them; rows and tables are large, so that provers need room."""
    monkeypatch.setattr(bounds, "equal", lambda *_: None)
    model = network("odd")
    tensors = tensors_of(model)
    tensors["embed.tokens"] = tensors["embed.tokens"] << 8
    for name in TABLES:
        tensors[name] = np.append(tensors[name], np.zeros(5000, dtype=np.int64))
    model = ExactModel.in_memory(model.specification, tensors)
    proven(model)
    for path, number in constants.items():
        spec = with_number(model, unit, path, number)
        model = ExactModel.in_memory(spec, tensors_of(model))
    with pytest.raises(independent.Refused, match=re.escape(refused)):
        proven(model)


# Integers at the extremes of their type


TENSORS = [
    name
    for unit in ("embed", "attention[0]", "mlp[0]", "head")
    for name in [
        *small_model().specification.units()[unit].weights(),
        *small_model().specification.units()[unit].tables(),
    ]
]
TABLES = {"table.exp": "attention[0]", "table.gelu": "mlp[0]"}
OUT_OF_RANGE = "a stored integer out of range"


def centred(n: IntArray) -> IntArray:
    """The representatives of least magnitude mod p of Python integers."""
    return np.asarray((n + P // 2) % P - P // 2, dtype=np.int64)


def in_the_field(linear: Any, _: Any, witness: Any, x: IntArray) -> IntArray:
    """A prover that reckons as the equations do: over F_p, whatever the integers are."""
    half = 1 << linear.layer.shift >> 1
    sums = centred(product(linear.weights, linear.layer, x.reshape(len(x), -1)) + half)
    y = sums >> linear.layer.shift
    linear.rest.fill(witness, (sums - (y << linear.layer.shift)).reshape(linear.dims))
    return np.asarray(y.reshape(linear.dims))


def margins_in_the_field(head: Any, _: Any, witness: Any, x: IntArray) -> IntArray:
    witness.store_number(head.margin, lead(head.weights, x, head.ids))
    return np.array(head.ids)


def product(model: ExactModel, layer: Linear | Head, x: IntArray) -> Any:
    """x·W + b in Python integers."""
    weight, bias = (model.tensor(name).astype(object) for name in (layer.weight, layer.bias))
    return x.astype(object) @ weight + bias


def lead(model: ExactModel, x: IntArray, ids: Any) -> IntArray:
    """By how much, mod p, the logits of `ids` are above all others."""
    assert model.specification.head is not None
    logits, ids = product(model, model.specification.head, x), np.array(ids)[:, None]
    best = np.take_along_axis(logits, ids, axis=1)
    return centred(best - logits - (np.arange(logits.shape[1]) < ids))


LIES: dict[str, Lie] = dict.fromkeys(
    ("query", "key", "value", "out", "expand", "project"), in_the_field
) | {"margin": margins_in_the_field}
OPERATIONS = {
    "embed": (),
    "attention[0]": ("query", "key", "value", "out"),
    "mlp[0]": ("expand", "project"),
    "head": ("margin",),
}


def roomy(spec: Specification, tensor: str) -> Specification:
    """A specification into whose windows everything fits that the layer of `tensor` gives mod p.

    2^18 numbers of either sign are all there are, once a sum is shifted by 45 bits.
    """

    def layered(unit: Any, name: str, **more: int) -> Any:
        layer = replace(getattr(unit, name), shift=45, output=2**18 - 1)
        output = 2**18 + 2**14 if name in ("out", "project") else 2**40
        return replace(unit, **{name: layer}, output=output, **more)

    match tensor.split("."):
        case ["embed", _]:
            return replace(spec, input=2**63 - 1)
        case ["attention[0]", name, _]:
            first = layered(spec.attention[0], name, score=2**40)
            return replace(spec, attention=(first, *spec.attention[1:]))
        case ["mlp[0]", name, _]:
            return replace(spec, mlp=(layered(spec.mlp[0], name), *spec.mlp[1:]))
        case ["head", *_]:
            assert spec.head is not None
            return replace(spec, head=replace(spec.head, logit=2**61))
    return spec


def hostile(tensor: str, integer: int) -> ExactModel:
    """The small model with one hostile integer: where a run reads it, but in tables.

    A run of one row looks up no second entry.
    """
    model, spec = small_model(), small_model().specification
    changed = model.tensor(tensor).copy()
    row = {"embed.tokens": int(IDS[0]), "table.exp": 1, "table.gelu": 1}.get(tensor, 0)
    changed[(row, *[0] * (changed.ndim - 1))] = integer
    return ExactModel.in_memory(roomy(spec, tensor), tensors_of(model) | {tensor: changed})


def forged(model: ExactModel, tensor: str) -> tuple[Claim, bytes]:
    """What the unit of `tensor` gives mod p, and its proof."""
    unit = TABLES.get(tensor, tensor.split(".")[0])
    trial = Trial(unit, {name: LIES[name] for name in OPERATIONS[unit]}, model=model)
    if unit == "embed":
        trial.change = functools.partial(with_rows, model)
    if unit == "head":
        trial.change = functools.partial(with_ids, model)
    if tensor in TABLES:
        trial.change = lambda claim: replace(
            claim, inputs=claim.inputs[:1], outputs=claim.outputs[:1]
        )
    return trial.forge()


def with_rows(model: ExactModel, claim: Claim) -> Claim:
    tokens, positions = (model.tensor(f"embed.{name}") for name in ("tokens", "positions"))
    rows = tokens[IDS].astype(object) + positions[: len(IDS)].astype(object)
    return replace(claim, outputs=centred(rows))


def with_ids(model: ExactModel, claim: Claim) -> Claim:
    """Ids that are ahead of all others, mod p."""
    head, vocabulary = model.specification.head, model.specification.architecture.vocabulary
    assert head is not None
    x = normalise(claim.inputs[claim.first_row :], head.norm).output
    ids = [
        next(v for v in range(vocabulary) if (lead(model, row[None], [v]) >= 0).all()) for row in x
    ]
    return replace(claim, outputs=np.array(ids))


def switched_off(monkeypatch: pytest.MonkeyPatch, part: str = "") -> None:
    """The bounds are not checked; or, of all that is, only what is refused with other words."""

    def require(holds: bool, what: str) -> None:
        if not holds and part and part not in what:
            raise independent.Refused(what)

    monkeypatch.setattr(bounds, "require", require)


@pytest.mark.parametrize("tensor", TENSORS)
def test_integers_at_the_extremes(tensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused as they are; and were they not, by what they prove or by the rules of tables."""
    models = [hostile(tensor, integer) for integer in EXTREMES]
    for model in models:
        with pytest.raises(independent.Refused, match=OUT_OF_RANGE):
            proven(model)
    switched_off(monkeypatch, OUT_OF_RANGE)
    for model in models:
        with pytest.raises(independent.Refused, match=r"bound|out of range|no table"):
            proven(model)


@pytest.mark.parametrize(
    ("tensor", "integer"),
    [
        (tensor, integer)
        for k, tensor in enumerate(TENSORS)
        for integer in (EXTREMES[0], EXTREMES[1 + k % 4])
        if (tensor, integer) != ("table.exp", 2**63 - 1)  # sums of such entries may wrap
    ],
)
def test_proofs_of_hostile_models(
    tensor: str, integer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bounds unproven they are believed, and false where a sum is half of p or more."""
    model = hostile(tensor, integer)
    claim, proof = forged(model, tensor)
    given = (*in_plain_integers(model, claim), None, proof)
    with pytest.raises(independent.Refused, match=OUT_OF_RANGE):
        independent.verify(*given)
    switched_off(monkeypatch)
    assert independent.verify(*given).bits > 100


def test_a_sum_that_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    """-2^63 less 2^63 is -2^64, and mod p no more than 1 - 2^32: a row within honest bounds."""
    model = hostile("embed.tokens", -(2**63))
    positions = model.tensor("embed.positions").copy()
    positions[0, 0] = -(2**63)
    spec = replace(model.specification, input=2**32)
    model = ExactModel.in_memory(spec, tensors_of(model) | {"embed.positions": positions})
    claim, proof = forged(model, "embed.tokens")
    assert claim.outputs[0, 0] == 1 - 2**32
    given = (*in_plain_integers(model, claim), None, proof)
    with pytest.raises(independent.Refused, match=OUT_OF_RANGE):
        independent.verify(*given)
    switched_off(monkeypatch)
    assert independent.verify(*given).bits > 100


# Tables


@pytest.mark.parametrize(
    ("table", "place", "entry"),
    [
        ("table.exp", 1, 65),
        ("table.exp", -1, -1),
        ("table.exp", -1, 3),
        ("table.gelu", 0, 1),
        ("table.gelu", 3, 4),
        ("table.gelu", 5, -1),
    ],
)
def test_tables_that_break_their_rules(
    table: str, place: int, entry: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either mode: with such a table an output may be larger than its bound."""
    spec, changed = small_model().specification, small_model().tensor(table).copy()
    changed[place] = entry
    model = ExactModel.in_memory(spec, tensors_of(small_model()) | {table: changed})
    unit = TABLES[table]
    rows = claims()[unit].inputs
    claim = Claim(unit, rows, reference.run_unit(model, unit, rows), STATEMENT)
    specification, tensors, given = in_plain_integers(model, claim)
    with pytest.raises(independent.Refused, match="no table of"):
        independent.verify(specification, {table: tensors[table]}, given, bytes(32), b"")
    proof = BACKEND.prove(model, claim, None)
    with pytest.raises(independent.Refused, match="no table of"):
        independent.verify(specification, tensors, given, None, proof)
    switched_off(monkeypatch)
    assert independent.verify(specification, tensors, given, None, proof).bits > 100


def test_a_table_of_zeros() -> None:
    """Nothing that its totals divide has a quotient."""
    model, table = small_model(), small_model().tensor("table.exp")
    spec, tensors = model.specification, tensors_of(model)
    with pytest.raises(independent.Refused, match="no table of"):
        proven(ExactModel.in_memory(spec, tensors | {"table.exp": np.zeros_like(table)}))


# What executors and provers could not hold


@pytest.mark.parametrize("name", [*TOGETHER, "a shift beyond float64"])
def test_what_nobody_could_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    numbers, tensors = TOGETHER.get(name, ({"norm.shift": 51}, {}))
    unit: Any = model.specification.records["attention[0]"]
    for path, value in numbers.items():
        unit = with_constant(unit, path.split("."), value)
    spec = with_unit(model.specification, "attention[0]", unit)
    with monkeypatch.context() as patched:
        patched.setattr(integers, "require", lambda value, *_: value)
        made = fitted(spec, tensors_of(model) | tensors)
    with pytest.raises(independent.Refused, match=r"no room for|may leave the exact range"):
        proven(made)

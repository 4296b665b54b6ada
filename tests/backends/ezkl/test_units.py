"""The attention unit as a circuit: the same integers as the reference, and no others.

A dishonest prover here changes one hint and fits every later one to it, so that as few barriers as
possible are left; each test names the ones that must hold.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.backends.ezkl.circuits import TOKENS, UNIT, boundaries, random_model, unit_circuit
from tests.engines.ezkl.circuits import Compiled, Override, bump, forge, with_hint
from tests.inner import attention_values
from zkllm import integers as whole
from zkllm.backends.ezkl import units
from zkllm.digests import sha256
from zkllm.engines.ezkl import lowering, readings, recipe
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.exp import Lookup, recipe_lookup
from zkllm.engines.ezkl.expressions import FIELD, Values, integers
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.exact import reference
from zkllm.exact.format1 import Attention
from zkllm.exact.model import ExactModel
from zkllm.tensors import IntArray

Public = dict[str, IntArray]
RECIPE = recipe.load("attention")
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "v1"
SPREADS = (0.05, 0.3, 1.0)
"""Standard deviations of weights: two-lookup remainders, one-lookup remainders, several digits."""


@pytest.fixture(scope="module")
def exp() -> Lookup:
    return recipe_lookup(RECIPE)


@pytest.fixture(scope="module")
def model() -> ExactModel:
    return random_model(0.3)


@pytest.fixture(scope="module")
def circuit(model: ExactModel) -> Circuit:
    return unit_circuit(model)


@pytest.fixture(scope="module")
def public(model: ExactModel) -> Public:
    return boundaries(model)


# Honest runs


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("tokens", [8, 16])
def test_honest_run_satisfies_every_equation(spread: float, tokens: int, exp: Lookup) -> None:
    model = random_model(spread)
    built = unit_circuit(model, tokens)
    for seed in range(3):
        readings.honest(built, boundaries(model, tokens, seed), exp)


def test_extreme_inputs_satisfy_every_equation(model: ExactModel, exp: Lookup) -> None:
    """Rows of zeros, of equal values and at the bound: V is least or largest there."""
    bound = model.specification.boundary_bounds()[0]
    x = np.zeros((TOKENS, 8), dtype=np.int64)
    x[1] = bound
    x[2] = np.where(np.arange(8) % 2, bound, -bound)
    x[3, 0] = bound
    public = {"x": x, "output": reference.run_unit(model, UNIT, x)}
    readings.honest(unit_circuit(model), public, exp)


@pytest.mark.parametrize("spread", SPREADS)
def test_ezkl_computes_the_integers_of_the_reference(
    spread: float, exp: Lookup, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = random_model(spread)
    built, public = unit_circuit(model), boundaries(model)
    flat = readings.flat_inputs(built, readings.honest(built, public, exp))
    compiled = Compiled.of(built, RECIPE, tmp_path_factory.mktemp("unit"))
    assert compiled.settings["required_range_checks"] == []
    assert compiled.settings["einsum_params"]["total_einsum_col_size"] == 0
    assert readings.cells(built) == pytest.approx(compiled.settings["num_rows"], rel=0.03)
    assert compiled.outputs(flat) == readings.demanded(built, public)
    assert compiled.accepts(flat)


@pytest.mark.parametrize("index", [0, 1])
def test_demo_units(demo_model: ExactModel, index: int, exp: Lookup) -> None:
    unit = f"attention[{index}]"
    random = np.random.default_rng(index)
    ids = random.integers(0, demo_model.specification.architecture.vocabulary, TOKENS)
    rows = reference.forward(demo_model, ids)[2 * index : 2 * index + 2]
    built = units.circuit_of(demo_model.specification, unit, TOKENS, RECIPE, demo_model.tensor)
    readings.honest(built, {"x": rows[0], "output": rows[1]}, exp)


KEPT = {
    ("attention[0]", 8): "sha256:1dfbeb461561110d2c165c4ddb40c3ccd9b28e9327548b24820e210f0c6f609a",
    ("attention[0]", 16): "sha256:58eb844e83e2e05f677d0df9cc9a602e07cecd7f8e78c9d6abd58eb9107c7fc0",
    ("attention[1]", 8): "sha256:97f373cb764d8c0f1c23b213f47516b2dc894fa3ee56d5d7787457e743ebdeec",
    ("attention[1]", 16): "sha256:68c2af0be7b664d3f41ea2b091d07a9c9b69a4d01b7cd9b9c00c09bad9354569",
}
"""Digests of the demo's graphs for ezkl: keys that are pinned are those of these bytes."""


@pytest.mark.parametrize(("unit", "tokens"), KEPT)
def test_circuits_keep_their_bytes(unit: str, tokens: int) -> None:
    model = ExactModel.from_folder(GOLDEN / "model")
    built = units.circuit_of(model.specification, unit, tokens, RECIPE, model.tensor)
    assert sha256(lowering.to_onnx(built, RECIPE.exp_scale)) == KEPT[unit, tokens]


def test_demands_need_no_weights(model: ExactModel, circuit: Circuit, public: Public) -> None:
    spec = model.specification
    bare = units.circuit_of(spec, UNIT, TOKENS, RECIPE, units.no_weights(spec))
    assert readings.demanded(bare, public) == readings.demanded(circuit, public)
    assert bare.size == circuit.size


def test_exp_bound_is_that_of_the_table(model: ExactModel, circuit: Circuit) -> None:
    assert circuit.exp_bound == int(model.tensor("table.exp").max())


def test_over_field_agrees_with_the_integers(circuit: Circuit, public: Public, exp: Lookup) -> None:
    flat = readings.flat_inputs(circuit, readings.honest(circuit, public, exp))
    tables = {"Exp": exp, "ACosh": lambda _: 0}
    outputs, lookups = readings.over_field(
        circuit, flat, lambda name, a: tables[name](_signed(a)), FIELD
    )
    assert outputs == [value % FIELD for value in readings.demanded(circuit, public)]
    pairs, heads = TOKENS * (TOKENS + 1) // 2, 2
    assert len(lookups["Exp"]) == pairs * heads
    assert all(_signed(argument) in circuit.window for argument in lookups["ACosh"])


def _signed(value: int) -> int:
    return value if value < FIELD // 2 else value - FIELD


# Dishonest runs


def _attack(circuit: Circuit, public: Public, exp: Lookup, **overrides: Override) -> set[str]:
    """What refuses a prover who also claims the output that the changed hints lead to."""
    values = forge(circuit, public, exp, _dotted(overrides))
    consistent = public | {"output": _output_of(circuit, public, values)}
    return set(readings.violations(circuit, forge(circuit, consistent, exp, _dotted(overrides))))


def _dotted(overrides: dict[str, Override]) -> dict[str, Override]:
    return {name.replace("__", "."): override for name, override in overrides.items()}


def _output_of(circuit: Circuit, public: Public, values: Values) -> IntArray:
    """The residual stream that fits the forged values: the last remainder is made to hold."""
    check = next(c for c in circuit.checks if c.name.startswith("out.remainder"))
    honest_output = next(node for node in circuit.public if node.detail == "output")
    shifted = public["output"].copy()
    step = RECIPE.window.step(1 << _out_shift)
    scale = (step or 1) << _out_shift
    excess = (values[check.expression] - circuit.window.low) // scale
    assert values[honest_output].shape == excess.shape
    return shifted + excess.astype(np.int64)


_out_shift = 9


def test_the_tests_know_the_shift_of_the_last_layer(model: ExactModel) -> None:
    unit = model.specification.records[UNIT]
    assert isinstance(unit, Attention)
    assert unit.out.shift == _out_shift


def test_an_honest_run_passes_through_the_attack(
    circuit: Circuit, public: Public, exp: Lookup
) -> None:
    """The control: with nothing changed, nothing is violated."""
    assert _attack(circuit, public, exp) == set()


@pytest.mark.parametrize(
    ("hint", "place", "by", "refused_by"),
    [
        ("centred__0", (3, 2), 1, {"centred.remainder"}),
        ("centred__0", (3, 2), -1, {"centred.remainder"}),
        ("root__0", (2,), 1, {"root.square"}),
        ("root__0", (2,), -1, {"root.next"}),
        ("normalised__half__0", (4, 0), 1, {"normalised.half"}),
        ("normalised__half__0", (4, 0), -1, {"normalised.half"}),
        ("normalised__0", (1, 5), 1, {"normalised.remainder.low"}),
        ("normalised__0", (1, 5), -1, {"normalised.remainder.high"}),
        ("query__0", (6, 1), 1, {"query.remainder"}),
        ("query__0", (6, 1), -1, {"query.remainder"}),
        ("key__0", (6, 1), 1, {"key.remainder"}),
        ("value__0", (6, 1), -1, {"value.remainder"}),
        ("maximum__0", (5, 1), 1, {"attained"}),
        ("maximum__0", (5, 1), 300, {"attained"}),
        ("maximum__0", (5, 1), -1, {"argument", "attained"}),
        ("mixed__half__0", (2, 1, 0), 1, {"mixed.half"}),
        ("mixed__0", (5, 1, 3), 1, {"mixed.remainder.low"}),
        ("mixed__0", (5, 1, 3), -1, {"mixed.remainder.high"}),
    ],
)
def test_one_hint_off(
    circuit: Circuit,
    public: Public,
    exp: Lookup,
    hint: str,
    place: tuple[int, ...],
    by: int,
    refused_by: set[str],
) -> None:
    """σ, its half, quotients, maxima, arguments: one step off leaves exactly one barrier."""
    assert _attack(circuit, public, exp, **{hint: bump(place, by)}) == refused_by


def test_an_argument_off(circuit: Circuit, public: Public, exp: Lookup) -> None:
    argument = next(hint for hint in circuit.hints if hint.detail == "argument")
    below = readings.honest(circuit, public, exp)[argument] < circuit.window.high
    place = tuple(int(i) for i in np.argwhere(below)[0])
    for by in (-1, 1):
        refused = _attack(circuit, public, exp, argument=bump(place, by))
        assert "score.remainder" in refused
        assert refused <= {"score.remainder", "attained"}


def test_a_lower_maximum_with_its_argument_kept_inside(
    circuit: Circuit, public: Public, exp: Lookup
) -> None:
    high = circuit.window.high
    overrides: dict[str, Override] = {
        "maximum__0": bump((5, 1), -1),
        "argument": lambda honest, _: np.minimum(honest, high),
    }
    assert _attack(circuit, public, exp, **overrides) == {"score.remainder"}


def test_a_future_token(model: ExactModel, circuit: Circuit, public: Public, exp: Lookup) -> None:
    """Attention that sees every position, with honest weights for all of them."""
    unit = model.specification.records[UNIT]
    assert isinstance(unit, Attention)
    inner = attention_values(model, UNIT, public["x"])
    scores = whole.round_shift(
        whole.matmul(inner.query, inner.key.swapaxes(-1, -2)), unit.score_shift
    )
    weights = model.tensor(unit.exp)[
        np.minimum(scores.max(axis=-1, keepdims=True) - scores, RECIPE.window.size - 1)
    ]
    total = weights.sum(axis=-1, keepdims=True)
    seeing = whole.round_div(whole.matmul(weights, inner.value), total)
    offset = integers(seeing.transpose(1, 0, 2)) + unit.value.output + RECIPE.window.low
    refused = _attack(circuit, public, exp, mixed__0=lambda _, __: offset)
    assert refused
    assert refused <= {"mixed.remainder.low", "mixed.remainder.high"}


@pytest.mark.parametrize("row", [0, 5, 7])
def test_a_quotient_of_the_field(
    model: ExactModel, circuit: Circuit, public: Public, exp: Lookup, row: int
) -> None:
    """o = (N + g - r')/S modulo the field satisfies its equation; only its own range refuses it."""
    numerator, divisor = [node for node in circuit.expressions if node.operation == "concat"][-2:]
    unit = model.specification.records[UNIT]
    assert isinstance(unit, Attention)
    honest = readings.honest(circuit, public, exp)
    place = (row, 0, 1)
    total = int(honest[divisor][row, 0, 0])
    rounded = int(honest[numerator][place]) + total // 2
    remainder = (rounded + 1) % total
    quotient = (rounded - remainder) * pow(total, -1, FIELD)
    node = next(hint for hint in circuit.hints if hint.detail == "mixed.0")
    hint = honest[node].copy()
    hint[place] = (quotient + unit.value.output + circuit.window.low) % FIELD
    violated = set(readings.violations(circuit, with_hint(circuit, honest, "mixed.0", hint, exp)))
    assert "mixed.0" in violated
    assert not {"mixed.remainder.low", "mixed.remainder.high"} & violated


@pytest.mark.parametrize("by", [1, -1, 1 << 20])
@pytest.mark.parametrize("place", [(0, 0), (7, 7)])
def test_another_output(
    circuit: Circuit, public: Public, exp: Lookup, by: int, place: tuple[int, int]
) -> None:
    output = public["output"].copy()
    output[place] += by
    values = forge(circuit, public | {"output": output}, exp, {})
    assert set(readings.violations(circuit, values)) == {"out.remainder"}


def test_another_input(circuit: Circuit, public: Public, exp: Lookup) -> None:
    x = public["x"].copy()
    x[2, 3] += 5
    with pytest.raises(ConstraintViolation, match=r"out\.remainder\["):
        readings.honest(circuit, public | {"x": x}, exp)


@pytest.mark.parametrize("end", [RECIPE.window.low - 1, RECIPE.window.high + 1])
def test_every_hint_is_held_in_the_window(
    circuit: Circuit, public: Public, exp: Lookup, end: int
) -> None:
    honest = readings.honest(circuit, public, exp)
    for hint in circuit.hints:
        changed = honest[hint].copy()
        changed[(0,) * changed.ndim] = end
        values = with_hint(circuit, honest, hint.detail, changed, exp)
        assert hint.detail in readings.violations(circuit, values)


def test_a_cut_off_distance(exp: Lookup) -> None:
    """z beyond the cap: u is the cap, or there is nothing to cut off; never in between."""
    model = random_model(1.5)
    built, public = unit_circuit(model), boundaries(model)
    values = readings.honest(built, public, exp)
    argument = next(hint for hint in built.hints if hint.detail == "argument")
    cut = np.argwhere(values[argument] == built.window.low)
    whole = np.argwhere((values[argument] > built.window.low) & (values[argument] < 0))
    assert len(cut)
    assert len(whole)
    for place, by in ((cut[0], 1), (whole[0], 1), (whole[0], -1)):
        change = {"argument": bump(tuple(int(i) for i in place), by)}
        forged = forge(built, public, exp, change)
        assert {"clamp", "beyond.0"} & set(readings.violations(built, forged))


# What the recipe does not prove


def test_other_units_and_tables_are_unsupported(model: ExactModel, tiny_model: ExactModel) -> None:
    spec = model.specification
    assert units.unsupported(spec, UNIT, RECIPE) == ""
    assert units.unsupported(spec, "mlp[0]", RECIPE) == "mlp[0]: ezkl proves attention units only"
    assert "EXP table" in units.unsupported(tiny_model.specification, UNIT, RECIPE)
    other = replace(spec, exp=replace(spec.exp, value_parameter=0))
    assert "EXP table" in units.unsupported(other, UNIT, RECIPE)


@pytest.mark.parametrize("unit", ["embed", "mlp[0]", "mlp[1]", "head", "attention[2]", "none"])
def test_units_with_a_step_that_has_no_reading_are_unsupported(
    demo_model: ExactModel, unit: str
) -> None:
    reason = f"{unit}: ezkl proves attention units only"
    assert units.unsupported(demo_model.specification, unit, RECIPE) == reason
    with pytest.raises(UnsupportedModel, match="ezkl proves attention units only"):
        units.circuit_of(demo_model.specification, unit, TOKENS, RECIPE, demo_model.tensor)


def test_what_a_list_cannot_say(demo_model: ExactModel) -> None:
    lists = demo_model.specification.units()
    for unit, message in (
        (lists["embed"], "embed: ezkl has no words for token ids"),
        (lists["head"], "head: ezkl has no words for token ids"),
        (lists["mlp[0]"], "gelu: ezkl has no words for the operation activation"),
    ):
        with pytest.raises(UnsupportedModel, match=message):
            units.build(unit, TOKENS, RECIPE, demo_model.tensor)


def test_a_table_of_another_content_is_unsupported(model: ExactModel) -> None:
    """The parameters may lie: what counts is the digest of the stored table."""
    spec = model.specification
    stored = spec.tensors["table.exp"]
    lying = replace(stored, digest=spec.tensors["attention[0].out.bias"].digest)
    other = replace(spec, tensors=dict(spec.tensors) | {"table.exp": lying})
    assert "EXP table" in units.unsupported(other, UNIT, RECIPE)
    with pytest.raises(UnsupportedModel, match="EXP table"):
        units.circuit_of(other, UNIT, TOKENS, RECIPE, model.tensor)


def test_other_lengths_are_refused(model: ExactModel) -> None:
    with pytest.raises(UnsupportedModel, match="expected a run of 8 or 16 positions, got 7"):
        unit_circuit(model, 7)


# Lists of steps, whatever they are


def test_steps_may_stand_in_any_order(model: ExactModel, public: Public, exp: Lookup) -> None:
    """What the unit gives may be read by a step too, which then reads its boundaries."""
    listed = model.specification.units()[UNIT]
    query = next(step for step in listed.steps if step.name == "query")
    again = replace(query, name="again", reads=("change",), writes="unread")
    unit = replace(listed, steps=(again, *reversed(listed.steps)))
    built = units.build(unit, TOKENS, RECIPE, model.tensor)
    readings.honest(built, public, exp)
    false = public["output"] + 1
    refused = readings.violations(built, forge(built, public | {"output": false}, exp, {}))
    assert set(refused) == {"out.remainder"}


def test_a_unit_that_gives_rows_alone(model: ExactModel, public: Public, exp: Lookup) -> None:
    """Without a residual connection, and with a last step that is no division by a constant."""
    listed = model.specification.units()[UNIT]
    norm = next(step for step in listed.steps if step.name == "norm")
    unit = replace(listed, steps=(norm,), writes=norm.writes, residual=False)
    built = units.build(unit, TOKENS, RECIPE, model.tensor)
    output = unit.run(public["x"], model.tensor)
    readings.honest(built, public | {"output": output}, exp)
    for by in (-1, 1):
        false = output.copy()
        false[4, 4] += by
        values = forge(built, public | {"output": false}, exp, {})
        assert set(readings.violations(built, values)) == {"norm"}


def test_a_unit_that_nothing_gives_is_none(model: ExactModel) -> None:
    """Its output would be tied to nothing: any would be proved."""
    listed = model.specification.units()[UNIT]
    for unit in (
        replace(listed, steps=listed.steps[:-1]),
        replace(listed, writes="x"),
        replace(listed, steps=()),
    ):
        with pytest.raises(ValueError, match=r"attention\[0\]: nothing writes"):
            units.build(unit, TOKENS, RECIPE, model.tensor)

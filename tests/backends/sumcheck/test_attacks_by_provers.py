"""Provers that lie about one thing: every lie is refused, and believed once its guard is off.

Each attack satisfies every other equation and lookup, so that the guard is all that stands against
it. Guards are switched off in a double of the verifier or in the circuits of both parties.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tests.backends.sumcheck.forging import (
    IDS,
    Instruct,
    Lie,
    LyingProver,
    Off,
    Trial,
    claims,
    deaf_to,
    lying,
    other_model,
    other_quotient,
    refused,
    small_model,
    with_shared_identifier,
    without_equation,
    without_lookup,
)
from tests.inner import input_bound
from zkllm.backends.base import Claim
from zkllm.backends.sumcheck import units
from zkllm.engines.sumcheck.field import MODULUS, ZERO
from zkllm.engines.sumcheck.multilinear import ones
from zkllm.engines.sumcheck.plan import Combination
from zkllm.engines.sumcheck.witness import Witness
from zkllm.errors import ConstraintViolation, ProofRejected, UnsupportedModel
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.integers import isqrt, matmul, round_div
from zkllm.operations.activation import sumcheck as activation_module
from zkllm.operations.attention import sumcheck as attention_module
from zkllm.operations.attention.exact import Attended
from zkllm.operations.head import sumcheck as head_module
from zkllm.operations.linear import sumcheck as linear_module
from zkllm.operations.norm.exact import Normalised
from zkllm.tensors import IntArray

ATTENTION, MLP, HEAD, EMBED = "attention[1]", "mlp[0]", "head", "embed"


# Lies about a norm


def normalised(centred: IntArray, sigma: IntArray, gain: int) -> Normalised:
    return Normalised(centred, (sigma - 1) ** 2, sigma, round_div(centred * gain, sigma[:, None]))


def moved_centre(by: int, *, remainder: str) -> Lie:
    """c is off at one place; its remainder goes with it, or stays as it is."""

    def told(values: Normalised, _: IntArray, *, shift: int, epsilon: int, gain: int) -> Normalised:
        centred = values.centred.copy()
        centred[1, 2] += by
        variance = (centred * centred).sum(axis=-1) + epsilon
        sigma = isqrt(variance) + 1
        output = round_div(centred * gain, sigma[:, None])
        return Normalised(centred, variance, sigma, output)

    def lie(norm: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
        honest(witness, x)
        rest = witness.integers(norm.rest.value)
        with lying("layer_norm", told):
            output: IntArray = honest(witness, x)
        if remainder == "stays":
            norm.rest.fill(witness, rest)
        return output

    return lie


def other_root(by: int, **stay: Callable[[IntArray], IntArray]) -> Lie:
    """The root is off in every row; `stay` are numbers of the norm, made of the wrong root."""

    def told(values: Normalised, _: IntArray, *, shift: int, epsilon: int, gain: int) -> Normalised:
        sigma = values.sigma + by
        output = round_div(values.centred * gain, sigma[:, None])
        return Normalised(values.centred, values.variance, sigma, output)

    def lie(norm: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
        with lying("layer_norm", told):
            output: IntArray = honest(witness, x)
        for name, make in stay.items():
            number = getattr(norm, name)
            witness.store_number(number, make(witness.integers(norm.root.value)))
        return output

    return lie


def square_of_another_root(norm: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
    """The root is 9 too large, its distances are those of the right one."""
    honest(witness, x)
    root, below = (witness.integers(n.value) for n in (norm.root, norm.below))
    lie = other_root(9, below=lambda _: below, above=lambda q: 2 * q - below)
    output: IntArray = lie(norm, honest, witness, x)
    assert (witness.integers(norm.root.value) == root + 9).all()
    return output


def see_right_root(prover: LyingProver, circuit: Any) -> None:
    """The prover sums the squares of the right root."""
    root = circuit.steps["norm"].root.value
    prover.seen.append((root, prover.witness.integers(root) - 9))


def other_half(half: int, odd: int) -> Lie:
    """⌊σ / 2⌋ and σ mod 2 are off; outputs are rounded with the wrong half."""

    def lie(norm: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
        honest(witness, x)
        wrong = witness.integers(norm.half.value) + half
        witness.store_number(norm.half, wrong)
        witness.store_number(norm.odd, witness.integers(norm.odd.value) + odd)
        return divided(norm, witness, wrong, 0)

    return lie


def divided(norm: Any, witness: Witness, half: IntArray, by: int) -> IntArray:
    """The outputs of a norm that are divided anew, and one of which is off."""
    sigma = witness.integers(norm.root.value)[:, None] + 1
    dividend = witness.integers(norm.centred.value) * norm.constants.gain + half[:, None]
    output = dividend // sigma
    output[1, 2] += by
    low = dividend - output * sigma
    witness.store_number(norm.low, low)
    witness.store_number(norm.high, sigma - 1 - low)
    return output


def other_output(by: int, *, remainder: str) -> Lie:
    """One output of a norm is off. Its remainder goes with it, or stays; its complement stays."""

    def lie(norm: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
        honest(witness, x)
        low, high = (witness.integers(n.value) for n in (norm.low, norm.high))
        output = divided(norm, witness, witness.integers(norm.half.value), by)
        if remainder == "stays":
            witness.store_number(norm.low, low)
        if remainder != "and complement go":
            witness.store_number(norm.high, high)
        return output

    return lie


def other_rows(norm: Any, honest: Any, witness: Witness, x: IntArray) -> Any:
    """The rows of other positions are normalised."""
    return honest(witness, np.roll(x, 1, axis=0))


# Lies about a linear layer


def extreme_quotient(rest: int) -> Lie:
    """The remainder is the divisor where it was 0, or -1 where it was the largest."""

    def lie(linear: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
        y: IntArray = honest(witness, x)
        found = witness.integers(linear.rest.value)
        divisor = linear.rest.divisor
        if rest < 0:
            at = np.unravel_index(np.argmax(found == divisor - 1), found.shape)
            assert found[at] == divisor - 1
            y[at] += 1
            found[at] = -1
        else:
            at = np.unravel_index(np.argmax(found == 0), found.shape)
            assert found[at] == 0
            y[at] -= 1
            found[at] = divisor
        linear.rest.fill(witness, found)
        return y

    return lie


# Lies about GELU

BEYOND, NEGATIVE, NEAR = (0, 0), (0, 1), (0, 2)
"""Places where |x| is beyond the table, where x is negative, and where |x| is below 2^6."""


def other_gelu(change: Callable[[dict[str, IntArray], IntArray], None]) -> Lie:
    """`change` alters columns of a GELU, by their short names."""

    def lie(gelu: Any, honest: Any, witness: Witness, hidden: IntArray) -> IntArray:
        honest(witness, hidden)
        names = {"sign", "positive", "index", "entry"}
        columns = {name: witness.integers(getattr(gelu, name)) for name in names}
        columns["excess"] = witness.integers(gelu.excess.value)
        change(columns, gelu.table)
        for name in names:
            witness.store(getattr(gelu, name), columns[name])
        witness.store_number(gelu.excess, columns["excess"])
        output: IntArray = witness.integers(gelu.output.value)
        return output

    return lie


def too_large(columns: dict[str, IntArray], table: IntArray) -> None:
    """x = P - (|x| - P) also where both parts are larger, which leaves P free."""
    assert columns["sign"][NEGATIVE] == 1
    columns["index"][NEGATIVE] += 40
    columns["positive"][NEGATIVE] += 20
    columns["entry"][NEGATIVE] = table[columns["index"][NEGATIVE]]


def no_sign(columns: dict[str, IntArray], table: IntArray) -> None:
    """As `too_large`, with the fraction for a sign that makes P fit."""
    too_large(columns, table)
    part = int(columns["positive"][NEGATIVE]) * pow(int(columns["index"][NEGATIVE]), -1, MODULUS)
    sign = (1 - part) % MODULUS
    columns["sign"][NEGATIVE] = sign - MODULUS if sign > MODULUS // 2 else sign


def clipped_early(columns: dict[str, IntArray], table: IntArray) -> None:
    assert columns["excess"][BEYOND] > 0
    columns["index"][BEYOND] -= 150
    columns["excess"][BEYOND] += 150
    columns["entry"][BEYOND] = table[columns["index"][BEYOND]]


def not_clipped(columns: dict[str, IntArray], table: IntArray) -> None:
    columns["index"][BEYOND] += columns["excess"][BEYOND]
    columns["excess"][BEYOND] = 0
    columns["entry"][BEYOND] = -100


def wrong_sign(columns: dict[str, IntArray], table: IntArray) -> None:
    columns["sign"][NEGATIVE] = 0
    columns["positive"][NEGATIVE] = columns["index"][NEGATIVE]


def wrong_entry(columns: dict[str, IntArray], table: IntArray) -> None:
    columns["entry"][NEAR] += 50


def no_entry(columns: dict[str, IntArray], table: IntArray) -> None:
    """A row of a range table has the value 0."""
    assert 0 < columns["index"][NEAR] < 64
    columns["entry"][NEAR] = 0


# Lies about attention

ROW, PAST, BEST = (0, 3), 0, 1
"""A head and a row of it, the column of a score below the maximum, and that of the maximum."""


def other_attention(
    change: Callable[[dict[str, IntArray], IntArray], None],
    after: Callable[[Any, Witness], None] = lambda *_: None,
) -> Lie:
    """`change` alters score and maximum, then exponential, then total; the rest follows.

    It is called for each of the three stages and finds in the dictionary what there is.
    `after` alters columns at the end.
    """

    def told(
        values: Attended, q: IntArray, k: IntArray, v: IntArray, *, shift: int, table: IntArray
    ) -> Attended:
        found = {"score": values.score.copy(), "maximum": values.maximum.copy()}
        change(found, table)
        causal = np.tri(values.score.shape[-1], dtype=bool)
        distance = found["maximum"][..., None] - found["score"]
        index = np.clip(distance, 0, len(table) - 1)
        found["exponential"] = np.where(causal, table[index], 0)
        change(found, table)
        found["total"] = found["exponential"].sum(axis=-1)
        change(found, table)
        output = round_div(matmul(found["exponential"], v), found["total"][..., None])
        return Attended(**found, output=output)

    def lie(attention: Any, honest: Any, witness: Witness, *inputs: IntArray) -> IntArray:
        with lying("attention", told):
            honest(witness, *inputs)
        after(attention, witness)
        output: IntArray = witness.integers(attention.output.value)
        return output

    return lie


def at_stage(
    name: str, change: Callable[[dict[str, IntArray], IntArray], None]
) -> Callable[[dict[str, IntArray], IntArray], None]:
    """`change`, made when `name` is the last thing that there is."""
    return lambda found, table: change(found, table) if list(found)[-1] == name else None


def larger_maximum(by: int) -> Callable[[dict[str, IntArray], IntArray], None]:
    def change(found: dict[str, IntArray], table: IntArray) -> None:
        found["maximum"][ROW] += by

    return at_stage("maximum", change)


def smaller_maximum(found: dict[str, IntArray], table: IntArray) -> None:
    found["maximum"][ROW] = found["score"][*ROW, PAST]


def other_score(found: dict[str, IntArray], table: IntArray) -> None:
    found["score"][*ROW, PAST] += 20


def future_token(found: dict[str, IntArray], table: IntArray) -> None:
    found["exponential"][0, 0, 1] = table[0]


def other_total(found: dict[str, IntArray], table: IntArray) -> None:
    found["total"][ROW] += 30


def other_entry(found: dict[str, IntArray], table: IntArray) -> None:
    found["exponential"][*ROW, PAST] += 30


def forgotten_token(found: dict[str, IntArray], table: IntArray) -> None:
    found["exponential"][*ROW, PAST] = 0


def no_change(found: dict[str, IntArray], table: IntArray) -> None:
    """The lie comes later."""


def mark(*places: tuple[int, int]) -> Callable[[Any, Witness], None]:
    """Markers of `ROW`: (column, value)."""

    def after(attention: Any, witness: Witness) -> None:
        marker = witness.integers(attention.marker)
        marker[ROW] = 0
        for column, value in places:
            marker[*ROW, column] = value
        witness.store(attention.marker, marker)

    return after


def early_excess(attention: Any, witness: Witness) -> None:
    """What is beyond the index goes into the excess."""
    index = witness.integers(attention.index)
    excess = witness.integers(attention.excess.value)
    excess[*ROW, PAST] += index[*ROW, PAST] - 5
    index[*ROW, PAST] = 5
    witness.store(attention.index, index)
    witness.store_number(attention.excess, excess)


def entry_of_5(found: dict[str, IntArray], table: IntArray) -> None:
    found["exponential"][*ROW, PAST] = table[5]


def rounded_off(attention: Any, witness: Witness) -> None:
    """The remainder of a score takes what the score lacks."""
    rest = witness.integers(attention.rest.value)
    rest[*ROW, PAST] -= 20 << attention.shift
    witness.store_number(attention.rest, rest)


def other_division(
    by: int = 0, *, half: int = 0, stay: tuple[str, ...] = ()
) -> Callable[[Any, Witness], None]:
    """A quotient, or half of every total, is off; what does not stay goes with it."""

    def after(attention: Any, witness: Witness) -> None:
        numbers = {n: getattr(attention, n) for n in ("half", "low", "high")}
        numbers["output"] = witness.plan.numbers["attention: output"]
        was = {name: witness.integers(number.value) for name, number in numbers.items()}
        divisor = witness.integers(attention.total).T[..., None]
        dividend = was["output"] * divisor + was["low"] + half
        output = dividend // divisor
        output[3, 0] += by
        low = dividend - output * divisor
        goes = {"half": was["half"] + half, "low": low, "high": divisor - 1 - low}
        goes |= {"output": output} | {name: was[name] for name in stay}
        for name, values in goes.items():
            witness.store_number(numbers[name], values)

    return after


def see_heads_swapped(name: str) -> Instruct:
    """The prover sums products with another head's `name` than it committed to."""

    def instruct(prover: LyingProver, circuit: Any) -> None:
        combination: Combination = getattr(circuit.steps["attention"], name).value
        values = prover.witness.integers(combination)[:, ::-1]
        prover.seen.append((combination, values))

    return instruct


def heads_swapped(number: int) -> Lie:
    """Attention is computed with input `number` of the other head."""

    def lie(attention: Any, honest: Any, witness: Witness, *inputs: IntArray) -> Any:
        swapped = [x[:, ::-1] if k == number else x for k, x in enumerate(inputs)]
        return honest(witness, *swapped)

    return lie


# Lies about tokens


def claim_ids(ids: tuple[int, ...]) -> Callable[[Claim], Claim]:
    return lambda claim: replace(claim, outputs=np.array(ids))


def margins_of(ids_below: bool = True, clip: bool = False) -> Lie:
    """Margins of whatever ids are claimed; negative ones may be made 0."""

    def lie(margins: Any, _: Any, witness: Witness, x: IntArray) -> IntArray:
        numbers, tensor = margins.numbers, margins.weights.integers
        logits = matmul(x, tensor(numbers.weight)) + tensor(numbers.bias)
        ids = np.array(margins.ids)[:, None]
        margin = np.take_along_axis(logits, ids, axis=1) - logits
        if ids_below:
            margin = margin - (np.arange(logits.shape[1]) < ids)
        witness.store_number(margins.margin, np.maximum(margin, 0) if clip else margin)
        return np.array(margins.ids)

    return lie


def tie(ids: tuple[int, int]) -> Callable[[Claim], Claim]:
    """Rows whose largest logits are those of tokens 4 and 9, and two of these claimed."""

    def change(claim: Claim) -> Claim:
        model = small_model()
        assert model.specification.head is not None
        random = np.random.default_rng(0)
        rows = random.integers(-200, 200, (200, claim.inputs.shape[1]))
        found = rows[reference.run_unit(model, "head", rows) == 4][:2]
        assert len(found) == 2
        return replace(claim, inputs=found, outputs=np.array(ids), first_row=0)

    return change


def no_ties(_: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier does not subtract [j < id]; it does sum over the whole vocabulary."""
    vocabulary = small_model().specification.architecture.vocabulary
    monkeypatch.setattr(head_module, "ones", lambda n, r: ones(n, r) if n == vocabulary else ZERO)


def negated(weight: IntArray) -> IntArray:
    return -weight


def next_row(weight: IntArray) -> IntArray:
    return np.roll(weight, 1, axis=0)


def embedded(tokens: Callable[[IntArray], IntArray], places: Callable[[IntArray], IntArray]) -> Any:
    """The claim that the rows are those of other tokens, or of other positions."""

    def change(claim: Claim) -> Claim:
        model, embed = small_model(), small_model().specification.embed
        assert embed is not None
        rows = tokens(model.tensor(embed.tokens))[claim.inputs]
        rows = rows + places(model.tensor(embed.positions))[: len(claim.inputs)]
        limit = small_model().specification.input
        assert np.abs(rows).max() <= limit
        return replace(claim, outputs=rows)

    return change


def as_it_is(weight: IntArray) -> IntArray:
    return weight


# Lies about what was looked up


@dataclass
class Attack:
    """A lie, what refuses it, and the guard without which it is believed."""

    unit: str
    off: Off
    refused: str = "lookups: sum"
    lies: Mapping[str, Lie] = field(default_factory=dict)
    instruct: Instruct | None = None
    change: Callable[[Claim], Claim] | None = None
    believes: ExactModel | None = None
    committed: bool = False
    hidden: bool = False
    harmless: bool = False
    """Whether the lie leads to the true output: it would be believed in other places."""

    def trial(self) -> Trial:
        return Trial(
            self.unit,
            lies=self.lies,
            instruct=self.instruct,
            change=self.change,
            believes=self.believes,
            committed=self.committed,
            hidden=self.hidden,
        )


def equation(unit: str, label: str, **what: Any) -> Attack:
    """An attack against which stands one requirement of the verifier."""
    return Attack(unit, deaf_to(label), label, **what)


def head_with(name: str, change: Callable[[IntArray], IntArray], label: str) -> Attack:
    """The head's prover believes in another `name`, under which other tokens win."""
    model = other_model(name, change)
    assert model.specification.head is not None
    rows = claims()[HEAD].inputs[-2:]
    ids = tuple(int(i) for i in reference.run_unit(model, "head", rows))
    return equation(HEAD, label, believes=model, change=claim_ids(ids))


def raised(bias: IntArray) -> IntArray:
    """Token 1 wins."""
    return bias + 5000 * (np.arange(len(bias)) == 1)


def shifted(by: int) -> Callable[[Claim], Claim]:
    """One integer of the output is off."""

    def change(claim: Claim) -> Claim:
        outputs = claim.outputs.copy()
        outputs[2, 3] += by
        return replace(claim, outputs=outputs)

    return change


ATTACKS: dict[str, Attack] = {
    # LayerNorm
    "a centred entry is off": equation(
        MLP, "norm: centred", lies={"norm": moved_centre(1, remainder="stays")}
    ),
    "rows of other positions": equation(MLP, "norm: centred", lies={"norm": other_rows}),
    "a centred remainder above the divisor": Attack(
        MLP,
        without_lookup("norm: centred remainder"),
        lies={"norm": moved_centre(-1, remainder="goes")},
    ),
    "a centred remainder below 0": Attack(
        MLP,
        without_lookup("norm: centred remainder"),
        lies={"norm": moved_centre(30, remainder="goes")},
    ),
    "a root one too large": Attack(
        MLP, without_lookup("norm: below"), lies={"norm": other_root(1)}
    ),
    "a root one too small": Attack(
        MLP, without_lookup("norm: above"), lies={"norm": other_root(-1)}
    ),
    "a root of another variance": equation(
        MLP,
        "norm: variance",
        lies={"norm": other_root(9, below=lambda q: q, above=lambda q: q)},
    ),
    "the square of another root": equation(
        MLP, "norm: squared root", lies={"norm": square_of_another_root}, instruct=see_right_root
    ),
    "a root whose distances are made up": equation(
        MLP, "norm: root", lies={"norm": other_root(-1, above=lambda q: q)}
    ),
    "half of another sigma": equation(MLP, "norm: sigma", lies={"norm": other_half(20, 0)}),
    "sigma's parity is no bit": Attack(
        MLP, without_lookup("norm: sigma is odd"), lies={"norm": other_half(-20, 40)}
    ),
    "sigma's parity is another table's row": Attack(
        MLP,
        with_shared_identifier("range 1", "range 6"),
        lies={"norm": other_half(-20, 40)},
    ),
    "a normal entry is off": equation(
        MLP, "norm: output", lies={"norm": other_output(3, remainder="stays")}
    ),
    "a normal remainder above sigma": equation(
        MLP, "norm: output remainder", lies={"norm": other_output(-1, remainder="goes")}
    ),
    "a normal remainder above sigma with a negative complement": Attack(
        MLP,
        without_lookup("norm: output remainder complement"),
        lies={"norm": other_output(-1, remainder="and complement go")},
    ),
    "a normal remainder below 0": Attack(
        MLP,
        without_lookup("norm: output remainder"),
        lies={"norm": other_output(1, remainder="and complement go")},
    ),
    # Linear layers
    "a quotient is off": equation(
        MLP, "expand", lies={"expand": other_quotient(50, remainder="stays")}
    ),
    "a quotient is off by one": equation(
        MLP, "project", lies={"project": other_quotient(1, remainder="stays")}
    ),
    "a remainder is the divisor": Attack(
        MLP,
        without_lookup("expand: remainder"),
        lies={"expand": extreme_quotient(1)},
        harmless=True,
    ),
    "a remainder is -1": Attack(
        MLP,
        without_lookup("expand: remainder"),
        lies={"expand": extreme_quotient(-1)},
        harmless=True,
    ),
    "a remainder far outside": Attack(
        MLP,
        without_lookup("expand: remainder"),
        lies={"expand": other_quotient(90, remainder="goes")},
    ),
    "an output is off": equation(MLP, "project", change=shifted(1)),
    "a value layer is off": equation(
        ATTENTION, "value", lies={"value": other_quotient(70, remainder="stays")}
    ),
    "a query layer is off": equation(
        ATTENTION, "query", lies={"query": other_quotient(70, remainder="stays")}
    ),
    "a key layer is off": equation(
        ATTENTION, "key", lies={"key": other_quotient(70, remainder="stays")}
    ),
    "an output of attention is off": equation(ATTENTION, "out", change=shifted(-1)),
    "other weights": equation(MLP, "expand", believes=other_model("mlp[0].expand.weight", negated)),
    "another bias": equation(MLP, "expand", believes=other_model("mlp[0].expand.bias", negated)),
    "the weights of another layer": equation(
        MLP,
        "project",
        believes=other_model(
            "mlp[0].project.weight", lambda _: small_model().tensor("mlp[1].project.weight")
        ),
    ),
    # GELU
    "gelu of both parts too large": equation(MLP, "gelu", lies={"gelu": other_gelu(too_large)}),
    "gelu with a sign that is no bit": Attack(
        MLP, without_equation(activation_module, 1), "gelu", lies={"gelu": other_gelu(no_sign)}
    ),
    "gelu that clips what the table has": Attack(
        MLP,
        without_equation(activation_module, 2),
        "gelu",
        lies={"gelu": other_gelu(clipped_early)},
    ),
    "gelu beyond the table": Attack(
        MLP, without_lookup("gelu: index"), lies={"gelu": other_gelu(not_clipped)}
    ),
    "gelu of the other sign": equation(MLP, "expand", lies={"gelu": other_gelu(wrong_sign)}),
    "gelu with another entry": Attack(
        MLP, without_lookup("gelu: index"), lies={"gelu": other_gelu(wrong_entry)}
    ),
    "gelu whose entry is another table's row": Attack(
        MLP, with_shared_identifier("gelu", "range 6"), lies={"gelu": other_gelu(no_entry)}
    ),
    # Attention
    "a score is off": equation(
        ATTENTION,
        "attention: cells",
        lies={"attention": other_attention(at_stage("maximum", other_score))},
    ),
    "a score is rounded as it likes": Attack(
        ATTENTION,
        without_lookup("attention: score remainder"),
        lies={"attention": other_attention(at_stage("maximum", other_score), rounded_off)},
    ),
    "a distance is clipped that the table has": Attack(
        ATTENTION,
        without_equation(attention_module, 1),
        "attention: cells",
        lies={"attention": other_attention(at_stage("exponential", entry_of_5), early_excess)},
    ),
    "a maximum one too large": Attack(
        ATTENTION,
        without_equation(attention_module, 2),
        "attention: cells",
        lies={"attention": other_attention(larger_maximum(1))},
        harmless=True,
    ),
    "a maximum far too large": Attack(
        ATTENTION,
        without_equation(attention_module, 2),
        "attention: cells",
        lies={"attention": other_attention(larger_maximum(70))},
    ),
    "a marker beside the maximum": Attack(
        ATTENTION,
        without_equation(attention_module, 2),
        "attention: cells",
        lies={"attention": other_attention(no_change, mark((PAST, 1)))},
        harmless=True,
    ),
    "a marker above the diagonal": Attack(
        ATTENTION,
        without_equation(attention_module, 4),
        "attention: cells",
        lies={"attention": other_attention(larger_maximum(70), mark((4, 1)))},
    ),
    "no marker": equation(
        ATTENTION,
        "attention: one maximum",
        lies={"attention": other_attention(larger_maximum(70), mark())},
    ),
    "two markers": equation(
        ATTENTION,
        "attention: one maximum",
        lies={"attention": other_attention(no_change, mark((BEST, 2)))},
        harmless=True,
    ),
    "a maximum that a score exceeds": Attack(
        ATTENTION,
        without_lookup("attention: index"),
        lies={"attention": other_attention(at_stage("maximum", smaller_maximum), mark((PAST, 1)))},
    ),
    "a token of the future": Attack(
        ATTENTION,
        without_equation(attention_module, 3),
        "attention: cells",
        lies={"attention": other_attention(at_stage("exponential", future_token))},
    ),
    "an exponential that is not in the table": Attack(
        ATTENTION,
        without_lookup("attention: index"),
        lies={"attention": other_attention(at_stage("exponential", other_entry))},
    ),
    "a past token is another table's row": Attack(
        ATTENTION,
        with_shared_identifier("exp", "range 7"),
        lies={"attention": other_attention(at_stage("exponential", forgotten_token))},
    ),
    "another total": equation(
        ATTENTION,
        "attention: total",
        lies={"attention": other_attention(at_stage("total", other_total))},
    ),
    "half of another total": equation(
        ATTENTION,
        "attention: half of total",
        lies={"attention": other_attention(no_change, other_division(half=30))},
    ),
    "an attended value is off": equation(
        ATTENTION,
        "attention: output",
        lies={"attention": other_attention(no_change, other_division(9, stay=("low", "high")))},
    ),
    "an attended remainder above the total": equation(
        ATTENTION,
        "attention: output remainder",
        lies={"attention": other_attention(no_change, other_division(-1, stay=("high",)))},
    ),
    "an attended remainder below 0": Attack(
        ATTENTION,
        without_lookup("attention: output remainder"),
        lies={"attention": other_attention(no_change, other_division(1))},
    ),
    "queries of the other head": equation(
        ATTENTION,
        "attention: products",
        lies={"attention": heads_swapped(0)},
        instruct=see_heads_swapped("query"),
    ),
    "values of the other head": equation(
        ATTENTION,
        "attention: mixed",
        lies={"attention": heads_swapped(2)},
        instruct=see_heads_swapped("value"),
    ),
    # The head
    "a token that is not the arg-max": Attack(
        HEAD,
        without_lookup("margin"),
        lies={"margin": margins_of()},
        change=claim_ids((1, 11)),
    ),
    "a token that is not the arg-max, with margins made up": equation(
        HEAD, "margin", lies={"margin": margins_of(clip=True)}, change=claim_ids((1, 11))
    ),
    "a tie broken upward": Attack(
        HEAD,
        no_ties,
        "margin",
        lies={"margin": margins_of(ids_below=False)},
        change=tie((4, 9)),
    ),
    "a tie broken upward, with its margin": Attack(
        HEAD, without_lookup("margin"), lies={"margin": margins_of()}, change=tie((9, 4))
    ),
    "other weights of the head": head_with("head.logits.weight", negated, "margin: weight"),
    "another bias of the head": head_with("head.logits.bias", raised, "margin: bias"),
    # The embedding
    "rows that no token has": equation(EMBED, "embed", change=shifted(1)),
    "rows of other tokens": equation(
        EMBED,
        "embed: tokens",
        believes=other_model("embed.tokens", next_row),
        change=embedded(next_row, as_it_is),
    ),
    "rows of other positions of the embedding": equation(
        EMBED,
        "embed: positions",
        believes=other_model("embed.positions", next_row),
        change=embedded(as_it_is, next_row),
    ),
    # Weights that the verifier knows by their commitment
    "other weights than were committed to": equation(
        MLP,
        "weights: paths",
        believes=other_model("mlp[0].expand.weight", negated),
        committed=True,
    ),
    "other rows of the embedding than were committed to": equation(
        EMBED,
        "weights: paths",
        believes=other_model("embed.tokens", next_row),
        change=embedded(next_row, as_it_is),
        committed=True,
    ),
}


BOUNDARIES = pytest.mark.parametrize("hidden", [False, True], ids=["public", "hidden"])


@BOUNDARIES
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_lie_is_refused(attack: Attack, hidden: bool) -> None:
    with refused(attack.refused):
        replace(attack, hidden=hidden).trial().verify()


@BOUNDARIES
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_without_its_guard_the_lie_is_believed(
    attack: Attack, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = replace(attack, hidden=hidden).trial()
    attack.off(trial, monkeypatch)
    claim = trial.verify()
    assert np.array_equal(claim.outputs, trial.honest.outputs) == attack.harmless


# Remainders of several limbs: their complement is a number of its own


def beside_its_complement(norm: Any, honest: Any, witness: Witness, x: IntArray) -> Any:
    """A remainder above the divisor, whose complement is 0 and not negative."""
    output = moved_centre(-1, remainder="goes")(norm, honest, witness, x)
    complement = witness.integers(norm.rest.complement.value)
    assert complement.min() < 0
    witness.store_number(norm.rest.complement, np.maximum(complement, 0))
    return output


COMPLEMENTED = {
    "a remainder above the divisor beside a complement": equation(
        MLP, "norm: centred remainder: below the divisor", lies={"norm": beside_its_complement}
    ),
    "a remainder above the divisor with its complement": Attack(
        MLP,
        without_lookup("norm: centred remainder complement"),
        lies={"norm": moved_centre(-1, remainder="goes")},
    ),
}


@BOUNDARIES
@pytest.mark.parametrize("attack", COMPLEMENTED.values(), ids=COMPLEMENTED)
def test_a_lie_in_small_limbs(
    attack: Attack, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "MIN_LIMB", 2)
    monkeypatch.setattr(units, "MAX_LIMB", 2)
    test_a_lie_is_refused(attack, hidden)
    test_without_its_guard_the_lie_is_believed(attack, hidden, monkeypatch)


def columns() -> Iterator[tuple[str, str, bool]]:
    """Units share the operation `norm`; one of them will do."""
    for unit, hidden in itertools.product((EMBED, ATTENTION, MLP, HEAD), (False, True)):
        for name in Trial(unit, hidden=hidden).circuit(claims()[unit]).plan.columns:
            if not name.startswith("multiplicity" if unit == MLP else ("multiplicity", "norm")):
                yield unit, name, hidden


@pytest.mark.parametrize(("unit", "column", "hidden"), list(columns()))
def test_no_column_is_free(unit: str, column: str, hidden: bool) -> None:
    """The first cell of the last row, which no mask hides, is off by one."""

    def spoil(prover: LyingProver, _: Any) -> None:
        values = prover.witness.columns[column].copy()
        values[(*(n - 1 for n in values.shape[:-1]), 0)] += 1
        prover.commit_to({column: values})

    with pytest.raises(ProofRejected, match="does not hold"):
        Trial(unit, instruct=spoil, hidden=hidden).verify()


# Equations that hold in the field and not over the integers


def wide_model() -> ExactModel:
    """A hidden layer whose bound leaves room below p, and whose window does not."""
    model = small_model()
    specification = model.specification
    mlp, *others = specification.mlp
    wide = replace(
        mlp,
        expand=replace(mlp.expand, shift=40, output=1 << 23),
        project=replace(mlp.project, output=1 << 45),
        output=1 << 45,
    )
    assert mlp.expand.accumulator + (wide.expand.output << 40) < MODULUS
    tensors = {name: model.tensor(name) for name in specification.tensors}
    return ExactModel.in_memory(replace(specification, mlp=(wide, *others)), tensors)


def wrapped(linear: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
    """y·2^s + r is x·W + b and p."""
    y: IntArray = honest(witness, x)
    at = (2, 0)
    rest = witness.integers(linear.rest.value)
    y[at], rest[at] = divmod((int(y[at]) << 40) + int(rest[at]) + MODULUS, 1 << 40)
    linear.rest.fill(witness, rest)
    return y


def test_no_window_is_so_wide_that_an_equation_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(MLP, model=wide_model(), lies={"expand": wrapped})
    with pytest.raises(UnsupportedModel, match="expand could wrap"):
        trial.verify()
    monkeypatch.setattr(linear_module, "require_no_wrap", lambda *_: None)
    honest = Trial(MLP, model=wide_model()).verify()
    assert not np.array_equal(trial.verify().outputs, honest.outputs)


FAR = np.zeros((len(IDS), 6), dtype=np.int64)
FAR[1, :2] = (MODULUS - 1) // 6, -((MODULUS - 1) // 6)
"""Six times that is 1 less and 1 more than a multiple of p, and in sum it is nothing."""


def as_if_near(norm: Any, honest: Any, witness: Witness, x: IntArray) -> IntArray:
    """Rows so far away that d·x wraps are normalised as those that they equal modulo p."""
    output: IntArray = honest(witness, x - FAR)
    rest = witness.integers(norm.rest.value)
    rest[1, :2] += -1, 1
    norm.rest.fill(witness, rest)
    return output


def test_no_boundary_is_so_large_that_an_equation_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` has refused it before; no equation rests on that."""

    def moved(claim: Claim) -> Claim:
        return replace(claim, inputs=claim.inputs + FAR, outputs=claim.outputs + FAR)

    trial = Trial(MLP, change=moved, lies={"norm": as_if_near})
    with pytest.raises(ConstraintViolation, match="input: expected at most"):
        trial.verify()
    monkeypatch.setattr(units, "check_ranges", lambda *_: None)
    assert np.abs(trial.verify().inputs).max() > 1 << 60


# Rows that nobody sees


@pytest.mark.parametrize(("sign", "column"), [(1, "input complement"), (-1, "input")])
def test_hidden_rows_stay_within_their_bound(
    sign: int, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of such rows the unit gives what is claimed, but nothing is proven of them."""
    bound = input_bound(small_model().specification, MLP)

    def beyond(claim: Claim) -> Claim:
        inputs = claim.inputs.copy()
        inputs[1, 2] = sign * (bound + 1)
        return replace(claim, inputs=inputs, outputs=reference.run_unit(small_model(), MLP, inputs))

    # nobody can look at what is hidden
    monkeypatch.setattr(units, "check_ranges", lambda *_: None)
    trial = Trial(MLP, change=beyond, hidden=True)
    with refused("lookups: sum"):
        trial.verify()
    without_lookup(column)(trial, monkeypatch)
    trial.verify()


@pytest.mark.parametrize(("sign", "column"), [(1, "output complement"), (-1, "output")])
def test_hidden_outputs_stay_within_their_bound(
    sign: int, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nothing else ties them to the unit."""
    bound = small_model().specification.mlp[0].output

    def beyond(claim: Claim) -> Claim:
        outputs = claim.outputs.copy()
        outputs[1, 2] = sign * (bound + 1)
        return replace(claim, outputs=outputs)

    monkeypatch.setattr(units, "check_ranges", lambda *_: None)
    trial = Trial(MLP, change=beyond, hidden=True)
    deaf_to("project")(trial, monkeypatch)
    with refused("lookups: sum"):
        trial.verify()
    without_lookup(column)(trial, monkeypatch)
    trial.verify()


def test_the_complement_of_hidden_rows_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row beyond its bound, beside a complement that is not negative."""
    bound = input_bound(small_model().specification, MLP)

    def beyond(claim: Claim) -> Claim:
        inputs = claim.inputs.copy()
        inputs[1, 2] = bound + 1
        return replace(claim, inputs=inputs, outputs=reference.run_unit(small_model(), MLP, inputs))

    def made_up(prover: LyingProver, circuit: Any) -> None:
        complement = circuit.ends["input"].complement
        values = prover.witness.integers(complement.value)
        prover.witness.store_number(complement, np.maximum(values, 0))
        prover.commit_to({})

    monkeypatch.setattr(units, "check_ranges", lambda *_: None)
    trial = Trial(MLP, change=beyond, hidden=True, instruct=made_up)
    with refused("input: below the divisor"):
        trial.verify()
    deaf_to("input: below the divisor")(trial, monkeypatch)
    trial.verify()

"""From float weights to the integers of an exact model, the same on any machine.

Folding and rounding use element-wise IEEE operations and `math.fsum` only: a BLAS may add in any
order, and then two machines would export two models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias, cast

import numpy as np

from zkllm.architectures.gpt2 import GPT2
from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.errors import UnsupportedModel
from zkllm.exact import bounds, tables
from zkllm.exact.format1 import Attention, Head, Mlp
from zkllm.exact.specification import (
    FORMAT,
    Activation,
    Architecture,
    ExpTable,
    Fractions,
    Specification,
    StoredTensor,
)
from zkllm.integers import FLOAT64_LIMIT
from zkllm.operations.embed.exact import Embed
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm
from zkllm.tensors import FloatArray, IntArray, magnitude_type, tensor_digest

MAX_WEIGHT_FRACTION = 24


@dataclass(frozen=True, slots=True)
class Precision:
    """How finely a checkpoint is cut into integers."""

    name: str
    weight_bits: int
    """Bits of a weight, sign included."""
    fractions: Fractions
    exp: ExpTable


PRECISIONS: Mapping[str, Precision] = {
    # GPT-2 and its like: fidelity first.
    "wide": Precision(
        "wide",
        12,
        Fractions(residual=12, norm=10, query=10, key=10, value=10, score=10, hidden=10),
        ExpTable("free", 10, 16, 0),
    ),
    # Small models whose attention ezkl is to prove: every integer inside one lookup window.
    "ezkl": Precision(
        "ezkl",
        10,
        Fractions(residual=8, norm=8, query=8, key=8, value=8, score=8, hidden=8),
        ExpTable("ezkl", 8, 240, 14),
    ),
}
DEFAULT_PRESET = "wide"
"""Fidelity first: whoever wants ezkl's proofs says so."""


def fold_norm(
    weight: FloatArray, bias: FloatArray, gamma: FloatArray, beta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Move LayerNorm's affine part into the linear layer after it: W' = γ·W, b' = b + β·W."""
    products = beta[:, None] * weight
    folded = [math.fsum([b, *column]) for b, column in zip(bias.tolist(), products.T, strict=True)]
    return gamma[:, None] * weight, np.array(folded)


def weight_fraction(weight: FloatArray, bits: int) -> int:
    """The most fraction bits with which every weight fits in `bits` bits."""
    largest = float(np.abs(weight).max())
    limit = (1 << (bits - 1)) - 1
    fraction = MAX_WEIGHT_FRACTION
    while fraction > -MAX_WEIGHT_FRACTION and math.ldexp(largest, fraction) > limit:
        fraction -= 1
    return fraction


def quantise(values: FloatArray, fraction: int, what: str = "a tensor") -> IntArray:
    """floor(x·2^f + 1/2), exactly: scaling by a power of two does not round, nor does x - ⌊x⌋.

    Raises `UnsupportedModel` if an integer would reach 2^52, beyond which bounds mean nothing.
    """
    limit = math.ldexp(FLOAT64_LIMIT, -fraction)
    if not (np.abs(values) < limit).all():
        raise UnsupportedModel(
            f"{what} must stay below 2^52 with {fraction} fraction bits, "
            f"got {float(np.abs(values).max()):.4g}"
        )
    scaled = np.ldexp(values, fraction)
    whole = np.floor(scaled)
    # floor(x + 0.5) in float64 would carry the largest number below one half up to one
    return (whole + (scaled - whole >= 0.5)).astype(np.int64)


def epsilon_at(epsilon: Fraction, fraction: int) -> tuple[int, int]:
    """ε·2^(2f) as (numerator, denominator)."""
    scaled = epsilon * Fraction(4) ** fraction
    return scaled.numerator, scaled.denominator


FloatLayer: TypeAlias = tuple[FloatArray, FloatArray, int, int]
"""Weight, bias, and fraction bits of input and output."""


@dataclass(slots=True)
class _Builder:
    """Collects the units and tensors of one exact model."""

    checkpoint: Checkpoint
    precision: Precision
    architecture: Architecture
    tensors: dict[str, IntArray] = field(default_factory=dict)

    @property
    def network(self) -> GPT2:
        return cast("GPT2", self.checkpoint.architecture)

    def keep(self, name: str, values: IntArray) -> str:
        self.tensors[name] = values
        return name

    def linear(
        self,
        unit: str,
        name: str,
        x: bounds.Vector,
        weight: FloatArray,
        bias: FloatArray,
        fraction_in: int,
        fraction_out: int,
    ) -> tuple[Linear, bounds.Vector]:
        """Quantise one layer; the weight gives up bits if the shift would be negative."""
        bits = weight_fraction(weight, self.precision.weight_bits)
        shift = fraction_in + bits - fraction_out
        w = quantise(weight, bits, f"{unit}: {name}.weight")
        b = quantise(bias, fraction_in + bits, f"{unit}: {name}.bias")
        names = (f"{unit}.{name}.weight", f"{unit}.{name}.bias")
        layer, output = bounds.linear(unit, name, x, w, b, shift, names)
        self.keep(names[0], w)
        self.keep(names[1], b)
        return layer, output

    def norm(self, unit: str, bound: int) -> Norm:
        config, fractions = self.network, self.precision.fractions
        return bounds.norm(
            unit,
            bound,
            d=config.width,
            fraction=fractions.norm,
            epsilon=epsilon_at(config.epsilon, fractions.residual),
        )

    def apply(self, unit: str, layers: Mapping[str, FloatLayer]) -> bounds.Apply:
        """Quantises the layers of a unit as their bounds are asked for."""
        return lambda name, x: self.linear(unit, name, x, *layers[name])

    def embed(self) -> Embed:
        fraction = self.precision.fractions.residual
        weights = self.checkpoint.tensors
        tokens = quantise(weights["wte.weight"], fraction, "embed: wte.weight")
        positions = quantise(weights["wpe.weight"], fraction, "embed: wpe.weight")
        names = self.keep("embed.tokens", tokens), self.keep("embed.positions", positions)
        return bounds.embed(names, tokens, positions)

    def attention(self, index: int, bound: int) -> Attention:
        config, f = self.network, self.precision.fractions
        unit, weights = f"attention[{index}]", self.checkpoint.tensors
        d, head_width = config.width, config.width // config.heads
        merged, bias = fold_norm(
            weights[f"h.{index}.attn.c_attn.weight"],
            weights[f"h.{index}.attn.c_attn.bias"],
            weights[f"h.{index}.ln_1.weight"],
            weights[f"h.{index}.ln_1.bias"],
        )
        # 1/√d_head goes into W_q: exact where d_head is a power of four.
        root = math.sqrt(head_width) if config.scale_scores else 1.0
        layers: dict[str, FloatLayer] = {
            "query": (merged[:, :d] / root, bias[:d] / root, f.norm, f.query),
            "key": (merged[:, d : 2 * d], bias[d : 2 * d], f.norm, f.key),
            "value": (merged[:, 2 * d :], bias[2 * d :], f.norm, f.value),
            "out": (
                weights[f"h.{index}.attn.c_proj.weight"],
                weights[f"h.{index}.attn.c_proj.bias"],
                f.value,
                f.residual,
            ),
        }
        shift = f.query + f.key - f.score
        if shift < 0:
            raise UnsupportedModel(f"{unit}: query and key have fewer fraction bits than scores")
        exp = self.exp_table()
        return bounds.attention(
            unit,
            bound,
            self.norm(unit, bound),
            self.apply(unit, layers),
            self.architecture,
            shift,
            (exp, self.tensors[exp]),
        )

    def mlp(self, index: int, bound: int) -> Mlp:
        f, unit, weights = self.precision.fractions, f"mlp[{index}]", self.checkpoint.tensors
        weight, bias = fold_norm(
            weights[f"h.{index}.mlp.c_fc.weight"],
            weights[f"h.{index}.mlp.c_fc.bias"],
            weights[f"h.{index}.ln_2.weight"],
            weights[f"h.{index}.ln_2.bias"],
        )
        layers: dict[str, FloatLayer] = {
            "expand": (weight, bias, f.norm, f.hidden),
            "project": (
                weights[f"h.{index}.mlp.c_proj.weight"],
                weights[f"h.{index}.mlp.c_proj.bias"],
                f.hidden,
                f.residual,
            ),
        }
        gelu = self.gelu_table()
        return bounds.mlp(
            unit,
            bound,
            self.norm(unit, bound),
            self.apply(unit, layers),
            self.architecture,
            (gelu, self.tensors[gelu]),
        )

    def head(self, bound: int) -> Head:
        f, weights = self.precision.fractions, self.checkpoint.tensors
        matrix = weights["lm_head.weight"].T
        weight, bias = fold_norm(
            matrix, np.zeros(matrix.shape[1]), weights["ln_f.weight"], weights["ln_f.bias"]
        )
        # logits are compared with each other, so one scale serves all, whatever it is
        fraction = f.norm + weight_fraction(weight, self.precision.weight_bits)
        layers: dict[str, FloatLayer] = {"logits": (weight, bias, f.norm, fraction)}
        return bounds.head(self.norm("head", bound), self.apply("head", layers), self.architecture)

    def exp_table(self) -> str:
        name, exp = "table.exp", self.precision.exp
        if name not in self.tensors:
            if exp.family == "free":
                table = tables.exp_free(exp.argument_bits, exp.value_parameter)
            else:
                table = tables.exp_ezkl(exp.argument_bits, exp.value_parameter, exp.logrows)
            self.keep(name, table)
        return name

    def gelu_table(self) -> str:
        name = "table.gelu"
        if name not in self.tensors:
            fraction = self.precision.fractions.hidden
            match self.network.activation:
                case "gelu_new":
                    table = tables.gelu_tanh(fraction)
                case "gelu":
                    table = tables.gelu_erf(fraction)
                case "relu":
                    table = tables.relu()
            self.keep(name, table)
        return name


def logit_fraction(checkpoint: Checkpoint, precision: Precision) -> int:
    """Fraction bits of the raw logits of `build`'s model: they are compared, never rescaled."""
    weights = checkpoint.tensors
    folded = weights["ln_f.weight"][:, None] * weights["lm_head.weight"].T
    return precision.fractions.norm + weight_fraction(folded, precision.weight_bits)


def build(
    checkpoint: Checkpoint,
    precision: Precision,
    blocks: tuple[int, int] | None = None,
    *,
    input_bound: int | None = None,
) -> tuple[Specification, dict[str, IntArray]]:
    """The exact model of `checkpoint`: its specification and its integers.

    `blocks` (i, j) keeps blocks i to j-1 only, as a fragment whose rows must stay within the
    bound that the whole model proves there, or within `input_bound`. Raises `UnsupportedModel` if
    a bound leaves the exact range, or if `blocks` is not a range of the checkpoint's blocks.
    """
    config = checkpoint.architecture
    first, last = blocks if blocks is not None else (0, config.blocks)
    if not 0 <= first < last <= config.blocks:
        raise UnsupportedModel(
            f"blocks {first}:{last} are not a range of the checkpoint's {config.blocks} blocks"
        )
    text = blocks is None
    if text and checkpoint.tokenizer is None:
        raise UnsupportedModel(
            "the checkpoint has no tokenizer.json, which a text model needs",
            hint="export a fragment instead: --blocks i:j",
        )
    architecture = Architecture(
        width=config.width,
        heads=config.heads,
        inner=config.inner,
        vocabulary=config.vocabulary,
        context=config.context,
        first_block=first,
        blocks=last - first,
        activation=cast("Activation", config.activation),
    )
    builder = _Builder(checkpoint, precision, architecture)
    embed = builder.embed()
    bound = embed.output
    # A fragment's input bound is the one that the blocks before it prove.
    for index in range(first) if input_bound is None else ():
        bound = builder.mlp(index, builder.attention(index, bound).output).output
    start = bound if input_bound is None or text else input_bound
    bound = start
    builder.tensors = dict(builder.tensors) if text else {}
    attentions, mlps = [], []
    for index in range(first, last):
        attentions.append(builder.attention(index, bound))
        mlps.append(builder.mlp(index, attentions[-1].output))
        bound = mlps[-1].output
    head = builder.head(bound) if text else None
    stored = {}
    for name, values in builder.tensors.items():
        dtype = magnitude_type(values)
        stored[name] = StoredTensor(dtype, values.shape, tensor_digest(values, dtype))
    specification = Specification(
        format=FORMAT,
        kind="text" if text else "fragment",
        source=checkpoint.digest,
        architecture=architecture,
        fractions=precision.fractions,
        exp=precision.exp,
        input=start,
        embed=embed if text else None,
        attention=tuple(attentions),
        mlp=tuple(mlps),
        head=head,
        tensors=stored,
        tokenizer=sha256(checkpoint.tokenizer) if text and checkpoint.tokenizer else None,
        pad_id=checkpoint.stop_ids[0] if checkpoint.stop_ids else 0,
        stop_ids=checkpoint.stop_ids,
    )
    specification.check()
    return specification, builder.tensors

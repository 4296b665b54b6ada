"""From float weights to the integers of an exact model, the same on any machine.

Folding and rounding use element-wise IEEE operations and `math.fsum` only: a BLAS may add in any
order, and then two machines would export two models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from zkllm.architectures.gpt2 import GPT2
from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.errors import UnsupportedModel
from zkllm.exact import format1
from zkllm.exact.specification import FORMAT, Architecture, Specification, StoredTensor
from zkllm.operations.activation.draft import ActivationDraft
from zkllm.operations.attention.draft import AttentionDraft
from zkllm.operations.draft import Draft, Sketch, weight_fraction
from zkllm.operations.embed.draft import EmbedDraft
from zkllm.operations.head.draft import HeadDraft
from zkllm.operations.linear.draft import LinearDraft
from zkllm.operations.norm.draft import NormDraft
from zkllm.operations.precision import Precision
from zkllm.operations.step import Dims
from zkllm.operations.tables import ActivationKind
from zkllm.operations.unit import Boundary, Ids, Rows
from zkllm.tensors import FloatArray, IntArray, magnitude_type, tensor_digest


def fold_norm(
    weight: FloatArray, bias: FloatArray, gamma: FloatArray, beta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Move LayerNorm's affine part into the linear layer after it: W' = γ·W, b' = b + β·W."""
    products = beta[:, None] * weight
    folded = [math.fsum([b, *column]) for b, column in zip(bias.tolist(), products.T, strict=True)]
    return gamma[:, None] * weight, np.array(folded)


@dataclass(frozen=True, slots=True)
class _Sketches:
    """The units of a GPT-2 checkpoint, as drafts."""

    checkpoint: Checkpoint
    precision: Precision

    @property
    def network(self) -> GPT2:
        return cast("GPT2", self.checkpoint.architecture)

    def embed(self) -> Sketch:
        weights, called = self.checkpoint.tensors, ("wte.weight", "wpe.weight")
        tokens, positions = (weights[name] for name in called)
        fraction = self.precision.fractions.residual
        draft = EmbedDraft("embed", ("ids",), "rows", tokens, positions, called, fraction)
        return Sketch("embed", (draft,), reads="ids", writes="rows", residual=False)

    def block(self, index: int) -> Iterator[Sketch]:
        """The two units of a block."""
        yield Sketch(f"attention[{index}]", self._attention(f"h.{index}"))
        yield Sketch(f"mlp[{index}]", self._mlp(f"h.{index}"))

    def head(self) -> Sketch:
        config = self.network
        drafts = self._norm(), self._logits()
        return Sketch("head", drafts, Ids(config.vocabulary), writes="ids", residual=False)

    def _logits(self) -> HeadDraft:
        matrix = self.checkpoint.tensors["lm_head.weight"].T
        weight, bias = self._after("ln_f", matrix, np.zeros(matrix.shape[1]))
        fraction, bits = self.precision.fractions.norm, self.precision.weight_bits
        return HeadDraft("margin", ("normal",), "ids", weight, bias, fraction, bits)

    def _attention(self, block: str) -> tuple[Draft, ...]:
        config, f = self.network, self.precision.fractions
        d, size = config.width, config.width // config.heads
        heads = config.heads, size
        weight, bias = self._after(f"{block}.ln_1", *self._layer(f"{block}.attn.c_attn"))
        # 1/√d_head goes into W_q: exact where d_head is a power of four.
        root = math.sqrt(size) if config.scale_scores else 1.0
        out, out_bias = self._layer(f"{block}.attn.c_proj")
        columns = slice(d), slice(d, 2 * d), slice(2 * d, None)
        q, k, v = ((weight[:, part], bias[part]) for part in columns)
        scaled = q[0] / root, q[1] / root
        normal, read = ("normal", f.norm, (d,)), ("query", "key", "value")
        exp, bits = self.precision.exp, f.query + f.key
        return (
            self._norm(),
            self._linear("query", *scaled, normal, ("query", f.query, heads)),
            self._linear("key", *k, normal, ("key", f.key, heads)),
            self._linear("value", *v, normal, ("value", f.value, heads)),
            AttentionDraft("attention", read, "mixed", *heads, config.context, bits, f.score, exp),
            self._linear("out", out, out_bias, ("mixed", f.value, heads), self._change()),
        )

    def _mlp(self, block: str) -> tuple[Draft, ...]:
        config, f = self.network, self.precision.fractions
        d, inner = (config.width,), (config.inner,)
        weight, bias = self._after(f"{block}.ln_2", *self._layer(f"{block}.mlp.c_fc"))
        project, project_bias = self._layer(f"{block}.mlp.c_proj")
        hidden, active = ("hidden", f.hidden, inner), ("active", f.hidden, inner)
        kind = cast("ActivationKind", config.activation)
        # The activation gives its input the form in which it is committed to: it comes first.
        return (
            self._norm(),
            ActivationDraft("gelu", ("hidden",), "active", kind, f.hidden, inner),
            self._linear("expand", weight, bias, ("normal", f.norm, d), hidden),
            self._linear("project", project, project_bias, active, self._change()),
        )

    def _norm(self) -> NormDraft:
        config, f = self.network, self.precision.fractions
        sizes = config.width, config.epsilon, f.residual, f.norm
        return NormDraft("norm", ("x",), "normal", *sizes)

    def _linear(
        self, name: str, weight: FloatArray, bias: FloatArray, given: _Value, made: _Value
    ) -> LinearDraft:
        (read, fraction_in, inner), (written, fraction_out, outer) = given, made
        numbers = inner, outer, fraction_in, fraction_out, self.precision.weight_bits
        return LinearDraft(name, (read,), written, weight, bias, *numbers)

    def _change(self) -> _Value:
        return "change", self.precision.fractions.residual, (self.network.width,)

    def _layer(self, name: str) -> tuple[FloatArray, FloatArray]:
        weights = self.checkpoint.tensors
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def _after(
        self, norm: str, weight: FloatArray, bias: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """A layer after the LayerNorm of that name, whose affine part goes into it."""
        return fold_norm(weight, bias, *self._layer(norm))


_Value: TypeAlias = tuple[str, int, Dims]
"""The name of a value, its fraction bits and its dimensions."""


def logit_fraction(checkpoint: Checkpoint, precision: Precision) -> int:
    """Fraction bits of the raw logits of `build`'s model: they are compared, never rescaled."""
    weights = checkpoint.tensors
    folded = weights["ln_f.weight"][:, None] * weights["lm_head.weight"].T
    return precision.fractions.norm + weight_fraction(folded, precision.weight_bits)


def _blocks(sketches: _Sketches, first: int, last: int) -> Iterator[Sketch]:
    for index in range(first, last):
        yield from sketches.block(index)


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
        activation=cast("ActivationKind", config.activation),
    )
    sketches, tensors = _Sketches(checkpoint, precision), dict[str, IntArray]()
    embed = sketches.embed().quantise(Ids(config.vocabulary), tensors)
    boundary: Boundary = embed.output
    # A fragment's input bound is the one that the blocks before it prove.
    for sketch in _blocks(sketches, 0, first if input_bound is None else 0):
        boundary = sketch.quantise(boundary, tensors).output
    if not text:
        tensors = {}
        if input_bound is not None:
            boundary = Rows(config.width, input_bound)
    units = [embed] if text else []
    for sketch in _blocks(sketches, first, last):
        units.append(sketch.quantise(boundary, tensors))
        boundary = units[-1].output
    if text:
        units.append(sketches.head().quantise(boundary, tensors))
    stored = {}
    for name, values in tensors.items():
        dtype = magnitude_type(values)
        stored[name] = StoredTensor(dtype, values.shape, tensor_digest(values, dtype))
    specification = Specification(
        format=FORMAT,
        kind="text" if text else "fragment",
        source=checkpoint.digest,
        architecture=architecture,
        fractions=precision.fractions,
        exp=precision.exp,
        **format1.arrange(units, architecture),
        tensors=stored,
        tokenizer=sha256(checkpoint.tokenizer) if text and checkpoint.tokenizer else None,
        pad_id=checkpoint.stop_ids[0] if checkpoint.stop_ids else 0,
        stop_ids=checkpoint.stop_ids,
    )
    specification.check()
    if list(specification.lists.values()) != units:
        raise UnsupportedModel("format 1 has no words for units in this order")
    return specification, tensors

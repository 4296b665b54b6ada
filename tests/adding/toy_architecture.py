"""An architecture that is not one of the package: names, keys and layout of its own.

It computes what a GPT-2 without biases does, so that the steps of one are the steps of the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np

from zkllm.architectures import float32
from zkllm.architectures.base import Architecture, Layout, Weights
from zkllm.architectures.config import Keys, others
from zkllm.architectures.float32 import Float32
from zkllm.architectures.folding import Layer, Value, fold_norm, linear, scaled
from zkllm.operations.activation.draft import ActivationDraft
from zkllm.operations.attention.draft import AttentionDraft
from zkllm.operations.draft import Sketch
from zkllm.operations.embed.draft import EmbedDraft
from zkllm.operations.head.draft import HeadDraft
from zkllm.operations.norm.draft import NormDraft
from zkllm.operations.precision import Precision
from zkllm.operations.tables import ActivationKind
from zkllm.operations.unit import Ids
from zkllm.tensors import FloatArray, IntArray

ACTIVATIONS: dict[str, ActivationKind] = {"relu": "relu", "gelu": "gelu"}


@dataclass(frozen=True)
class Toy(Architecture):
    """Matrices as `nn.Linear` keeps them, [n_out, n_in]; nothing has a bias."""

    model_type = "toy"
    title = "Toy"
    classes = ("ToyForCausalLM",)
    end = 2
    foreign = others("hidden_act", toy_experts=(1,))
    layout = Layout(
        prefix="model.",
        block="layers.",
        blocks="num_hidden_layers",
        embedding="tokens.weight",
        head="lm_head.weight",
        tied=False,
        strangers={r"vision\.": "an eye"},
    )

    epsilon: Fraction

    @classmethod
    def read(cls, keys: Keys) -> Self:
        return cls(
            width=keys.size("width", "hidden_size"),
            heads=keys.size("heads", "num_attention_heads"),
            inner=keys.size("inner", "intermediate_size"),
            blocks=keys.size("blocks", "num_hidden_layers"),
            vocabulary=keys.size("vocabulary", "vocab_size"),
            context=keys.size("context", "max_position_embeddings"),
            activation=keys.choice("hidden_act", ACTIVATIONS, absent="relu"),
            epsilon=keys.fraction("norm_eps", absent=1e-6),
        )

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        d, inner = self.width, self.inner
        yield "tokens.weight", (self.vocabulary, d)
        yield "positions.weight", (self.context, d)
        for i in range(self.blocks):
            yield f"layers.{i}.first.weight", (d,)
            for name in ("q", "k", "v", "o"):
                yield f"layers.{i}.{name}_proj.weight", (d, d)
            yield f"layers.{i}.second.weight", (d,)
            yield f"layers.{i}.up.weight", (inner, d)
            yield f"layers.{i}.down.weight", (d, inner)
        yield "norm.weight", (d,)

    # Folding

    def embed(self, weights: Weights, precision: Precision) -> Sketch:
        called = ("tokens.weight", "positions.weight")
        tokens, positions = (weights[name] for name in called)
        fraction = precision.fractions.residual
        draft = EmbedDraft("embed", ("ids",), "rows", tokens, positions, called, fraction)
        return Sketch("embed", (draft,), reads="ids", writes="rows", residual=False)

    def block(self, weights: Weights, precision: Precision, index: int) -> Iterator[Sketch]:
        f, bits, at = precision.fractions, precision.weight_bits, f"layers.{index}"
        heads, size = self.heads, self.width // self.heads
        normal = Value("normal", f.norm, (self.width,))
        change = Value("change", f.residual, (self.width,))
        query, key, value = (
            Value(name, fraction, (heads, size))
            for name, fraction in (("query", f.query), ("key", f.key), ("value", f.value))
        )
        weight, bias = after(weights, f"{at}.first", f"{at}.q_proj")
        root = math.sqrt(size)
        yield Sketch(
            f"attention[{index}]",
            (
                self._norm(precision),
                linear("query", (weight / root, bias / root), normal, query, bits),
                linear("key", after(weights, f"{at}.first", f"{at}.k_proj"), normal, key, bits),
                linear("value", after(weights, f"{at}.first", f"{at}.v_proj"), normal, value, bits),
                AttentionDraft(
                    "attention", ("query", "key", "value"), "mixed", heads, size, self.context,
                    f.query + f.key, f.score, precision.exp,
                ),
                linear(
                    "out", layer(weights, f"{at}.o_proj"),
                    Value("mixed", f.value, (heads, size)), change, bits,
                ),
            ),
        )  # fmt: skip
        hidden, active = (Value(name, f.hidden, (self.inner,)) for name in ("hidden", "active"))
        gelu = ActivationDraft(
            "gelu", ("hidden",), "active", self.activation, f.hidden, hidden.dims
        )
        yield Sketch(
            f"mlp[{index}]",
            (
                self._norm(precision),
                gelu,
                linear("expand", after(weights, f"{at}.second", f"{at}.up"), normal, hidden, bits),
                linear("project", layer(weights, f"{at}.down"), active, change, bits),
            ),
        )

    def head(self, weights: Weights, precision: Precision) -> Sketch:
        f, bits = precision.fractions, precision.weight_bits
        layer = after(weights, "norm", "lm_head")
        logits = HeadDraft("margin", ("normal",), "ids", *layer, f.norm, bits)
        drafts = self._norm(precision), logits
        return Sketch("head", drafts, Ids(self.vocabulary), writes="ids", residual=False)

    def head_weight(self, weights: Weights) -> FloatArray:
        return scaled(weights["lm_head.weight"].T, weights["norm.weight"])

    def _norm(self, precision: Precision) -> NormDraft:
        f = precision.fractions
        sizes = self.width, self.epsilon, f.residual, f.norm
        return NormDraft("norm", ("x",), "normal", *sizes)

    # In float32

    def hidden(self, weights: Weights, ids: IntArray, blocks: int) -> list[Float32]:
        w = {name: values.astype(np.float32) for name, values in weights.items()}
        heads = (len(ids), self.heads, -1)
        x = w["tokens.weight"][ids] + w["positions.weight"][: len(ids)]
        stream = [x]
        for i in range(blocks):
            at = f"layers.{i}"
            normal = self._floats(x, w[f"{at}.first.weight"])
            q, k, v = (
                (normal @ w[f"{at}.{name}_proj.weight"].T).reshape(heads)
                for name in ("q", "k", "v")
            )
            mixed = float32.attention(q, k, v, math.sqrt(q.shape[-1])).reshape(len(ids), -1)
            x = x + mixed @ w[f"{at}.o_proj.weight"].T
            wide = self._floats(x, w[f"{at}.second.weight"]) @ w[f"{at}.up.weight"].T
            x = x + float32.activate(wide, self.activation) @ w[f"{at}.down.weight"].T
            stream.append(x)
        return stream

    def logits(self, weights: Weights, x: Float32) -> Float32:
        normal = self._floats(x, weights["norm.weight"].astype(np.float32))
        return np.asarray(normal @ weights["lm_head.weight"].astype(np.float32).T)

    def _floats(self, x: Float32, gamma: Float32) -> Float32:
        return float32.layer_norm(x, gamma, np.zeros_like(gamma), float(self.epsilon))


def layer(weights: Weights, name: str) -> Layer:
    matrix: FloatArray = weights[f"{name}.weight"].T
    return matrix, np.zeros(matrix.shape[1])


def after(weights: Weights, norm: str, name: str) -> Layer:
    """A layer after the LayerNorm of that name."""
    gamma = weights[f"{norm}.weight"]
    return fold_norm(*layer(weights, name), gamma, np.zeros_like(gamma))

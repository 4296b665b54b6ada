"""GPT-2: its keys, its tensors as they lie on disks, and the network that they are.

Known are the tensors of Hugging Face, with or without `transformer.`, and those of nanoGPT and
minGPT, whose matrices are transposed (`nn.Linear` keeps [n_out, n_in], `Conv1D` [n_in, n_out]).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np

from zkllm.architectures import float32
from zkllm.architectures.base import Architecture, Buffer, Layout, Older, Turned, Weights
from zkllm.architectures.config import Keys, others
from zkllm.architectures.float32 import Float32
from zkllm.architectures.folding import Layer, Value, fold_norm, linear, scaled
from zkllm.errors import UnsupportedModel
from zkllm.operations.activation.draft import ActivationDraft
from zkllm.operations.attention.draft import AttentionDraft
from zkllm.operations.draft import Draft, Sketch
from zkllm.operations.embed.draft import EmbedDraft
from zkllm.operations.head.draft import HeadDraft
from zkllm.operations.norm.draft import NormDraft
from zkllm.operations.precision import Precision
from zkllm.operations.tables import ActivationKind
from zkllm.operations.unit import Ids
from zkllm.tensors import FloatArray, IntArray

_ACTIVATIONS: Mapping[str, ActivationKind] = {
    "gelu_new": "gelu_new",
    # the same function, written in other ways or with more digits of √(2/π)
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_accurate": "gelu_new",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
}
_UNSUPPORTED = ("add_cross_attention", "is_encoder_decoder", "scale_attn_by_inverse_layer_idx")
_MASKED = -1e4
"""What `masked_bias` adds to the scores of what must not be seen; e to it is 0 in float32."""


def _is_causal(mask: FloatArray) -> bool:
    """Whether it hides the future and nothing else."""
    shape = mask.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or any(n != 1 for n in shape[:-2]):
        return False
    return bool((mask.reshape(shape[-2:]) == np.tri(shape[-1])).all())


def _hides(masked_bias: FloatArray) -> bool:
    return masked_bias.size == 1 and float(masked_bias.reshape(())) <= _MASKED


_LAYOUT = Layout(
    prefix="transformer.",
    block="h.",
    blocks="n_layer",
    embedding="wte.weight",
    head="lm_head.weight",
    biases="bias",
    turned=Turned(
        tells="h.0.attn.c_attn.weight",
        names=("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"),
        key="activation_function",
        why="models of this layout (nn.Linear) were trained with gelu and with gelu_new",
        hint="nanoGPT and early minGPT have gelu, later minGPT and early nanoGPT gelu_new",
    ),
    older=(
        Older(  # minGPT until 2022
            tells="tok_emb.weight",
            block="blocks.",
            beginnings={
                "tok_emb.": "wte.",
                "pos_emb": "wpe.weight",
                "head.": "lm_head.",
                "ln1.": "ln_1.",
                "ln2.": "ln_2.",
                "attn.proj.": "attn.c_proj.",
                "mlp.0.": "mlp.c_fc.",
                "mlp.2.": "mlp.c_proj.",
            },
            stacked={"attn.c_attn": ("attn.query", "attn.key", "attn.value")},
            flat=("wpe.weight",),
        ),
    ),
    buffers=(
        Buffer(r"(h|blocks)\.\d{1,9}\.attn\.(bias|mask)", "causal mask", _is_causal),
        Buffer(r"(h|blocks)\.\d{1,9}\.attn\.masked_bias", "causal mask", _hides),
    ),
    strangers={
        r"multiple_choice_head\.": "a second head, which does not give tokens",
        r".*(crossattention|ln_cross_attn|q_attn)": "part of cross-attention",
        r"lm_head\.bias": "GPT-2's head has no bias",
    },
)


@dataclass(frozen=True)
class GPT2(Architecture):
    """A GPT-2."""

    model_type = "gpt2"
    title = "GPT-2"
    classes = (
        "GPT2LMHeadModel",
        "GPT2Model",
        "GPT2DoubleHeadsModel",
        "TFGPT2LMHeadModel",
        "FlaxGPT2LMHeadModel",
        "GPT",  # nanoGPT's and minGPT's class
    )
    end = 50256
    foreign = others(
        hidden_act=tuple(_ACTIVATIONS), position_embedding_type=("absolute", "learned")
    )
    layout = _LAYOUT

    epsilon: Fraction
    """ε of every LayerNorm, the exact value of the decimal in the file."""
    scale_scores: bool
    """Whether scores are divided by √d_head."""

    @classmethod
    def read(cls, keys: Keys) -> Self:
        for name in _UNSUPPORTED:
            keys.flag(name, absent=False, only=False)
        keys.flag("reorder_and_upcast_attn", absent=False)  # scores are the same
        keys.flag("tie_word_embeddings", absent=True)
        keys.flag("bias", absent=True)
        width = keys.size("width", "n_embd", "hidden_size")
        heads = keys.size("heads", "n_head", "num_attention_heads")
        if width % heads:
            raise UnsupportedModel(
                f"config.json: n_embd must be a multiple of n_head, got {width} and {heads}"
            )
        return cls(
            width=width,
            heads=heads,
            activation=keys.choice("activation_function", _ACTIVATIONS, absent="gelu_new"),
            vocabulary=keys.size("vocabulary", "vocab_size"),
            inner=keys.size("inner", "n_inner", absent=4 * width),
            blocks=keys.size("blocks", "n_layer", "num_hidden_layers"),
            context=keys.size(
                "context", "n_positions", "max_position_embeddings", older=("n_ctx", "block_size")
            ),
            epsilon=keys.fraction("layer_norm_epsilon", absent=1e-5),
            scale_scores=keys.flag("scale_attn_weights", absent=True),
        )

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        d, inner = self.width, self.inner
        yield "wte.weight", (self.vocabulary, d)
        yield "wpe.weight", (self.context, d)
        for i in range(self.blocks):
            yield f"h.{i}.ln_1.weight", (d,)
            yield f"h.{i}.ln_1.bias", (d,)
            yield f"h.{i}.attn.c_attn.weight", (d, 3 * d)
            yield f"h.{i}.attn.c_attn.bias", (3 * d,)
            yield f"h.{i}.attn.c_proj.weight", (d, d)
            yield f"h.{i}.attn.c_proj.bias", (d,)
            yield f"h.{i}.ln_2.weight", (d,)
            yield f"h.{i}.ln_2.bias", (d,)
            yield f"h.{i}.mlp.c_fc.weight", (d, inner)
            yield f"h.{i}.mlp.c_fc.bias", (inner,)
            yield f"h.{i}.mlp.c_proj.weight", (inner, d)
            yield f"h.{i}.mlp.c_proj.bias", (d,)
        yield "ln_f.weight", (d,)
        yield "ln_f.bias", (d,)

    # Units

    def embed(self, weights: Weights, precision: Precision) -> Sketch:
        called = "wte.weight", "wpe.weight"
        tokens, positions = (weights[name] for name in called)
        fraction = precision.fractions.residual
        draft = EmbedDraft("embed", ("ids",), "rows", tokens, positions, called, fraction)
        return Sketch("embed", (draft,), reads="ids", writes="rows", residual=False)

    def block(self, weights: Weights, precision: Precision, index: int) -> Iterator[Sketch]:
        yield Sketch(f"attention[{index}]", self._attention(weights, precision, f"h.{index}"))
        yield Sketch(f"mlp[{index}]", self._mlp(weights, precision, f"h.{index}"))

    def head(self, weights: Weights, precision: Precision) -> Sketch:
        matrix = weights["lm_head.weight"].T
        layer = fold_norm(matrix, np.zeros(matrix.shape[1]), *_layer(weights, "ln_f"))
        read, bits = precision.fractions.norm, precision.weight_bits
        drafts = (
            self._norm(precision),
            HeadDraft("margin", ("normal",), "ids", *layer, read, bits),
        )
        return Sketch("head", drafts, Ids(self.vocabulary), writes="ids", residual=False)

    def head_weight(self, weights: Weights) -> FloatArray:
        return scaled(weights["lm_head.weight"].T, weights["ln_f.weight"])

    def _attention(self, weights: Weights, precision: Precision, at: str) -> tuple[Draft, ...]:
        f, bits, d = precision.fractions, precision.weight_bits, self.width
        heads = self.heads, d // self.heads
        merged = _layer(weights, f"{at}.attn.c_attn")
        weight, bias = fold_norm(*merged, *_layer(weights, f"{at}.ln_1"))
        q, k, v = (
            (weight[:, part], bias[part])
            for part in (slice(d), slice(d, 2 * d), slice(2 * d, None))
        )
        # 1/√d_head goes into W_q: exact where d_head is a power of four.
        root = math.sqrt(heads[1]) if self.scale_scores else 1.0
        normal, mixed = Value("normal", f.norm, (d,)), Value("mixed", f.value, heads)
        read, product = ("query", "key", "value"), f.query + f.key
        sizes = *heads, self.context, product, f.score, precision.exp
        return (
            self._norm(precision),
            linear(
                "query", (q[0] / root, q[1] / root), normal, Value("query", f.query, heads), bits
            ),
            linear("key", k, normal, Value("key", f.key, heads), bits),
            linear("value", v, normal, Value("value", f.value, heads), bits),
            AttentionDraft("attention", read, "mixed", *sizes),
            linear(
                "out", _layer(weights, f"{at}.attn.c_proj"), mixed, self._change(precision), bits
            ),
        )

    def _mlp(self, weights: Weights, precision: Precision, at: str) -> tuple[Draft, ...]:
        f, bits, inner = precision.fractions, precision.weight_bits, (self.inner,)
        expand = fold_norm(*_layer(weights, f"{at}.mlp.c_fc"), *_layer(weights, f"{at}.ln_2"))
        project = _layer(weights, f"{at}.mlp.c_proj")
        normal, hidden = Value("normal", f.norm, (self.width,)), Value("hidden", f.hidden, inner)
        active = Value("active", f.hidden, inner)
        # The activation gives its input the form in which it is committed to: it comes first.
        return (
            self._norm(precision),
            ActivationDraft("gelu", ("hidden",), "active", self.activation, f.hidden, inner),
            linear("expand", expand, normal, hidden, bits),
            linear("project", project, active, self._change(precision), bits),
        )

    def _norm(self, precision: Precision) -> NormDraft:
        f = precision.fractions
        return NormDraft("norm", ("x",), "normal", self.width, self.epsilon, f.residual, f.norm)

    def _change(self, precision: Precision) -> Value:
        return Value("change", precision.fractions.residual, (self.width,))

    # In float32

    def hidden(self, weights: Weights, ids: IntArray, blocks: int) -> list[Float32]:
        heads = (len(ids), self.heads, -1)
        scale = math.sqrt(self.width // self.heads) if self.scale_scores else None
        x = _float32(weights, "wte.weight")[ids] + _float32(weights, "wpe.weight")[: len(ids)]
        stream = [x]
        for i in range(blocks):
            merged = _affine(weights, f"h.{i}.attn.c_attn", self._normal(weights, f"h.{i}.ln_1", x))
            q, k, v = (part.reshape(heads) for part in np.split(merged, 3, axis=-1))
            mixed = float32.attention(q, k, v, scale).reshape(len(ids), -1)
            x = x + _affine(weights, f"h.{i}.attn.c_proj", mixed)
            wide = _affine(weights, f"h.{i}.mlp.c_fc", self._normal(weights, f"h.{i}.ln_2", x))
            x = x + _affine(weights, f"h.{i}.mlp.c_proj", float32.activate(wide, self.activation))
            stream.append(x)
        return stream

    def logits(self, weights: Weights, x: Float32) -> Float32:
        head = _float32(weights, "lm_head.weight")
        return np.asarray(self._normal(weights, "ln_f", x) @ head.T)

    def _normal(self, weights: Weights, name: str, x: Float32) -> Float32:
        gamma, beta = _float32(weights, f"{name}.weight"), _float32(weights, f"{name}.bias")
        return float32.layer_norm(x, gamma, beta, float(self.epsilon))


def _layer(weights: Weights, name: str) -> Layer:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _float32(weights: Weights, name: str) -> Float32:
    return np.asarray(weights[name], dtype=np.float32)


def _affine(weights: Weights, name: str, x: Float32) -> Float32:
    return np.asarray(x @ _float32(weights, f"{name}.weight") + _float32(weights, f"{name}.bias"))

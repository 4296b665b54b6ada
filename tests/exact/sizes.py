"""Specifications of any size, whose weights nobody has."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from zkllm.digests import sha256
from zkllm.operations.norm.exact import prove

Json = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network."""

    width: int = 32
    heads: int = 2
    inner: int = 128
    vocabulary: int = 29
    context: int = 12
    blocks: int = 1


def text_model(sizes: Sizes, *, table: int = 3) -> Json:
    """`spec.json` of these sizes, with tables of so many entries; its bounds are nobody's."""
    model = _Model(sizes.width)
    d, blocks = sizes.width, range(sizes.blocks)
    value: Json = {
        "format": 1,
        "kind": "text",
        "source": sha256(b""),
        "architecture": asdict(sizes) | {"first_block": 0, "activation": "gelu"},
        "fractions": dict.fromkeys(
            ("residual", "norm", "query", "key", "value", "score", "hidden"), 8
        ),
        "exp": {"family": "free", "argument_bits": 8, "value_parameter": 8, "logrows": 0},
        "input": 1,
        "embed": {
            "tokens": model.tensor("embed.tokens", sizes.vocabulary, d),
            "positions": model.tensor("embed.positions", sizes.context, d),
            "output": 1,
        },
        "attention": [model.attention(i, d) for i in blocks],
        "mlp": [model.mlp(i, d, sizes.inner) for i in blocks],
        "head": {
            "norm": model.norm,
            "weight": model.tensor("head.logits.weight", d, sizes.vocabulary),
            "bias": model.tensor("head.logits.bias", sizes.vocabulary),
            "logit": 1,
        },
        "tokenizer": sha256(b""),
        "pad_id": 0,
        "stop_ids": [],
    }
    model.tensor("table.exp", table)
    model.tensor("table.gelu", table)
    return value | {"tensors": model.tensors}


def fragment(sizes: Sizes, *, table: int = 3) -> Json:
    """The same without embedding and head."""
    value = text_model(sizes, table=table) | {
        "kind": "fragment", "embed": None, "head": None, "tokenizer": None,
    }  # fmt: skip
    for name in [name for name in value["tensors"] if name.startswith(("embed.", "head."))]:
        del value["tensors"][name]
    return value


class _Model:
    """Collects the tensors of a model."""

    def __init__(self, width: int) -> None:
        self.tensors: Json = {}
        # the only bounds that whoever reads a specification proves at once: rows within ±1
        self.norm = asdict(prove("any", 1, d=width, shift=0, epsilon=1, gain=1))

    def tensor(self, name: str, *shape: int) -> str:
        self.tensors[name] = {"dtype": "int16", "shape": list(shape), "digest": sha256(b"")}
        return name

    def linear(self, name: str, n: int, m: int) -> Json:
        return {
            "weight": self.tensor(f"{name}.weight", n, m),
            "bias": self.tensor(f"{name}.bias", m),
            "shift": 0,
            "accumulator": 1,
            "output": 1,
        }

    def attention(self, index: int, d: int) -> Json:
        layers = ("query", "key", "value", "out")
        numbers = ("score_shift", "product", "score", "total", "mixed", "output")
        return {
            "norm": self.norm,
            "exp": "table.exp",
            **{name: self.linear(f"attention[{index}].{name}", d, d) for name in layers},
            **dict.fromkeys(numbers, 1),
        }

    def mlp(self, index: int, d: int, inner: int) -> Json:
        return {
            "norm": self.norm,
            "gelu": "table.gelu",
            "output": 1,
            "expand": self.linear(f"mlp[{index}].expand", d, inner),
            "project": self.linear(f"mlp[{index}].project", inner, d),
        }

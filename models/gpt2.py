"""GPT-2 as one small, plain torch module whose state dict is the Hugging Face layout.

The submodules carry the names of Hugging Face's ``GPT2LMHeadModel`` so that no renaming table
stands between this file and a checkpoint: ``model.state_dict()`` is what is stored.  There is no
dropout, no key-value cache and no fused attention kernel; every step is written out because this
module is also the readable statement of what is later computed in integers and proven.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

# Settings of Hugging Face's GPT-2 that this module has in one form only.  A configuration that
# leaves one out means this value; one that says otherwise is refused, never half-obeyed.
FIXED_SETTINGS: dict[str, Any] = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "add_cross_attention": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Config:
    """The sizes of a model, under the names they have in a Hugging Face ``config.json``."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_head: int
    n_layer: int
    n_inner: int | None = None  # width of the MLP; None is 4 * n_embd
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")

    @property
    def d_head(self) -> int:
        return self.n_embd // self.n_head

    @property
    def d_inner(self) -> int:
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    def to_dict(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return {
            "architectures": ["GPT2LMHeadModel"],
            **FIXED_SETTINGS,
            **asdict(self),
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "torch_dtype": "float32",
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Read the content of a ``config.json``, refusing what this module does not compute."""
        for name, value in FIXED_SETTINGS.items():
            if values.get(name, value) != value:
                raise ValueError(f"{name} is {values[name]!r}; only {value!r} is supported")
        names = cls.__dataclass_fields__
        try:
            return cls(**{name: values[name] for name in names if name in values})
        except TypeError as error:
            raise ValueError(f"incomplete configuration: {error}") from error


class Conv1D(nn.Module):
    """A linear layer y = x @ W + b that stores W as [n_in, n_out], as GPT-2 checkpoints do."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.d_head = config.d_head
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.c_attn(x).split(d, dim=-1)  # each [b, t, d]
        q, k, v = (y.view(b, t, self.n_head, self.d_head).transpose(1, 2) for y in (q, k, v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.d_head)  # [b, h, t, t]
        future = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1)  # [t, t]
        weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)  # [b, h, t, t]
        y = (weights @ v).transpose(1, 2).reshape(b, t, d)  # [b, t, d]
        out: Tensor = self.c_proj(y)  # [b, t, d]
        return out


class MLP(nn.Module):
    """Two linear layers with the tanh form of GELU (``gelu_new``) between them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, config.d_inner)
        self.c_proj = Conv1D(config.d_inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.c_fc(x), approximate="tanh")  # [b, t, d_inner]
        out: Tensor = self.c_proj(y)  # [b, t, d]
        return out


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))  # [b, t, d]
        return x + self.mlp(self.ln_2(x))  # [b, t, d]


class Transformer(nn.Module):
    """Embeddings, blocks and the final norm: everything before the logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)  # [t]
        x = self.wte(ids) + self.wpe(positions)  # [b, t, d]
        for block in self.h:
            x = block(x)  # [b, t, d]
        out: Tensor = self.ln_f(x)  # [b, t, d]
        return out


class GPT(nn.Module):
    """GPT-2 with the token embedding as its output head (tied, so the head is not stored)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        # GPT-2's initialisation: the layers that add to the residual stream start smaller, so
        # that the stream's size at the start does not grow with the number of layers.
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith("c_proj.weight")
                shrink = math.sqrt(2 * config.n_layer) if residual else 1.0
                nn.init.normal_(parameter, std=config.initializer_range / shrink)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [b, t, vocab_size] for token ids [b, t]."""
        if ids.shape[1] > self.config.n_positions:
            raise ValueError(f"{ids.shape[1]} tokens; the model has {self.config.n_positions}")
        x = self.transformer(ids)  # [b, t, d]
        logits: Tensor = x @ self.transformer.wte.weight.T  # [b, t, vocab_size]
        return logits

    @torch.no_grad()
    def generate(self, ids: Tensor, count: int) -> Tensor:
        """Append ``count`` greedily chosen tokens to each row: [b, t] to [b, t + count]."""
        for _ in range(count):
            ids = torch.cat([ids, self(ids)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
        return ids


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that no reader, and no interruption, ever meets half of it."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def save_checkpoint(model: GPT, tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``tokenizer.json`` into a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in model.state_dict().items()
    }
    # Hugging Face refuses a safetensors file that does not name the framework it came from.
    data = safetensors.torch.save(weights, metadata={"format": "pt"})
    write_atomically(folder / "model.safetensors", data)
    config = json.dumps(model.config.to_dict(), indent=2, sort_keys=True)
    write_atomically(folder / "config.json", config.encode() + b"\n")
    text = tokenizer.to_str(pretty=True)
    write_atomically(folder / "tokenizer.json", text.encode() + b"\n")


def load_checkpoint(folder: str | Path) -> tuple[GPT, Tokenizer]:
    """Read a GPT-2 checkpoint in Hugging Face's layout: the model, in eval mode, and its tokenizer.

    Two layouts are in use.  ``GPT2LMHeadModel`` writes names that begin with ``transformer.``;
    the original GPT-2 files have the bare names and also store each block's causal mask.
    """
    folder = Path(folder)
    config = Config.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    head = stored.pop("lm_head.weight", None)
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if not name.endswith((".attn.bias", ".attn.masked_bias")):  # masks, not parameters
            weights["transformer." + name.removeprefix("transformer.")] = tensor
    model = GPT(config)
    model.load_state_dict(weights)  # strict: a missing, unknown or misshapen tensor raises
    if head is not None and not torch.equal(head, weights["transformer.wte.weight"]):
        raise ValueError("lm_head.weight differs from the token embedding; the head must be tied")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return model.eval(), tokenizer

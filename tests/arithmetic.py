"""Where the functions of exact arithmetic are, for tests that put others in their place."""

from __future__ import annotations

from types import ModuleType

from zkllm import integers
from zkllm.operations.activation import exact as activation
from zkllm.operations.attention import exact as attention
from zkllm.operations.head import exact as head
from zkllm.operations.linear import exact as linear
from zkllm.operations.norm import exact as norm

HOMES: dict[str, ModuleType] = {
    "layer_norm": norm,
    "linear": linear,
    "attention": attention,
    "gelu": activation,
    "arg_max": head,
    "matmul": integers,
}
"""The module that has the function of that name, and calls it there."""

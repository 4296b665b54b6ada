"""From float layers to drafts: what architectures share of how a network becomes units.

Folding uses element-wise IEEE operations and `math.fsum` only: a BLAS may add in any order, and
then two machines would export two models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zkllm.operations.linear.draft import LinearDraft
from zkllm.operations.step import Dims
from zkllm.tensors import FloatArray

Layer: TypeAlias = tuple[FloatArray, FloatArray]
"""W [n, m] and b [m] of x·W + b, or γ [n] and β [n] of a LayerNorm."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a unit."""

    name: str
    fraction: int
    """Its fraction bits."""
    dims: Dims


def fold_norm(weight: FloatArray, bias: FloatArray, gamma: FloatArray, beta: FloatArray) -> Layer:
    """Move LayerNorm's affine part into the linear layer after it: W' = γ·W, b' = b + β·W."""
    columns = zip(bias.tolist(), (beta[:, None] * weight).T, strict=True)
    folded = [math.fsum([b, *column.tolist()]) for b, column in columns]
    return scaled(weight, gamma), np.array(folded)


def scaled(weight: FloatArray, gamma: FloatArray) -> FloatArray:
    """γ·W: the weight that `fold_norm` gives."""
    return gamma[:, None] * weight


def linear(name: str, layer: Layer, given: Value, made: Value, bits: int) -> LinearDraft:
    """The layer from one value to another, with weights of so many bits."""
    dims = given.dims, made.dims
    fractions = given.fraction, made.fraction
    return LinearDraft(name, (given.name,), made.name, *layer, *dims, *fractions, bits)

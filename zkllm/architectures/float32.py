"""Float32 pieces of which architectures make the model that an exact one is compared with."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float32: TypeAlias = npt.NDArray[np.float32]


def layer_norm(x: Float32, gamma: Float32, beta: Float32, epsilon: float) -> Float32:
    """[T, d] to [T, d]."""
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True)  # [T, 1]
    scaled = centred / np.sqrt(variance + np.float32(epsilon))
    return np.asarray(scaled * gamma + beta)


def attention(q: Float32, k: Float32, v: Float32, scale: float | None) -> Float32:
    """Causal, of rows [T, h, d_head] to the same; scores are divided by `scale`."""
    q, k, v = (part.swapaxes(0, 1) for part in (q, k, v))  # [h, T, d_head]
    score = q @ k.swapaxes(-1, -2)  # [h, T, T]
    if scale is not None:
        score = score / np.float32(scale)
    future = np.triu(np.full(score.shape[1:], -np.inf, dtype=np.float32), 1)
    return np.asarray((np.exp(log_softmax(score + future)) @ v).swapaxes(0, 1))


def activate(x: Float32, activation: str) -> Float32:
    """The activation of this name in a specification."""
    if activation == "relu":
        return np.asarray(np.maximum(x, 0))
    if activation == "gelu":
        # numpy has no erf; math.erf is exact enough and this runs once per export
        erf = np.vectorize(math.erf, otypes=[np.float64])
        return np.asarray(x * 0.5 * (1 + erf(x / math.sqrt(2))), dtype=np.float32)
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)), dtype=np.float32)


def log_softmax(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Over the last axis, in the type of `x`."""
    shifted = x - x.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))

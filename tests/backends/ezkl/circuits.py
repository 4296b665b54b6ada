"""Models, circuits and proofs of units that the tests of the backend share."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from zkllm.architectures.gpt2 import GPT2
from zkllm.backends.base import Claim, Pin
from zkllm.backends.ezkl import units
from zkllm.backends.ezkl.backend import EzklBackend
from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.engines.ezkl import recipe
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.exact import reference
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import IntArray

UNIT = "attention[0]"
TOKENS = 8


def random_model(std: float, *, width: int = 8, heads: int = 2) -> ExactModel:
    """A fragment of one block with random weights, at ezkl's precision."""
    random = np.random.default_rng(7)
    network = GPT2(
        width=width,
        heads=heads,
        inner=4 * width,
        blocks=1,
        vocabulary=16,
        context=16,
        activation="gelu_new",
        epsilon=Fraction("1e-5"),
        scale_scores=True,
    )
    tensors = {
        name: random.normal(1.0 if "ln" in name and "weight" in name else 0.0, std, shape)
        for name, shape in network.shapes()
    }
    checkpoint = Checkpoint(network, tensors, None, sha256(b"random"), stop_ids=(0,))
    return ExactModel.in_memory(*build(checkpoint, PRECISIONS["ezkl"], (0, 1)))


def boundaries(model: ExactModel, tokens: int = TOKENS, seed: int = 0) -> dict[str, IntArray]:
    """Some run of the first attention unit."""
    spec = model.specification
    bound = spec.boundary_bounds()[0]
    shape = (tokens, spec.architecture.width)
    x = np.random.default_rng(seed).integers(-bound, bound + 1, shape)
    return {"x": x, "output": reference.run_unit(model, UNIT, x)}


def unit_circuit(model: ExactModel, tokens: int = TOKENS) -> Circuit:
    chosen = recipe.load("attention")
    return units.circuit_of(model.specification, UNIT, tokens, chosen, model.tensor)


FOLDER = "attention.0"
"""Where the keys of `UNIT` are."""


@dataclass(frozen=True)
class Proved:
    """A model, keys for it, and a proof of one of its runs."""

    model: ExactModel
    keys: Path
    pin: Pin
    claim: Claim
    evidence: bytes


def prove(model: ExactModel, keys: Path) -> Proved:
    """Make keys and prove a run."""
    pin = EzklBackend().setup(model, UNIT, TOKENS, keys)
    public = boundaries(model)
    claim = Claim(UNIT, public["x"], public["output"], sha256(b"statement"))
    return Proved(model, keys, pin, claim, EzklBackend().prove(model, claim, keys))

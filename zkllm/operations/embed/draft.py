"""The integers of an embedding, from its float tables."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from zkllm.operations.bounds import Vector
from zkllm.operations.draft import Draft, quantise
from zkllm.operations.embed.exact import Embed, EmbedStep
from zkllm.tensors import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class EmbedDraft(Draft):
    """Rows of two tables, with `fraction` fraction bits."""

    tokens: FloatArray
    """Shape [vocabulary, d]."""
    positions: FloatArray
    """Shape [context, d]."""
    called: tuple[str, str]
    """What the checkpoint calls both, for errors."""
    fraction: int

    def quantise(
        self, unit: str, given: Sequence[Vector], tensors: MutableMapping[str, IntArray]
    ) -> EmbedStep:
        names = f"{unit}.tokens", f"{unit}.positions"
        for name, values, called in zip(
            names, (self.tokens, self.positions), self.called, strict=True
        ):
            tensors[name] = quantise(values, self.fraction, f"{unit}: {called}")
        sizes = len(self.tokens), len(self.positions), self.tokens.shape[1]
        return EmbedStep(self.name, self.reads, self.writes, Embed(*names, 0), *sizes)

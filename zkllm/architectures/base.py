"""What an architecture says of itself, and the rules that it fills in for its files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

from zkllm.architectures.config import Keys
from zkllm.architectures.float32 import Float32
from zkllm.operations.draft import Sketch, product_fraction
from zkllm.operations.precision import Precision
from zkllm.operations.tables import ActivationKind
from zkllm.tensors import FloatArray, IntArray

Weights: TypeAlias = Mapping[str, FloatArray]
"""The float weights of a checkpoint, by the names that its architecture gives them."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor that is stored with the weights and is none: it may only say what is known."""

    pattern: str
    """Of its names, those of older layouts included."""
    what: str
    """What it must be, in words: a causal mask."""
    holds: Callable[[FloatArray], bool]
    """Whether it is that."""


@dataclass(frozen=True, slots=True)
class Turned:
    """Matrices that some files keep transposed, as `nn.Linear` does: [n_out, n_in]; all or none."""

    tells: str
    """The tensor whose shape, never square, tells."""
    names: tuple[str, ...]
    """How the names of all of them end."""
    key: str
    """A key of config.json that must be there then."""
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class Older:
    """Names that tensors had in another project."""

    tells: str
    """A tensor whose name only this project had."""
    block: str
    """What came before the number of a block."""
    beginnings: Mapping[str, str]
    """Beginnings of names, inside of a block or outside, with those of today."""
    stacked: Mapping[str, tuple[str, ...]]
    """Layers of a block that are one today, rows upon rows, with those that they were."""
    flat: tuple[str, ...] = ()
    """Tensors, by their names of today, that had a first dimension of 1."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tensors of an architecture are called, and how they may lie in files."""

    prefix: str
    """Before all names or missing from them; never part of a name here."""
    block: str
    """Before the number of a block."""
    blocks: str
    """The key of config.json that says how many blocks there are."""
    embedding: str
    """The matrix that is the head too, where both are tied."""
    head: str
    tied: bool | None = None
    """Whether they are tied where config.json is silent; none: as the tensors tell."""
    biases: str = ""
    """The key that says whether layers have biases; where they have none, they are zeros."""
    turned: Turned | None = None
    older: tuple[Older, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    strangers: Mapping[str, str] | None = None
    """Patterns of names that only other networks have, with what is known about them."""


@dataclass(frozen=True)
class Architecture(ABC):
    """A network as its config.json describes it: sizes, tensors, steps, and how floats compute it.

    A subclass is one architecture, and its fields whatever else decides on the computation.
    """

    model_type: ClassVar[str]
    """What `model_type` of config.json calls it."""
    title: ClassVar[str]
    """What people call it."""
    classes: ClassVar[tuple[str, ...]]
    """What `architectures` of config.json may name."""
    end: ClassVar[int]
    """The stop id that a config.json means which names none."""
    foreign: ClassVar[Mapping[str, tuple[Any, ...]]]
    """Keys of other networks, with the values at which they say nothing (`config.others`)."""
    layout: ClassVar[Layout]

    width: int
    heads: int
    inner: int
    blocks: int
    vocabulary: int
    context: int
    activation: ActivationKind

    @classmethod
    @abstractmethod
    def read(cls, keys: Keys) -> Self:
        """The network of a config.json; raises `UnsupportedModel` that names key and value."""

    @abstractmethod
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all tensors, the head excepted; in the order of the computation."""

    @abstractmethod
    def embed(self, weights: Weights, precision: Precision) -> Sketch:
        """The unit that turns ids into rows, as drafts."""

    @abstractmethod
    def block(self, weights: Weights, precision: Precision, index: int) -> Iterator[Sketch]:
        """The units of a block, from rows to rows; what no operation computes is folded."""

    @abstractmethod
    def head(self, weights: Weights, precision: Precision) -> Sketch:
        """The unit that chooses ids by rows."""

    @abstractmethod
    def head_weight(self, weights: Weights) -> FloatArray:
        """W [d, vocabulary] of the logits x·W + b, as `head` has it: its bias costs a long fold."""

    def logit_fraction(self, weights: Weights, precision: Precision) -> int:
        """Fraction bits of the raw logits: they are compared, never rescaled."""
        weight = self.head_weight(weights)
        return product_fraction(precision.fractions.norm, weight, precision.weight_bits)

    @abstractmethod
    def hidden(self, weights: Weights, ids: IntArray, blocks: int) -> list[Float32]:
        """The float32 residual stream [T, d] before block 0, 1, ... and after `blocks` of them."""

    @abstractmethod
    def logits(self, weights: Weights, x: Float32) -> Float32:
        """[n, d], the stream after the last block, to float32 logits [n, vocabulary]."""

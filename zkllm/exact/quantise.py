"""From float weights to the integers of an exact model, the same on any machine.

An architecture folds its weights into drafts of units; whose bounds are proven here, one after the
other, as their integers are chosen.
"""

from __future__ import annotations

from zkllm.checkpoints import Checkpoint
from zkllm.digests import sha256
from zkllm.errors import UnsupportedModel
from zkllm.exact import format1
from zkllm.exact.specification import FORMAT, Architecture, Specification, StoredTensor
from zkllm.operations.precision import Precision
from zkllm.operations.unit import Boundary, Ids, Rows
from zkllm.tensors import IntArray, magnitude_type, tensor_digest


def logit_fraction(checkpoint: Checkpoint, precision: Precision) -> int:
    """Fraction bits of the raw logits of `build`'s model: they are compared, never rescaled."""
    return checkpoint.architecture.logit_fraction(checkpoint.tensors, precision)


def build(
    checkpoint: Checkpoint,
    precision: Precision,
    blocks: tuple[int, int] | None = None,
    *,
    input_bound: int | None = None,
) -> tuple[Specification, dict[str, IntArray]]:
    """The exact model of `checkpoint`: its specification and its integers.

    `blocks` (i, j) keeps blocks i to j-1 only, as a fragment whose rows must stay within the
    bound that the whole model proves there, or within `input_bound`. Raises `UnsupportedModel` if
    a bound leaves the exact range, or if `blocks` is not a range of the checkpoint's blocks.
    """
    network = checkpoint.architecture
    first, last = blocks if blocks is not None else (0, network.blocks)
    if not 0 <= first < last <= network.blocks:
        raise UnsupportedModel(
            f"blocks {first}:{last} are not a range of the checkpoint's {network.blocks} blocks"
        )
    text = blocks is None
    if text and checkpoint.tokenizer is None:
        raise UnsupportedModel(
            "the checkpoint has no tokenizer.json, which a text model needs",
            hint="export a fragment instead: --blocks i:j",
        )
    architecture = Architecture(
        width=network.width,
        heads=network.heads,
        inner=network.inner,
        vocabulary=network.vocabulary,
        context=network.context,
        first_block=first,
        blocks=last - first,
        activation=network.activation,
    )
    source, tensors = (checkpoint.tensors, precision), dict[str, IntArray]()
    embed = network.embed(*source).quantise(Ids(network.vocabulary), tensors)
    boundary: Boundary = embed.output
    # A fragment's input bound is the one that the blocks before it prove.
    for index in range(first if input_bound is None else 0):
        for sketch in network.block(*source, index):
            boundary = sketch.quantise(boundary, tensors).output
    if not text:
        tensors = {}
        if input_bound is not None:
            boundary = Rows(network.width, input_bound)
    units = [embed] if text else []
    for index in range(first, last):
        for sketch in network.block(*source, index):
            units.append(sketch.quantise(boundary, tensors))
            boundary = units[-1].output
    if text:
        units.append(network.head(*source).quantise(boundary, tensors))
    stored = {}
    for name, values in tensors.items():
        dtype = magnitude_type(values)
        stored[name] = StoredTensor(dtype, values.shape, tensor_digest(values, dtype))
    specification = Specification(
        format=FORMAT,
        kind="text" if text else "fragment",
        source=checkpoint.digest,
        architecture=architecture,
        fractions=precision.fractions,
        exp=precision.exp,
        **format1.arrange(units, architecture),
        tensors=stored,
        tokenizer=sha256(checkpoint.tokenizer) if text and checkpoint.tokenizer else None,
        pad_id=checkpoint.stop_ids[0] if checkpoint.stop_ids else 0,
        stop_ids=checkpoint.stop_ids,
    )
    specification.check()
    if list(specification.units().values()) != units:
        raise UnsupportedModel("format 1 has no words for units in this order")
    return specification, tensors

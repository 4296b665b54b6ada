"""From float weights to integers: exact rounding, and the same model on any machine."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inner import linear as proven_linear
from zkllm.architectures.base import Weights
from zkllm.architectures.gpt2 import GPT2
from zkllm.checkpoints import Checkpoint
from zkllm.errors import UnsupportedModel
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.operations import bounds
from zkllm.operations.draft import Sketch
from zkllm.operations.precision import PRECISIONS, Precision
from zkllm.tensors import tensor_digest

# The same model everywhere

SCRIPT = """
import sys
from pathlib import Path
from zkllm.checkpoints import Checkpoint
from zkllm.exact.quantise import build
from zkllm.operations.precision import PRECISIONS
for folder in sys.argv[1:]:
    checkpoint = Checkpoint.from_folder(Path(folder))
    for precision in PRECISIONS.values():
        print(build(checkpoint, precision)[0].digest)
"""


def test_the_digest_does_not_depend_on_threads_or_on_the_process(
    tiny_folder: Path, demo_folder: Path
) -> None:
    expected = [
        build(Checkpoint.from_folder(folder), precision)[0].digest
        for folder in (tiny_folder, demo_folder)
        for precision in PRECISIONS.values()
    ]
    for threads in ("1", "2"):
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "PYTHONHASHSEED": threads,
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tiny_folder), str(demo_folder)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert result.stdout.split() == expected


def test_the_memory_order_of_weights_does_not_matter(tiny_checkpoint: Checkpoint) -> None:
    fortran = {name: np.asfortranarray(x) for name, x in tiny_checkpoint.tensors.items()}
    other = dataclasses.replace(tiny_checkpoint, tensors=fortran)
    precision = PRECISIONS["wide"]
    assert build(other, precision)[0].digest == build(tiny_checkpoint, precision)[0].digest


@pytest.mark.parametrize("name", ["wte.weight", "h.1.mlp.c_proj.bias", "ln_f.bias"])
def test_every_weight_reaches_the_digest(tiny_checkpoint: Checkpoint, name: str) -> None:
    """The source digest is the same here: only the integers can tell the two apart."""
    changed = dict(tiny_checkpoint.tensors)
    changed[name] = changed[name] + 0.01
    other = dataclasses.replace(tiny_checkpoint, tensors=changed)
    precision = PRECISIONS["wide"]
    assert build(other, precision)[0].digest != build(tiny_checkpoint, precision)[0].digest


# The model that is built


@pytest.mark.parametrize("name", PRECISIONS)
def test_weights_keep_to_their_bits(tiny_checkpoint: Checkpoint, name: str) -> None:
    precision = PRECISIONS[name]
    specification, tensors = build(tiny_checkpoint, precision)
    limit = 2 ** (precision.weight_bits - 1) - 1
    layers = [
        layer
        for unit in specification.attention
        for layer in (unit.query, unit.key, unit.value, unit.out)
    ]
    layers += [layer for mlp in specification.mlp for layer in (mlp.expand, mlp.project)]
    for layer in layers:
        assert limit // 2 <= np.abs(tensors[layer.weight]).max() <= limit, layer.weight
        assert layer.shift >= 0
    for tensor, stored in specification.tensors.items():
        assert stored.digest == tensor_digest(tensors[tensor], stored.dtype)
        assert stored.shape == tensors[tensor].shape


def test_scores_are_divided_in_the_query_weights(make_checkpoint: Callable[..., Path]) -> None:
    def query(**changes: Any) -> np.ndarray[Any, Any]:
        checkpoint = Checkpoint.from_folder(make_checkpoint(**changes))
        specification, tensors = build(checkpoint, PRECISIONS["ezkl"])
        layer = specification.attention[0].query
        scale = layer.shift + PRECISIONS["ezkl"].fractions.query
        return tensors[layer.weight] / 2.0 ** (scale - PRECISIONS["ezkl"].fractions.norm)

    scaled, plain = query(), query(scale_attn_weights=False)
    np.testing.assert_array_equal(4 * scaled, plain)  # d_head = 16: √16 = 4, and exactly so
    eighth = query(n_head=4)  # d_head = 8: √8 is rounded
    np.testing.assert_allclose(math.sqrt(8) * eighth, plain, atol=0.005)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "relu"])
def test_every_activation_has_its_table(
    make_checkpoint: Callable[..., Path], activation: str
) -> None:
    folder = make_checkpoint(n_layer=1, activation_function=activation)
    specification, tensors = build(Checkpoint.from_folder(folder), PRECISIONS["ezkl"])
    assert specification.architecture.activation == activation
    assert (len(tensors["table.gelu"]) == 1) == (activation == "relu")


# Fragments


def test_a_fragment_is_a_piece_of_the_whole(tiny_checkpoint: Checkpoint) -> None:
    precision = PRECISIONS["wide"]
    whole, tensors = build(tiny_checkpoint, precision)
    fragment, piece = build(tiny_checkpoint, precision, (1, 2))
    assert (fragment.kind, fragment.architecture.first_block) == ("fragment", 1)
    assert list(fragment.units()) == ["attention[1]", "mlp[1]"]
    assert fragment.attention == whole.attention[1:]
    assert fragment.mlp == whole.mlp[1:]
    assert fragment.input == whole.mlp[0].output
    assert (fragment.embed, fragment.head, fragment.tokenizer) == (None, None, None)
    assert all((piece[name] == tensors[name]).all() for name in piece)
    assert set(piece) == {n for n in tensors if "[1]" in n or n.startswith("table.")}


def test_the_first_fragment_demands_what_the_embedding_proves(tiny_checkpoint: Checkpoint) -> None:
    precision = PRECISIONS["wide"]
    whole, _ = build(tiny_checkpoint, precision)
    fragment, _ = build(tiny_checkpoint, precision, (0, 2))
    assert whole.embed is not None
    assert fragment.input == whole.input == whole.embed.output
    assert fragment.boundary_bounds() == whole.boundary_bounds()


def test_a_fragment_may_demand_other_rows(tiny_checkpoint: Checkpoint) -> None:
    fragment, _ = build(tiny_checkpoint, PRECISIONS["wide"], (1, 2), input_bound=1000)
    assert fragment.input == 1000
    assert fragment.attention[0].norm.centred == 2001


@pytest.mark.parametrize("blocks", [(0, 0), (1, 1), (1, 0), (-1, 1), (0, 3), (2, 3)])
def test_other_ranges_of_blocks_are_refused(
    tiny_checkpoint: Checkpoint, blocks: tuple[int, int]
) -> None:
    with pytest.raises(UnsupportedModel, match="are not a range of the checkpoint's 2 blocks"):
        build(tiny_checkpoint, PRECISIONS["wide"], blocks)


def test_only_a_fragment_does_without_a_tokenizer(tiny_checkpoint: Checkpoint) -> None:
    bare = dataclasses.replace(tiny_checkpoint, tokenizer=None)
    assert build(bare, PRECISIONS["wide"], (0, 2))[0].kind == "fragment"
    with pytest.raises(UnsupportedModel, match=r"no tokenizer\.json") as caught:
        build(bare, PRECISIONS["wide"])
    assert "--blocks" in caught.value.hint


# Refusals


def scaled_checkpoint(checkpoint: Checkpoint, name: str, factor: float) -> Checkpoint:
    tensors = checkpoint.tensors | {name: checkpoint.tensors[name] * factor}  # type: ignore[operator]
    return dataclasses.replace(checkpoint, tensors=tensors)


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        ("wte.weight", 1e13, r"^embed: wte.weight must stay below 2\^52"),
        ("wpe.weight", 1e300, r"^embed: wpe.weight must stay below 2\^52"),
        ("wte.weight", 1e12, r"^attention\[0\]: the proven bound of d·x - Σx is \d+ .* 2\^52"),
        ("h.0.attn.c_attn.weight", 1e5, r"^attention\[0\]: the weights of query are too large"),
        ("h.1.mlp.c_fc.weight", 1e5, r"^mlp\[1\]: the weights of expand are too large"),
        ("h.1.mlp.c_proj.bias", 1e12, r"^mlp\[1\]: project.bias must stay below 2\^52"),
        ("lm_head.weight", 1e300, r"^head: logits.weight must stay below 2\^52"),
    ],
)
def test_refusals_name_the_unit_and_the_tensor(
    tiny_checkpoint: Checkpoint, name: str, factor: float, message: str
) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        build(scaled_checkpoint(tiny_checkpoint, name, factor), PRECISIONS["wide"])


def test_scores_may_not_have_more_bits_than_their_product(tiny_checkpoint: Checkpoint) -> None:
    wide = PRECISIONS["wide"]
    fractions = dataclasses.replace(wide.fractions, query=4, key=4)
    with pytest.raises(UnsupportedModel, match=r"^attention\[0\]: query and key have fewer"):
        build(tiny_checkpoint, Precision("odd", 12, fractions, wide.exp))


def test_the_bound_of_a_product_is_that_of_the_widest_head(tiny_checkpoint: Checkpoint) -> None:
    """The same value for a head alone, from its own columns, and less than for all heads."""
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"])
    unit = specification.attention[0]
    x = bounds.vector([unit.norm.output] * 32, unit.norm.output)
    products = []
    for start in (0, 16):
        part = slice(start, start + 16)
        q, k = (
            proven_linear(
                "unit",
                "layer",
                x,
                tensors[layer.weight][:, part],
                tensors[layer.bias][part],
                layer.shift,
            )[1].entries
            for layer in (unit.query, unit.key)
        )
        products.append(sum(a * b for a, b in zip(q, k, strict=True)))
    assert unit.product == max(products) + (1 << unit.score_shift >> 1)
    assert unit.score == (unit.product >> unit.score_shift) + 1


def test_a_model_on_disk_is_what_was_built(
    tiny_checkpoint: Checkpoint, tiny_model: ExactModel
) -> None:
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"])
    assert specification == tiny_model.specification
    for name, values in tensors.items():
        assert (tiny_model.tensor(name) == values).all()


class Backwards(GPT2):
    """A network whose blocks begin with the unit that format 1 puts second."""

    def block(self, weights: Weights, precision: Precision, index: int) -> Iterator[Sketch]:
        yield from reversed(list(super().block(weights, precision, index)))


def test_units_in_another_order_are_refused(tiny_checkpoint: Checkpoint) -> None:
    """Format 1 would store them as a network that computes something else."""
    network = Backwards(**dataclasses.asdict(tiny_checkpoint.architecture))
    other = dataclasses.replace(tiny_checkpoint, architecture=network)
    with pytest.raises(UnsupportedModel, match="format 1 has no words for units in this order"):
        build(other, PRECISIONS["wide"])

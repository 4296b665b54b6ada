"""What benchmarks measure on."""

from __future__ import annotations

from benchmarks.soundness import bits_of, span
from benchmarks.synthetic import (
    GPT2_SMALL,
    checkpoint_of,
    network_of,
    parts,
    specification_of,
    word_tokenizer,
)
from zkllm.exact.quantise import build
from zkllm.operations.precision import PRECISIONS

SMALL = GPT2_SMALL | {"n_embd": 32, "n_head": 2, "n_layer": 3, "n_positions": 8, "vocab_size": 40}


def test_a_specification_made_block_by_block_is_that_of_the_whole_model() -> None:
    config = SMALL | {"eos_token_id": 39}
    weights = {name: value for part in parts(config, 0) for name, value in part.items()}
    checkpoint = checkpoint_of(network_of(config), weights, word_tokenizer(40), (39,))
    whole, _ = build(checkpoint, PRECISIONS["wide"])
    assert specification_of(config) == whole


def test_bits_are_told_of_every_unit() -> None:
    told = dict(bits_of(specification_of(SMALL | {"eos_token_id": 39}), 4, committed=True))
    assert {line: len(bits) for line, bits in told.items()} == {
        "embed": 1,
        "attention": 3,
        "mlp": 3,
        "head, 1 generated": 1,
        "head, T generated": 1,
    }
    assert told["head, T generated"] < told["head, 1 generated"] < [128]
    assert span([104.046, 105.3]) == "104.04 - 105.30"

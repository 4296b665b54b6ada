"""What benchmarks measure on."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from benchmarks import against
from benchmarks.soundness import bits_of, span
from benchmarks.synthetic import (
    GPT2_SMALL,
    checkpoint_of,
    network_of,
    parts,
    specification_of,
    stop_ids,
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


@pytest.mark.parametrize(("end", "found"), [(39, (39,)), (40, ()), (None, ())])
def test_a_stop_id_is_a_token_or_there_is_none(end: int | None, found: tuple[int, ...]) -> None:
    assert stop_ids(SMALL | {"eos_token_id": end}) == found


def test_nothing_is_compared_with_what_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="expected a checkout of zkllm, found none"):
        against.compare(tmp_path, tmp_path, ("block",), 1)


def test_other_bytes_end_a_comparison() -> None:
    against._require_same(b"same", b"same")
    with pytest.raises(click.ClickException, match="expected the same bytes of both checkouts"):
        against._require_same(b"same", b"other")


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

import hashlib
import math

import numpy as np
import pytest

from tests.backends.sumcheck.plain import P, Source, array, evaluated, inner, ints
from zkllm.backends.sumcheck import commitment
from zkllm.backends.sumcheck.commitment import MerkleTree, Shape
from zkllm.backends.sumcheck.field import Words

LENGTHS = [1, 2, 3, 37, 1000, 50257, 2**21, 2**21 + 1, 3 * 2**22]


# Shapes


def opening_bytes(rows: int, c: int) -> int:
    """The formula of the protocol document."""
    return 2 * 16 * 2**c + 160 * (8 * rows + 32 * (c + 2))


@pytest.mark.parametrize("length", LENGTHS)
def test_the_shape_has_the_smallest_opening(length: int) -> None:
    shape = commitment.shape_of(length)
    assert shape.rows == math.ceil(length / shape.columns)
    assert shape.opening_bytes == opening_bytes(shape.rows, shape.log_columns)
    candidates = [
        (opening_bytes(math.ceil(length / 2**c), c), c)
        for c in range((length - 1).bit_length() + 1)
    ]
    assert (shape.opening_bytes, shape.log_columns) == min(candidates)


def test_an_encoded_row_is_four_times_as_long() -> None:
    assert 1 << Shape(3, 5).log_length == 4 * Shape(3, 5).columns


@pytest.mark.parametrize("length", LENGTHS)
def test_a_lie_about_a_vector_is_found_with_a_hundred_bits(length: int) -> None:
    shape = commitment.shape_of(length)
    mixing, columns = commitment.proximity_error(shape)
    assert mixing == (4 << shape.log_columns) / P**2
    # each random column shows it with probability (1 - 1/4)/2 at least
    assert columns == pytest.approx((1 - 3 / 8) ** 160)
    assert mixing + columns < 2**-100


# The tree


def tree_over(leaves: list[bytes]) -> MerkleTree:
    layers = [leaves]
    while len(layers[-1]) > 1:
        layer = layers[-1]
        layers.append(
            [
                hashlib.sha256(b"\x01" + left + right).digest()
                for left, right in zip(layer[::2], layer[1::2], strict=True)
            ]
        )
    return MerkleTree([np.array([[*node] for node in layer], dtype=np.uint8) for layer in layers])


LEAVES = [hashlib.sha256(b"\x00" + bytes([i])).digest() for i in range(8)]


def test_leaves_and_nodes_are_hashed_apart() -> None:
    left, right = LEAVES[:2]
    assert commitment.leaf_hash(b"\x05") == LEAVES[5]
    assert commitment.node_hash(left, right) == hashlib.sha256(b"\x01" + left + right).digest()
    assert commitment.leaf_hash(left + right) != commitment.node_hash(left, right)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_path_leads_to_the_root(count: int) -> None:
    tree = tree_over(LEAVES[:count])
    for index, leaf in enumerate(LEAVES[:count]):
        path = tree.path(index)
        assert len(path) == 32 * (count.bit_length() - 1)
        assert commitment.root_from_path(leaf, index, path) == tree.root


@pytest.mark.parametrize("index", range(8))
def test_nothing_else_leads_to_the_root(index: int) -> None:
    tree = tree_over(LEAVES)
    path = tree.path(index)
    for other in range(8):
        if other != index:
            assert commitment.root_from_path(LEAVES[index], other, path) != tree.root
            assert commitment.root_from_path(LEAVES[other], index, path) != tree.root
    for place in range(len(path)):
        wrong = bytearray(path)
        wrong[place] ^= 1
        assert commitment.root_from_path(LEAVES[index], index, bytes(wrong)) != tree.root


# The code


@pytest.mark.parametrize("log_length", range(8))
@pytest.mark.parametrize("log_blowup", [0, 2])
def test_a_transform_evaluates_at_all_roots_of_unity(log_length: int, log_blowup: int) -> None:
    source = Source(log_length)
    count = max(1, 1 << log_length >> log_blowup)
    rows = [source.values(count), [P - 1] * count, source.values(count)]
    found = commitment.transform(array(rows), log_length)
    assert [ints(row) for row in found] == [evaluated(row, 1 << log_length) for row in rows]


INDICES = [0, 3, 3, 17, 31]


def combined() -> tuple[Shape, Words, Words, Words]:
    """A combination of rows, its factors, and the encoded columns at `INDICES`."""
    source, shape = Source(0), Shape(5, 3)
    matrix = [source.values(shape.columns) for _ in range(shape.rows)]
    factors = source.pairs(shape.rows)
    row = [inner(column, factors) for column in zip(*matrix, strict=True)]
    encoded = [evaluated(values, 4 * shape.columns) for values in matrix]
    columns = [[values[i] for values in encoded] for i in INDICES]
    return shape, array(row), array(factors), array(columns)


def test_the_code_word_of_a_combination_is_that_of_the_columns() -> None:
    assert commitment.columns_agree(*combined(), INDICES)


@pytest.mark.parametrize("part", [1, 2, 3], ids=["row", "factors", "columns"])
def test_every_value_of_a_combination_counts(part: int) -> None:
    parts = combined()
    values = parts[part]
    for place in np.ndindex(values.shape):
        before = values[place]
        values[place] = (int(before) + 1) % P
        assert not commitment.columns_agree(*parts, INDICES)
        values[place] = before
    assert commitment.columns_agree(*parts, INDICES)


def test_columns_belong_to_their_indices() -> None:
    assert not commitment.columns_agree(*combined(), [*INDICES[:-1], 30])

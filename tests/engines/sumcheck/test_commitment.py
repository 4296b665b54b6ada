import functools
import hashlib
import math

import numpy as np
import pytest

from tests.engines.sumcheck.plain import P, Source, array, evaluated, inner, ints, pairs
from zkllm.engines.sumcheck import commitment
from zkllm.engines.sumcheck.commitment import ROW, VECTOR, MerkleTree, Shape

LENGTHS = [1, 2, 3, 37, 1000, 50257, 2**21, 2**21 + 1, 3 * 2**22]


# Shapes


def columns_bytes(rows: int, c: int, width: int) -> int:
    """Opened columns with their paths, by the formula of the protocol document."""
    extra, queries = {1: (2, 168), 2: (4, 124)}[width]
    depth = c + extra
    cap = min(7, depth)
    return 32 * 2**cap + queries * (8 * width * rows + 32 * (depth - cap))


@functools.cache
def shortest(length: int, width: int) -> int:
    """Bytes of the shortest opening of `length` values, by trying all."""
    found = []
    for c in range(min((length - 1).bit_length(), 17) + 1):
        rows = math.ceil(length / 2**c)
        rest = 16 * 2**c
        if rows > 1:
            rest = min(rest, 32 + 16 * (2 * c + 1) + shortest(2**c, 2))
        found.append(columns_bytes(rows, c, width) + rest)
    return min(found)


@pytest.mark.parametrize("length", [*LENGTHS, 75_000, 76_000])
def test_the_levels_make_the_shortest_opening(length: int) -> None:
    levels = commitment.levels_of(length)
    found = 16 * levels[-1].columns
    for depth, shape in enumerate(levels):
        assert shape.width == (2 if depth else 1)
        assert shape.rows == math.ceil(length / shape.columns)
        assert shape.words == shape.width * shape.rows
        found += shape.opening_bytes
        length = shape.columns
    inner_rounds = sum(32 + 16 * (2 * shape.log_columns + 1) for shape in levels[:-1])
    assert found + inner_rounds == shortest(levels[0].rows * levels[0].columns, 1)


def test_long_vectors_have_rows_that_are_committed_to() -> None:
    assert [len(commitment.levels_of(n)) for n in (75_000, 76_000, 2**21, 2**25)] == [1, 2, 3, 3]


@pytest.mark.parametrize("shape", [Shape(3, 5, 1, VECTOR), Shape(3, 5, 2, ROW)], ids=str)
def test_an_encoded_row_is_longer_by_the_blowup(shape: Shape) -> None:
    assert 1 << shape.log_length == shape.code.blowup * shape.columns


@pytest.mark.parametrize("length", LENGTHS)
def test_a_lie_about_a_vector_is_found_with_a_hundred_bits(length: int) -> None:
    for shape in commitment.levels_of(length):
        mixing, columns = commitment.proximity_error(shape)
        assert mixing == (shape.rows - 1).bit_length() * (1 << shape.log_length) / P**2
        # each random column shows it with probability (1 - rate)/2 at least
        distance = (1 - 1 / shape.code.blowup) / 2
        assert columns == pytest.approx((1 - distance) ** shape.code.queries, abs=0)
        assert columns < 2**-113
        assert mixing < 2**-104


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


@pytest.mark.parametrize("log_cap", range(4))
def test_every_path_leads_to_its_node_and_every_node_to_the_root(log_cap: int) -> None:
    tree = tree_over(LEAVES)
    cap = tree.cap(log_cap)
    assert len(cap) == 32 << log_cap
    assert commitment.root_from_cap(cap) == tree.root
    for index, leaf in enumerate(LEAVES):
        path = tree.path(index, log_cap)
        assert len(path) == 32 * (3 - log_cap)
        node = index >> (3 - log_cap)
        found = commitment.node_from_path(leaf, index, path)
        assert found == cap[32 * node : 32 * node + 32]


def test_a_single_leaf_is_the_root() -> None:
    tree = tree_over(LEAVES[:1])
    assert tree.path(0, 0) == b""
    assert tree.cap(0) == tree.root == LEAVES[0]


@pytest.mark.parametrize("index", range(8))
def test_nothing_else_leads_to_the_root(index: int) -> None:
    tree = tree_over(LEAVES)
    path = tree.path(index, 0)
    for other in range(8):
        if other != index:
            assert commitment.node_from_path(LEAVES[index], other, path) != tree.root
            assert commitment.node_from_path(LEAVES[other], index, path) != tree.root
    for place in range(len(path)):
        wrong = bytearray(path)
        wrong[place] ^= 1
        assert commitment.node_from_path(LEAVES[index], index, bytes(wrong)) != tree.root


def test_every_node_counts() -> None:
    tree = tree_over(LEAVES)
    for place in range(32 * 4):
        cap = bytearray(tree.cap(2))
        cap[place] ^= 1
        assert commitment.root_from_cap(bytes(cap)) != tree.root


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


@pytest.mark.parametrize("width", [1, 2])
def test_the_code_word_of_a_combination_is_that_of_the_columns(width: int) -> None:
    source, rows = Source(0), 5
    words = [source.values(8) for _ in range(rows * width)]
    factors = source.pairs(rows)
    # a row of the extension is that of all a, then that of all b
    elements = [
        [(a, 0) for a in words[i]]
        if width == 1
        else list(zip(*words[2 * i : 2 * i + 2], strict=True))
        for i in range(rows)
    ]
    row = [inner(column, factors) for column in zip(*elements, strict=True)]
    encoded = [evaluated(values, 32) for values in words]
    columns = [[values[i] for values in encoded] for i in INDICES]
    found = commitment.combined(array(columns), commitment.of_words(array(factors), width))
    expected = commitment.transform(np.ascontiguousarray(array(row).T), 5)[:, INDICES].T
    assert pairs(found) == pairs(expected)

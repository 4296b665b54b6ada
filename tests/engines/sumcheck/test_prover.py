import numpy as np
import pytest

from tests.engines.sumcheck.plain import Source, array, eq, inner, pair, pairs, point_pairs
from zkllm.engines.sumcheck import commitment
from zkllm.engines.sumcheck.committed import CommittedVector, EncodedMatrix, merkle_layers
from zkllm.engines.sumcheck.field import MODULUS


@pytest.mark.parametrize("columns", [1, 2, 64])
def test_every_leaf_of_the_tree_leads_to_its_root(columns: int) -> None:
    random = np.random.default_rng(columns)
    encoded = random.integers(0, MODULUS, (3, columns), dtype=np.uint64)
    tree = commitment.MerkleTree(merkle_layers(encoded))
    for index, column in enumerate(encoded.T):
        leaf = commitment.leaf_hash(column.astype("<u8").tobytes())
        assert commitment.node_from_path(leaf, index, tree.path(index, 0)) == tree.root


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", [1, 2, 37, 300])
def test_a_committed_vector_has_the_value_of_its_extension(length: int) -> None:
    source = Source(length)
    values = source.values(length)
    point = source.point((length - 1).bit_length())
    committed = CommittedVector(array(values), {})
    (value,) = committed.value_at(point)
    weights = [eq(i, point_pairs(point)) for i in range(length)]
    assert pair(value) == inner(weights, values)


def test_every_combined_row_is_that_of_its_factors() -> None:
    """The last one is kept, since it is asked for twice."""
    source = Source(1)
    rows = [source.values(4) for _ in range(3)]
    matrix = EncodedMatrix(array(rows), commitment.Shape(3, 2, 1, commitment.VECTOR))
    first, second = source.pairs(3), source.pairs(3)
    for factors in (first, first, second, first):
        expected = [inner(factors, column) for column in zip(*rows, strict=True)]
        assert pairs(matrix.combined_row(array(factors))) == expected

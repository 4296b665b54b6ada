import hashlib

import numba
import numpy as np
import pytest

from tests.backends.sumcheck.plain import Source, array, eq, inner, pair, point_pairs
from zkllm.backends.sumcheck import commitment, kernels
from zkllm.backends.sumcheck.field import MODULUS
from zkllm.backends.sumcheck.prover import CommittedVector, merkle_layers


@pytest.fixture(params=["one thread", "three threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "three threads":
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)
        monkeypatch.setattr(kernels, "_GRAIN", 4)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("log_columns", range(9))
def test_rows_are_encoded_as_the_verifier_does(log_columns: int) -> None:
    source = Source(log_columns)
    matrix = array(source.values(5 << log_columns)).reshape(5, -1)
    expected = commitment.transform(matrix, log_columns + 2)
    assert np.array_equal(kernels.encode(matrix, 4), expected)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rows", [1, 5, 6, 7, 8, 14, 31])
@pytest.mark.parametrize("columns", [1, 15, 16, 2051])
def test_columns_are_hashed_as_hashlib_does(rows: int, columns: int) -> None:
    random = np.random.default_rng(rows)
    matrix = random.integers(0, MODULUS, (rows, columns), dtype=np.uint64)
    found = kernels.hash_columns(1, matrix)
    assert found.shape == (columns, 32)
    for column, digest in zip(matrix.T, found, strict=True):
        data = b"\x01" + column.astype("<u8").tobytes()
        assert digest.tobytes() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("columns", [1, 2, 64])
def test_every_leaf_of_the_tree_leads_to_its_root(columns: int) -> None:
    random = np.random.default_rng(columns)
    encoded = random.integers(0, MODULUS, (3, columns), dtype=np.uint64)
    tree = commitment.MerkleTree(merkle_layers(encoded))
    for index, column in enumerate(encoded.T):
        leaf = commitment.leaf_hash(column.astype("<u8").tobytes())
        assert commitment.root_from_path(leaf, index, tree.path(index)) == tree.root


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

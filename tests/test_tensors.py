"""Integer tensors: the narrowest type, bytes that come back, digests of integers."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkllm.errors import InvalidBundle
from zkllm.tensors import (
    WIDTHS,
    TensorType,
    bytes_digest,
    from_bytes,
    magnitude,
    magnitude_type,
    narrowest,
    tensor_digest,
    to_bytes,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("bound", "dtype"),
    [
        (0, "int8"),
        (127, "int8"),
        (128, "int16"),
        (2**15 - 1, "int16"),
        (2**15, "int32"),
        (2**31 - 1, "int32"),
        (2**31, "int64"),
        (2**63 - 1, "int64"),
    ],
)
def test_narrowest_type(bound: int, dtype: str) -> None:
    assert narrowest(bound) == dtype
    assert magnitude_type(np.array([0, bound])) == dtype
    assert magnitude_type(np.array([0, -bound])) == dtype


def test_nothing_holds_more_than_int64() -> None:
    with pytest.raises(OverflowError, match="9223372036854775808"):
        narrowest(2**63)


def test_an_empty_tensor_is_narrow() -> None:
    assert magnitude_type(np.zeros(0, dtype=np.int64)) == "int8"


@pytest.mark.parametrize("dtype", WIDTHS)
def test_the_least_integer_of_a_type_has_a_magnitude(dtype: str) -> None:
    limits = np.iinfo(dtype)
    assert magnitude(np.array([3, limits.min], dtype=dtype)) == -int(limits.min)
    assert magnitude(np.array([-3, limits.max], dtype=dtype)) == int(limits.max)
    assert magnitude(np.zeros(0, dtype=dtype)) == 0


@given(st.lists(INT64, min_size=1, max_size=24))
def test_bytes_come_back(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    for dtype, width in WIDTHS.items():
        limit = 1 << (8 * width - 1)
        if all(-limit <= n < limit for n in values):
            data = to_bytes(array, dtype)
            assert data == b"".join(n.to_bytes(width, "little", signed=True) for n in values)
            assert (from_bytes(data, TensorType(dtype, array.shape)) == array).all()
        else:
            with pytest.raises(OverflowError, match=f"do not fit {dtype}"):
                to_bytes(array, dtype)


def test_order_is_row_major_whatever_the_memory_order() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert to_bytes(np.asfortranarray(array), "int16") == struct.pack("<6h", *range(6))
    assert to_bytes(array.T, "int8") == bytes([0, 3, 1, 4, 2, 5])


@pytest.mark.parametrize("size", [0, 5, 7])
def test_a_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidBundle, match=f"6 bytes expected, got {size}"):
        from_bytes(bytes(size), TensorType("int16", (3,)))


def test_the_digest_binds_type_and_shape() -> None:
    array = np.arange(6, dtype=np.int64)
    digests = {
        tensor_digest(array, "int8"),
        tensor_digest(array, "int16"),
        tensor_digest(array.reshape(2, 3), "int8"),
        tensor_digest(array.reshape(3, 2), "int8"),
        tensor_digest(array[::-1], "int8"),
    }
    assert len(digests) == 5
    kind = TensorType("int8", (6,))
    assert tensor_digest(array, "int8") == bytes_digest(bytes(range(6)), kind)


def test_the_type_of_a_tensor_comes_back() -> None:
    kind = TensorType("int32", (4, 1, 3))
    assert TensorType.from_json(kind.to_json(), "x") == kind
    assert (kind.size, kind.nbytes) == (12, 48)
    assert (TensorType("int8", ()).size, TensorType("int8", ()).nbytes) == (1, 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "fields dtype and shape"),
        ({"dtype": "int8"}, "fields dtype and shape"),
        ({"dtype": "int8", "shape": [1], "more": 0}, "fields dtype and shape"),
        ({"dtype": "uint8", "shape": [1]}, "expected dtype in .* got 'uint8'"),
        ({"dtype": ["int8"], "shape": [1]}, "expected dtype in"),
        ({"dtype": "int8", "shape": 3}, "positive dimensions, got 3"),
        ({"dtype": "int8", "shape": [0]}, "positive dimensions"),
        ({"dtype": "int8", "shape": [-1]}, "positive dimensions"),
        ({"dtype": "int8", "shape": [True]}, "positive dimensions"),
        ({"dtype": "int8", "shape": [1.0]}, "positive dimensions"),
        ({"dtype": "int8", "shape": [1 << 31]}, "positive dimensions"),
        ({"dtype": "int8", "shape": [1] * 5}, "up to 4"),
    ],
)
def test_other_types_are_refused(value: object, reason: str) -> None:
    with pytest.raises(InvalidBundle, match=f"^rows: .*{reason}"):
        TensorType.from_json(value, "rows")

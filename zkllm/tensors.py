"""Integer tensors: declared type, shape, bytes on disk and digest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zkllm.digests import Digest, tagged
from zkllm.errors import InvalidBundle

IntArray: TypeAlias = npt.NDArray[np.int64]
"""Every tensor in memory is int64; the declared type only says how it is stored."""
FloatArray: TypeAlias = npt.NDArray[np.float64]
"""Weights of a checkpoint, which an exact model has no more."""
StoredArray: TypeAlias = npt.NDArray[np.integer[Any]]
"""A tensor in its declared type, for an executor that takes it as it is stored."""

WIDTHS: Mapping[str, int] = {"int8": 1, "int16": 2, "int32": 4, "int64": 8}
_MAX_DIMENSION = 1 << 31


def narrowest(bound: int) -> str:
    """The narrowest declared type that holds every integer of magnitude at most `bound`."""
    for name, width in WIDTHS.items():
        if bound < 1 << (8 * width - 1):
            return name
    raise OverflowError(f"no declared type holds {bound}")


def magnitude(array: StoredArray) -> int:
    """The largest absolute value in `array`, as a Python integer; 0 if it is empty.

    `np.abs` would not do: the least integer of a fixed width is its own negative.
    """
    return max(int(array.max()), -int(array.min())) if array.size else 0


def first_beyond(array: IntArray, bound: int) -> str:
    """Where the first integer stands that is larger than `bound` in magnitude; empty if nowhere."""
    for place in np.argwhere((array > bound) | (array < -bound))[:1]:
        at = tuple(int(i) for i in place)
        return f"expected at most {bound} in magnitude, got {int(array[at])} at {list(at)}"
    return ""


def magnitude_type(array: IntArray) -> str:
    """The narrowest declared type that holds `array`."""
    return narrowest(magnitude(array))


@dataclass(frozen=True, slots=True)
class TensorType:
    """How one tensor is stored: little endian, two's complement, row-major."""

    dtype: str
    """One of `WIDTHS`."""
    shape: tuple[int, ...]
    """Dimensions, outermost first."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes on disk."""
        return self.size * WIDTHS[self.dtype]

    def to_json(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Any, what: str) -> TensorType:
        """Raises `InvalidBundle` unless `value` is exactly a declared type and a shape."""
        if not isinstance(value, dict) or set(value) != {"dtype", "shape"}:
            raise InvalidBundle(f"{what}: expected the fields dtype and shape")
        dtype, shape = value["dtype"], value["shape"]
        if not isinstance(dtype, str) or dtype not in WIDTHS:
            raise InvalidBundle(f"{what}: expected dtype in {sorted(WIDTHS)}, got {dtype!r:.40}")
        if (
            not isinstance(shape, list)
            or len(shape) > 4
            or not all(type(n) is int and 0 < n < _MAX_DIMENSION for n in shape)
        ):
            raise InvalidBundle(f"{what}: expected up to 4 positive dimensions, got {shape!r:.60}")
        return cls(dtype, tuple(shape))


def to_bytes(array: IntArray, dtype: str) -> bytes:
    """`array` in its declared type; raises `OverflowError` if a value does not fit."""
    limit = 1 << (8 * WIDTHS[dtype] - 1)
    if array.size and (int(array.min()) < -limit or int(array.max()) >= limit):
        raise OverflowError(f"values {int(array.min())}..{int(array.max())} do not fit {dtype}")
    return np.ascontiguousarray(array).astype("<" + np.dtype(dtype).str[1:]).tobytes()


def stored_from_bytes(data: bytes | memoryview, kind: TensorType) -> StoredArray:
    """The tensor stored in `data`, in its declared type and not copied.

    Raises `InvalidBundle` on a wrong length.
    """
    if len(data) != kind.nbytes:
        raise InvalidBundle(f"tensor of {kind.nbytes} bytes expected, got {len(data)}")
    return np.frombuffer(data, dtype="<" + np.dtype(kind.dtype).str[1:]).reshape(kind.shape)


def from_bytes(data: bytes | memoryview, kind: TensorType) -> IntArray:
    """The int64 tensor stored in `data`; raises `InvalidBundle` on a wrong length."""
    return stored_from_bytes(data, kind).astype(np.int64)


def bytes_digest(data: bytes | memoryview, kind: TensorType) -> Digest:
    """The digest of a stored tensor: of its integers, its declared type and its shape."""
    head = f"{kind.dtype}{list(kind.shape)}".encode()
    return tagged("zkllm/tensor/v1", len(head).to_bytes(2, "little") + head, data)


def tensor_digest(array: IntArray, dtype: str) -> Digest:
    """`bytes_digest` of `array` stored as `dtype`."""
    return bytes_digest(to_bytes(array, dtype), TensorType(dtype, array.shape))

"""Hidden states: the rows of integers that a fragment takes instead of a prompt."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from zkllm.errors import InputError
from zkllm.exact.specification import Specification
from zkllm.files import AnyPath, as_path, read_limited
from zkllm.records import expect
from zkllm.tensors import IntArray, magnitude

_MAX_BYTES = 1 << 30


def read_hidden(path: AnyPath) -> IntArray:
    """Rows of integers from a .npy file; raises `InputError` for anything else."""
    path = as_path(path, "hidden states")
    data = read_limited(path, _MAX_BYTES)
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as err:  # numpy evaluates the header, and raises whatever that raises
        reason = " ".join(str(err).split())[:80]
        raise InputError(f"{path}: expected a .npy file of integers: {reason}") from err
    try:
        return _integers(array)
    except InputError as err:
        raise InputError(f"{path}: {err.message}") from err


def fragment_input(
    specification: Specification, hidden: IntArray, pad_to: int | None = None
) -> IntArray:
    """What the first unit of a fragment gets for the rows `hidden`: [T, d], filled up to `pad_to`.

    Raises `InputError` for a text model, and for rows that are not of this fragment.
    """
    a = specification.architecture
    if specification.kind != "fragment":
        raise InputError("hidden states were given, but this is a text model: give a prompt")
    expect(np.ndarray, hidden, "hidden states")
    if hidden.ndim != 2 or hidden.shape[1] != a.width or not 1 <= len(hidden) <= a.context:
        raise InputError(
            f"hidden states: expected [1 to {a.context}, {a.width}], got {list(hidden.shape)}"
        )
    check_padding(pad_to, len(hidden), a.context)
    hidden = _integers(hidden)
    if pad_to:
        # any row serves as padding: later rows change nothing before them
        hidden = np.concatenate([hidden, np.repeat(hidden[-1:], pad_to - len(hidden), axis=0)])
    largest = magnitude(hidden)
    if largest > specification.input:
        raise InputError(
            f"hidden states: expected at most {specification.input} in magnitude, got {largest}"
        )
    return hidden


def check_padding(pad_to: int | None, needed: int, context: int) -> None:
    """Raises `InputError` unless a run of `needed` positions can be filled up to `pad_to`."""
    if pad_to is not None and not needed <= expect(int, pad_to, "pad") <= context:
        raise InputError(f"pad: expected {needed} to {context} positions, got {pad_to}")


def _integers(array: npt.NDArray[Any]) -> IntArray:
    """`array` as int64; raises `InputError` where that would change a number."""
    if array.dtype.kind not in "iu":  # to numpy a duration is an integer too
        raise InputError(f"hidden states: expected integers, got {array.dtype}")
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"hidden states: expected 64 bits with a sign, got {int(array.max())}")
    return array.astype(np.int64)

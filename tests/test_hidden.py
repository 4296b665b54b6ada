"""The rows of a fragment: what is no row of it is refused by name, and padding changes none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zkllm.checkpoints import Checkpoint
from zkllm.errors import InputError
from zkllm.exact.model import ExactModel
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification
from zkllm.hidden import fragment_input, read_hidden
from zkllm.operations.precision import PRECISIONS


@pytest.fixture(scope="module")
def fragment(tiny_checkpoint: Checkpoint) -> Specification:
    """The second block of the tiny model: width 32, at most 12 positions."""
    return build(tiny_checkpoint, PRECISIONS["wide"], (1, 2))[0]


def test_rows_come_back_as_they_are(fragment: Specification) -> None:
    rows = np.arange(3 * 32, dtype=np.int16).reshape(3, 32)
    found = fragment_input(fragment, rows.astype(np.int64))
    assert (found == rows).all()
    assert found.dtype == np.int64
    largest = np.full((12, 32), fragment.input)
    for ends in (largest, -largest):
        assert (fragment_input(fragment, ends) == ends).all()


def test_padding_repeats_the_last_row(fragment: Specification) -> None:
    rows = np.arange(2 * 32).reshape(2, 32)
    found = fragment_input(fragment, rows, pad_to=5)
    assert found.shape == (5, 32)
    assert (found[:2] == rows).all()
    assert (found[2:] == rows[-1]).all()
    assert (fragment_input(fragment, rows, pad_to=2) == rows).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1] * 32], "hidden states: expected ndarray, got list"),
        (np.zeros(32, dtype=np.int64), r"expected \[1 to 12, 32\], got \[32\]"),
        (np.zeros((2, 31), dtype=np.int64), r"expected \[1 to 12, 32\], got \[2, 31\]"),
        (np.zeros((0, 32), dtype=np.int64), r"expected \[1 to 12, 32\], got \[0, 32\]"),
        (np.zeros((13, 32), dtype=np.int64), r"expected \[1 to 12, 32\], got \[13, 32\]"),
        (np.zeros((1, 1, 32), dtype=np.int64), r"got \[1, 1, 32\]"),
        (np.zeros((2, 32)), "expected integers, got float64"),
        (np.zeros((2, 32), dtype=bool), "expected integers, got bool"),
        (np.zeros((2, 32), dtype="m8[s]"), "expected integers, got timedelta64"),
        (
            np.full((2, 32), 1 << 63, dtype=np.uint64),
            "64 bits with a sign, got 9223372036854775808",
        ),
        (np.full((2, 32), -(1 << 63)), "in magnitude, got 9223372036854775808"),
    ],
    ids=lambda value: None if isinstance(value, str) else "rows",
)
def test_what_is_no_rows_of_it_is_refused(fragment: Specification, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fragment_input(fragment, rows)


@pytest.mark.parametrize("sign", [1, -1])
def test_rows_beyond_the_bound_of_the_input_are_refused(fragment: Specification, sign: int) -> None:
    rows = np.zeros((2, 32), dtype=np.int64)
    rows[1, 31] = sign * (fragment.input + 1)
    message = f"at most {fragment.input} in magnitude, got {fragment.input + 1}"
    with pytest.raises(InputError, match=message):
        fragment_input(fragment, rows)


@pytest.mark.parametrize("length", [1, 13, -1])
def test_a_length_that_does_not_hold_the_rows_is_refused(
    fragment: Specification, length: int
) -> None:
    with pytest.raises(InputError, match=f"pad: expected 2 to 12 positions, got {length}"):
        fragment_input(fragment, np.zeros((2, 32), dtype=np.int64), pad_to=length)


def test_a_text_model_takes_a_prompt(tiny_model: ExactModel) -> None:
    with pytest.raises(InputError, match="this is a text model: give a prompt"):
        fragment_input(tiny_model.specification, np.zeros((2, 32), dtype=np.int64))


def test_a_file_of_rows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    for dtype in (np.int8, np.int64, np.uint64, ">i4"):
        np.save(path, np.arange(64, dtype=dtype).reshape(2, 32))
        found = read_hidden(path)
        assert found.dtype == np.int64
        assert (found == np.arange(64).reshape(2, 32)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3)), "rows.npy: hidden states: expected integers, got float64"),
        (np.array([[1 << 63]], dtype=np.uint64), "rows.npy: hidden states: expected 64 bits"),
        (np.array([["a"]]), "rows.npy: hidden states: expected integers, got <U1"),
        (np.array([[None]]), "rows.npy: expected a .npy file of integers: Object arrays cannot"),
    ],
    ids=["reals", "too large", "text", "objects"],
)
def test_a_file_of_something_else_is_refused(
    values: np.ndarray[Any, Any], message: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "rows.npy", values)
    with pytest.raises(InputError, match=message):
        read_hidden(tmp_path / "rows.npy")


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"1 2 3\n", b"PK\x03\x04"])
def test_a_file_that_is_no_array_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows.npy").write_bytes(data)
    with pytest.raises(InputError, match=r"rows\.npy: expected a \.npy file of integers: "):
        read_hidden(tmp_path / "rows.npy")

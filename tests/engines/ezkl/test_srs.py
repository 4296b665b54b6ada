"""SRS files: public ones by digest, development ones apart from them, reduced ones from either."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engines.ezkl.circuits import run
from zkllm.digests import Digest, sha256
from zkllm.engines.ezkl import srs
from zkllm.errors import BackendError, InputError, InvalidBundle, UnsafePath, UntrustedMaterial


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("srs") / "k4"
    run("gen_srs", path=path, logrows=4)
    return path


@pytest.fixture
def public(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ceremony of our own."""
    known: Mapping[int, str] = {
        4: sha256(made.read_bytes()).removeprefix("sha256:"),
        1: sha256(srs.reduce(made)).removeprefix("sha256:"),
    }
    monkeypatch.setattr(srs, "PUBLIC_SHA256", known)
    return made


def test_reduced_srs_is_the_one_of_two_rows(tmp_path: Path) -> None:
    """Byte for byte what is made for k = 1, Lagrange basis included."""
    run("gen_srs", path=tmp_path / "k1", logrows=1)
    data = (tmp_path / "k1").read_bytes()
    assert srs.reduce(tmp_path / "k1") == data
    assert len(data) == srs.REDUCED_BYTES


def test_reduced_srs_of_a_larger_one(made: Path, tmp_path: Path) -> None:
    data, reduced = made.read_bytes(), srs.reduce(made)
    assert len(reduced) == srs.REDUCED_BYTES
    assert reduced[4:132] == data[4:132]
    assert reduced[-256:] == data[-256:]
    (tmp_path / "k1").write_bytes(reduced)
    assert srs.reduce(tmp_path / "k1") == reduced
    assert srs.read_reduced(tmp_path / "k1") == reduced


def test_is_public() -> None:
    assert srs.is_public(Digest("sha256:" + srs.PUBLIC_SHA256[14]))
    assert not srs.is_public(sha256(b""))
    assert sorted(srs.PUBLIC_SHA256) == list(range(1, 27))
    assert len(set(srs.PUBLIC_SHA256.values())) == 26


def test_import(public: Path, tmp_path: Path) -> None:
    copy = srs.import_srs(public, tmp_path / "keys" / "srs")
    assert copy == tmp_path / "keys" / "srs" / "kzg4.srs"
    assert copy.read_bytes() == public.read_bytes()
    assert srs.find_public(copy.parent, 3) == copy
    assert srs.find_public(copy.parent, 5) is None
    assert srs.find_matching(copy.parent, 4, srs.reduce(public)) == copy


def test_a_file_with_the_name_of_a_public_one(public: Path, tmp_path: Path) -> None:
    """A folder of keys may come from the prover, and the name is no proof."""
    data = bytearray(public.read_bytes())
    data[4 + 64 * 20 : 4 + 64 * 22] = data[4 + 64 * 21 : 4 + 64 * 22] * 2
    (tmp_path / "kzg4.srs").write_bytes(data)
    assert srs.reduce(tmp_path / "kzg4.srs") == srs.reduce(public)
    with pytest.raises(UntrustedMaterial, match=r"kzg4\.srs: expected the public SRS of k = 4"):
        srs.find_public(tmp_path, 4)


def test_import_of_a_development_srs(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UntrustedMaterial, match="expected the public SRS of k = 4, got sha256:"):
        srs.import_srs(made, tmp_path)
    assert not list(tmp_path.iterdir())


def test_import_with_one_byte_changed(public: Path, tmp_path: Path) -> None:
    data = bytearray(public.read_bytes())
    data[-1] ^= 1
    (tmp_path / "bent").write_bytes(data)
    with pytest.raises(UntrustedMaterial):
        srs.import_srs(tmp_path / "bent", tmp_path)


def test_import_whose_reduced_form_is_unknown(
    public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srs, "PUBLIC_SHA256", {4: srs.PUBLIC_SHA256[4]})
    with pytest.raises(BackendError, match="its reduced form is not the one of the ceremony"):
        srs.import_srs(public, tmp_path)


def test_import_whose_copy_fails(
    public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "copyfileobj", lambda _, copy, __: copy.write(b"half"))
    with pytest.raises(BackendError, match="the copy differs"):
        srs.import_srs(public, tmp_path)
    assert not list(tmp_path.iterdir())


def test_import_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an SRS file, found none"):
        srs.import_srs(tmp_path / "none", tmp_path)


def _bend(data: bytes, **change: Any) -> bytes:
    return data[: change["at"]] + change["to"] + data[change["at"] + len(change["to"]) :]


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (lambda data: data[:3], "expected k from 1 to 26"),
        (lambda data: _bend(data, at=0, to=b"\0"), "expected k from 1 to 26"),
        (lambda data: _bend(data, at=0, to=b"\x05"), "are not the size of an SRS of k = 5"),
        (lambda data: data[:-1], "are not the size of an SRS of k = 4"),
        (lambda data: data + b"\0", "are not the size of an SRS of k = 4"),
        (lambda data: _bend(data, at=4 + 64, to=b"\0\0"), "a point is not on the curve"),
        (lambda data: data[:68] + data[4:68] + data[132:], None),
    ],
)
def test_what_is_no_srs(made: Path, tmp_path: Path, bend: Any, message: str | None) -> None:
    (tmp_path / "bent").write_bytes(bend(made.read_bytes()))
    with pytest.raises(InvalidBundle, match=message or "its secret is 1 or -1"):
        srs.reduce(tmp_path / "bent")


@pytest.mark.parametrize("size", [0, 515, 517])
def test_reduced_srs_of_another_size(tmp_path: Path, size: int) -> None:
    (tmp_path / "kzg1.srs").write_bytes(bytes(size))
    with pytest.raises(InputError, match=r"516 bytes|at most 516 bytes"):
        srs.read_reduced(tmp_path / "kzg1.srs")


def test_development_srs_is_made_once(tmp_path: Path) -> None:
    lines: list[str] = []
    first = srs.development_srs(tmp_path / "srs", 4, lines.append)
    data = first.read_bytes()
    assert srs.development_srs(tmp_path / "srs", 4, lines.append) == first
    assert first.read_bytes() == data
    assert lines == ["making an insecure development SRS of k = 4"]
    assert [path.name for path in first.parent.iterdir()] == ["development-kzg4.srs"]
    # one for development is never taken for a public one
    assert srs.find_public(first.parent, 4) is None


def test_what_is_in_the_way_of_a_development_srs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnsafePath, match="file: expected a folder"):
        srs.development_srs(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "development-kzg4.srs")
    (tmp_path / "development-kzg5.srs").mkdir()
    for logrows in (4, 5):
        with pytest.raises(UnsafePath, match=rf"kzg{logrows}\.srs: expected a regular file"):
            srs.development_srs(tmp_path, logrows)


@pytest.mark.parametrize("other", [3, 20])
def test_a_development_srs_of_another_size(made: Path, tmp_path: Path, other: int) -> None:
    """Its maker decides how large it is, and all of it would be copied and loaded."""
    data = made.read_bytes()
    path = tmp_path / "development-kzg4.srs"
    path.write_bytes(other.to_bytes(4, "little") + data[4:132])
    with path.open("r+b") as file:  # the rest is a hole
        file.seek(4 + (128 << other))
        file.write(data[-256:])
    finders: list[Callable[[Path, int], object]] = [
        srs.development_srs,
        lambda folder, logrows: srs.find_matching(folder, logrows, srs.reduce(made)),
    ]
    for find in finders:
        with pytest.raises(InvalidBundle, match=f"an SRS of k = 4, got one of k = {other}"):
            find(tmp_path, 4)


def test_a_copy_of_the_ends_of_the_public_one(public: Path, tmp_path: Path) -> None:
    assert srs.copy_checked(public, tmp_path / "copy") == srs.reduce(public)
    assert (tmp_path / "copy").read_bytes() == public.read_bytes()
    data = bytearray(public.read_bytes())
    data[4 + 64 * 20 : 4 + 64 * 22] = data[4 + 64 * 21 : 4 + 64 * 22] * 2
    (tmp_path / "bent").write_bytes(data)
    with pytest.raises(UntrustedMaterial, match="bent: has the reduced form of the public SRS"):
        srs.copy_checked(tmp_path / "bent", tmp_path / "copy")
    # nor is it found as the SRS of keys that were made over the public one
    (tmp_path / "bent").rename(tmp_path / "development-kzg4.srs")
    with pytest.raises(InputError, match="expected the SRS with which the keys were made"):
        srs.find_matching(tmp_path, 4, srs.reduce(public))


def test_matching_srs_is_the_one_of_the_keys(tmp_path: Path, made: Path) -> None:
    srs.development_srs(tmp_path, 4)
    with pytest.raises(InputError, match="expected the SRS with which the keys were made"):
        srs.find_matching(tmp_path, 4, srs.reduce(made))

"""The structured reference string (SRS): public ceremony files, and insecure ones for development.

Whoever made an SRS can forge proofs under it. The files of the perpetual powers of tau ceremony
are known by their digests; every other SRS is a development SRS, and reports say so.

A file holds, little endian and without compression: u32 k; 2^k points s^i·G; the same in the
Lagrange basis; the points H and s·H of the second group. A verifier needs G, H and s·H only: that
is the file of k = 1, 516 bytes long, which `reduce` makes from a larger one.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

from zkllm.digests import Digest, sha256, sha256_file
from zkllm.engines.ezkl.expressions import FIELD
from zkllm.engines.ezkl.process import call
from zkllm.errors import BackendError, InputError, InvalidBundle, UnsafePath, UntrustedMaterial
from zkllm.files import read_limited, write_atomically
from zkllm.progress import Progress, silent

REDUCED_BYTES = 516
"""Size of an SRS of k = 1."""
_MAX_LOGROWS = 26
_POINT = 64
_TAIL = 4 * _POINT
_COUNT = struct.Struct("<I")
_DEVELOPMENT_SECONDS = 3600.0
_DEVELOPMENT_MEMORY = 4 << 30

_BASE_FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""Order of the field over which BN254's curve y² = x³ + 3 is defined."""
_HALF = (FIELD + 1) // 2
"""1/2 modulo the order of the curve."""
_MONTGOMERY = 1 << 256
"""Coordinates are stored multiplied by this."""

PUBLIC_SHA256: Mapping[int, str] = {
    1: "cafb2aa72c200ddc4e28aacabb8066e829207e2484b8d17059a566232f8a297b",
    2: "8194ec51da5d332d2e17283ade34920644774452c2fadf33742e8c739e275d8e",
    3: "0729e815bce2ac4dfad7819982c6479c3b22c32b71f64dca05e8fdd90e8535ef",
    4: "2c0785da20217fcafd3b12cc363a95eb2529037cc8a9bddf8fb15025cbc8cdc9",
    5: "5b950e3b76e7a9923d69f6d6585ce6b5f9458e5ec57a71c9de5005d32d544692",
    6: "85030b2924111fc60acaf4fb8a7bad89531fbe0271aeab0c21e545f71eee273d",
    7: "e65f95150519fe01c2bedf8f832f5249822ef84c9c017307419e10374ff9eeb1",
    8: "446092fd1d6030e5bb2f2a8368267d5ed0fbdb6a766f6c5e4a4841827ad3106f",
    9: "493d088951882ad81af11e08c791a38a37c0ffff14578cf2c7fb9b7bca654d8b",
    10: "9705d450e5dfd06adb673705f7bc34418ec86339203198beceb2ae7f1ffefedb",
    11: "257fa566ed9bc0767d3e63e92b5e966829fa3347d320a32055dc31ee7d33f8a4",
    12: "28b151069f41abc121baa6d2eaa8f9e4c4d8326ddbefee2bd9c0776b80ac6fad",
    13: "d5d94bb25bdc024f649213593027d861042ee807cafd94b49b54f1663f8f267d",
    14: "c09129f064c08ecb07ea3689a2247dcc177de6837e7d2f5f946e30453abbccef",
    15: "90807800a1c3b248a452e1732c45ee5099f38b737356f5542c0584ec9c3ebb45",
    16: "2a1a494630e71bc026dd5c0eab4c1b9a5dbc656228c1f0d48f5dbd3909b161d3",
    17: "41509f380362a8d14401c5ae92073154922fe23e45459ce6f696f58607655db7",
    18: "d0148475717a2ba269784a178cb0ab617bc77f16c58d4a3cbdfe785b591c7034",
    19: "d1a1655b4366a766d1578beb257849a92bf91cb1358c1a2c37ab180c5d3a204d",
    20: "54ef75911da76d7a6b7ea341998aaf66cb06c679c53e0a88a4fe070dd3add963",
    21: "486e044cf98704e07f41137d2b89698dc03d1fbf34d13b60902fea19a6013b4b",
    22: "1ee9b4396db3e4e2516ac5016626ab6ba967f091d5d23afbdb7df122a0bb9d0c",
    23: "748e48b9b6d06f9c82d26bf551d0af43ee2e801e4be56d7ccb20312e267fd1d6",
    24: "f94fa4afa2f5147680f907d4dd96a8826206c26bd3328cd379feaed614b234de",
    25: "dec49a69893fbcd66cd06296b2d936a6aceb431c130b2e52675fe4274b504f57",
    26: "b198a51d48b88181508d8e4ea9dea39db285e4585663b29b7e4ded0c22a94875",
}
"""sha256 of the ceremony's files, by k."""


def is_public(digest: Digest) -> bool:
    """Whether `digest` is that of a file of the public ceremony."""
    return digest.removeprefix("sha256:") in PUBLIC_SHA256.values()


def import_srs(file: Path, folder: Path) -> Path:
    """Copy `file`, an SRS of the public ceremony, into `folder`; the path of the copy.

    Raises `UntrustedMaterial` unless its digest is public, `InputError` if it cannot be read.
    """
    if not file.is_file():
        raise InputError(f"{file}: expected an SRS file, found none")
    digest = sha256_file(file)
    logrows = _read_logrows(file)
    _require_public(file, logrows, digest)
    if not is_public(sha256(reduce(file))):
        raise BackendError(f"{file}: its reduced form is not the one of the ceremony")
    target = folder / f"kzg{logrows}.srs"
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as source, write_atomically(target) as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    # A copy may fail in silence; what is used later is the copy.
    if sha256_file(target) != digest:
        target.unlink()
        raise BackendError(f"{target}: the copy differs from {file}")
    return target


def find_public(folder: Path, logrows: int) -> Path | None:
    """The smallest imported SRS in `folder` that serves circuits of 2^logrows rows.

    Raises `UntrustedMaterial` if it is not the one of the ceremony: under an SRS in which a point
    was exchanged, even the own circuit's key may commit to another circuit.
    """
    for k in range(logrows, _MAX_LOGROWS + 1):
        path = folder / f"kzg{k}.srs"
        if path.is_file():
            _require_public(path, k, sha256_file(path))
            return path
    return None


def _require_public(file: Path, logrows: int, digest: Digest) -> None:
    if digest.removeprefix("sha256:") != PUBLIC_SHA256.get(logrows):
        raise UntrustedMaterial(
            f"{file}: expected the public SRS of k = {logrows}, got {digest}",
            hint="only files of the perpetual powers of tau ceremony are public",
        )


def development_srs(folder: Path, logrows: int, progress: Progress = silent) -> Path:
    """The insecure SRS of `folder` for 2^logrows rows, made the first time that it is needed.

    Raises `UnsafePath` if something else is in its place, `InvalidBundle` for one of another size.
    """
    target = folder / f"development-kzg{logrows}.srs"
    if target.is_file():
        _require_logrows(target, logrows)
        return target
    for path, kind in ((folder, "folder"), (target, "regular file")):
        if path.exists() and not (kind == "folder" and path.is_dir()):
            raise UnsafePath(f"{path}: expected a {kind}")
    folder.mkdir(parents=True, exist_ok=True)
    progress(f"making an insecure development SRS of k = {logrows}")
    with tempfile.TemporaryDirectory(prefix=".srs-", dir=folder) as name:
        made = Path(name) / "srs"
        arguments = {"path": made.absolute(), "logrows": logrows}
        call("gen_srs", arguments, seconds=_DEVELOPMENT_SECONDS, memory=_DEVELOPMENT_MEMORY)
        made.replace(target)
    return target


def find_matching(folder: Path, logrows: int, reduced: bytes) -> Path:
    """The SRS in `folder` whose reduced form is `reduced`: the one that made the keys.

    Where that is the form of the ceremony, only a file of the ceremony will do. Raises
    `InputError` if there is none.
    """
    if is_public(sha256(reduced)):
        found = find_public(folder, logrows)
        hint = "import the public one, of k = {} or more, with: zkllm srs import FILE --keys DIR"
    else:
        path = folder / f"development-kzg{logrows}.srs"
        found = path if path.is_file() and reduce(path) == reduced else None
        if found is not None:
            _require_logrows(found, logrows)
        hint = "get development-kzg{}.srs from whoever made them, or make keys with: zkllm setup"
    if found is None:
        raise InputError(
            f"{folder}: expected the SRS with which the keys were made, found none",
            hint=hint.format(logrows),
        )
    return found


def copy_checked(source: Path, target: Path) -> bytes:
    """Copy the SRS in the file `source` to `target`; the reduced form of the copy.

    Raises `UntrustedMaterial` if that is the form of the ceremony and the file is not one of it:
    such an SRS would pass for a public one, and under it the circuit of the model may have the key
    that another circuit has under the public one.
    """
    reduce(source)  # whose errors name the file
    shutil.copyfile(source, target)
    reduced = reduce(target)
    if is_public(sha256(reduced)) and not is_public(sha256_file(target)):
        raise UntrustedMaterial(
            f"{source}: has the reduced form of the public SRS, but is not of the ceremony",
            hint="delete it; files of the ceremony are taken in with: zkllm srs import",
        )
    return reduced


def reduce(file: Path) -> bytes:
    """The SRS of k = 1 of the same secret, all that a verifier needs of `file`.

    Raises `InvalidBundle` if the file is not an SRS.
    """
    size = file.stat().st_size
    logrows = _read_logrows(file)
    if size != _COUNT.size + (2 * _POINT << logrows) + _TAIL:
        raise InvalidBundle(f"{file}: {size} bytes are not the size of an SRS of k = {logrows}")
    with file.open("rb") as source:
        source.seek(_COUNT.size)
        points = source.read(2 * _POINT)
        source.seek(size - _TAIL)
        tail = source.read(_TAIL)
    # For two rows the Lagrange basis is L0 = (1 + s)/2, L1 = (1 - s)/2.
    one, secret = _decode(points[:_POINT], file), _decode(points[_POINT:], file)
    lagrange = [_multiply(_add(one, point), _HALF) for point in (secret, (secret[0], -secret[1]))]
    return _COUNT.pack(1) + points + b"".join(map(_encode, lagrange)) + tail


def read_reduced(file: Path) -> bytes:
    """The bytes of a reduced SRS; raises `InvalidBundle` unless it has the one possible size."""
    data = read_limited(file, REDUCED_BYTES)
    if len(data) != REDUCED_BYTES:
        raise InvalidBundle(f"{file}: expected {REDUCED_BYTES} bytes, got {len(data)}")
    return data


def _read_logrows(file: Path) -> int:
    with file.open("rb") as source:
        head = source.read(_COUNT.size)
    logrows = _COUNT.unpack(head)[0] if len(head) == _COUNT.size else 0
    if not 1 <= logrows <= _MAX_LOGROWS:
        raise InvalidBundle(f"{file}: not an SRS: expected k from 1 to {_MAX_LOGROWS}")
    return int(logrows)


def _require_logrows(file: Path, logrows: int) -> None:
    """Raises `InvalidBundle` for a larger SRS, which may have gigabytes, and for a smaller one."""
    found = _read_logrows(file)
    if found != logrows:
        raise InvalidBundle(f"{file}: expected an SRS of k = {logrows}, got one of k = {found}")


# Points of BN254's first group, as affine coordinates; None of those met here is at infinity.
_Point = tuple[int, int]


def _decode(data: bytes, file: Path) -> _Point:
    inverse = pow(_MONTGOMERY, -1, _BASE_FIELD)
    x, y = (int.from_bytes(data[i : i + 32], "little") * inverse % _BASE_FIELD for i in (0, 32))
    if (y * y - x * x * x - 3) % _BASE_FIELD:
        raise InvalidBundle(f"{file}: not an SRS: a point is not on the curve")
    return x, y


def _encode(point: _Point) -> bytes:
    return b"".join((value * _MONTGOMERY % _BASE_FIELD).to_bytes(32, "little") for value in point)


def _add(a: _Point, b: _Point) -> _Point:
    if a[0] == b[0]:
        if (a[1] + b[1]) % _BASE_FIELD == 0:
            raise InvalidBundle("not an SRS: its secret is 1 or -1")
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, _BASE_FIELD)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _BASE_FIELD)
    x = (slope * slope - a[0] - b[0]) % _BASE_FIELD
    return x, (slope * (a[0] - x) - a[1]) % _BASE_FIELD


def _multiply(point: _Point, factor: int) -> _Point:
    result = point
    for bit in bin(factor)[3:]:
        result = _add(result, result)
        if bit == "1":
            result = _add(result, point)
    return result

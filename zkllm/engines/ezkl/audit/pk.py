"""Reading `pk.key`: the raw-bytes proving key that ezkl 23 and its halo2 write.

::

    version, k, compressed: u8 each; F: u32 (little endian)
    F + P points of 64 bytes        commitments to fixed and to permutation columns
    S bit vectors of 2^k rows       where each selector is on
    l_0, l_last, l_active           one polynomial each
    six lists of polynomials        fixed values, coefficients and cosets; the same of permutations

A polynomial is a u32 length (big endian) and that many field elements; a list is a u32 count, as
many lengths, and the polynomials. A field element is 32 bytes, little endian, in Montgomery form.
Only the values, the permutation and the selector bits are kept: the rest follows from them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zkllm.digests import Digest, sha256
from zkllm.engines.ezkl.expressions import FIELD
from zkllm.errors import InputError

_VERSION = 3
_GENERATOR = 7
_TWO_ADICITY = 28
_DELTA = pow(_GENERATOR, 1 << _TWO_ADICITY, FIELD)
"""The coset of permutation column i is DELTA^i times the domain."""
_MONTGOMERY = (1 << 256) % FIELD
_MONTGOMERY_INVERSE = pow(_MONTGOMERY, -1, FIELD)
_SCALAR = 32
_POINT = 64
_MAX_EXTENSION = 8
"""The first polynomials have 2^(k+e) values, with e below this."""
_MAX_COLUMNS = 1 << 12
"""More columns than any circuit has: the places of a list are counted before it is trusted."""
_MIN_LOGROWS, _MAX_LOGROWS = 3, 20
"""Beyond them there is no circuit, or an audit would not fit into memory."""


@dataclass(frozen=True, slots=True)
class ProvingKey:
    """What a proving key says about its circuit."""

    logrows: int
    """k: the circuit has 2^k rows."""
    fixed: list[list[int]]
    """[F][2^k] values of the fixed columns: constants, tables, compressed selectors."""
    selectors: npt.NDArray[np.bool_]
    """[S, 2^k] rows where each selector is on, in order of creation."""
    successors: npt.NDArray[np.int64]
    """[P, 2^k] cell (column · 2^k + row) after each cell in its cycle of equal cells."""
    vk: Digest
    """Digest of the verifying key with which the file begins."""


def read_proving_key(data: bytes) -> ProvingKey:
    """Parse a proving key; raises `InputError` unless every byte has its place."""
    try:
        return _parse(memoryview(data))
    except (struct.error, ValueError) as err:
        raise InputError(f"proving key: not one of ezkl 23: {err}") from err


def _parse(data: memoryview) -> ProvingKey:
    version, logrows, compressed, fixed_count = struct.unpack_from("<BBBI", data)
    if version != _VERSION or compressed != 1 or not _MIN_LOGROWS <= logrows <= _MAX_LOGROWS:
        raise ValueError(
            f"expected version {_VERSION}, compressed selectors and k from {_MIN_LOGROWS} to "
            f"{_MAX_LOGROWS}, got {version}, {compressed}, {logrows}"
        )
    rows = 1 << logrows
    start, reader = _find_polynomials(data, rows, fixed_count)
    for _ in range(3):
        reader.skip_polynomial()
    fixed = [_integers(piece) for piece in reader.polynomials(rows)]
    reader.skip_list()
    reader.skip_list()
    permutations = reader.polynomials(rows)
    reader.skip_list()
    reader.skip_list()
    reader.finish()
    head = 7 + _POINT * (fixed_count + len(permutations))
    bits = np.unpackbits(np.frombuffer(data[head:start], np.uint8), bitorder="little")
    if start < head or len(bits) % rows:
        raise ValueError(f"{start - head} bytes of selectors are no multiple of {rows} rows")
    return ProvingKey(
        logrows,
        fixed,
        bits.reshape(-1, rows).astype(np.bool_),
        _successors(permutations, logrows),
        sha256(data[:start]),
    )


def _find_polynomials(data: memoryview, rows: int, fixed_count: int) -> tuple[int, _Reader]:
    """Where the selectors end and l_0 begins: the file does not say how many selectors it has.

    The lengths must then chain, without a gap, to the end of the file, so a wrong place is not
    taken for the right one.
    """
    start = 7 + _POINT * fixed_count
    step = min(rows // 8, _POINT)
    while start < len(data):
        if _Reader(data, start).chains(fixed_count, rows):
            return start, _Reader(data, start)
        start += step
    raise ValueError("no polynomials found")


class _Reader:
    """A position in the part of the file that consists of polynomials."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data = data
        self._position = position

    def chains(self, fixed_count: int, rows: int) -> bool:
        """Whether three polynomials and six lists, `fixed_count` long at first, end the file."""
        try:
            for _ in range(3):
                if self.skip_polynomial() not in [rows << bits for bits in range(_MAX_EXTENSION)]:
                    return False
            for _ in range(3):
                if self.skip_list() != fixed_count:
                    return False
            count = self.skip_list()
            if self.skip_list() != count or self.skip_list() != count:
                return False
            self.finish()
        except (struct.error, ValueError):
            return False
        return True

    def skip_polynomial(self) -> int:
        """Go behind the next polynomial; its length."""
        length = self._number()
        self._take(_SCALAR * length)
        return length

    def skip_list(self) -> int:
        """Go behind the next list; its count."""
        return len(self.polynomials())

    def polynomials(self, length: int | None = None) -> list[memoryview]:
        """The bytes of each polynomial of the next list, all of the demanded length."""
        count = self._number()
        if count > _MAX_COLUMNS:
            raise ValueError(f"expected at most {_MAX_COLUMNS} polynomials, got {count}")
        lengths = [self._number() for _ in range(count)]
        pieces = []
        for announced in lengths:
            if self._number() != announced or (length is not None and announced != length):
                raise ValueError(f"expected a polynomial of {length or announced} values")
            pieces.append(self._take(_SCALAR * announced))
        return pieces

    def finish(self) -> None:
        """Raises `ValueError` if bytes are left."""
        if self._position != len(self._data):
            raise ValueError(f"{len(self._data) - self._position} bytes too many")

    def _number(self) -> int:
        (value,) = struct.unpack_from(">I", self._data, self._position)
        self._position += 4
        return int(value)

    def _take(self, size: int) -> memoryview:
        if self._position + size > len(self._data):
            raise ValueError("the file is cut off")
        piece = self._data[self._position : self._position + size]
        self._position += size
        return piece


def _integers(piece: memoryview) -> list[int]:
    """The field elements in `piece`, out of Montgomery form."""
    seen: dict[bytes, int] = {}
    values = []
    for start in range(0, len(piece), _SCALAR):
        raw = bytes(piece[start : start + _SCALAR])
        value = seen.get(raw)
        if value is None:
            stored = int.from_bytes(raw, "little")
            if stored >= FIELD:
                raise ValueError("a field element is not reduced")
            value = seen[raw] = stored * _MONTGOMERY_INVERSE % FIELD
        values.append(value)
    return values


def _successors(permutations: list[memoryview], logrows: int) -> npt.NDArray[np.int64]:
    """Decode permutation polynomials: the value DELTA^i·ω^j at a cell names cell (i, j) as next."""
    rows = 1 << logrows
    omega = pow(_GENERATOR, (FIELD - 1) >> logrows, FIELD)
    cell_of: dict[bytes, int] = {}
    coset = _MONTGOMERY
    for column in range(len(permutations)):
        value = coset
        for row in range(rows):
            cell_of[value.to_bytes(_SCALAR, "little")] = column * rows + row
            value = value * omega % FIELD
        coset = coset * _DELTA % FIELD
    successors = np.empty((len(permutations), rows), np.int64)
    for column, piece in enumerate(permutations):
        for row in range(rows):
            cell = cell_of.get(bytes(piece[_SCALAR * row : _SCALAR * (row + 1)]))
            if cell is None:
                raise ValueError(f"permutation column {column} leaves its domain at row {row}")
            successors[column, row] = cell
    flat = successors.ravel()
    if len(np.unique(flat)) != flat.size:
        raise ValueError("the permutation polynomials are not a permutation")
    return successors

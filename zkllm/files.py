"""Reading with limits and writing atomically."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO, TypeAlias

from zkllm.errors import BackendError, InputError, LimitExceeded, UnsafePath

AnyPath: TypeAlias = str | os.PathLike[str]
"""What public functions take for the name of a file or of a folder."""

_MAX_LINKS = 40
_PREFIX = 100
"""Characters of a name that the temporary file beside it repeats."""


def as_path(path: object, what: str) -> Path:
    """`path` as a `Path`; raises `InputError` that names `what` for anything that names no file."""
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise InputError(f"{what}: expected a path, got {type(path).__name__}")
    return Path(name)


def read_limited(path: Path, limit: int) -> bytes:
    """The bytes of the regular file at `path`, at most `limit` of them.

    Raises `UnsafePath` for a device, pipe or folder, `LimitExceeded` for a longer file,
    `InputError` if it cannot be read. The size is checked before anything is read, and again by
    reading one byte more, since a file may grow or have more than it claims.
    """
    with open_regular(path) as (file, size):
        if size > limit:
            raise LimitExceeded(f"{path}: at most {limit} bytes expected, got {size}")
        # `read` sets aside what it is asked for, and a limit may be larger than the memory
        data = file.read(size + 1)
    if len(data) > size:
        raise LimitExceeded(f"{path}: at most {size} bytes expected, got more")
    return data


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Yield the regular file at `path`, to be read in pieces, and its size.

    Raises `UnsafePath` for a device, pipe or folder, `InputError` if it cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as err:
        raise _cannot_read(path, err) from err
    except ValueError as err:  # a name with a NUL, which no file has
        raise InputError(f"{str(path)!r}: {err}") from err
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)  # fdopen would refuse a folder in its own words
        raise UnsafePath(f"{path}: expected a regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield file, status.st_size
        except OSError as err:
            raise _cannot_read(path, err) from err


def read_stream(stream: IO[bytes], name: str, limit: int) -> bytes:
    """All bytes of `stream`, of which there are `limit` at most.

    Raises `LimitExceeded` for more of them, `InputError` if they cannot be read.
    """
    try:
        data = stream.read(limit + 1)
    except OSError as err:
        raise _cannot_read(Path(name), err) from err
    if len(data) > limit:
        raise LimitExceeded(f"{name}: at most {limit} bytes expected, got more")
    return data


def as_text(data: bytes, name: object) -> str:
    """The text in the bytes of the file `name`; raises `InputError` if they are not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise InputError(f"{name}: not UTF-8 at byte {err.start}") from err


def _cannot_read(path: Path, err: OSError) -> InputError:
    return InputError(f"{path}: {(err.strerror or str(err)).lower()}")


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file whose bytes become those of `path` only if the block succeeds.

    A file that is there is replaced at once, and keeps its mode; of a link, what it leads to is
    replaced. Devices, pipes and what else is no file, `/dev/stdout` whatever it is, are never
    replaced: the bytes are written into them, after the block. Raises `InputError` for a folder,
    `BackendError` if the disk is full or the place cannot be written.
    """
    target = _follow_links(path)
    if target.is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    try:
        if is_special(target):
            with tempfile.TemporaryFile() as file:
                yield file
                file.seek(0)
                # what is there stays: a shell may have opened the file behind /dev/stdout
                descriptor = os.open(target, os.O_WRONLY | os.O_APPEND)
                with os.fdopen(descriptor, "wb") as stream:
                    shutil.copyfileobj(file, stream)
        else:
            yield from _replace(target)
    except OSError as err:
        raise _cannot_write(path, err) from err


def _replace(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file beside `path` and put it in the place of `path`."""
    temporary: str | None = None
    try:
        # a name may be as long as names can be; its copy has to be longer
        prefix = f".{path.name[:_PREFIX]}."
        descriptor, temporary = tempfile.mkstemp(prefix=prefix, dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; what zkllm writes is as public as any other output.
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
        Path(temporary).chmod(mode)
        os.replace(temporary, path)  # noqa: PTH105
        temporary = None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether `path` is, or leads to, a place that is written into and never replaced."""
    path = _follow_links(path)
    return _is_of_the_system(path) or (path.exists() and not path.is_file())


def refuse_overwriting(path: Path, *, force: bool) -> None:
    """Raise `InputError` if something is at `path` that writing would replace, without `force`.

    Likewise for a folder, with or without: what is made at some cost should have a place to go.
    """
    if _follow_links(path).is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    if path.exists() and not force and not is_special(path):
        raise InputError(f"{path}: exists", hint="pass --force to overwrite")


def _follow_links(path: Path) -> Path:
    """What `path` leads to, up to the names in /dev and /proc that stand for open files."""
    for _ in range(_MAX_LINKS):
        if _is_of_the_system(path) or not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise InputError(f"{path}: expected a file, found a link that leads to itself")


def _is_of_the_system(path: Path) -> bool:
    place = os.path.abspath(path)  # noqa: PTH100 - links stay
    # /dev/shm is a disk like others, but for its place
    return place.startswith(("/dev/", "/proc/")) and not place.startswith("/dev/shm/")


def _cannot_write(path: Path, err: OSError) -> BackendError:
    if err.errno == errno.ENOSPC:
        return BackendError(f"{path}: the disk is full", hint="nothing was left half-written")
    return BackendError(f"{path}: cannot be written: {(err.strerror or str(err)).lower()}")


def fresh_folder(path: Path, *, force: bool) -> None:
    """Make `path` a folder to write into; raises `InputError` if it has content without `force`."""
    _is_occupied(path, force=force)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise _cannot_write(path, err) from err


def _is_occupied(path: Path, *, force: bool) -> bool:
    """Whether the folder `path` has content; raises `InputError` for a file, or without `force`."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: expected a folder, found a file")
    occupied = path.is_dir() and any(path.iterdir())
    if occupied and not force:
        raise InputError(f"{path}: exists and is not empty", hint="pass --force to overwrite")
    return occupied


@contextlib.contextmanager
def write_folder_atomically(
    path: Path, *, mark: str, force: bool, known: Sequence[str] = ("*",)
) -> Iterator[Path]:
    """Yield a folder that becomes `path` only if the block succeeds.

    With `force` it takes the place of a folder that has a file `mark` and nothing but files whose
    names match one of `known`: `--force` must not delete what zkllm did not write. Raises
    `InputError` if something is in the way.
    """
    path = _follow_links(path)
    occupied = _is_occupied(path, force=force)
    if occupied and not (path / mark).is_file():
        raise InputError(f"{path}: is not empty and has no {mark}: not overwritten")
    for entry in path.iterdir() if occupied else ():
        if not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in known):
            raise InputError(f"{path}: holds {entry.name}, which is not of zkllm: not overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:_PREFIX]}.", dir=path.parent))
    except OSError as err:
        raise _cannot_write(path, err) from err
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            aside = temporary.with_name(temporary.name + ".old")
            path.rename(aside)
            try:
                temporary.rename(path)
            except BaseException:
                aside.rename(path)
                raise
            shutil.rmtree(aside)
        else:
            temporary.rename(path)
    except OSError as err:
        raise _cannot_write(path, err) from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def key_folder(keys: AnyPath, *, new: bool = False) -> Path:
    """The folder of keys of that name; with `new` it may have to be made yet.

    Raises `InputError` for anything but a folder.
    """
    path = as_path(keys, "keys")
    if path.is_dir() or (new and not os.path.lexists(path)):
        return path
    found = "a file" if path.exists() else "a link to nowhere" if path.is_symlink() else "none"
    raise InputError(f"{path}: expected a folder of keys, found {found}")


def unit_file_name(unit: str) -> str:
    """The name of `unit` in file systems: `attention[0]` is `attention.0`."""
    return unit.replace("[", ".").replace("]", "")

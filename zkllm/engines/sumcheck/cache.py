"""Where compiled kernels are kept: once per user and machine, whatever environment asks.

numba keeps compiled code beside the file that a function says it comes from. Kernels say that they
come from a copy of their source, in a folder whose name is a hash of all that decides what is
compiled: every environment with the same source, Python and compiler finds the same folder. numba
itself would not notice a change in another file than the kernel's own; the hash does.

What lies there will be executed, so only its user may be able to write it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import stat
import sys
import tempfile
import types
from pathlib import Path
from typing import TypeVar

from zkllm.errors import BackendError
from zkllm.files import write_atomically

F = TypeVar("F", bound=types.FunctionType)
SOURCES = ("field.py", "kernels.py")
"""The files, in this folder, that decide what is compiled."""


def home() -> Path:
    """The folder of this user's compiled kernels; made if it is not there."""
    name = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(OSError, RuntimeError):  # there may be no home at all
        parent = Path(name) if Path(name).is_absolute() else Path.home() / ".cache"
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return private_folder(parent, "zkllm-kernels")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return private_folder(Path(tempfile.gettempdir()), f"zkllm-kernels-{user}")


def private_folder(parent: Path, name: str) -> Path:
    """The folder `name` in `parent`, to which no other user can write.

    If somebody else took that name it is a fresh folder with another one. Raises `OSError` if
    nothing can be made in `parent`.
    """
    folder = parent / name
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    user = os.getuid() if hasattr(os, "getuid") else 0
    # Windows has no modes; its folders of a user belong to that user
    closed = not hasattr(os, "getuid") or found.st_mode & 0o077 == 0
    if stat.S_ISDIR(found.st_mode) and found.st_uid == user and closed:
        tempfile.TemporaryFile(dir=folder).close()
        return folder
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))


def key() -> str:
    """A hash of the sources, and of the versions of Python and of the compiler."""
    state = hashlib.sha256(sys.version.encode())
    for package in ("numba", "llvmlite", "numpy"):
        state.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    for name in SOURCES:
        state.update(hashlib.sha256((Path(__file__).parent / name).read_bytes()).digest())
    return state.hexdigest()[:32]


def source() -> Path | None:
    """The copy of kernels.py from which kernels say they come; None if none can be kept."""
    try:
        original = (Path(__file__).parent / "kernels.py").read_bytes()
        folder = home() / key()
        folder.mkdir(mode=0o700, exist_ok=True)
        copy = folder / "kernels.py"
        if not copy.is_file() or copy.read_bytes() != original:
            with write_atomically(copy) as file:
                file.write(original)
    except (OSError, BackendError):  # numba's own choice is slower, not wrong
        return None
    return copy


def come_from(function: F, path: Path | None) -> F:
    """`function`, which now says that it comes from the file `path`."""
    if path is not None:
        function.__code__ = function.__code__.replace(co_filename=str(path))
    return function

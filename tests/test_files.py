"""Files: limits before reading, nothing half-written, no devices and no surprises."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from zkllm.errors import BackendError, InputError, LimitExceeded, UnsafePath
from zkllm.files import (
    as_text,
    fresh_folder,
    is_special,
    key_folder,
    read_limited,
    read_stream,
    refuse_overwriting,
    write_atomically,
    write_folder_atomically,
)


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_limited(path, 5) == b"12345"
    with pytest.raises(LimitExceeded, match="at most 4 bytes expected, got 5"):
        read_limited(path, 4)


def test_the_size_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it would take a terabyte of memory
    with pytest.raises(LimitExceeded, match="got 1099511627776"):
        read_limited(path, 1 << 20)


def test_a_file_that_claims_no_size_is_cut_off() -> None:
    """Files of /proc say that they are empty and are not."""
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("no /proc")
    with pytest.raises(LimitExceeded, match="got more"):
        read_limited(path, 10)


def test_a_file_that_cannot_be_read_is_named() -> None:
    """What is at address 0 of a process belongs to nobody."""
    path = Path("/proc/self/mem")
    if not path.exists():
        pytest.skip("no /proc")
    with pytest.raises(InputError, match=r"mem: input/output error"):
        read_limited(path, 10)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such file or directory"):
        read_limited(tmp_path / "absent", 10)


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(InputError, match=r"'a\\x00b': embedded null"):
        read_limited(Path("a\0b"), 10)


class Broken(io.RawIOBase):
    """A stream of which nothing can be read."""

    def read(self, size: int = -1) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


def test_a_stream_is_read_to_its_limit() -> None:
    assert read_stream(io.BytesIO(b"12345"), "standard input", 5) == b"12345"
    with pytest.raises(LimitExceeded, match="standard input: at most 4 bytes expected, got more"):
        read_stream(io.BytesIO(b"12345"), "standard input", 4)
    broken: Any = Broken()
    with pytest.raises(InputError, match="standard input: input/output error"):
        read_stream(broken, "standard input", 5)


def test_text_is_utf8() -> None:
    assert as_text("é".encode(), "prompt.txt") == "é"
    with pytest.raises(InputError, match=r"prompt\.txt: not UTF-8 at byte 1"):
        as_text(b"a\xff", "prompt.txt")


def test_folders_and_devices_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(UnsafePath, match="expected a regular file"):
            read_limited(path, 10)


def test_a_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    refused: list[UnsafePath] = []

    def read() -> None:
        try:
            read_limited(path, 10)
        except UnsafePath as err:
            refused.append(err)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert refused


def fail_after(path: Path, data: bytes, error: Exception) -> None:
    """Write `data` in place of `path`, then fail."""
    with write_atomically(path) as file:
        file.write(data)
        raise error


def test_a_written_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with write_atomically(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="half-way"):
        fail_after(path, b"ne", ValueError("half-way"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with write_atomically(tmp_path / "file") as file:
            file.write(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(BackendError, match="file: the disk is full"):
        fail_after(tmp_path / "file", b"", full)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be written: no such file"):
        fail_after(tmp_path / "absent" / "file", b"", ValueError("never reached"))


def test_a_fresh_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    fresh_folder(tmp_path / "a" / "b", force=False)
    fresh_folder(tmp_path / "a" / "b", force=False)  # empty: still fresh
    assert (tmp_path / "a" / "b").is_dir()


def test_content_is_kept_unless_force_is_given(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(InputError, match="exists and is not empty") as caught:
        fresh_folder(tmp_path, force=False)
    assert "--force" in caught.value.hint
    fresh_folder(tmp_path, force=True)
    assert (tmp_path / "precious").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="expected a folder, found a file"):
        fresh_folder(tmp_path / "file", force=True)
    with pytest.raises(BackendError, match="cannot be written: not a directory"):
        fresh_folder(tmp_path / "file" / "below", force=False)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def interrupted() -> None:
        with write_folder_atomically(target, mark="m", force=False) as fresh:
            (fresh / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with write_folder_atomically(target, mark="m", force=False) as fresh:
        (fresh / "m").write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_only_what_has_the_mark(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "precious").touch()
    for force, match in ((False, "pass --force|not empty"), (True, "has no m: not overwritten")):
        with (
            pytest.raises(InputError, match=match),
            write_folder_atomically(target, mark="m", force=force),
        ):
            pass
    (target / "m").touch()
    with write_folder_atomically(target, mark="m", force=True) as fresh:
        (fresh / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]


@pytest.mark.parametrize("links", [0, 1, 2])
def test_a_device_is_written_into_and_never_replaced(tmp_path: Path, links: int) -> None:
    path = Path("/dev/full")
    for i in range(links):
        link = tmp_path / f"link{i}"
        link.symlink_to(path)
        path = link
    with pytest.raises(BackendError, match="the disk is full"), write_atomically(path) as file:
        file.write(b"x" * 10_000)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    assert path.is_symlink() == bool(links)
    assert is_special(path)


def test_a_pipe_gets_the_bytes_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()
    with write_atomically(path) as file:
        file.write(b"bytes")
    reader.join(20)
    assert got == [b"bytes"]
    assert path.is_fifo()


def test_nothing_reaches_a_pipe_if_the_block_fails(tmp_path: Path) -> None:
    read, write = os.pipe()
    with pytest.raises(ValueError, match="half-way"):
        fail_after(Path(f"/dev/fd/{write}"), b"ha", ValueError("half-way"))
    os.close(write)
    assert os.read(read, 10) == b""
    os.close(read)


def test_what_stands_behind_stdout_is_not_replaced(tmp_path: Path) -> None:
    """`command -o /dev/stdout > file`: the shell has `file` open, and maybe wrote into it."""
    path = tmp_path / "file"
    path.write_bytes(b"before ")
    with path.open("ab") as behind, write_atomically(Path(f"/dev/fd/{behind.fileno()}")) as file:
        file.write(b"after")
    assert path.read_bytes() == b"before after"
    assert list(tmp_path.iterdir()) == [path]


def test_of_a_link_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "file"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to("there/file")
    with write_atomically(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "there").iterdir()) == [target]
    dangling = tmp_path / "dangling"
    dangling.symlink_to("there/other")
    with write_atomically(dangling) as file:
        file.write(b"new")
    assert (tmp_path / "there" / "other").read_bytes() == b"new"


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("link")
    with pytest.raises(InputError, match="a link that leads to itself"):
        fail_after(link, b"", ValueError("never reached"))
    assert link.is_symlink()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file, found a folder"):
        fail_after(tmp_path, b"", ValueError("never reached"))


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with write_atomically(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_only_what_would_be_replaced_needs_force(tmp_path: Path) -> None:
    refuse_overwriting(tmp_path / "none", force=False)
    refuse_overwriting(Path("/dev/null"), force=False)
    (tmp_path / "file").touch()
    refuse_overwriting(tmp_path / "file", force=True)
    with pytest.raises(InputError, match="exists") as caught:
        refuse_overwriting(tmp_path / "file", force=False)
    assert "--force" in caught.value.hint
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(InputError, match="expected a file, found a folder"):
            refuse_overwriting(path, force=True)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system has no /dev/shm")
def test_a_disk_in_memory_is_no_device() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "answer.bundle"
        assert not is_special(path)
        with write_atomically(path) as file:
            file.write(b"new")
        assert path.read_bytes() == b"new"


def test_a_folder_of_keys(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "lost").symlink_to("nowhere")
    for new in (False, True):
        assert key_folder(str(tmp_path / "link"), new=new) == tmp_path / "link"
        for name, found in (("file", "a file"), ("lost", "a link to nowhere")):
            with pytest.raises(InputError, match=f"expected a folder of keys, found {found}$"):
                key_folder(tmp_path / name, new=new)
    assert key_folder(tmp_path / "none", new=True) == tmp_path / "none"
    with pytest.raises(InputError, match="expected a folder of keys, found none"):
        key_folder(tmp_path / "none")
    with pytest.raises(InputError, match="keys: expected a path, got int"):
        key_folder(7)  # type: ignore[arg-type]


def test_force_keeps_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "spec.json").touch()
    (folder / "diary.txt").touch()
    with (
        pytest.raises(
            InputError, match=r"holds diary\.txt, which is not of zkllm: not overwritten"
        ),
        write_folder_atomically(folder, mark="spec.json", force=True, known=["*.json"]),
    ):
        pytest.fail("the folder must not be begun")
    assert len(list(folder.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "spec.json").write_text("old")
    rename = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if target == folder and not self.name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with (
        pytest.raises(BackendError, match="model: cannot be written: input/output error"),
        write_folder_atomically(folder, mark="spec.json", force=True) as new,
    ):
        (new / "spec.json").write_text("new")
    assert (folder / "spec.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(BackendError, match="cannot be written: "),
        write_folder_atomically(tmp_path / "file" / "model", mark="spec.json", force=False),
    ):
        pytest.fail("the folder must not be begun")

import ast
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import zkllm
from zkllm.engines.sumcheck import cache, kernels

PACKAGE = Path(zkllm.__file__).parent
PREPARE = """
from zkllm.engines.sumcheck import kernels
kernels.prepare(lambda message: print(message))
"""


def prepare(folder: Path, **environment: str) -> list[str]:
    """What `prepare` announces in a fresh process whose package lies in `folder`."""
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREPARE],
        env=inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def copy_of_the_package(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / "zkllm", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_kernels_are_compiled_once_for_all_environments_of_a_machine(tmp_path: Path) -> None:
    """Announced and kept, in a folder of the user alone, though there is no home to keep it in."""
    first, second = (copy_of_the_package(tmp_path / name) for name in ("first", "second"))
    (tmp_path / "home").touch()  # not even root can make a folder where there is a file
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    home = str(tmp_path / "home")
    places = {"HOME": home, "XDG_CACHE_HOME": "", "TMPDIR": str(temporary)}

    assert prepare(first, **places) == [
        "compiling the prover's kernels, once per machine: about 10 s"
    ]
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    # Every kernel has one signature, so that nothing is compiled in the middle of a proof.
    assert len(list(folder.rglob("*.nbi"))) == len(list(folder.rglob("*.nbc"))) > 10
    assert prepare(second, **places) == []
    assert not list(first.rglob("*.nbi"))


@pytest.mark.parametrize("name", cache.SOURCES)
def test_a_change_in_any_source_is_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """numba sees changes in a kernel's own file only, and would run what the old source said."""
    before = cache.key()
    package = copy_of_the_package(tmp_path) / "zkllm/engines/sumcheck"
    monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
    assert cache.key() == before
    with (package / name).open("a") as file:
        file.write("# changed\n")
    assert cache.key() != before


def test_kernels_use_no_source_but_those_of_the_key() -> None:
    """What compiled code takes from other modules of ours is part of the key."""
    tree = ast.parse((PACKAGE / "engines/sumcheck/kernels.py").read_text())
    imported = {
        node.module.rpartition(".")[2] + ".py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("zkllm.")
    }
    # `progress` gives the type of a callback, `threads` runs kernels, `cache` is this: not compiled
    assert imported - {"progress.py", "sumcheck.py", "threads.py"} < set(cache.SOURCES)


def test_prepared_kernels_have_all_their_signatures() -> None:
    kernels.prepare()
    assert all(len(kernel.signatures) == 1 for kernel, _ in kernels._KERNELS)


def test_kernels_come_from_the_copy() -> None:
    path = cache.source()
    assert path is not None
    assert path.read_bytes() == Path(kernels.__file__).read_bytes()
    assert {kernel.py_func.__code__.co_filename for kernel, _ in kernels._KERNELS} == {str(path)}


def test_without_a_place_kernels_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise PermissionError

    monkeypatch.setattr(cache, "home", nowhere)
    assert cache.source() is None

    def function() -> None:
        """A kernel."""

    assert isinstance(function, types.FunctionType)
    assert cache.come_from(function, None).__code__.co_filename == __file__


def test_a_home_is_used_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache.home() == tmp_path / "cache" / "zkllm-kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to ignore
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.home() == tmp_path / "home" / ".cache" / "zkllm-kernels"


def test_a_folder_for_compiled_code_is_made_for_its_user_alone(tmp_path: Path) -> None:
    folder = cache.private_folder(tmp_path, "ours")
    assert folder == tmp_path / "ours"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache.private_folder(tmp_path, "ours") == folder


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o750])
def test_a_folder_that_others_can_use_is_not_trusted(tmp_path: Path, mode: int) -> None:
    shared = cache.private_folder(tmp_path, "ours")
    shared.chmod(mode)
    found = cache.private_folder(tmp_path, "ours")
    assert found != shared
    assert found.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_another_user_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = cache.private_folder(tmp_path, "ours")
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    assert cache.private_folder(tmp_path, "ours") != theirs


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_not_trusted(tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place = tmp_path / "ours"
    if kind == "file":
        place.touch(mode=0o600)
    else:
        place.symlink_to(elsewhere)
    found = cache.private_folder(tmp_path, "ours")
    assert found.is_dir()
    assert found not in {place, elsewhere}

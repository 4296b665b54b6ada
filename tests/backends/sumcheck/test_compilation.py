import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import zkllm
from zkllm.backends.sumcheck import kernels

PACKAGE = Path(zkllm.__file__).parent
PREPARE = """
from zkllm.backends.sumcheck import kernels
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


def test_compilation_is_announced_once_and_kept_where_neither_package_nor_home_can_be_written(
    tmp_path: Path,
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "zkllm", ignore=shutil.ignore_patterns("__pycache__"))
    # Not even root can make a folder where there is a file.
    (tmp_path / "zkllm/backends/sumcheck/__pycache__").touch()
    (tmp_path / "home").touch()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    home = str(tmp_path / "home")
    places = {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache", "TMPDIR": str(temporary)}

    assert prepare(tmp_path, **places) == [
        "compiling the prover's kernels, once per machine: about 10 s"
    ]
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    # Every kernel has one signature, so that nothing is compiled in the middle of a proof.
    assert len(list(folder.rglob("*.nbi"))) == len(list(folder.rglob("*.nbc")))
    assert prepare(tmp_path, **places) == []


def test_a_folder_that_numba_was_given_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kernels.settle_cache()
    assert str(tmp_path) == numba.config.CACHE_DIR


def test_prepared_kernels_have_all_their_signatures() -> None:
    kernels.prepare()
    assert all(len(kernel.signatures) == 1 for kernel, _ in kernels._KERNELS)


def test_a_folder_for_compiled_code_is_made_for_its_user_alone(tmp_path: Path) -> None:
    folder = kernels.private_folder(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kernels.private_folder(tmp_path) == folder


def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path: Path) -> None:
    shared = kernels.private_folder(tmp_path)
    shared.chmod(0o777)
    found = kernels.private_folder(tmp_path)
    assert found != shared
    assert found.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_another_user_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = kernels.private_folder(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    (tmp_path / f"zkllm-kernels-{os.getuid()}").mkdir(mode=0o700)
    assert kernels.private_folder(tmp_path).name not in {
        theirs.name,
        f"zkllm-kernels-{os.getuid()}",
    }


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_not_trusted(tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place = tmp_path / f"zkllm-kernels-{os.getuid()}"
    if kind == "file":
        place.touch(mode=0o600)
    else:
        place.symlink_to(elsewhere)
    found = kernels.private_folder(tmp_path)
    assert found.is_dir()
    assert found not in {place, elsewhere}

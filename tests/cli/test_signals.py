"""Whatever ends a command ends it in one way: one line, an exit code, nothing half-written."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import __file__ as golden

V1 = Path(golden).parent / "v1"
LINE = "interrupted: nothing half-written was left; the same command goes on\n"

WHEN_IMPORTED = """
import os, sys

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), {number})
        str()  # whatever a handler raises is raised here, and lost

class Hook:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            Dropped()

sys.meta_path.insert(0, Hook())
from zkllm.cli import main
main()
"""
"""The signal comes while that module is about to be loaded, where no exception would get out."""

WHEN_WRITTEN = """
import os, sys

def hook(event, arguments):
    if event in ("os.chmod", "os.remove", "shutil.rmtree"):
        os.kill(os.getpid(), {number})

sys.addaudithook(hook)
from zkllm.cli import main
main()
"""
"""It comes when a file or a folder is whole and has not taken its place yet, and again while what
was written is removed."""


def ended(script: str, arguments: list[object], folder: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["click", "rich.console", "numpy", "zkllm.cli.verify"])
def test_while_modules_are_loaded(module: str, number: signal.Signals, tmp_path: Path) -> None:
    script = WHEN_IMPORTED.format(module=module, number=int(number))
    arguments = ["verify", V1 / "answer.trace", "--policy", "p", "--model", "m"]
    assert ended(script, arguments, tmp_path) == (128 + number, "", LINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["rich.console", "rich.live"])
def test_while_an_error_needs_a_console(
    module: str, number: signal.Signals, tmp_path: Path
) -> None:
    """With --json rich is imported late, where what a handler raises could be lost as well."""
    script = WHEN_IMPORTED.format(module=module, number=int(number))
    arguments = ["verify", V1 / "answer.trace", "--policy", "p", "--model", "m", "--json"]
    assert ended(script, arguments, tmp_path) == (128 + number, "", LINE)


MODEL = ["--model", V1 / "model"]
COMMANDS: dict[str, list[object]] = {
    "export": ["export", "demo", "-o", "new"],
    "run": ["run", V1 / "model", "-p", "12+34=", "-n", "3", "-o", "new"],
    "prove": ["prove", V1 / "answer.trace", *MODEL, "--backend", "replay", "-o", "new"],
    "policy": ["policy", "init", V1 / "model", "-o", "new"],
    "setup": ["setup", V1 / "model", "--unit", "embed", "--keys", "new"],
    "verify": [
        *("verify", V1 / "committed.bundle", "--policy", V1 / "committed.toml", *MODEL),
        *("--keys", V1 / "keys", "--junit", "new"),
    ],
    "demo": ["demo", "-o", "new"],
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", COMMANDS)
def test_while_something_is_written(name: str, number: signal.Signals, tmp_path: Path) -> None:
    script = WHEN_WRITTEN.format(number=int(number))
    code, _, err = ended(script, COMMANDS[name], tmp_path)
    assert code == 128 + number, err
    assert err.endswith(LINE)
    assert "Traceback" not in err
    assert "resource_tracker" not in err
    # neither the file nor what it was written to at first
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    script = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WHEN_IMPORTED
    arguments = ["export", "demo", "-o", tmp_path / "new"]
    given = script.format(module="numpy", number=int(signal.SIGHUP))
    assert ended(given, arguments, tmp_path)[0] == 0

"""The demo as somebody sees it who looks at a terminal for the first time."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.test_output import screen

DEMO = """
from zkllm import demonstrating
from zkllm.cli import main
demonstrating.has_ezkl = lambda: False
main()
"""


def seen(columns: int, *arguments: str) -> tuple[int, str]:
    """The exit code of `zkllm ARGUMENTS` on a terminal, and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: os.environ[name] for name in os.environ if name != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, "-c", DEMO, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
    ) as process:
        os.close(theirs)
        data = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # nobody has the other end any more
                break
            data += part
            if not part:
                break
    os.close(ours)
    return process.returncode, data.decode()


@pytest.mark.parametrize("columns", [60, 100])
def test_the_demo_on_a_terminal(columns: int) -> None:
    code, text = seen(columns, "demo")
    assert code == 0
    assert "\x1b[?25l" in text, "something moved"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is there again"
    lines = screen(text, 200)
    for line in lines:
        assert len(line) <= columns or line.split()[-1].startswith("sha256:"), line
    steps = ["export", "run", "prove", "verify", "forge"]
    assert [line.split()[0] for line in lines if " s  " in line] == steps
    assert "verified  answer.bundle" in lines
    place = lines.index("refused  forged.bundle")
    rest = " ".join(line.strip() for line in lines[place + 1 :])
    assert rest.startswith("the proof of embed does not fit this run: sumcheck: ")
    assert " as it should be: the forged bundle was changed on purpose" in rest
    assert "next: keep the files, and try zkllm demo -o demo" in rest
    assert "zkllm verify demo/answer.bundle --policy" in rest


def test_what_is_next_can_be_typed(tmp_path: Path) -> None:
    """Beside files that were kept, whatever their folder is called."""
    folder = tmp_path / "my demo"
    done = subprocess.run(
        [sys.executable, "-c", DEMO, "demo", "-o", folder],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b" not in done.stdout + done.stderr
    assert f"next: everything is in {folder}, try" in done.stdout
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("  zkllm ")]
    assert len(commands) == 2
    for command in commands:
        again = subprocess.run(
            ["sh", "-c", command.replace("zkllm", f"{sys.executable} -m zkllm", 1)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("verified  ")

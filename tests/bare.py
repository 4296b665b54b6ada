"""Checks an installed zkllm without extras: `python bare.py GOLDEN`, outside the checkout.

Needs nothing but what the base install brings, not even pytest. GOLDEN is `tests/golden/v1`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MEGABYTES = 110
ABSENT = ("ezkl", "numba", "onnx", "onnxruntime", "safetensors", "torch")
INSTALLERS = {"pip", "setuptools", "wheel"}


def zkllm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zkllm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def require(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"bare: {what}")


def size() -> float:
    """Megabytes that the base install takes, Python's own tools and compiled files left out."""
    total = 0
    for distribution in importlib.metadata.distributions():
        if distribution.name.lower() in INSTALLERS:
            continue
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if path.suffix != ".pyc" and path.is_file():
                total += path.stat().st_size
    return total / 1e6


def verifies(golden: Path) -> None:
    """Everything but ezkl's bundles can be verified."""
    held = ("--model", golden / "model", "--keys", golden / "keys")
    for name in ("replay", "sumcheck", "committed"):
        done = zkllm(
            "verify", golden / f"{name}.bundle", "--policy", golden / f"{name}.toml", *held
        )
        require(done.returncode == 0, f"{name}: {done.stdout}{done.stderr}")
        require(done.stdout.startswith("verified"), f"{name}: {done.stdout}")
    forged = golden / "replay.forged"
    done = zkllm("verify", forged, "--policy", golden / "replay.toml", *held)
    require(done.returncode == 3, f"a forgery: {done.stdout}{done.stderr}")
    done = zkllm("verify", golden / "ezkl.bundle", "--policy", golden / "ezkl.toml", *held)
    says(done, "ezkl")


def says(done: subprocess.CompletedProcess[str], extra: str) -> None:
    """`done` missed the `extra`, said so in a line, and ended with 5."""
    told = done.stdout + done.stderr
    require(done.returncode == 5, f"{done.args}: {done.returncode}: {told}")
    require(f"'{extra}'" in told and "Traceback" not in told, f"{done.args}: {told}")


def main() -> None:
    golden = Path(sys.argv[1]).resolve()
    for package in ABSENT:
        require(importlib.util.find_spec(package) is None, f"{package} is installed")
    taken = size()
    require(taken <= MEGABYTES, f"at most {MEGABYTES} MB expected, got {taken:.0f}")
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        probe = "import sys, zkllm; print(sorted({'click', 'numpy', 'rich'} & set(sys.modules)))"
        loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
        require(loaded.stdout == "[]\n", f"import zkllm: {loaded.stdout}{loaded.stderr}")
        verifies(golden)
        model = golden / "model"
        require(zkllm("doctor").returncode == 0, "doctor")
        require(zkllm("inspect", golden / "sumcheck.bundle").returncode == 0, "inspect")
        done = zkllm("plan", model, "--backend", "sumcheck")
        require(done.returncode == 0, f"plan: {done.stderr}")
        done = zkllm("policy", "init", model, "--backend", "sumcheck", "-o", "policy.toml")
        require(done.returncode == 0, f"policy init: {done.stderr}")
        says(zkllm("export", "demo", "-o", "model"), "run")
        says(zkllm("run", model, "-p", "12+34=", "-n", "3"), "run")
        trace = golden / "answer.trace"
        prove = ("prove", trace, "--model", model, "-o", "new.bundle", "--backend")
        says(zkllm(*prove, "sumcheck"), "prove")
        says(zkllm(*prove, "ezkl", "--keys", golden / "keys"), "ezkl")
        require(zkllm(*prove, "replay").returncode == 0, "prove by replay")
        says(zkllm("setup", model, "--backend", "sumcheck"), "prove")
        says(zkllm("setup", model, "--backend", "ezkl"), "ezkl")
        says(zkllm("demo"), "run")
        left = sorted(path.name for path in Path().iterdir())
        require(left == ["new.bundle", "policy.toml"], f"left behind: {left}")
    sys.stdout.write(f"bare install: {taken:.0f} MB, verifies, and names the extra of all else\n")


if __name__ == "__main__":
    main()

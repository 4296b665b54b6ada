"""Branch coverage of what a verifier has to trust: `python -m tests.trusted`, or `make coverage`.

The trust path is no list: it is what `verify` loads to judge the golden bundles. A module that is
new, or that moves, is in it from its first day.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "coverage"

PROBE = """
import sys
from pathlib import Path
import zkllm.exact.check, zkllm.exact.meaning  # what `policy init` proves of a model that it pins
import zkllm.hidden  # what a fragment was asked, told by `inspect`
from zkllm.verifying import verify

golden = Path(sys.argv[1])
for bundle in sorted(golden.glob("*.bundle")):
    policy = bundle.with_suffix(".toml")
    verify(bundle, policy, model=golden / "model", keys=golden / "keys")
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] == "zkllm" and getattr(module, "__file__", None):
        sys.stdout.write(f"{name} {module.__file__}\\n")
"""

PROVERS = {
    "zkllm.backends.ezkl.keys": "setup makes keys, and policy init makes them again",
    "zkllm.backends.ezkl.witness": "prove",
    "zkllm.backends.sumcheck.estimates": "plan",
    "zkllm.engines.ezkl.audit": "setup --audit reads the columns of a proving key",
    "zkllm.engines.ezkl.srs": "setup and srs import",
    "zkllm.workers": "prove --jobs",
}
"""Modules, and folders of them, that are loaded with a backend and never asked for a verdict."""

TESTS = [
    "tests/backends",
    "tests/engines",
    "tests/exact",
    "tests/golden",
    "tests/operations",
    "tests/test_digests.py",
    "tests/test_files.py",
    "tests/test_hidden.py",
    "tests/test_material.py",
    "tests/test_policy.py",
    "tests/test_tensors.py",
    "tests/test_tokenization.py",
    "tests/test_verifying.py",
]
LEFT_OUT = [
    *("agreement", "attacks_*", "audit", "compilation", "extremes", "graph", "kernels", "onnx"),
    *("prover", "quantise", "rounds", "srs"),
]
"""Files of tests in those folders that take long for what they would add, or are a prover's."""

LEAST, LEAST_OF_ONE = 95, 70
"""Percent, of the lines and branches of all modules together and of each. A backend has what makes
keys and proofs in one file with what verifies, and ezkl takes minutes for them."""


def loaded() -> dict[str, Path]:
    """The modules that are loaded for a verdict, each with its file."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, ROOT / "tests" / "golden" / "v1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    return {name: Path(file) for name, file in found.items()}


def trusted() -> dict[str, Path]:
    """Those of them that say something to a verdict."""
    found = loaded()
    apart = {name for name in found for prover in PROVERS if f"{name}.".startswith(f"{prover}.")}
    return {name: file for name, file in found.items() if name not in apart}


def coverage(*arguments: object) -> str:
    """What `coverage ARGUMENTS` prints. Raises `CalledProcessError` if it fails."""
    command = [sys.executable, "-m", "coverage", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    files = trusted()
    without = [f"--ignore-glob=*/test_{name}.py" for name in LEFT_OUT]
    run = ["coverage", "run", "-m", "pytest", "-m", "not slow", *without, *TESTS]
    if subprocess.run([sys.executable, "-m", *run], cwd=ROOT, check=False).returncode:
        sys.exit("the tests fail: what they cover says nothing")
    coverage("combine", "--quiet")
    included = f"--include={','.join(map(str, files.values()))}"
    sys.stdout.write(coverage("report", included, "--show-missing", "--skip-covered"))
    coverage("json", "--quiet", included, "-o", FOLDER / "report.json")
    measured = json.loads((FOLDER / "report.json").read_text())
    total = measured["totals"]["percent_covered"]
    poor = [
        f"{file}: {found['summary']['percent_covered']:.1f} %"
        for file, found in measured["files"].items()
        if found["summary"]["percent_covered"] < LEAST_OF_ONE
    ]
    sys.stdout.write(
        f"{len(files)} modules of the trust path, lines and branches: {total:.1f} %, at least "
        f"{LEAST} expected, and {LEAST_OF_ONE} of each\n"
    )
    if total < LEAST or poor or len(measured["files"]) != len(files):
        sys.exit("\n".join(["the tests leave too much of it out", *poor]))


if __name__ == "__main__":
    main()

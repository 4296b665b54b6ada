"""What somebody else's specification may cost: little, whatever sizes it names."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests import golden
from tests.exact.sizes import Sizes, fragment, text_model
from zkllm.bundle import MAGIC, read_header
from zkllm.digests import canonical_json, sha256_file
from zkllm.engines.ezkl import recipe

LARGEST = Sizes((1 << 16) - (1 << 10), 1 << 10, (1 << 18) - 1, (1 << 20) - 1, (1 << 17) - 1, 1)
"""Every size at its cap, or below it where it falls into more powers of two."""
MEMORY = 1 << 30
SECONDS = 60
"""Ten times what an idle machine needs: it only ends what would never end."""


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def zkllm_within_limits(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process that gets little memory; threads take address space too."""
    return subprocess.run(
        [sys.executable, "-m", "zkllm", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        preexec_fn=limited,
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HOME": "/nonexistent"},
        check=False,
    )


def write(folder: Path, specification: dict[str, object]) -> Path:
    folder.mkdir()
    (folder / "spec.json").write_bytes(canonical_json(specification))
    return folder


def ezkl_table(specification: dict[str, object]) -> dict[str, object]:
    """With the EXP table that ezkl's recipe looks up."""
    chosen = recipe.load("attention")
    window = chosen.window
    specification["exp"] = {
        "family": "ezkl",
        "argument_bits": chosen.exp_scale,
        "value_parameter": window.high,
        "logrows": window.logrows,
    }
    stored = {"dtype": "int16", "shape": [window.size], "digest": chosen.exp_digest}
    specification["tensors"] |= {"table.exp": stored}  # type: ignore[operator]
    return specification


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("inspect",), 0),
        (("plan", "--backend", "replay"), 5),
        (("plan", "--backend", "sumcheck"), 5),
        (("plan", "--backend", "sumcheck", "--tokens", "4096"), 4),
        (
            ("plan", "--backend", "sumcheck", "--unit", "attention[0]", "--tokens", "131071"),
            4,
        ),
        (("plan", "--backend", "sumcheck", "--with-keys"), 4),
        (("plan", "--backend", "ezkl"), 4),
        (("setup", "--backend", "sumcheck", "--keys", "keys"), 4),
        (("policy", "init", "--backend", "sumcheck"), 4),
        (("run", "-p", "a"), 4),
    ],
    ids=str,
)
def test_a_lone_specification_of_the_largest_sizes(
    arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    folder = write(tmp_path / "model", ezkl_table(text_model(LARGEST)))
    command = arguments[: 2 if arguments[0] == "policy" else 1]
    options = [tmp_path / each if each == "keys" else each for each in arguments[len(command) :]]
    done = zkllm_within_limits(*command, folder, *options)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "out of memory" not in done.stderr


@pytest.mark.parametrize(
    "sizes",
    [Sizes(inner=(1 << 31) - 1), Sizes(context=1 << 24), Sizes(width=1 << 31, heads=1 << 31)],
    ids=str,
)
def test_sizes_that_no_model_has_end_at_once(sizes: Sizes, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", fragment(sizes))
    done = zkllm_within_limits("plan", folder, "--backend", "sumcheck")
    assert done.returncode == 4, done.stderr
    assert "architecture" in done.stderr


def sparse(path: Path, data: bytes) -> Path:
    """A file that begins with `data`, of four gigabytes that take no disk."""
    with path.open("wb") as file:
        file.write(data)
        file.truncate(4 << 30)
    return path


@pytest.mark.parametrize("name", ["a.bundle", "a.toml", "a.json", "a.npy", "a"])
@pytest.mark.parametrize("data", [b"", MAGIC])
def test_a_file_of_gigabytes_is_not_read_to_be_inspected(
    name: str, data: bytes, tmp_path: Path
) -> None:
    done = zkllm_within_limits("inspect", sparse(tmp_path / name, data))
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("\n") <= 3
    assert "Traceback" not in done.stderr


def test_nor_is_a_bundle_of_long_evidence(tmp_path: Path) -> None:
    """Its digest is that of all of it."""
    bundle = (Path(golden.__file__).parent / "v1" / "replay.bundle").read_bytes()
    end = read_header(bundle).end
    header = json.loads(bundle[12:end])
    header["sections"][-1]["length"] = MEMORY
    front = canonical_json(header)
    data = bundle[:8] + len(front).to_bytes(4, "little") + front + bundle[end:]
    path = tmp_path / "a.bundle"
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + MEMORY)
    done = zkllm_within_limits("inspect", path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["size_bytes"] == len(data) + MEMORY
    assert json.loads(done.stdout)["digest"] == sha256_file(path)

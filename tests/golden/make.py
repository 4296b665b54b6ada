"""Make the golden bundles of the present format: `make golden`.

A format that has shipped is never made again: its folder stays as it is and must keep verifying.
The ezkl part takes some minutes. Only what a verifier needs is kept: no proving key, and of the SRS
the 516 bytes that verification reads.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from zkllm import bundle as container
from zkllm.backends.ezkl.backend import VERIFYING
from zkllm.bundle import VERSION
from zkllm.demonstrating import NEW_TOKENS, PROMPT, TOKENS, forge
from zkllm.exact.model import ExactModel
from zkllm.exporting import export
from zkllm.files import unit_file_name
from zkllm.keys import policy_for, setup
from zkllm.planning import assign
from zkllm.proving import prove
from zkllm.running import run

GOLDEN = Path(__file__).resolve().parent
UNIT = "attention[0]"
"""One proved unit is enough to hold the format, and its verifying key is small."""


def main() -> None:
    target = GOLDEN / f"v{VERSION}"
    if target.exists() and "--again" not in sys.argv:
        sys.exit(f"{target} exists: a format that has shipped must not change (or pass --again)")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        export("demo", work / "model")
        for name in ("compiled.json", "fidelity.json"):
            (work / "model" / name).unlink()
        model = ExactModel.from_folder(work / "model")
        export("demo", work / "runnable")
        trace = run(work / "runnable", PROMPT, NEW_TOKENS, device="cpu", pad_to=TOKENS)
        spec = model.specification
        container.save(trace, spec, work / "answer.trace")
        prove(trace, model, "replay", work / "replay.bundle")
        (work / "replay.toml").write_text(policy_for(model).to_toml())
        keys = work / "keys"
        setup(model, "ezkl", keys, tokens=TOKENS, units=[UNIT], progress=print)
        assignment = assign(spec, "ezkl", [UNIT])
        prove(trace, model, assignment, work / "ezkl.bundle", keys=keys, progress=print)
        (work / "ezkl.toml").write_text(policy_for(model, keys, insecure_srs=True).to_toml())
        for name in ("replay", "ezkl"):
            honest = container.load(work / f"{name}.bundle", spec)
            container.save(forge(honest, model), spec, work / f"{name}.forged")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in sorted(work.iterdir()):
            if path.is_file():
                shutil.copy(path, target / path.name)
        (target / "model").mkdir()
        for name in ("spec.json", "weights.safetensors", "tokenizer.json"):
            shutil.copy(work / "model" / name, target / "model" / name)
        _copy_verifier_keys(keys, target / "keys")


def _copy_verifier_keys(keys: Path, target: Path) -> None:
    """What the policy pins, and nothing else."""
    folder = unit_file_name(UNIT)
    (target / folder).mkdir(parents=True)
    for name in VERIFYING:
        shutil.copy(keys / folder / name, target / folder / name)


if __name__ == "__main__":
    main()

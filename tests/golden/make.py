"""Add golden bundles of the present format that are missing: `make golden`.

What has shipped is never made again: it stays as it is and must keep verifying. The ezkl part takes
some minutes. Only what a verifier needs is kept: no proving key, and of the SRS the 516 bytes that
verification reads.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zkllm import bundle as container
from zkllm.backends.ezkl.keys import VERIFYING
from zkllm.bundle import VERSION, BackendName
from zkllm.demonstrating import NEW_TOKENS, PROMPT, TOKENS
from zkllm.exact.model import ExactModel
from zkllm.exporting import export
from zkllm.files import unit_file_name
from zkllm.keys import policy_for, setup
from zkllm.planning import assign
from zkllm.proving import prove
from zkllm.running import run

GOLDEN = Path(__file__).resolve().parent
KINDS: Mapping[str, tuple[BackendName, tuple[str, ...], bool]] = {
    "replay": ("replay", (), False),
    "ezkl": ("ezkl", ("attention[0]",), True),
    "sumcheck": ("sumcheck", ("embed", "attention[0]", "mlp[0]", "head"), False),
    "committed": ("sumcheck", ("embed", "mlp[0]"), True),
}
"""By name of the bundle: its backend, the units that it proves, and whether it has keys."""


def main() -> None:
    target = GOLDEN / f"v{VERSION}"
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        if not (target / "model").exists():
            export("demo", work / "model")
            trace = run(work / "model", PROMPT, NEW_TOKENS, device="cpu", pad_to=TOKENS)
            (target / "model").mkdir(parents=True)
            for name in ("spec.json", "weights.safetensors", "tokenizer.json"):
                shutil.copy(work / "model" / name, target / "model" / name)
            spec = ExactModel.from_folder(target / "model").specification
            container.save(trace, spec, target / "answer.trace")
        for name in KINDS:
            if not (target / f"{name}.bundle").exists():
                make(name, target, work / name)


def make(name: str, target: Path, work: Path) -> None:
    """One bundle, its policy, and of its keys what the policy pins."""
    backend, units, keyed = KINDS[name]
    model = ExactModel.from_folder(target / "model")
    assignment = assign(model.specification, backend, units)
    keys = work / "keys" if keyed else None
    if keys is not None:
        setup(model, backend, keys, tokens=TOKENS, units=units, progress=print)
    bundle = work / f"{name}.bundle"
    work.mkdir(exist_ok=True)
    prove(target / "answer.trace", model, assignment, bundle, keys=keys, progress=print)
    policy = policy_for(model, keys, insecure_srs=backend == "ezkl")
    policy = replace(policy, units=assignment)
    if keys is not None:
        kept = VERIFYING if backend == "ezkl" else ("commitment.json",)
        for folder in map(unit_file_name, units):
            (target / "keys" / folder).mkdir(parents=True, exist_ok=True)
            for file in kept:
                shutil.copy(keys / folder / file, target / "keys" / folder / file)
    (target / f"{name}.toml").write_text(policy.to_toml())
    shutil.copy(bundle, target)


if __name__ == "__main__":
    main()

"""One proof in a fresh process, for `benchmarks.sumcheck`: its figures as JSON on the last line.

    python -m benchmarks.once TRACE MODEL BUNDLE [KEYS]

Seconds are those of reading the trace, proving, verifying, and writing the bundle, with kernels
that an earlier run compiled. Memory is the peak of this process, and for each of its workers the
peak of the largest: more than all of them ever held together.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from benchmarks.measuring import core_seconds, timed
from zkllm import bundle as container
from zkllm.backends.sumcheck import kernels
from zkllm.exact.model import ExactModel
from zkllm.planning import plan
from zkllm.proving import prove


def main() -> None:
    """Prove and print."""
    trace, folder, output = (Path(word) for word in sys.argv[1:4])
    keys = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    kernels.prepare()
    before = core_seconds()
    seconds, report = timed(
        lambda: prove(trace, folder, "sumcheck", output, keys=keys, force=True, jobs=None)
    )
    model = ExactModel.from_folder(folder)
    bundle = container.load(output, model.specification)
    jobs = plan(model.specification, "sumcheck", bundle.statement.positions).jobs
    own, workers = (
        resource.getrusage(who).ru_maxrss * 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    proofs = sum(len(evidence.data) for evidence in bundle.evidence.values())
    figures = {
        "prove_seconds": seconds,
        "core_seconds": core_seconds() - before,
        "memory_bytes": own + jobs * workers,
        "jobs": jobs,
        "proof_bytes": proofs,
        "bundle_bytes": output.stat().st_size,
        "soundness_bits": report.soundness_bits,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

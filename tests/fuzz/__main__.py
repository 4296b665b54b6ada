"""`make fuzz`: every mutant there is, in one process that may not take much memory."""

from __future__ import annotations

import argparse
import collections
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.judging import judge
from tests.fuzz.mutants import mutants

MEMORY = 3 << 30
SLOW = 20.0
"""Seconds after which a mutant has cost too much."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="Only every n-th mutant.")
    parser.add_argument("--prove", type=int, default=10, help="Prove every n-th of these.")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    counts: collections.Counter[str] = collections.Counter()
    faults = 0
    # what is written there costs no disk: every file of a model is synced
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="zkllm-fuzz-", dir=memory) as name:
        for index, mutant in enumerate(mutants()):
            if index % options.every:
                continue
            start = time.monotonic()
            try:
                prove = index // options.every % options.prove == 0
                counts.update(judge(mutant, Path(name) / "model", prove=prove))
            except Exception:
                faults += 1
                print(f"FAULT {mutant.name}\n{traceback.format_exc(limit=-3)}", flush=True)
            if time.monotonic() - start > SLOW:
                faults += 1
                print(f"SLOW {mutant.name}: {time.monotonic() - start:.1f} s", flush=True)
    for outcome, count in sorted(counts.items()):
        print(f"{count:6d} {outcome}")
    print(f"{faults:6d} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

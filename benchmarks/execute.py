"""One GPT-2-small block on ONNX Runtime: exact integers beside float32.

    python -m benchmarks.execute

Both in one run on the same two threads; medians and their ratio.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.plain_ezkl import gpt2_module
from benchmarks.synthetic import GPT2_SMALL, exact_model
from zkllm.executing import Executor

THREADS = 2
REPEATS = 15
TOKENS = (1, 16, 64, 256)
CONFIG = GPT2_SMALL | {"n_layer": 1, "vocab_size": 64}


def milliseconds(call: Callable[[], Any]) -> float:
    """Median of `REPEATS` calls, after one that does not count."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def exact_block(folder: Path) -> Executor:
    """The block as a compiled exact model."""
    return Executor(exact_model(CONFIG, folder, blocks=(0, 1)), "cpu", threads=THREADS)


def float_block(folder: Path, tokens: int) -> Callable[[], Any]:
    """The same architecture in float32, exported by torch."""
    import onnxruntime
    import torch

    gpt2 = gpt2_module()
    names = ("n_positions", "n_embd", "n_head", "n_layer", "vocab_size")
    block = gpt2.Block(gpt2.Config(**{name: CONFIG[name] for name in names})).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(1, tokens, CONFIG["n_embd"])
    path = folder / f"float{tokens}.onnx"
    torch.onnx.export(block, (x,), str(path), opset_version=17, dynamo=False, input_names=["x"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {"x": x.numpy()}
    return lambda: session.run(None, feeds)


def main() -> None:
    """Measure and print."""
    console = Console(highlight=False)
    console.print(f"a block of width {CONFIG['n_embd']}, {THREADS} threads, median of {REPEATS}")
    table = Table(box=None, header_style="dim")
    for column in ("T", "exact", "float32", "ratio"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        executor = exact_block(folder)
        random = np.random.default_rng(0)
        for tokens in TOKENS:
            rows = random.integers(-(1 << 14), 1 << 14, (tokens, CONFIG["n_embd"]))
            exact = milliseconds(lambda rows=rows: executor.run(rows))  # type: ignore[misc]
            plain = milliseconds(float_block(folder, tokens))
            table.add_row(str(tokens), f"{exact:.1f} ms", f"{plain:.1f} ms", f"{exact / plain:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()

"""One GPT-2-small block on ONNX Runtime: exact integers beside float32.

    python -m benchmarks.execute

Both in one run on the same two threads; medians and their ratio.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import console, table, timed
from benchmarks.plain_ezkl import gpt2_module
from benchmarks.synthetic import block_config, exact_model, random_rows
from zkllm.executing import Executor

THREADS = 2
REPEATS = 15
TOKENS = (1, 16, 64, 256)
CONFIG = block_config(768)


def milliseconds(call: Callable[[], Any]) -> float:
    """Median of `REPEATS` calls, after one that does not count."""
    call()
    return 1000 * statistics.median(timed(call)[0] for _ in range(REPEATS))


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
    console.print(f"a block of width {CONFIG['n_embd']}, {THREADS} threads, median of {REPEATS}")
    rows = table("T", "exact", "float32", "ratio")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = exact_model(CONFIG, folder, blocks=(0, 1))
        executor = Executor(model, "cpu", threads=THREADS)
        for tokens in TOKENS:
            exact = milliseconds(partial(executor.run, random_rows(model, tokens)))
            plain = milliseconds(float_block(folder, tokens))
            rows.add_row(str(tokens), f"{exact:.1f} ms", f"{plain:.1f} ms", f"{exact / plain:.2f}")
    console.print(rows)


if __name__ == "__main__":
    main()

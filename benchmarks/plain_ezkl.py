"""The same attention block as a plain torch-to-ONNX export that ezkl quantises itself.

Run in a process of its own, so that its peak memory can be read:

    python -m benchmarks.plain_ezkl CHECKPOINT BLOCK TOKENS

Prints one line of JSON. Freivalds' check is off, as in zkllm's own circuits.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

SCALE = 7
"""Fraction bits of ezkl's own quantisation; more would cost still more rows."""


def gpt2_module() -> ModuleType:
    """models/gpt2.py, which belongs to no package."""
    path = Path(__file__).resolve().parents[1] / "models" / "gpt2.py"
    spec = importlib.util.spec_from_file_location("gpt2", path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpt2"] = module
    spec.loader.exec_module(module)
    return module


def export_block(checkpoint: Path, block: int, tokens: int, folder: Path) -> None:
    """network.onnx and input.json of x + attention(norm(x)) for a run of the checkpoint."""
    import torch

    gpt2 = gpt2_module()
    model, _ = gpt2.load_checkpoint(checkpoint)

    class Unit(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model.transformer.h[block]
            # ezkl takes no boolean masks: the same mask as an added constant, exp(-10) = 0.00005
            self.mask = -10.0 * torch.ones(tokens, tokens).triu(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            attention = self.inner.attn
            heads, width = attention.n_head, attention.d_head
            q, k, v = (
                y.reshape(tokens, heads, width).permute(1, 0, 2)
                for y in attention.c_attn(self.inner.ln_1(x)).split(heads * width, dim=-1)
            )
            scores = q @ k.permute(0, 2, 1) / width**0.5 + self.mask
            mixed = (scores.softmax(dim=-1) @ v).permute(1, 0, 2).reshape(tokens, heads * width)
            return x + attention.c_proj(mixed)

    torch.manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (tokens,))
    with torch.no_grad():
        x = model.transformer.wte(ids) + model.transformer.wpe.weight[:tokens]
        for i in range(block):
            x = model.transformer.h[i](x[None])[0]
        torch.onnx.export(
            Unit().eval(), (x,), str(folder / "network.onnx"), opset_version=17, dynamo=False
        )
    data = {"input_data": [x.flatten().tolist()]}
    (folder / "input.json").write_text(json.dumps(data))


def measure(checkpoint: Path, block: int, tokens: int) -> dict[str, Any]:
    """Seconds, bytes and rows of setup, prove and verify."""
    import ezkl

    result: dict[str, Any] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        value = call()
        result[f"{name}_seconds"] = time.perf_counter() - start
        return value

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export_block(checkpoint, block, tokens, folder)

        def file(name: str) -> str:
            return str(folder / name)

        arguments = ezkl.PyRunArgs()
        arguments.input_visibility = "public"
        arguments.output_visibility = "public"
        arguments.param_visibility = "fixed"
        arguments.input_scale = arguments.param_scale = SCALE
        arguments.disable_freivalds = True
        ezkl.gen_settings(file("network.onnx"), file("settings.json"), arguments)
        ezkl.calibrate_settings(
            file("input.json"),
            file("network.onnx"),
            file("settings.json"),
            "resources",
            scales=[SCALE],
            scale_rebase_multiplier=[1],
        )
        settings = json.loads((folder / "settings.json").read_text())
        settings["run_args"]["disable_freivalds"] = True
        (folder / "settings.json").write_text(json.dumps(settings))
        k = settings["run_args"]["logrows"]
        ezkl.compile_circuit(file("network.onnx"), file("compiled"), file("settings.json"))
        ezkl.gen_srs(file("srs"), k)
        timed("setup", lambda: ezkl.setup(file("compiled"), file("vk"), file("pk"), file("srs")))
        ezkl.gen_witness(file("input.json"), file("compiled"), file("witness.json"))
        timed(
            "prove",
            lambda: ezkl.prove(
                file("witness.json"), file("compiled"), file("pk"), file("proof.json"), file("srs")
            ),
        )
        timed(
            "verify",
            lambda: ezkl.verify(file("proof.json"), file("settings.json"), file("vk"), file("srs")),
        )
        proof = json.loads((folder / "proof.json").read_text())
        columns = settings["run_args"]["num_inner_cols"]
        result |= {
            "cells": settings["num_rows"] * columns,
            "key_bytes": (folder / "pk").stat().st_size,
            "logrows": k,
            "proof_bytes": len(proof["proof"]),
            "freivalds_columns": settings["einsum_params"]["total_einsum_col_size"],
        }
    result["memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def main() -> None:
    """Measure what the arguments name and print one line of JSON."""
    checkpoint, block, tokens = sys.argv[1:]
    print(json.dumps(measure(Path(checkpoint), int(block), int(tokens))))


if __name__ == "__main__":
    main()

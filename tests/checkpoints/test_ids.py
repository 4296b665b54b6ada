"""Whole runs: the ids that an exact model generates are those of `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.reference import PROMPT, greedy
from tests.conftest import ALPHABET, MakeCheckpoint
from zkllm.exporting import export
from zkllm.running import run

TEXT = "".join(ALPHABET[i] for i in PROMPT)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_layer": 1, "n_head": 1},
        {"n_head": 4, "scale_attn_weights": False},
        {"n_inner": 40},
        {"layer_norm_epsilon": 0.1},
        {"reorder_and_upcast_attn": True, "n_ctx": 7},
        {"eos_token_id": [3, 28]},
        *(
            {"n_layer": 1, "activation_function": name}
            for name in ("gelu_fast", "gelu_accurate", "gelu_python_tanh", "gelu_pytorch_tanh")
        ),
        *({"n_layer": 1, "activation_function": name} for name in ("gelu", "gelu_python", "relu")),
    ],
    ids=str,
)
def test_generated_ids(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = make_checkpoint(**changes)
    export(folder, tmp_path / "model")
    trace = run(tmp_path / "model", TEXT, 5, device="cpu")
    assert trace.statement.prompt_ids == PROMPT
    assert list(trace.statement.generated_ids) == greedy(folder, PROMPT, 5)

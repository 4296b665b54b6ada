"""What `transformers` makes of a checkpoint folder, and the float32 twin of zkllm beside it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zkllm.checkpoints import Checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

PROMPT = (1, 2, 10, 3, 4, 11)


def language_model(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def greedy(folder: Path, prompt: tuple[int, ...], count: int) -> list[int]:
    """The ids that `generate` puts after `prompt`."""
    ids = torch.tensor([prompt])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found = language_model(folder).generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False
        )
    return [int(i) for i in found[0, len(prompt) :]]


def logits(folder: Path) -> np.ndarray[Any, Any]:
    """Of every position of `PROMPT`."""
    with torch.no_grad():
        found: np.ndarray[Any, Any] = (
            language_model(folder)(torch.tensor([PROMPT])).logits[0].numpy()
        )
    return found


def twin_logits(checkpoint: Checkpoint) -> np.ndarray[Any, Any]:
    """The same of what zkllm has read, in float32."""
    network, weights = checkpoint.architecture, checkpoint.tensors
    hidden = network.hidden(weights, np.array(PROMPT), network.blocks)
    return network.logits(weights, hidden[-1])


def distance(folder: Path, checkpoint: Checkpoint) -> float:
    """Between the logits of both, in parts of the largest."""
    expected = logits(folder)
    return float(np.abs(twin_logits(checkpoint) - expected).max() / np.abs(expected).max())


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of the object in `path`; an ellipsis removes one."""
    content = json.loads(path.read_text()) if path.exists() else {}
    kept = {name: value for name, value in (content | changes).items() if value is not ...}
    path.write_text(json.dumps(kept))

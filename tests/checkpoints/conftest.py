"""A checkpoint to be changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import safetensors.numpy

Weights: TypeAlias = dict[str, np.ndarray[Any, Any]]
Change: TypeAlias = Callable[[Weights], Weights | None]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be damaged."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "checkpoint"))


def rewrite(folder: Path, change: Change) -> None:
    """Apply `change` to the stored tensors, in place or by what it returns."""
    path = folder / "model.safetensors"
    weights: Weights = dict(safetensors.numpy.load_file(path))
    safetensors.numpy.save_file(change(weights) or weights, path, {"format": "pt"})

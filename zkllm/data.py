"""Files that come with zkllm: the demo checkpoint and the circuit recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from zkllm.errors import BackendError

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = {"circuits": Path("circuits"), "demo": Path("models") / "demo"}


def bundled(name: Literal["circuits", "demo"]) -> Path:
    """The folder `name`, of an installed package or of a checkout."""
    for folder in (_PACKAGE / "_data" / name, _PACKAGE.parent / _CHECKOUT[name]):
        if folder.is_dir():
            return folder
    raise BackendError(f"the bundled folder {name} is missing: the installation is damaged")

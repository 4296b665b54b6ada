"""Packages that the base install leaves out, and the one line that says how to get them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from zkllm.errors import BackendError

EXTRAS: Mapping[str, str] = {
    "ezkl": "ezkl",
    "numba": "prove",
    "onnx": "run",
    "onnxruntime": "run",
    "safetensors": "run",
    "torch": "train",
}
"""Which extra of zkllm brings a package."""


def installed(package: str) -> bool:
    """Whether `package` can be imported; nothing is imported to find out."""
    return importlib.util.find_spec(package) is not None


def require_packages(*packages: str) -> None:
    """Raise `BackendError` for the first of `packages` that is missing, before any work is done."""
    for package in packages:
        if not installed(package):
            raise missing(package)


def missing(package: str) -> BackendError:
    """The error for a `package` that is not installed."""
    extra = EXTRAS[package]
    # By name, a registry would be asked for zkllm, and whoever owns that name there would answer.
    return BackendError(
        f"expected the package {package}, found none: it comes with the extra {extra!r}",
        hint=f"in a checkout of zkllm: pip install '.[{extra}]', or '.[all]' for everything",
    )

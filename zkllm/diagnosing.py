"""What this machine and this installation bring, for whoever wonders why something will not run."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from zkllm import __version__
from zkllm.engines.sumcheck import cache
from zkllm.extras import installed
from zkllm.planning import memory_available
from zkllm.threads import usable_cores

_GROUPS = ("", "run", "prove", "ezkl", "train")
"""The base install, and the extras that a user may want."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that zkllm uses."""

    name: str
    extra: str
    """The extra that brings it; empty for the base install."""
    required: str
    """The versions that fit, as pip writes them."""
    version: str
    """The version that is installed; empty if none is."""
    fits: bool
    """Whether the installed version is one that fits; true if none is installed."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, and what of it is wrong."""

    zkllm: str
    python: str
    machine: str
    cores: int
    """How many cores this process may use."""
    memory_bytes: int
    """Bytes that a process can use without swapping; 0 if the system does not say."""
    packages: tuple[Package, ...]
    providers: tuple[str, ...]
    """What ONNX Runtime can execute on; empty without it."""
    kernels: Path | None
    """Where the prover's kernels are kept; none where they cannot be, or without numba."""
    compiled: bool
    """Whether they have been compiled."""
    problems: tuple[str, ...]
    """What keeps something that is installed from working; empty if nothing does."""

    def to_json(self) -> dict[str, Any]:
        where = None if self.kernels is None else str(self.kernels)
        return asdict(self) | {"kernels": where}


def diagnose() -> Diagnosis:
    """Look at Python, packages, ONNX Runtime's providers, cores, memory and the kernels' cache."""
    problems: list[str] = []
    try:
        packages = _packages()
    except importlib.metadata.PackageNotFoundError:
        packages = ()
        problems.append("zkllm: expected an installed package, found its files alone")
    problems += [
        f"{package.name}: expected {package.required}, got {package.version}"
        for package in packages
        if not package.fits
    ]
    providers, problem = _providers()
    if problem:
        problems.append(problem)
    copy = cache.source() if installed("numba") else None
    return Diagnosis(
        zkllm=__version__,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        cores=usable_cores(),
        memory_bytes=memory_available(),
        packages=packages,
        providers=providers,
        kernels=None if copy is None else copy.parent,
        compiled=copy is not None and any(copy.parent.glob("__pycache__/*.nbi")),
        problems=tuple(problems),
    )


def _packages() -> tuple[Package, ...]:
    """What zkllm's own metadata asks for; of the extras, only what the base does not bring."""
    found: dict[str, Package] = {}
    requirements = [Requirement(text) for text in importlib.metadata.requires("zkllm") or ()]
    for extra in _GROUPS:
        for requirement in requirements:
            marker, name = requirement.marker, requirement.name
            if (marker is None) != (not extra) or name in found or name == "zkllm":
                continue
            if marker is None or marker.evaluate({"extra": extra}):
                version = _version(name)
                fits = not version or requirement.specifier.contains(version, prereleases=True)
                found[name] = Package(name, extra, str(requirement.specifier), version, fits)
    return tuple(found.values())


def _version(package: str) -> str:
    names = [package, "onnxruntime-gpu"] if package == "onnxruntime" else [package]
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _providers() -> tuple[tuple[str, ...], str]:
    """ONNX Runtime's providers, and what is wrong with it."""
    from zkllm.engines.onnx.runtime import providers

    if not installed("onnxruntime"):
        return (), ""
    try:
        return tuple(providers()), ""
    except Exception as err:  # a library that does not load raises whatever it likes
        return (), f"onnxruntime: cannot be imported: {' '.join(str(err).split())[:120]}"

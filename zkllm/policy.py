"""What a verifier demands. A policy comes from the verifier, never from the bundle."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zkllm.bundle import BACKENDS, VERSION, BackendName
from zkllm.digests import Digest, is_digest
from zkllm.errors import InputError, UnsupportedVersion
from zkllm.files import read_limited
from zkllm.records import word

FORMAT = 1
INSECURE_SRS = "insecure-development"
MAX_BYTES = 1 << 20

_HEAD = """\
# What `zkllm verify --policy` demands. Keep it where the prover cannot write.
format = {format}
model = "{model}"
bundle_versions = {versions}
# A bundle must repeat the verifier's nonce in evidence that binds it.
require_fresh = {fresh}
"""
_INSECURE = """\
# INSECURE: whoever made this SRS can forge every ezkl proof. For development only.
srs = "insecure-development"
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """Demands on a bundle; there is no policy that accepts anything."""

    model: Digest
    """The one exact model that is accepted."""
    units: Mapping[str, BackendName]
    """Which backend must have proved which unit; every unit of the model must be named."""
    keys: Mapping[str, Mapping[str, Digest]] = field(default_factory=dict)
    """By unit: digests of the verifier's artefacts (vk, settings, SRS), by name."""
    insecure_srs: bool = False
    """Whether a development SRS is accepted, and reported."""
    require_fresh: bool = False
    bundle_versions: tuple[int, ...] = (VERSION,)

    @classmethod
    def from_file(cls, path: Path) -> Policy:
        """Read a policy; raises `InputError` that names the field, what was expected and got."""
        data = read_limited(path, MAX_BYTES)
        try:
            value = tomllib.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as err:  # of which TOMLDecodeError is only one
            raise InputError(f"{path}: not TOML: {str(err).splitlines()[0]}") from err
        try:
            return cls._from_toml(value)
        except InputError as err:
            raise type(err)(f"{path}: {err.message}", err.hint) from err

    @classmethod
    def _from_toml(cls, value: Mapping[str, Any]) -> Policy:
        version = value.get("format")
        if type(version) is not int or version != FORMAT:
            raise UnsupportedVersion(f"expected policy format {FORMAT}, got {version!r:.20}")
        known = {"format", "model", "bundle_versions", "require_fresh", "srs", "units", "keys"}
        unknown = set(value) - known
        if unknown:
            raise InputError(f"unknown field {word(min(unknown))}")
        model, units, keys = value.get("model"), value.get("units"), value.get("keys", {})
        if not isinstance(model, str) or not is_digest(model):
            raise InputError(f"model: expected a sha256 digest, got {model!r:.40}")
        if not isinstance(units, dict) or not units:
            raise InputError("units: expected a table that names a backend for every unit")
        for unit, backend in units.items():
            if backend not in BACKENDS:
                raise InputError(
                    f"units.{word(unit)}: expected one of {', '.join(BACKENDS)}, "
                    f"got {backend!r:.40}"
                )
        if not isinstance(keys, dict):
            raise InputError("keys: expected a table of tables")
        for unit, pins in keys.items():
            if unit not in units:
                raise InputError(f"keys.{word(unit)}: there is no such entry in units")
            if not isinstance(pins, dict) or not all(map(is_digest, pins.values())):
                raise InputError(f"keys.{word(unit)}: expected sha256 digests by file name")
        srs = value.get("srs")
        if srs not in (None, INSECURE_SRS):
            raise InputError(f"srs: expected {INSECURE_SRS!r} or nothing, got {srs!r:.40}")
        fresh = value.get("require_fresh", False)
        if not isinstance(fresh, bool):
            raise InputError(f"require_fresh: expected true or false, got {fresh!r:.40}")
        versions = value.get("bundle_versions", [VERSION])
        if not isinstance(versions, list) or not all(type(v) is int for v in versions):
            raise InputError(f"bundle_versions: expected a list of integers, got {versions!r:.40}")
        if not versions:
            raise InputError("bundle_versions: expected at least one version, got none")
        return cls(
            model=Digest(model),
            units=units,
            keys=keys,
            insecure_srs=srs is not None,
            require_fresh=fresh,
            bundle_versions=tuple(versions),
        )

    def to_toml(self) -> str:
        """The policy as a commented file that `from_file` reads back."""
        text = _HEAD.format(
            format=FORMAT,
            model=self.model,
            versions=list(self.bundle_versions),
            fresh=str(self.require_fresh).lower(),
        )
        if self.insecure_srs:
            text += _INSECURE
        text += "\n[units]\n"
        text += "".join(f'"{unit}" = "{backend}"\n' for unit, backend in self.units.items())
        for unit, pins in self.keys.items():
            text += f'\n[keys."{unit}"]\n'
            text += "".join(f'"{name}" = "{digest}"\n' for name, digest in pins.items())
        return text

"""What a verifier demands. A policy comes from the verifier, never from the bundle."""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zkllm.bundle import BACKENDS, BINDING, VERSION, BackendName
from zkllm.digests import Digest, is_digest
from zkllm.errors import InputError, UnsupportedVersion
from zkllm.files import read_limited
from zkllm.records import word

FORMAT = 2
Freshness = Literal["required", "requested", "unbound"]
"""`required`: a nonce must be given and be bound. `requested`: one that is given must be bound.
`unbound`: one that is given is only compared, and the report says so."""
FRESHNESS: tuple[Freshness, ...] = typing.get_args(Freshness)
INSECURE_SRS = "insecure-development"
MAX_BYTES = 1 << 20
_MAX_DOTS = 100
"""In one line; no name in a policy has as many."""
_INTEGERS = range(-(1 << 63), 1 << 63)
"""Those of TOML."""

_HEAD = """\
# What `zkllm verify --policy` demands. Keep it where the prover cannot write.
format = {format}
model = "{model}"
bundle_versions = {versions}
# required: verify needs a nonce, and evidence that binds it. requested: a nonce that is given must
# be bound. unbound: it is only compared, so that anybody may have put it there.
freshness = "{freshness}"
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
    freshness: Freshness = "requested"
    """What is demanded of the verifier's nonce."""
    bundle_versions: tuple[int, ...] = (VERSION,)

    def __post_init__(self) -> None:
        """Raises `InputError` for freshness that no bundle could show."""
        if self.freshness == "required" and BINDING.isdisjoint(self.units.values()):
            found = " and ".join(sorted(set(self.units.values())))
            raise InputError(
                f"freshness: expected a unit by {', '.join(sorted(BINDING))}, whose evidence binds "
                f"a nonce, found only {found}",
                hint='demand sumcheck of a unit, or write freshness = "requested" or "unbound"',
            )

    @classmethod
    def from_file(cls, path: Path) -> Policy:
        """Read a policy; raises `InputError` that names the field, what was expected and got."""
        data = read_limited(path, MAX_BYTES)
        # tomllib takes time in the square of the parts of a dotted key
        if max(line.count(b".") for line in data.split(b"\n")) > _MAX_DOTS:
            raise InputError(f"{path}: nested too deeply for a policy")
        try:
            value = tomllib.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as err:  # of which TOMLDecodeError is only one
            raise InputError(f"{path}: not TOML: {str(err).splitlines()[0]}") from err
        try:
            _check_integers(value)
            return cls._from_toml(value)
        except RecursionError as err:  # a value that TOML may nest as deep as a file is long
            raise InputError(f"{path}: nested too deeply for a policy") from err
        except InputError as err:
            raise type(err)(f"{path}: {err.message}", err.hint) from err

    @classmethod
    def _from_toml(cls, value: Mapping[str, Any]) -> Policy:
        version = value.get("format")
        if type(version) is not int or not 1 <= version <= FORMAT:
            raise UnsupportedVersion(f"expected policy format 1 or {FORMAT}, got {version!r:.20}")
        freshness = "freshness" if version > 1 else "require_fresh"
        known = {"format", "model", "bundle_versions", freshness, "srs", "units", "keys"}
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
            if not pins:  # it would look like keys that are pinned
                raise InputError(f"keys.{word(unit)}: expected at least one digest, got none")
        srs = value.get("srs")
        if srs not in (None, INSECURE_SRS):
            raise InputError(f"srs: expected {INSECURE_SRS!r} or nothing, got {srs!r:.40}")
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
            freshness=_freshness(value),
            bundle_versions=tuple(versions),
        )

    def to_toml(self) -> str:
        """The policy as a commented file that `from_file` reads back."""
        text = _HEAD.format(
            format=FORMAT,
            model=self.model,
            versions=list(self.bundle_versions),
            freshness=self.freshness,
        )
        if self.insecure_srs:
            text += _INSECURE
        text += "\n[units]\n"
        text += "".join(f'"{unit}" = "{backend}"\n' for unit, backend in self.units.items())
        for unit, pins in self.keys.items():
            text += f'\n[keys."{unit}"]\n'
            text += "".join(f'"{name}" = "{digest}"\n' for name, digest in pins.items())
        return text


def _check_integers(value: Any) -> None:
    """Raises `InputError` for an integer that is none of TOML: Python prints no longer ones."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_integers(item)
    elif isinstance(value, int) and value not in _INTEGERS:
        raise InputError(f"not TOML: an integer of {value.bit_length()} bits, at most 64 expected")


def _freshness(value: Mapping[str, Any]) -> Freshness:
    """The field of that name; in format 1, `require_fresh`."""
    if value["format"] == 1:
        required = value.get("require_fresh", False)
        if not isinstance(required, bool):
            raise InputError(f"require_fresh: expected true or false, got {required!r:.40}")
        return "required" if required else "requested"
    found = value.get("freshness", "requested")
    if found not in FRESHNESS:
        raise InputError(f"freshness: expected one of {', '.join(FRESHNESS)}, got {found!r:.40}")
    return typing.cast("Freshness", found)

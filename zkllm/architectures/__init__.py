"""Architectures: one file each, with all that is known of a network and of no other.

`base` says what such a file holds. A model is read in the terms of its architecture (`named`), and
is a list of steps from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zkllm.architectures.base import Architecture
from zkllm.architectures.config import Keys
from zkllm.architectures.gpt2 import GPT2
from zkllm.errors import UnsupportedModel

ARCHITECTURES: tuple[type[Architecture], ...] = (GPT2,)
"""The one list of architectures; a config.json that names none means the first."""


def named(config: Mapping[str, Any]) -> type[Architecture]:
    """The architecture that a config.json names; raises `UnsupportedModel` if it is not known."""
    kind = config.get("model_type", ARCHITECTURES[0].model_type)
    found = [architecture for architecture in ARCHITECTURES if architecture.model_type == kind]
    if not found:
        known = " or ".join(repr(architecture.model_type) for architecture in ARCHITECTURES)
        raise UnsupportedModel(f"config.json: model_type must be {known}, got {kind!r:.60}")
    return found[0]


def read(config: Mapping[str, Any]) -> Architecture:
    """The network that a config.json describes.

    Raises `UnsupportedModel` that names a key and its value, for what is not known, not supported
    or another network's.
    """
    architecture, keys = named(config), Keys(config)
    classes = config.get("architectures")
    known = isinstance(classes, list) and all(name in architecture.classes for name in classes)
    if classes is not None and not known:
        raise UnsupportedModel(
            f"config.json: architectures must be {architecture.title}'s, got {classes!r:.60}"
        )
    keys.refuse(architecture.title, architecture.foreign)
    return architecture.read(keys)

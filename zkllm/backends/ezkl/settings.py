"""`settings.json` of a unit's keys: written the same each time, and held to the recipe."""

from __future__ import annotations

import json
from typing import Any

from zkllm.engines.ezkl.audit.settings import read_settings, settings_problems
from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.recipe import Recipe
from zkllm.errors import InputError, UntrustedMaterial


def reproducible(settings: bytes) -> bytes:
    """The settings that ezkl wrote, without what differs each time: the clock and its orders.

    ezkl numbers the tables of a circuit as `required_lookups` lists them, in an order that is a
    matter of chance: with another one, the same circuit has another key.
    """
    values = json.loads(settings)
    values["timestamp"] = 0
    values["required_lookups"].sort(key=lambda lookup: json.dumps(lookup, sort_keys=True))
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def check_settings(
    unit: str, data: bytes, circuit: Circuit, chosen: Recipe, instances: int
) -> None:
    """Raises `UntrustedMaterial` unless these are settings of the recipe for this circuit."""
    try:
        settings = read_settings(data)
    except InputError as err:
        raise UntrustedMaterial(f"{unit}: {err.message}") from err
    problems = settings_problems(settings, (circuit.size,))
    window = chosen.window
    demanded = chosen.run_args()
    found = json.loads(data)["run_args"]
    # ezkl writes its visibilities in words of its own; the audit's reader compares those.
    same = [name for name in demanded if not name.endswith("_visibility")]
    expectations: list[tuple[str, Any, Any]] = [
        *((name, demanded[name], found.get(name)) for name in same),
        ("visibilities", ("Private", "Public"), (settings.inputs, settings.outputs)),
        ("window", (window.low, window.high), settings.window),
        ("instances", instances, settings.instances),
    ]
    problems += [
        f"{name}: expected {expected}, got {got}"
        for name, expected, got in expectations
        if expected != got
    ]
    if problems:
        raise UntrustedMaterial(f"{unit}: settings.json: {problems[0]}")

"""What an audit needs of `settings.json`, and which settings it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zkllm.errors import InputError

VERSION = "23.0.5"
"""The only version of ezkl whose layout this audit knows."""

COMMITTED, PUBLIC, PRIVATE, FIXED = "KZGCommit", "Public", "Private", "Fixed"


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table: the name of its function and the parameters."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that decide how a circuit is laid out."""

    version: str
    logrows: int
    width: int
    """`num_inner_cols`: columns of a block."""
    assignments: int
    """Values that the circuit assigns, with padding."""
    constants: int
    """Values that it takes from constant columns."""
    einsum: int
    """Size of the columns of Freivalds' check; 0 if it is off."""
    committed: tuple[int, ...]
    """Lengths of the committed tensors."""
    tables: tuple[Table, ...]
    window: tuple[int, int]
    """`lookup_range`, both ends included."""
    instances: int
    """Number of public values."""
    inputs: str
    """Visibility of the inputs."""
    outputs: str
    """Visibility of the outputs."""
    parameters: str
    """Visibility of the weights."""
    others: Mapping[str, Any]
    """What brings in constraints that this audit does not know: each must be empty."""


def read_settings(data: bytes) -> Settings:
    """Parse settings; raises `InputError` if a field is missing or of another type."""
    try:
        return _parse(json.loads(data))
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as err:
        reason = f"{type(err).__name__}: {err}"[:120]
        raise InputError(f"settings: not those of ezkl {VERSION}: {reason}") from err


def _parse(values: Mapping[str, Any]) -> Settings:
    arguments = values["run_args"]
    low, high = arguments["lookup_range"]
    return Settings(
        version=str(values["version"]),
        logrows=_natural(arguments["logrows"]),
        width=_natural(arguments["num_inner_cols"]),
        assignments=_natural(values["total_assignments"]),
        constants=_natural(values["total_const_size"]),
        einsum=_natural(values["einsum_params"]["total_einsum_col_size"]),
        committed=tuple(_natural(size) for size in values["module_sizes"]["polycommit"]),
        tables=tuple(_table(lookup) for lookup in values["required_lookups"]),
        window=(int(low), int(high)),
        instances=sum(
            math.prod(_natural(size) for size in shape) for shape in values["model_instance_shapes"]
        ),
        inputs=str(arguments["input_visibility"]),
        outputs=str(arguments["output_visibility"]),
        parameters=str(arguments["param_visibility"]),
        others={
            "required_range_checks": values["required_range_checks"],
            "num_dynamic_lookups": values["num_dynamic_lookups"],
            "num_shuffles": values["num_shuffles"],
            "module_sizes.poseidon": values["module_sizes"]["poseidon"][0],
        },
    )


def _natural(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected a natural number, got {value!r:.40}")
    return value


def _table(lookup: Any) -> Table:
    ((name, parameters),) = lookup.items()
    return Table(str(name), dict(parameters))


def settings_problems(settings: Settings, sizes: Sequence[int]) -> list[str]:
    """Settings under which a circuit could do more, or less, than this audit sees.

    `sizes` are the numbers of elements of the relation's inputs.
    """
    demanded: list[tuple[str, tuple[Any, ...], Any]] = [
        ("version", (VERSION,), settings.version),
        # SAFETY: this is Freivalds' check, which does not tie a product to what uses it.
        ("einsum_params.total_einsum_col_size", (0,), settings.einsum),
        ("input_visibility", (COMMITTED, PUBLIC, PRIVATE), settings.inputs),
        ("output_visibility", (COMMITTED, PUBLIC, FIXED), settings.outputs),
        ("param_visibility", (FIXED,), settings.parameters),
    ]
    demanded += [(name, (0, []), value) for name, value in settings.others.items()]
    if settings.inputs == COMMITTED:
        committed = settings.committed[: len(sizes)]
        demanded.append(("module_sizes.polycommit of the inputs", (tuple(sizes),), committed))
    return [
        f"{name}: expected {' or '.join(map(str, allowed))}, got {got}"
        for name, allowed, got in demanded
        if got not in allowed
    ]

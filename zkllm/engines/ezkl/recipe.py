"""Recipes: the numbers with which a unit becomes a circuit, read from `circuits/*.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from zkllm.data import bundled
from zkllm.digests import Digest
from zkllm.errors import BackendError

_UNUSABLE_ROWS = 8
"""Rows that a lookup table cannot fill: halo2's five blinding factors and three rows more."""


@dataclass(frozen=True, slots=True)
class Window:
    """The integers of ezkl's lookup tables, low to high.

    The table of a lookup fills its column with 2^logrows - 8 consecutive integers from its lower
    end. A range that is shorter is not enforced at its upper end; this one has that many.
    """

    logrows: int
    high: int

    @property
    def low(self) -> int:
        return self.high - self.size + 1

    @property
    def size(self) -> int:
        """W: how many integers the window holds."""
        return (1 << self.logrows) - _UNUSABLE_ROWS

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high

    @property
    def magnitude(self) -> int:
        """The largest absolute value in the window."""
        return max(self.high, -self.low)

    def limbs(self, limit: int) -> int:
        """How many digits in base W hold every integer from 0 to `limit`."""
        count = 1
        while self.size**count <= limit:
            count += 1
        return count

    def step(self, divisor: int) -> int:
        """C such that one lookup of c·r shows 0 <= r < divisor; 0 if there is none.

        For a power of two below 2^logrows, c = 2^logrows / divisor, and it serves if the window
        holds exactly `divisor` multiples of c.
        """
        if divisor & (divisor - 1) or not 1 < divisor <= 1 << self.logrows:
            return 0
        step = (1 << self.logrows) // divisor
        return step if self.high // step - self.first_multiple(step) + 1 == divisor else 0

    def first_multiple(self, step: int) -> int:
        """The n with the smallest n·step in the window."""
        return -(-self.low // step)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One file of `circuits/`."""

    unit: str
    tokens: tuple[int, ...]
    """Numbers of positions for which the circuit may be made."""
    window: Window
    exp_scale: int
    exp_digest: Digest
    """Of the model's EXP table, which must be the one that ezkl looks up."""
    columns: int
    memory: int
    """Bytes that one ezkl operation may use."""
    seconds: float
    """Wall-clock time that one ezkl operation may take."""

    def run_args(self) -> dict[str, Any]:
        """The options with which ezkl lowers the graph, all that matter."""
        return {
            # An integer enters as it is; labels of tables come from the graph.
            "input_scale": 0,
            "param_scale": self.exp_scale,
            "rebase_frac_zero_constants": True,
            # No rescaling: quotients and remainders are inputs of the circuit.
            "scale_rebase_multiplier": 1000,
            "lookup_range": [self.window.low, self.window.high],
            "logrows": self.window.logrows,
            "num_inner_cols": self.columns,
            # Never used by this form; a base that fits the table, in case that it were.
            "decomp_base": 1 << (self.window.logrows - 2),
            "decomp_legs": 2,
            "input_visibility": "private",
            "output_visibility": "public",
            "param_visibility": "fixed",
            # SAFETY: every hint is range-checked by the circuit, every public integer by the
            # verifier, and Freivalds' check of products is not sound in this version.
            "ignore_range_check_inputs_outputs": True,
            "disable_freivalds": True,
        }


@cache
def load(unit: str) -> Recipe:
    """The recipe of the kind of unit `unit`, e.g. `attention`; raises `BackendError`."""
    path = bundled("circuits") / f"{unit}.toml"
    if not path.is_file():
        raise BackendError(f"{unit}: expected a recipe {path.name}, found none")
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return Recipe(
        unit=data["unit"],
        tokens=tuple(data["tokens"]),
        window=Window(data["window"]["logrows"], data["window"]["high"]),
        exp_scale=data["exp"]["scale"],
        exp_digest=Digest(data["exp"]["digest"]),
        columns=data["layout"]["columns"],
        memory=data["limits"]["memory_mib"] << 20,
        seconds=float(data["limits"]["seconds"]),
    )

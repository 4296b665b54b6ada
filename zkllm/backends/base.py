"""What every backend does: `setup`, `prove`, `verify` for one unit.

The order of arguments is always *what, evidence, demand*. `verify` returns nothing or raises; a
backend that cannot decide raises `BackendError`.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from zkllm.bundle import BackendName
from zkllm.digests import Digest
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.progress import Progress, silent
from zkllm.tensors import IntArray

INSECURE_ASSUMPTION = "insecure-srs"
"""That nobody forges who made a development SRS."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a piece of evidence has to show: this unit maps these integers to those."""

    unit: str
    """Name of the unit in the specification."""
    inputs: IntArray
    """Token ids [T] for `embed`, a boundary [T, d] for every other unit."""
    outputs: IntArray
    """A boundary [T, d]; for `head` the generated ids [n]."""
    statement: Digest
    """Digest of the statement that the bundle makes; absorbed where a backend can bind it."""
    first_row: int = 0
    """For `head`: the row of `inputs` whose arg-max is the first generated id."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What a policy pins of one unit's keys."""

    digests: dict[str, Digest]
    """By file name, e.g. `vk.key`."""
    audit: str = ""
    """One line of what an audit found, if there was one."""


@dataclass(frozen=True, slots=True)
class Checked:
    """How one unit was checked: the words of the report, and what they rest on."""

    words: str
    """`recomputed`, `proved (ezkl)` ..."""
    hidden: str = ""
    """What the evidence does not reveal; empty if it hides nothing."""
    assumptions: tuple[str, ...] = ()
    """Machine-readable weaknesses, e.g. `insecure-srs`."""
    binds_nonce: bool = False
    """Whether the evidence absorbs the statement: it was made when the nonce was known."""
    details: dict[str, Any] = field(default_factory=dict)
    """Figures for `--json`: proof bytes, parts, security bits."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a unit will cost, before anything is spent: predictions, not promises."""

    multiply_adds: int
    rows: int = 0
    """Rows of all circuits of the unit; 0 without a circuit."""
    logrows: int = 0
    """k of the largest circuit."""
    key_bytes: int = 0
    evidence_bytes: int = 0
    memory_bytes: int = 0
    """Peak of `setup` and `prove`."""
    setup_seconds: float = 0.0
    prove_seconds: float = 0.0
    verify_seconds: float = 0.0


class Backend(abc.ABC):
    """One way to make and check evidence; what is not said of it has its default here.

    How large its evidence may be, and whether that binds a nonce, stands beside its name in
    `zkllm.bundle`: containers and policies are read without any backend's code.
    """

    name: ClassVar[BackendName]
    prover_packages: ClassVar[tuple[str, ...]] = ()
    """What `setup` and `prove` need beyond the base install (`zkllm.extras`)."""
    parallel: ClassVar[bool] = False
    """Whether its units are worth a process each: others take all cores for one by themselves."""
    recomputes: ClassVar[bool] = False
    """Whether the verifier computes a unit again, so that there is nothing to prove."""
    mark: ClassVar[str] = ""
    """The file that shows whose keys a unit's folder holds; empty for a backend without keys."""
    needs_keys: ClassVar[bool] = False
    """Whether nothing can be proved without keys."""
    fixed_length: ClassVar[bool] = False
    """Whether keys serve runs of one number of positions alone."""
    audits: ClassVar[bool] = False
    """Whether `setup` can audit the keys that it makes."""

    @abc.abstractmethod
    def unsupported(self, specification: Specification, unit: str) -> str:
        """Why this backend cannot prove `unit`; empty if it can."""

    @abc.abstractmethod
    def demand(self, *, pinned: bool) -> str:
        """What a policy demands of a unit, in words, with keys that are `pinned` or without."""

    @abc.abstractmethod
    def estimate(
        self,
        specification: Specification,
        unit: str,
        tokens: int,
        *,
        generated: int = 1,
        keys: bool = False,
    ) -> Estimate:
        """What `unit` will cost for runs of `tokens` positions, on two ordinary cores.

        `generated` of them give a token; `keys` says whether keys are made or used that the
        backend could do without.
        """

    def setup(
        self,
        model: ExactModel,
        unit: str,
        tokens: int,
        keys: Path,
        progress: Progress = silent,
        *,
        audit: bool = False,
    ) -> Pin:
        """Make the keys of `unit` for runs of `tokens` positions in the folder `keys`.

        With `audit`, where the backend `audits`, what was found is in the pin.
        """
        return Pin({})

    def pin(
        self,
        model: ExactModel,
        unit: str,
        keys: Path | None,
        *,
        recompute: bool = False,
        progress: Progress = silent,
    ) -> Pin:
        """The digests that a policy pins of keys that are there, recomputed from their bytes.

        With `recompute`, the keys themselves are made again and compared: whoever made those that
        are there may have made them of another model. Raises `InputError` if the keys of `unit`,
        or what is needed to make them again, are not in `keys`, or if they are said to be for
        something else; `DigestMismatch` if they are not what `model` gives.
        """
        return Pin({})

    @abc.abstractmethod
    def check_material(self, model: ExactModel, unit: str, pin: Pin, keys: Path | None) -> None:
        """See that a verifier has what `verify` will need of `unit`, before there is evidence.

        Raises `InputError` for what is missing, `DigestMismatch` or `UntrustedMaterial` for keys
        that are not those that `pin` names.
        """

    @abc.abstractmethod
    def prove(
        self, model: ExactModel, claim: Claim, keys: Path | None, progress: Progress = silent
    ) -> bytes:
        """Evidence for `claim`; raises `ConstraintViolation` if the claim is not true."""

    @abc.abstractmethod
    def verify(
        self, claim: Claim, evidence: bytes, model: ExactModel, pin: Pin, keys: Path | None
    ) -> Checked:
        """Check `evidence`; raises `VerificationError` if it does not show `claim`."""

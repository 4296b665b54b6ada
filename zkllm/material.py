"""What a verifier brings: policy, model and keys, read once and found to fit each other.

A mistake in them is the verifier's own: it is found before any bundle is looked at, so that no
bundle is blamed for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zkllm.backends import get_backend
from zkllm.backends.base import Pin
from zkllm.bundle import VERSION
from zkllm.errors import (
    DigestMismatch,
    UntrustedMaterial,
    VerificationError,
    WrongMaterial,
)
from zkllm.exact.model import ExactModel
from zkllm.files import AnyPath, as_path, key_folder
from zkllm.policy import Policy
from zkllm.records import word
from zkllm.tokenization import Tokenizer


@dataclass(frozen=True, slots=True)
class Material:
    """A policy, the model that it names, and the keys that it pins."""

    policy: Policy
    model: ExactModel
    keys: Path | None
    """The folder of keys, whose files are read again, and hashed, for each proof."""
    tokenizer: Tokenizer | None
    """None for a fragment."""

    @classmethod
    def gather(
        cls, policy: Policy | AnyPath, model: ExactModel | AnyPath, keys: AnyPath | None = None
    ) -> Material:
        """Read what is given as a path, and see that it is whole and fits.

        Raises `InputError` for what is missing or malformed, `WrongMaterial` for what does not
        fit: another model than the policy's, a policy of other units, keys that it does not pin.
        """
        if not isinstance(policy, Policy):
            policy = Policy.from_file(as_path(policy, "policy"))
        model = ExactModel.open(model)
        keys = None if keys is None else key_folder(keys)
        _check_fit(policy, model)
        with own_mistakes(DigestMismatch, UntrustedMaterial):
            tokenizer = Tokenizer(model) if model.specification.kind == "text" else None
        material = cls(policy, model, keys, tokenizer)
        material.check_units()
        return material

    def check_units(self) -> None:
        """See that all is there that `verify` will need of each unit; raises as `gather` does."""
        with own_mistakes(DigestMismatch, UntrustedMaterial):
            for unit, backend in self.policy.units.items():
                get_backend(backend).check_material(self.model, unit, self.pin(unit), self.keys)

    def pin(self, unit: str) -> Pin:
        """What the policy pins of the keys of `unit`."""
        return Pin(dict(self.policy.keys.get(unit, {})))


@contextlib.contextmanager
def own_mistakes(*kinds: type[VerificationError]) -> Iterator[None]:
    """Raise `WrongMaterial` where the block raises one of `kinds`.

    A bundle carries no key, no weight and no tokenizer: a wrong digest of one is not its fault.
    """
    try:
        yield
    except kinds as err:
        raise WrongMaterial(err.message, err.hint) from err


def _check_fit(policy: Policy, model: ExactModel) -> None:
    if model.digest != policy.model:
        raise WrongMaterial(
            f"model: the policy names {policy.model}, the model given is {model.digest}",
            hint="is --model the folder, and --policy the file, that you meant?",
        )
    if VERSION not in policy.bundle_versions:
        raise WrongMaterial(
            f"the policy allows bundle versions {list(policy.bundle_versions)}, "
            f"this release knows {VERSION}"
        )
    units = model.specification.units()
    odd = set(policy.units) ^ set(units)
    if odd:
        state = "is no unit of the model" if min(odd) in policy.units else "is not in the policy"
        raise WrongMaterial(
            f"units: {word(min(odd))} {state}", hint="write a policy with: zkllm policy init MODEL"
        )

"""Keys of config.json: read by name and kind, refused by name and value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from zkllm.errors import UnsupportedModel
from zkllm.sizes import MAX_SIZES

T = TypeVar("T")

_FOREIGN: Mapping[str, tuple[Any, ...]] = {
    "alibi": (),
    "attention_types": ([],),
    "attn_logit_softcapping": (),
    "auto_map": ({},),
    "compression_config": ({},),
    "embedding_multiplier": (1,),
    "final_logit_softcapping": (),
    "hidden_act": (),
    "logits_scaling": (1,),
    "multi_query": (),
    "mup_embeddings_scale": (1,),
    "mup_output_alpha": (1,),
    "mup_scale_qk_dot_by_d": (),
    "mup_width_scale": (1,),
    "num_experts": (),
    "num_local_experts": (),
    "parallel_attn": (),
    "position_embedding_type": (),
    "pruned_heads": ({},),
    "qk_layernorm": (),
    "quantization_config": ({},),
    "rope_parameters": ({},),
    "rope_scaling": ({},),
    "rope_theta": (),
    "rotary": (),
    "rotary_dim": (),
    "rotary_pct": (),
    "sliding_window": (),
    "use_parallel_residual": (),
}
"""Keys that change some network, with values at which they say nothing, as null, false and 0 do."""


def others(*own: str, **neutral: tuple[Any, ...]) -> Mapping[str, tuple[Any, ...]]:
    """Keys that an architecture does not have, with the values at which they say nothing.

    `own` are those that it has; `neutral` gives more values, or more keys.
    """
    keys = [key for key in {**_FOREIGN, **neutral} if key not in own]
    return {
        key: (None, False, 0, *_FOREIGN.get(key, ()), *neutral.get(key, ())) for key in sorted(keys)
    }


@dataclass(frozen=True, slots=True)
class Keys:
    """A config.json whose keys are asked for.

    What is asked for and cannot be understood raises `UnsupportedModel`, which names the key and
    its value.
    """

    config: Mapping[str, Any]

    def said(self, name: str) -> bool:
        return name in self.config

    def flag(self, name: str, *, absent: bool, only: bool | None = None) -> bool:
        """True or false; `only` is the one value that is supported."""
        value = self.config.get(name, absent)
        if not isinstance(value, bool):
            raise UnsupportedModel(f"config.json: {name} must be true or false, got {value!r:.40}")
        if only is not None and value != only:
            raise UnsupportedModel(f"config.json: {name} must be {only}, got {value}")
        return value

    def flag_if_said(self, name: str) -> bool | None:
        """True or false, or none where config.json is silent."""
        return self.flag(name, absent=False) if self.said(name) else None

    def size(
        self, cap: str, *names: str, older: tuple[str, ...] = (), absent: int | None = None
    ) -> int:
        """A positive integer, at most `MAX_SIZES[cap]`, under one of `names` or more.

        `older` are names of it that count only where none of `names` is there. Null means
        `absent`, if that is given.
        """
        found = [name for name in names if name in self.config]
        found = found or [name for name in older if name in self.config][:1]
        if absent is not None and all(self.config[name] is None for name in found):
            return absent
        if not found:
            raise UnsupportedModel(f"config.json: {names[0]} is missing")
        values = [self._size(name, MAX_SIZES[cap]) for name in found]
        for name, value in zip(found, values, strict=True):
            if value != values[0]:
                raise UnsupportedModel(
                    f"config.json: {found[0]} and {name} are one number, "
                    f"got {values[0]} and {value}"
                )
        return values[0]

    def _size(self, name: str, largest: int) -> int:
        value = self.config[name]
        if type(value) is not int or value < 1:
            raise UnsupportedModel(
                f"config.json: {name} must be a positive integer, got {value!r:.40}"
            )
        if value > largest:
            raise UnsupportedModel(
                f"config.json: {name} must be at most {largest}, got {value!r:.40}"
            )
        return value

    def choice(self, name: str, meanings: Mapping[str, T], *, absent: str) -> T:
        """What the value of `name` means, one of the keys of `meanings`."""
        value = self.config.get(name, absent)
        if not isinstance(value, str) or value not in meanings:
            raise UnsupportedModel(
                f"config.json: {name} must be one of {', '.join(meanings)}, got {value!r:.40}"
            )
        return meanings[value]

    def fraction(self, name: str, *, absent: float) -> Fraction:
        """A number between 0 and 1, the exact value of the decimal in the file."""
        value = self.config.get(name, absent)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise UnsupportedModel(
                f"config.json: {name} must lie between 0 and 1, got {value!r:.40}"
            )
        return Fraction(repr(value))

    def refuse(self, title: str, keys: Mapping[str, tuple[Any, ...]]) -> None:
        """Hold `keys`, which the network called `title` does not have, to what says nothing."""
        for name, neutral in keys.items():
            if name in self.config and self.config[name] not in neutral:
                raise UnsupportedModel(
                    f"config.json: {title} has no {name}, got {self.config[name]!r:.60}",
                    hint="remove the key if the model was trained without it",
                )

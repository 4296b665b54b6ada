"""How text is to be generated: stop ids, and settings that greedy decoding cannot obey.

What `transformers` obeys is generation_config.json where there is one, else config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zkllm.errors import UnsupportedModel
from zkllm.records import word
from zkllm.sizes import MAX_STOP_IDS

_NEUTRAL: Mapping[str, Any] = {
    "bad_words_ids": [],
    "begin_suppress_tokens": [],
    "constraints": [],
    "diversity_penalty": 0,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "exponential_decay_length_penalty": None,
    "force_words_ids": [],
    "forced_bos_token_id": None,
    "forced_decoder_ids": [],
    "forced_eos_token_id": None,
    "guidance_scale": 1,
    "max_time": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "penalty_alpha": 0,
    "repetition_penalty": 1,
    "sequence_bias": {},
    "stop_strings": [],
    "suppress_tokens": [],
    "token_healing": False,
    "watermarking_config": None,
}
"""Settings that change greedy text, with the value at which they do not; null is another."""

_SAMPLING: Mapping[str, Any] = {
    "do_sample": False,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "min_p": 0,
    "temperature": 1,
    "top_h": None,
    "top_k": 50,
    "top_p": 1,
    "typical_p": 1,
}
"""Settings of a random choice, with the value that says nothing."""

_HARMLESS = frozenset(
    {
        "_commit_hash",
        "_from_model_config",
        "assistant_confidence_threshold",
        "assistant_early_exit",
        "assistant_lookbehind",
        "bos_token_id",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "decoder_start_token_id",
        "disable_compile",
        "early_stopping",
        "eos_token_id",
        "is_assistant",
        "length_penalty",
        "low_memory",
        "max_cache_len",
        "max_length",
        "max_matching_ngram_size",
        "max_new_tokens",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "pad_token_id",
        "prefill_chunk_size",
        "prompt_lookup_num_tokens",
        "remove_invalid_values",
        "renormalize_logits",
        "return_dict_in_generate",
        "return_legacy_cache",
        "target_lookbehind",
        "transformers_version",
        "use_cache",
    }
)
"""Settings of generation_config.json that greedy text, one prompt at a time, does not show."""


def stop_ids(
    config: Mapping[str, Any], generation: Mapping[str, Any] | None, vocabulary: int, end: int
) -> tuple[int, ...]:
    """The ids after which a completion ends; `end` is the architecture's own.

    An id that is no token could never be generated: it is refused, because something else was
    meant, but for `end`, which small models inherit. Raises `UnsupportedModel`.
    """
    file, found = _named(config, generation, end)
    for item in found:
        known = type(item) is int and (0 <= item < vocabulary or item == end)
        if not known:
            raise UnsupportedModel(
                f"{file}: eos_token_id must be ids of tokens, from 0 to {vocabulary - 1}, "
                f"got {item!r:.40}",
                hint="null stands for no stop token",
            )
    stops = tuple(dict.fromkeys(item for item in found if item < vocabulary))
    if len(stops) > MAX_STOP_IDS:
        raise UnsupportedModel(
            f"{file}: at most {MAX_STOP_IDS} stop ids expected, got {len(stops)}"
        )
    return stops


def _named(
    config: Mapping[str, Any], generation: Mapping[str, Any] | None, end: int
) -> tuple[str, list[Any]]:
    """The file that says where a completion ends, and what it says."""
    if generation is None:
        file, value = "config.json", config.get("eos_token_id", end)
    else:
        file, value = "generation_config.json", generation.get("eos_token_id")
    return file, value if isinstance(value, list) else [] if value is None else [value]


def idle_stops(
    config: Mapping[str, Any],
    generation: Mapping[str, Any] | None,
    stops: tuple[int, ...],
    end: int,
) -> list[str]:
    """What there is to say if all that is named as stop id is no token of the model."""
    file, found = _named(config, generation, end)
    if stops or not found or (generation is None and "eos_token_id" not in config):
        return []
    return [f"{file}: eos_token_id {end} is no token of this model: nothing ends early"]


def check_greedy(config: Mapping[str, Any], generation: Mapping[str, Any] | None) -> list[str]:
    """Refuse settings that would change greedy text; return what else there is to say.

    Raises `UnsupportedModel` that names file, key and value.
    """
    files = {"config.json": config, "generation_config.json": generation or {}}
    for file, settings in files.items():
        for key in ("bos_token_id", "pad_token_id"):
            if type(settings.get(key, 0)) is not int and settings[key] is not None:
                raise UnsupportedModel(
                    f"{file}: {key} must be an integer or null, got {settings[key]!r:.40}"
                )
        for key in sorted(settings):
            if key in _NEUTRAL and not _says(settings[key], _NEUTRAL[key]):
                raise UnsupportedModel(
                    f"{file}: {key} changes what greedy decoding gives, got {settings[key]!r:.40}",
                    hint=f"zkllm decodes greedily and plainly: remove {key} to export without it",
                )
    for key, value in (generation or {}).items():
        known = key in _NEUTRAL or key in _SAMPLING or key in _HARMLESS
        if not known and value is not None and value is not False:
            raise UnsupportedModel(
                f"generation_config.json: unknown setting {word(key)}, got {value!r:.40}",
                hint="remove it if greedy decoding does not depend on it",
            )
    said = config if generation is None else generation
    odd = [key for key in _SAMPLING if key in said and not _says(said[key], _SAMPLING[key])]
    if odd:
        return [f"{', '.join(odd)}: zkllm decodes greedily and never samples"]
    return []


def _says(value: Any, neutral: Any) -> bool:
    """Whether `value` is `neutral` or null; true is no 1."""
    if value is None or neutral is None:
        return value is None
    if isinstance(value, bool) or isinstance(neutral, bool):
        return value is neutral
    return bool(value == neutral)

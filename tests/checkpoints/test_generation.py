"""generation_config.json: the stop ids that `transformers` obeys, and what greedy text ignores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.conftest import rewrite
from tests.checkpoints.reference import change_json, greedy
from tests.commands import zkllm
from zkllm.architectures.gpt2 import GPT2
from zkllm.checkpoints import Checkpoint
from zkllm.checkpoints.generation import check_greedy, idle_stops, stop_ids
from zkllm.errors import UnsupportedModel

SAID = 5
"""The token that the model of `always` chooses at every position."""


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        ({}, None, ()),
        ({"eos_token_id": None}, None, ()),
        ({"eos_token_id": []}, None, ()),
        ({"eos_token_id": 28}, None, (28,)),
        ({"eos_token_id": [3, 28, 3]}, None, (3, 28)),
        ({"eos_token_id": GPT2.end}, None, ()),  # GPT-2's own, in a model with fewer tokens
        ({"eos_token_id": 28}, {"eos_token_id": [28, 5]}, (28, 5)),
        ({"eos_token_id": 28}, {"eos_token_id": 5}, (5,)),
        ({"eos_token_id": 28}, {"eos_token_id": None}, ()),
        ({"eos_token_id": 28}, {}, ()),
        ({"eos_token_id": "nonsense"}, {"eos_token_id": 5}, (5,)),
        ({}, {"eos_token_id": GPT2.end}, ()),
    ],
)
def test_stop_ids(config: Any, generation: Any, expected: tuple[int, ...]) -> None:
    assert stop_ids(config, generation, 29, GPT2.end) == expected


def test_a_model_of_gpt2s_size_inherits_its_stop_id() -> None:
    assert stop_ids({}, None, 50257, GPT2.end) == (GPT2.end,)
    assert stop_ids({"eos_token_id": None}, None, 50257, GPT2.end) == ()
    assert stop_ids({}, {}, 50257, GPT2.end) == ()


@pytest.mark.parametrize(
    "value", [29, -1, True, 28.0, "28", [28, None], [[28]], {"id": 28}, 1 << 70]
)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_stop_id_that_is_no_token_is_refused(file: str, value: object) -> None:
    said = {"eos_token_id": value}
    config, generation = (said, None) if file == "config.json" else ({}, said)
    with pytest.raises(UnsupportedModel, match=f"^{file}: eos_token_id must be ids of tokens"):
        stop_ids(config, generation, 29, GPT2.end)


@pytest.mark.parametrize(
    ("config", "generation", "file"),
    [
        ({"eos_token_id": GPT2.end}, None, "config.json"),
        ({}, {"eos_token_id": [GPT2.end]}, "generation_config.json"),
        ({}, None, ""),
        ({"eos_token_id": [3, GPT2.end]}, None, ""),
        ({"eos_token_id": GPT2.end}, {"eos_token_id": 3}, ""),
        ({"eos_token_id": None}, None, ""),
    ],
)
def test_a_stop_id_that_never_comes_is_noted(config: Any, generation: Any, file: str) -> None:
    stops = stop_ids(config, generation, 29, GPT2.end)
    notes = idle_stops(config, generation, stops, GPT2.end)
    assert [note.split(":")[0] for note in notes] == ([file] if file else [])


def test_there_are_not_more_stop_ids_than_a_specification_holds() -> None:
    assert len(stop_ids({"eos_token_id": list(range(256)) * 2}, None, 1000, GPT2.end)) == 256
    with pytest.raises(UnsupportedModel, match="at most 256 stop ids expected, got 257"):
        stop_ids({"eos_token_id": list(range(257))}, None, 1000, GPT2.end)


CHANGING = {
    "bad_words_ids": [[5]],
    "begin_suppress_tokens": [5],
    "exponential_decay_length_penalty": [1, 2.0],
    "forced_bos_token_id": 5,
    "forced_eos_token_id": 5,
    "guidance_scale": 2.0,
    "min_length": 4,
    "min_new_tokens": 4,
    "no_repeat_ngram_size": 2,
    "num_beams": 2,
    "penalty_alpha": 0.6,
    "repetition_penalty": 1.2,
    "sequence_bias": [[[5], -10.0]],
    "stop_strings": ["a"],
    "suppress_tokens": [5],
    "watermarking_config": {"bias": 2.5},
}


@pytest.mark.parametrize("key", CHANGING)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_what_changes_greedy_text_is_refused_by_name(file: str, key: str) -> None:
    said = {key: CHANGING[key]}
    config, generation = (said, None) if file == "config.json" else ({}, said)
    with pytest.raises(UnsupportedModel, match=f"^{file}: {key} changes what greedy decoding"):
        check_greedy(config, generation)


@pytest.mark.parametrize("key", ["bos_token_id", "pad_token_id"])
@pytest.mark.parametrize("value", [True, 1.0, "x", [1]])
def test_other_ids_are_integers(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModel, match=f"^config.json: {key} must be an integer or null"):
        check_greedy({key: value}, None)
    with pytest.raises(UnsupportedModel, match=f"^generation_config.json: {key} must be an int"):
        check_greedy({}, {key: value})


@pytest.mark.parametrize("value", [True, 2, 0.9, "1", [1]])
def test_only_a_neutral_value_is_neutral(value: object) -> None:
    with pytest.raises(UnsupportedModel, match="num_beams"):
        check_greedy({}, {"num_beams": value})


def test_neutral_and_harmless_settings_pass() -> None:
    said: dict[str, Any] = {
        "_from_model_config": True,
        "bos_token_id": 28,
        "do_sample": False,
        "forced_eos_token_id": None,
        "max_length": 50,
        "no_repeat_ngram_size": 0,
        "num_beams": 1,
        "pad_token_id": 99,
        "repetition_penalty": 1.0,
        "suppress_tokens": [],
        "temperature": 1.0,
        "top_k": 50,
        "transformers_version": "4.31.0",
        "unheard_of": None,
    }
    assert check_greedy({}, said) == []


def test_sampling_is_said_once() -> None:
    (note,) = check_greedy({}, {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 50})
    assert note == "do_sample, temperature, top_p: zkllm decodes greedily and never samples"
    (note,) = check_greedy({"top_k": 5}, None)
    assert note.startswith("top_k: ")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="unknown setting new_penalty, got 2"):
        check_greedy({}, {"new_penalty": 2})


@pytest.fixture
def always(folder: Path) -> Path:
    """A checkpoint that says `SAID` wherever it is, by a head of its own."""

    def change(weights: Any) -> None:
        weights["transformer.ln_f.weight"][:] = 0
        weights["transformer.ln_f.bias"][:] = 1
        weights["lm_head.weight"] = 0 * weights["transformer.wte.weight"]
        weights["lm_head.weight"][SAID] = 0.1

    rewrite(folder, change)
    change_json(folder / "config.json", tie_word_embeddings=False)
    return folder


@pytest.mark.parametrize(
    ("config", "generation"),
    [
        (28, None),
        (SAID, None),
        ([28, SAID], None),
        (28, {"eos_token_id": [28, SAID]}),
        (SAID, {"eos_token_id": 28}),
        (SAID, {"eos_token_id": None}),
        (SAID, {}),
        (28, {"eos_token_id": SAID, "pad_token_id": 99, "max_length": 20}),
    ],
)
def test_runs_stop_where_transformers_stops(
    always: Path, tmp_path: Path, config: Any, generation: Any
) -> None:
    change_json(always / "config.json", eos_token_id=config)
    if generation is not None:
        change_json(always / "generation_config.json", **generation)
    expected = greedy(always, (0, 1), 3)
    assert expected in ([SAID], [SAID] * 3)
    model = tmp_path / "model"
    assert zkllm("export", always, "-o", model).code == 0
    done = zkllm("run", model, "-p", "ab", "-n", "3")
    assert done.out == "ab" + "f" * len(expected) + "\n"


def test_settings_of_a_torch_module_are_obeyed(always: Path) -> None:
    from tests.checkpoints.reference import language_model

    change_json(always / "generation_config.json", eos_token_id=[28, SAID])
    module = language_model(always)
    assert Checkpoint.from_torch(module).stop_ids == (28, SAID)
    module.generation_config.repetition_penalty = 1.5
    with pytest.raises(UnsupportedModel, match="repetition_penalty"):
        Checkpoint.from_torch(module)

"""The bundled demo checkpoint: its files, its split, and the accuracy its model card states."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer

from zkllm.exact import reference
from zkllm.exact.model import ExactModel

MODELS = Path(__file__).resolve().parents[2] / "models"
DEMO = MODELS / "demo"


def load_script(name: str) -> ModuleType:
    """Import a file of ``models/``, a plain folder that no package installs."""
    spec = importlib.util.spec_from_file_location(name, MODELS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up while they are made
    spec.loader.exec_module(module)
    return module


gpt2 = load_script("gpt2")
train_demo = load_script("train_demo")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they give at these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def demo() -> tuple[Any, Tokenizer]:
    model, tokenizer = gpt2.load_checkpoint(DEMO)
    return model, tokenizer


def tiny(**sizes: int) -> Any:
    """A small random model, with biases and norms moved off their zeros and ones."""
    values = {"vocab_size": 13, "n_positions": 12, "n_embd": 8, "n_head": 2, "n_layer": 2}
    torch.manual_seed(1)
    model = gpt2.GPT(gpt2.Config(**(values | sizes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


# The split


def test_held_out_sums_were_not_trained_on_in_either_order() -> None:
    training, held_out = train_demo.split_sums()
    trained = {frozenset(pair) for pair in training}
    assert not any(frozenset(pair) in trained for pair in held_out)
    assert len(training) + len(held_out) == 90 * 90
    assert set(training) | set(held_out) == {(a, b) for a in range(10, 100) for b in range(10, 100)}
    assert all((b, a) in set(held_out) for a, b in held_out)
    assert 0.09 < len(held_out) / 8100 < 0.11


def test_the_split_is_the_one_the_checkpoint_was_trained_with() -> None:
    """A split that drifted would measure the committed weights on sums they were trained on."""
    _, held_out = train_demo.split_sums()
    text = " ".join(f"{a}+{b}" for a, b in held_out)
    assert hashlib.sha256(text.encode()).hexdigest() == HELD_OUT_DIGEST


HELD_OUT_DIGEST = "40ad551770910b3897b72efae6679a76bc72453c2e07d68dd238ed07fdd59060"


# Accuracy


def test_held_out_accuracy(demo: tuple[Any, Tokenizer]) -> None:
    _, held_out = train_demo.split_sums()
    wrong = train_demo.wrong_answers(*demo, held_out)
    assert len(wrong) <= 0.01 * len(held_out), wrong[:10]


def test_the_model_card_states_the_measured_accuracy(
    demo: tuple[Any, Tokenizer],
) -> None:
    _, held_out = train_demo.split_sums()
    right = len(held_out) - len(train_demo.wrong_answers(*demo, held_out))
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    stated = re.findall(r"held-out sums: (\d+) of (\d+) exact", card)
    # Another processor's rounding may tip a near-tie; the figure is held to within one sum in 200.
    assert len(stated) == 1
    assert int(stated[0][1]) == len(held_out)
    assert abs(int(stated[0][0]) - right) <= len(held_out) // 200
    count = sum(parameter.numel() for parameter in demo[0].parameters())
    assert f"{count:,} parameters" in card


def test_the_exact_model_is_as_right_as_the_card_says(demo_model: ExactModel) -> None:
    """Integers are the same everywhere, so this figure is held to the sum.

    The whole sum goes in at once: greedy decoding is right if, and only if, every token of the
    answer is the arg-max after the right ones before it.
    """
    _, held_out = train_demo.split_sums()
    tokenizer = train_demo.build_tokenizer()
    first = train_demo.PROMPT - 1
    right = 0
    for a, b in held_out:
        ids = np.array(tokenizer.encode(f"{a}+{b}={a + b}\n").ids)
        rows = reference.forward(demo_model, ids[:-1])[-1][first:]
        written = reference.run_unit(demo_model, "head", rows)
        right += bool((written == ids[first + 1 :]).all())
    assert right >= 0.99 * len(held_out)
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    assert f"exact model: {right} of {len(held_out)} held-out sums" in card


def test_exact_bounds_are_small_enough_for_ezkl(demo_model: ExactModel) -> None:
    """Attention is provable in one lookup window only while all that it reads stays below 2^13."""
    specification = demo_model.specification
    assert max(specification.boundary_bounds()) < 1 << 13
    for unit in specification.attention:
        layers = (unit.query, unit.key, unit.value, unit.out)
        assert max(layer.output for layer in layers) < 1 << 13
        assert unit.score < 1 << 13
        assert unit.norm.output < 1 << 13


def test_the_sample_is_held_out_sums(demo: tuple[Any, Tokenizer]) -> None:
    """The fidelity report reads it as text: every line is right and was never trained on."""
    text = (DEMO / "sample.txt").read_text(encoding="utf-8")
    sums = [re.fullmatch(r"(\d+)\+(\d+)=(\d+)", line) for line in text.splitlines()]
    numbers = [tuple(map(int, match.groups())) for match in sums if match]
    assert len(numbers) == len(sums) == len(set(sums)) == 40
    assert all(a + b == c for a, b, c in numbers)
    assert {(a, b) for a, b, _ in numbers} <= set(train_demo.split_sums()[1])
    assert demo[1].decode(demo[1].encode(text).ids) == text


def test_accuracy_is_counted_and_not_assumed(demo: tuple[Any, Tokenizer]) -> None:
    sums = [(12, 34), (99, 99), (55, 45)]
    assert len(train_demo.wrong_answers(tiny(), demo[1], sums)) == 3
    assert train_demo.wrong_answers(*demo, sums) == []


# Files


def test_safetensors_has_the_hugging_face_layout() -> None:
    config = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))
    d, vocab, positions = config["n_embd"], config["vocab_size"], config["n_positions"]
    inner = config["n_inner"] or 4 * d
    expected = {
        "transformer.wte.weight": [vocab, d],
        "transformer.wpe.weight": [positions, d],
        "transformer.ln_f.weight": [d],
        "transformer.ln_f.bias": [d],
    }
    for layer in range(config["n_layer"]):
        expected |= {
            f"transformer.h.{layer}.{name}": shape
            for name, shape in {
                "ln_1.weight": [d],
                "ln_1.bias": [d],
                "attn.c_attn.weight": [d, 3 * d],
                "attn.c_attn.bias": [3 * d],
                "attn.c_proj.weight": [d, d],
                "attn.c_proj.bias": [d],
                "ln_2.weight": [d],
                "ln_2.bias": [d],
                "mlp.c_fc.weight": [d, inner],
                "mlp.c_fc.bias": [inner],
                "mlp.c_proj.weight": [inner, d],
                "mlp.c_proj.bias": [d],
            }.items()
        }
    path = DEMO / "model.safetensors"
    assert path.stat().st_size <= 2_000_000
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        slices = {name: file.get_slice(name) for name in set(file.keys())}
        shapes = {name: part.get_shape() for name, part in slices.items()}
        kinds = {part.get_dtype() for part in slices.values()}
    assert shapes == expected
    assert kinds == {"F32"}


def test_config_is_gpt2_and_small() -> None:
    config = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt2"
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["activation_function"] == "gelu_new"
    assert config["tie_word_embeddings"] is True
    assert config["scale_attn_weights"] is True
    assert config["layer_norm_epsilon"] == 1e-5
    assert config["n_embd"] <= 64
    assert config["n_embd"] // config["n_head"] in (16, 64)
    assert config["n_positions"] >= 12
    assert config["vocab_size"] == 13
    assert config["bos_token_id"] == config["eos_token_id"] == 12


# Tokenizer


@pytest.mark.parametrize("text", ["12+34=46\n", "99+99=198\n", "0123456789+=\n", "\n\n", ""])
def test_tokenizer_round_trip(demo: tuple[Any, Tokenizer], text: str) -> None:
    tokenizer = demo[1]
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", ["12 +34=", "a", "1-2", "\t", "\r\n", "\u0661"])
def test_tokenizer_refuses_unknown_characters(demo: tuple[Any, Tokenizer], text: str) -> None:
    with pytest.raises(Exception, match=r"Missing \[UNK\] token"):
        demo[1].encode(text)


def test_tokenizer_ids_are_the_embedding_rows(demo: tuple[Any, Tokenizer]) -> None:
    vocabulary = demo[1].get_vocab()
    assert sorted(vocabulary.values()) == list(range(13))
    assert vocabulary == train_demo.build_tokenizer().get_vocab()


# The module


def test_model_is_the_textbook_gpt2() -> None:
    """The forward pass against torch's own attention and norms, from the stored names alone."""
    model = tiny()
    w = model.state_dict()
    ids = torch.tensor([[1, 2, 10, 3, 4, 11, 4]])
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: ids.shape[1]]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scale, shift = w[f"transformer.{name}.weight"], w[f"transformer.{name}.bias"]
        return torch.nn.functional.layer_norm(x, (8,), scale, shift, 1e-5)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = w[f"transformer.{name}.weight"], w[f"transformer.{name}.bias"]
        return torch.nn.functional.linear(x, weight.T, bias)

    for layer in range(2):
        h = f"h.{layer}"
        q, k, v = linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn").chunk(3, dim=-1)
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            heads.append(
                torch.nn.functional.scaled_dot_product_attention(
                    q[..., part], k[..., part], v[..., part], is_causal=True
                )
            )
        x = x + linear(torch.cat(heads, dim=-1), f"{h}.attn.c_proj")
        y = linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")
        cubic = (2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)
        x = x + linear(0.5 * y * (1 + torch.tanh(cubic)), f"{h}.mlp.c_proj")
    expected = norm(x, "ln_f") @ w["transformer.wte.weight"].T
    torch.testing.assert_close(model(ids), expected)


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    model = tiny(n_inner=24)
    gpt2.save_checkpoint(model, train_demo.build_tokenizer(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    again, tokenizer = gpt2.load_checkpoint(tmp_path)
    assert again.config == model.config
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert tokenizer.encode("1+").ids == [1, 10]


def test_original_gpt2_names_are_read(tmp_path: Path) -> None:
    """The first GPT-2 files have no ``transformer.`` prefix and store each block's causal mask."""
    model = tiny()
    gpt2.save_checkpoint(model, train_demo.build_tokenizer(), tmp_path)
    bare = {name.removeprefix("transformer."): x for name, x in model.state_dict().items()}
    for layer in range(2):
        bare[f"h.{layer}.attn.bias"] = torch.ones(12, 12).tril().view(1, 1, 12, 12)
    safetensors.torch.save_file(bare, tmp_path / "model.safetensors")
    again, _ = gpt2.load_checkpoint(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_function": "relu"}, "activation_function"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"scale_attn_weights": False}, "scale_attn_weights"),
        ({"model_type": "llama"}, "model_type"),
        ({"n_head": 3}, "n_head"),
        ({"n_layer": 0}, "n_layer"),
    ],
)
def test_unsupported_configurations_are_refused(change: dict[str, object], message: str) -> None:
    values = tiny().config.to_dict()
    gpt2.Config.from_dict(values)
    with pytest.raises(ValueError, match=message):
        gpt2.Config.from_dict(values | change)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    model = tiny()
    gpt2.save_checkpoint(model, train_demo.build_tokenizer(), tmp_path)
    weights = model.state_dict()
    untied = dict(weights, **{"lm_head.weight": weights["transformer.wte.weight"] + 1})
    missing = {name: x for name, x in weights.items() if name != "transformer.h.1.ln_2.bias"}
    extra = dict(weights, **{"transformer.h.2.ln_1.bias": torch.zeros(8)})
    for damaged in (untied, missing, extra):
        safetensors.torch.save_file(damaged, tmp_path / "model.safetensors")
        with pytest.raises((ValueError, RuntimeError)):
            gpt2.load_checkpoint(tmp_path)


def test_inputs_longer_than_the_model_are_refused() -> None:
    model = tiny()
    model(torch.zeros(1, 12, dtype=torch.long))
    with pytest.raises(ValueError, match="13 tokens"):
        model(torch.zeros(1, 13, dtype=torch.long))


# Training


def test_only_the_answer_is_a_target() -> None:
    inputs, targets = train_demo.encode_sums([(12, 34), (99, 99)], train_demo.build_tokenizer())
    skip = train_demo.IGNORED
    assert inputs.tolist()[0] == [1, 2, 10, 3, 4, 11, 4, 6, 12]
    assert targets.tolist() == [
        [skip] * 5 + [4, 6, 12, skip],
        [skip] * 5 + [1, 9, 8, 12],
    ]


def test_training_is_deterministic_and_learns() -> None:
    recipe = train_demo.Recipe(steps=30, warmup=5, batch=32)
    sums = train_demo.split_sums()[0][:64]
    tokenizer = train_demo.build_tokenizer()
    first, second = (train_demo.train(train_demo.CONFIG, recipe, sums, tokenizer) for _ in "12")
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    inputs, targets = train_demo.encode_sums(sums, tokenizer)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(
            first(inputs).flatten(0, 1), targets.flatten(), ignore_index=train_demo.IGNORED
        )
    assert loss < 2.0  # a uniform guess is ln 13 = 2.56

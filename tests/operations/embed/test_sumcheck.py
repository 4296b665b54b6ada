from dataclasses import replace

import numpy as np
import pytest

from tests.engines.sumcheck.circuits import Staged, Stored, Value, require_refused
from zkllm.engines.sumcheck.field import MODULUS
from zkllm.engines.sumcheck.protocol import make_proof
from zkllm.errors import ConstraintViolation, UnsupportedModel
from zkllm.operations.embed.exact import Embed, EmbedStep

VOCABULARY, CONTEXT, WIDTH = 29, 12, 6


def weights(seed: int = 0) -> Stored:
    random = np.random.default_rng(seed)
    tokens, positions = (random.integers(-99, 100, (n, WIDTH)) for n in (VOCABULARY, CONTEXT))
    return Stored(tokens=tokens, positions=positions)


def embedding(ids: list[int], output: int = 198) -> Staged:
    step = EmbedStep(
        "embed", ("ids",), "x", Embed("tokens", "positions", output), VOCABULARY, CONTEXT, WIDTH
    )
    found = np.zeros((len(ids), WIDTH), dtype=np.int64)
    if len(ids) <= CONTEXT and all(0 <= i < VOCABULARY for i in ids):
        found = step.run([np.array(ids)], weights().integers)
    values = {
        "ids": Value(np.array(ids), VOCABULARY - 1, "public"),
        "x": Value(found, 198, "committed"),
    }
    return Staged(step, weights(), values)


@pytest.mark.parametrize("committed", [False, True], ids=["held", "committed"])
@pytest.mark.parametrize("ids", [[28], [0, 0, 7], list(range(12))], ids=len)
def test_rows_of_tokens_and_positions_are_accepted(ids: list[int], committed: bool) -> None:
    embedding(ids).circuit.accept(committed=committed)


@pytest.mark.parametrize(("said", "at"), [("tokens", 0), ("positions", 1)])
def test_what_is_selected_of_the_weights_is_shown(said: str, at: int) -> None:
    embedding([3, 1, 4]).circuit.refuse_lie(f"embed: {said}", f"embed: {said}")


@pytest.mark.parametrize("name", ["tokens", "positions"])
def test_other_weights_are_refused(name: str) -> None:
    circuit = embedding([3, 1, 4]).circuit
    tensors = {n: circuit.weights.integers(n).copy() for n in ("tokens", "positions")}
    tensors[name][1, 2] += 1
    context = circuit.context()
    other = replace(circuit, weights=Stored(**tensors))
    require_refused(f"embed: {name}", other, make_proof(circuit, context), context)


@pytest.mark.parametrize("wrong", [-1, VOCABULARY, 32 + 3])
def test_an_id_that_is_no_token_is_refused(wrong: int) -> None:
    """Modulo a power of two it would be one."""
    with pytest.raises(ConstraintViolation, match=rf"embed: id 1 must lie in 0\.\.28, got {wrong}"):
        embedding([3, wrong])


def test_more_tokens_than_positions_are_refused() -> None:
    """Position 16 would be position 0."""
    with pytest.raises(ConstraintViolation, match="embed: at most 12 tokens, got 13"):
        embedding([1] * 13)


def test_hidden_ids_are_refused() -> None:
    staged = embedding([3, 1, 4])
    hidden = replace(staged.values["ids"], kind="committed")
    with pytest.raises(UnsupportedModel, match="embed: token ids are public"):
        Staged(staged.step, staged.circuit.weights, {**staged.values, "ids": hidden})


def test_rows_that_could_wrap_are_refused() -> None:
    embedding([3], 1 << 60)
    with pytest.raises(UnsupportedModel, match="embed could wrap"):
        embedding([3], MODULUS - 1)

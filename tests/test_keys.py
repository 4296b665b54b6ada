"""Keys that come from elsewhere: a policy pins what follows from the model, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.commands import zkllm
from zkllm.digests import canonical_json, sha256
from zkllm.errors import DigestMismatch, InputError
from zkllm.exact.model import ExactModel, save
from zkllm.keys import policy_for, setup

UNIT = "mlp[0]"


def test_a_policy_pins_no_commitment_to_other_weights(
    tiny_model: ExactModel, tmp_path: Path
) -> None:
    """Whoever pins the root of other weights believes in a run of those."""
    made = setup(tiny_model, "sumcheck", tmp_path, units=[UNIT])
    assert policy_for(tiny_model, tmp_path).keys == {UNIT: made[UNIT].digests}
    path = tmp_path / "mlp.0" / "commitment.json"
    commitment = json.loads(path.read_bytes())
    path.write_bytes(canonical_json(commitment | {"root": commitment["root"][::-1]}))
    with pytest.raises(DigestMismatch, match=r"not the commitment to this model's mlp\[0\]"):
        policy_for(tiny_model, tmp_path)


BPE = {"type": "BPE", "dropout": 0.5, "vocab": {"a": 0}, "merges": []}
SPLITTER = {
    "type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Removed", "invert": False
}  # fmt: skip
MANY = {f"w{i}": i for i in range(1000)}
TOKENIZERS: dict[str, Callable[[Any], Any]] = {
    "not a tokenizer": lambda value: {},
    "model.dropout must be null": lambda value: value | {"model": value["model"] | BPE},
    "no token can be read and spelled again": lambda value: value | {"pre_tokenizer": SPLITTER},
    "tokens expected": lambda value: value | {"model": value["model"] | {"vocab": MANY}},
}


@pytest.mark.parametrize("words", TOKENIZERS)
def test_no_model_is_pinned_whose_tokenizer_no_command_takes(
    tiny_model: ExactModel, tmp_path: Path, words: str
) -> None:
    """Its digest is right; it would be refused by `run`, and by `verify` under the policy."""
    value = json.loads(tiny_model.tokenizer_bytes() or b"")
    tokenizer = json.dumps(TOKENIZERS[words](value)).encode()
    specification = replace(tiny_model.specification, tokenizer=sha256(tokenizer))
    tensors = {name: tiny_model.tensor(name) for name in specification.tensors}
    folder, keys = tmp_path / "model", tmp_path / "keys"
    save(specification, tensors, tokenizer, folder)
    for command in (("policy", "init", folder), ("setup", folder, "--keys", keys)):
        done = zkllm(*command)
        assert (done.code, done.out) == (4, "")
        assert words in done.err
        assert done.err.startswith("error: tokenizer.json: ")
    assert not keys.exists()


def test_ezkl_is_demanded_only_where_its_keys_are(demo_model: ExactModel, tmp_path: Path) -> None:
    """Sumcheck needs none: a policy then has the verifier hold the weights."""
    (tmp_path / "attention.1").mkdir()
    for keys, named in ((None, "--keys"), (tmp_path, str(tmp_path))):
        for backends in ("ezkl", ["ezkl", "sumcheck"]):
            with pytest.raises(InputError, match="expected keys of ezkl, found none") as caught:
                policy_for(demo_model, keys, backends=backends)  # type: ignore[arg-type]
            assert caught.value.message.startswith(f"{named}: ")
            assert "setup MODEL --backend ezkl --keys DIR" in caught.value.hint
    assert set(policy_for(demo_model, backends="sumcheck").units.values()) == {"sumcheck"}

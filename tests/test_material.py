"""A verifier's own mistakes are found before any bundle, and no bundle is blamed for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.commands import zkllm
from tests.golden import __file__ as golden
from zkllm import verifying
from zkllm.errors import Error, InputError, WrongMaterial
from zkllm.exact.model import ExactModel
from zkllm.material import Material
from zkllm.verifying import verify_with

V1 = Path(golden).parent / "v1"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A copy of model, keys and a policy of every kind, to spoil."""
    shutil.copytree(V1 / "model", tmp_path / "model")
    shutil.copytree(V1 / "keys", tmp_path / "keys")
    for path in V1.glob("*.toml"):
        shutil.copy(path, tmp_path)
    return tmp_path


def spoil(work: Path, name: str) -> list[str | Path]:
    """Make the mistake of that name; the verifier's options."""
    model, keys, policy = work / "model", work / "keys", work / "committed.toml"
    text = policy.read_text()
    match name:
        case "no policy":
            policy.unlink()
        case "a folder for a policy":
            policy = work
        case "not TOML":
            policy.write_text("[")
        case "another format":
            policy.write_text(text.replace("format = 1", "format = 99"))
        case "another model":
            (digest,) = {line for line in text.splitlines() if line.startswith("model")}
            policy.write_text(text.replace(digest, f'model = "sha256:{"0" * 64}"'))
        case "an unknown unit":
            policy.write_text(text.replace("[units]", '[units]\n"mlp[9]" = "replay"'))
        case "a unit left out":
            policy.write_text(text.replace('"mlp[1]" = ', '# "mlp[1]" = '))
        case "another version":
            policy.write_text(text.replace("bundle_versions = [1]", "bundle_versions = [9]"))
        case "ezkl of an MLP":
            policy.write_text(text.replace('"mlp[1]" = "replay"', '"mlp[1]" = "ezkl"'))
        case "keys pinned for replay":
            policy.write_text(f'{text}\n[keys."mlp[1]"]\n"vk.key" = "sha256:{"0" * 64}"\n')
        case "a pin that ezkl does not read":
            text = (work / "ezkl.toml").read_text()
            policy.write_text(text + f'"pk.key" = "sha256:{"0" * 64}"\n')
        case "an integer without end":
            policy.write_text(
                text.replace("bundle_versions = [1]", f"bundle_versions = [0x{'f' * 9999}]")
            )
        case "no keys pinned for ezkl":
            policy.write_text((work / "ezkl.toml").read_text().split("[keys")[0])
        case "no model":
            model = work / "none"
        case "keys for a model":
            model = keys
        case "no weights":
            (model / "weights.safetensors").unlink()
        case "weights cut short":
            data = (model / "weights.safetensors").read_bytes()
            (model / "weights.safetensors").write_bytes(data[:-1])
        case "no tokenizer":
            (model / "tokenizer.json").unlink()
        case "another tokenizer":
            (model / "tokenizer.json").write_text("{}")
        case "no folder of keys":
            keys = work / "none"
        case "a file for keys":
            keys = policy
        case "empty keys":
            keys = work / "empty"
            keys.mkdir()
        case "one key missing":
            (keys / "embed" / "commitment.json").unlink()
        case "a key that is not pinned":
            path = keys / "embed" / "commitment.json"
            path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
        case "edited weights":
            path = model / "weights.safetensors"
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return ["--policy", policy, "--model", model, "--keys", keys]


MISTAKES = {
    "no policy": "committed.toml: no such file",
    "a folder for a policy": "expected a regular file",
    "not TOML": "committed.toml: not TOML",
    "another format": "expected policy format",
    "another model": "the policy names sha256:0000",
    "an unknown unit": r"units: mlp[9] is no unit of the model",
    "a unit left out": r"units: mlp[1] is not in the policy",
    "another version": "the policy allows bundle versions [9], this release knows 1",
    "ezkl of an MLP": "the policy demands what no ezkl proof can give: mlp[1]: ezkl proves",
    "keys pinned for replay": "mlp[1]: the policy pins keys for it, and replay has none",
    "a pin that ezkl does not read": "expected pins of vk.key, settings.json, kzg1.srs alone, got",
    "an integer without end": "committed.toml: not TOML: an integer of 39996 bits",
    "no keys pinned for ezkl": "attention[0]: the policy pins no keys for it",
    "no model": "none: expected an exact model, found no spec.json",
    "keys for a model": "keys: expected an exact model",
    "no weights": "expected weights.safetensors, found none",
    "weights cut short": "weights.safetensors: expected",
    "no tokenizer": "expected tokenizer.json, found none",
    "another tokenizer": "tokenizer.json: expected sha256:",
    "no folder of keys": "none: expected a folder of keys, found none",
    "a file for keys": "committed.toml: expected a folder of keys, found a file",
    "empty keys": "commitment.json: no such file",
    "one key missing": "commitment.json: no such file",
    "a key that is not pinned": "embed: commitment.json: expected sha256:",
    "edited weights": "tensor ",
}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_the_verifiers(name: str, as_json: bool, work: Path) -> None:
    """Said once, whatever the bundles are; no bundle is called invalid or refused."""
    options = spoil(work, name)
    bundles = [V1 / "committed.bundle", V1 / "replay.forged", work / "none"]
    more = ["--json"] if as_json else []
    done = zkllm("verify", *bundles, *options, "--junit", work / "junit.xml", *more)
    assert done.code == 4, done
    if as_json:
        value = json.loads(done.out)
        assert (value["exit_code"], "bundles" in value) == (4, False)
        assert MISTAKES[name] in value["error"]["message"]
    else:
        assert done.out == ""
    error, *hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert MISTAKES[name] in error
    assert all(line.startswith("hint: ") for line in hint)
    assert "refused" not in done.err
    assert "invalid" not in done.err
    assert not (work / "junit.xml").exists()


def test_without_a_mistake(work: Path) -> None:
    options = spoil(work, "nothing")
    done = zkllm("verify", V1 / "committed.bundle", work / "none", *options, "--json")
    assert done.code == 4
    good, none = json.loads(done.out)["bundles"]
    assert (good["verdict"], none["verdict"]) == ("verified", "invalid")
    assert none["error"]["clause"] == "this is no bundle that could be checked"


def test_material_is_gathered_once(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[Material] = []
    original = Material.gather

    def kept(*given: Any) -> Material:
        gathered.append(original(*given))
        return gathered[-1]

    monkeypatch.setattr(Material, "gather", kept)
    options = spoil(work, "nothing")
    bundles = [V1 / "committed.bundle"] * 3
    assert zkllm("verify", *bundles, *options).code == 0
    assert len(gathered) == 1


def test_from_python_the_same_is_raised(work: Path) -> None:
    model, keys, policy = work / "model", work / "keys", work / "committed.toml"
    spoil(work, "another model")
    with pytest.raises(WrongMaterial, match="the policy names"):
        verifying.verify(V1 / "committed.bundle", policy, model=model, keys=keys)
    with pytest.raises(InputError, match="expected a folder of keys, found none"):
        Material.gather(work / "sumcheck.toml", model, work / "none")


def test_what_is_gathered_serves_many_bundles() -> None:
    material = Material.gather(V1 / "committed.toml", V1 / "model", V1 / "keys")
    assert isinstance(material.model, ExactModel)
    for _ in range(2):
        assert verify_with(material, V1 / "committed.bundle").verdict == "verified"
    with pytest.raises(Error, match="policy demands"):
        verify_with(material, V1 / "replay.bundle")

"""sumcheck through the command line: weights held by the verifier, and weights committed to."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.commands import zkllm
from tests.traces import seal, trace
from zkllm import bundle as container
from zkllm.bundle import Evidence
from zkllm.digests import canonical_json
from zkllm.exact.model import ExactModel

UNITS = ["embed", "attention[0]", "mlp[0]", "attention[1]", "mlp[1]", "head"]
MODES = ["held", "committed"]
WORDS = "proved (sumcheck, not zero-knowledge, unaudited)"


@dataclass(frozen=True)
class Work:
    """Model, trace, keys, and of each mode a bundle and a policy."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def arguments(self, mode: str) -> list[object]:
        """What a verifier gives beside the bundle: committed weights are not there at all."""
        policy = ["--policy", self.path(f"{mode}.toml")]
        if mode == "held":
            return [*policy, "--model", self.path("model")]
        return [*policy, "--model", self.path("specification"), "--keys", self.path("keys")]


def done(*arguments: object) -> str:
    """The standard output of a command that must succeed."""
    result = zkllm(*arguments)
    assert result.code == 0, result.err
    return result.out


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    work = Work(tmp_path_factory.mktemp("work"))
    model, keys = work.path("model"), work.path("keys")
    done("export", "demo", "-o", model)
    assert done("run", model, "-p", "12+34=", "-n", "3", "-o", work.path("trace")) == "12+34=46\n"
    done("setup", model, "--backend", "sumcheck", "--keys", keys)
    work.path("specification").mkdir()
    for name in ("spec.json", "tokenizer.json"):
        shutil.copy(model / name, work.path("specification"))
    for mode in MODES:
        under = ["--keys", keys] if mode == "committed" else []
        done(
            *("prove", work.path("trace"), "--model", model, "--backend", "sumcheck"),
            *("--jobs", "1", "--nonce", "abc", "-o", work.path(mode), *under),
        )
        done(
            *("policy", "init", model, "--backend", "sumcheck", "--require-fresh"),
            *("-o", work.path(f"{mode}.toml"), *under),
        )
    return work


@pytest.mark.parametrize("mode", MODES)
def test_a_bundle_is_verified(mode: str, work: Work) -> None:
    out = done(
        *("verify", work.path(mode), *work.arguments(mode)),
        *("--nonce", "abc", "--prompt", "12+34=", "-n", "3"),
    )
    assert out.startswith("verified  ")
    assert WORDS in out


@pytest.mark.parametrize("mode", MODES)
def test_the_report_says_how_each_unit_was_proved(mode: str, work: Work) -> None:
    arguments = work.arguments(mode)
    out = done("verify", work.path(mode), *arguments, "--nonce", "abc", "--json")
    (report,) = json.loads(out)["bundles"]
    assert (report["verdict"], report["exit_code"], report["error"]) == ("verified", 0, None)
    assert report["completion"] == "46\n"
    assert [unit["unit"] for unit in report["units"]] == UNITS
    for unit in report["units"]:
        assert unit["checked"] == WORDS
        assert unit["details"]["weights"] == mode
        assert unit["details"]["soundness_bits"] >= 100
        assert unit["details"]["proof_bytes"] > 0


@pytest.mark.parametrize("mode", MODES)
def test_another_nonce_is_refused(mode: str, work: Work) -> None:
    arguments = ["verify", work.path(mode), *work.arguments(mode)]
    result = zkllm(*arguments, "--nonce", "abd")
    assert result.code == 3
    assert "nonce: expected 'abd', got 'abc'" in result.out
    result = zkllm(*arguments)
    assert result.code == 3
    assert "the policy requires freshness" in result.out


@pytest.mark.parametrize("mode", MODES)
def test_evidence_of_one_mode_is_refused_in_the_other(mode: str, work: Work) -> None:
    other = "held" if mode == "committed" else "committed"
    result = zkllm("verify", work.path(mode), *work.arguments(other), "--nonce", "abc")
    assert result.code == 3
    assert result.out.startswith("refused  ")
    verdict, refusal, hint = result.out.splitlines()
    assert verdict == f"refused  {work.path(mode)}"
    assert refusal.startswith("  the proof of embed does not fit this run: the proof is ")
    if mode == "held":
        assert refusal.endswith(
            "run: the proof is one for weights that the verifier holds, "
            "and the policy pins a commitment to them"
        )
        assert hint.startswith("  hint: prove with --keys DIR")
    else:
        assert refusal.endswith(
            "run: the proof is one under a commitment to the weights, "
            "and the policy has the verifier hold them"
        )
        assert hint.startswith("  hint: prove without --keys")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", ["embed", "mlp[1]", "head"])
def test_bytes_as_many_as_a_proof_of_the_other_mode_are_refused_too(
    mode: str, unit: str, work: Work, tmp_path: Path
) -> None:
    """The length is a guess at what went wrong; nothing is believed for it."""
    other = "held" if mode == "committed" else "committed"
    honest, evidence = load(work, mode), load(work, other).evidence[unit]
    junk = Evidence("sumcheck", bytes(len(evidence.data)))
    forged = honest.with_evidence(dict(honest.evidence) | {unit: junk})
    specification = ExactModel.from_folder(work.path("model")).specification
    container.save(forged, specification, tmp_path / "forged")
    result = zkllm("verify", tmp_path / "forged", *work.arguments(mode), "--nonce", "abc")
    assert result.code == 3
    assert f"the proof of {unit} does not fit this run: the proof is one " in result.out
    junk = Evidence("sumcheck", bytes(len(evidence.data) + 1))
    forged = honest.with_evidence(dict(honest.evidence) | {unit: junk})
    container.save(forged, specification, tmp_path / "forged")
    result = zkllm("verify", tmp_path / "forged", *work.arguments(mode), "--nonce", "abc")
    assert result.code == 3
    assert "the proof is one " not in result.out


VERIFY = """
import sys
sys.modules.update(dict.fromkeys(["numba", "llvmlite", "torch", "onnx", "onnxruntime"]))
from zkllm.cli import main
main()
"""
"""The command line of a machine on which whatever is named cannot be imported."""


@pytest.mark.parametrize("mode", MODES)
def test_a_verifier_needs_no_compiler(mode: str, work: Work) -> None:
    arguments = ["verify", work.path(mode), *work.arguments(mode), "--nonce", "abc"]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", VERIFY, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("verified  ")


def test_weights_that_are_held_are_needed(work: Work) -> None:
    result = zkllm(
        *("verify", work.path("held"), "--policy", work.path("held.toml")),
        *("--model", work.path("specification"), "--nonce", "abc"),
    )
    assert result.code == 4
    assert "expected weights.safetensors, found none" in result.err
    assert "hint: units whose evidence is replay or sumcheck need the weights" in result.err


def test_commitments_are_needed(work: Work, tmp_path: Path) -> None:
    verify = ["verify", work.path("committed"), "--nonce", "abc"]
    verify += ["--policy", work.path("committed.toml"), "--model", work.path("specification")]
    result = zkllm(*verify)
    assert result.code == 4
    assert "embed: its weights are committed to" in result.err
    assert "hint: name the folder: --keys DIR" in result.err
    result = zkllm(*verify, "--keys", tmp_path)
    assert result.code == 4
    assert "commitment.json: no such file" in result.err


def test_another_commitment_than_the_pinned_is_refused(work: Work, tmp_path: Path) -> None:
    keys = Path(shutil.copytree(work.path("keys"), tmp_path / "keys"))
    shutil.copy(keys / "mlp.1" / "commitment.json", keys / "mlp.0" / "commitment.json")
    result = zkllm(
        *("verify", work.path("committed"), *work.arguments("committed")[:-1], keys),
        *("--nonce", "abc"),
    )
    assert result.code == 4
    assert "mlp[0]: commitment.json: expected sha256:" in result.err
    assert "hint: verify with the keys for which the policy was written" in result.err


def test_commitments_that_are_there_stay(work: Work) -> None:
    before = {path: path.read_bytes() for path in work.path("keys").rglob("*.json")}
    assert len(before) == len(UNITS)
    out = done(
        *("setup", work.path("model"), "--backend", "sumcheck", "--keys", work.path("keys")),
        "--json",
    )
    assert set(json.loads(out)["keys"]) == set(UNITS)
    assert {path: path.read_bytes() for path in work.path("keys").rglob("*.json")} == before


def test_a_plan_names_every_unit(work: Work) -> None:
    plan = ["plan", work.path("model"), "--backend", "sumcheck", "--tokens", "8"]
    out = done(*plan)
    assert all(unit.split("[")[0] in out for unit in UNITS)
    found = json.loads(done(*plan, "--json"))
    assert found["backends"] == dict.fromkeys(UNITS, "sumcheck")
    # The head is planned for one token, and proved for three here.
    for unit in UNITS[:-1]:
        evidence = load(work, "held").evidence[unit].data
        assert found["estimates"][unit]["evidence_bytes"] == len(evidence)


def test_inspect_verifies_nothing(work: Work) -> None:
    for mode in MODES:
        result = zkllm("inspect", work.path(mode))
        assert result.code == 0
        assert "not verified" in result.err
        facts = json.loads(done("inspect", work.path(mode), "--json"))
        assert facts["artefact"] == "bundle"
        assert facts["evidence"] == {
            unit: f"sumcheck, {len(evidence.data)} bytes, not zero-knowledge, unaudited"
            for unit, evidence in load(work, mode).evidence.items()
        }


def test_inspect_tells_the_soundness_of_proofs_that_it_does_not_verify(work: Work) -> None:
    for mode in MODES:
        facts = json.loads(
            done("inspect", work.path(mode), "--model", work.path("model"), "--json")
        )
        for text in facts["evidence"].values():
            found = re.search(rf"unaudited, ([0-9.]+) bits of soundness, weights {mode}$", text)
            assert found
            assert float(found[1]) > 100


def test_inspect_of_evidence_that_is_no_proof(work: Work, tmp_path: Path) -> None:
    specification = ExactModel.from_folder(work.path("model")).specification
    honest = load(work, "held")
    other = honest.with_evidence({**honest.evidence, "head": Evidence("sumcheck", b"1")})
    container.save(other, specification, tmp_path / "other")
    found = done("inspect", tmp_path / "other", "--model", work.path("model"), "--json")
    assert json.loads(found)["evidence"]["head"].endswith("not as long as a proof of this unit is")


def test_inspect_of_a_commitment(work: Work) -> None:
    (path,) = work.path("keys").glob("head/commitment.json")
    facts = json.loads(done("inspect", path, "--json"))
    assert facts["artefact"] == "commitment to weights"
    assert facts["unit"] == "head"
    assert facts["model"] == ExactModel.from_folder(work.path("model")).digest


def test_inspect_of_another_models_bundle(work: Work, tiny_model: ExactModel) -> None:
    assert tiny_model.folder is not None
    result = zkllm("inspect", work.path("held"), "--model", tiny_model.folder)
    assert result.code == 4
    assert f"the model given is {tiny_model.digest}" in result.err


# Keys that are not those of what is proved


def proving_under(work: Work, folder: Path, keys: Path, *options: str | Path) -> Any:
    result = zkllm(
        *("prove", work.path("trace"), "--model", work.path("model"), "--jobs", "1"),
        *("--keys", keys, "-o", folder / "bundle", *options),
    )
    assert "Traceback" not in result.err
    if result.code:
        assert [path for path in folder.iterdir() if "bundle" in path.name] == []
    return result


def some_keys(work: Work, folder: Path, **copies: str) -> Path:
    """A folder of keys in which the unit's of that name are those of another."""
    for name, source in copies.items():
        shutil.copytree(work.path("keys") / source, folder / "keys" / name.replace("_", "."))
    return folder / "keys"


def to_nowhere(keys: Path, name: str) -> None:
    """A link that lost what it led to, as a copy of a folder may."""
    (keys / name).parent.mkdir(parents=True)
    (keys / name).symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda path: None, "expected a folder of keys, found none"),
        (lambda path: path.touch(), "expected a folder of keys, found a file"),
        (lambda path: path.mkdir(), "expected keys of a unit that is proved, found none"),
        (lambda path: (path / "mlp.7").mkdir(parents=True), "of a unit that is proved, found none"),
        (lambda path: (path / "mlp.0").mkdir(parents=True), "expected commitment.json or vk.key"),
        (lambda path: to_nowhere(path, "mlp.0"), "expected commitment.json or vk.key"),
        (lambda path: to_nowhere(path, "mlp.0/commitment.json"), "expected commitment.json or vk"),
    ],
)
def test_a_folder_that_holds_no_keys(make: Any, match: str, work: Work, tmp_path: Path) -> None:
    """A proof for weights that are held would be made, and be refused like a forgery later."""
    make(tmp_path / "keys")
    result = proving_under(work, tmp_path, tmp_path / "keys")
    assert result.code == 4
    assert match in result.err


def test_a_commitment_that_a_link_lost(work: Work, tmp_path: Path) -> None:
    """Where sumcheck is asked for, its weights would be held in silence."""
    to_nowhere(tmp_path / "keys", "mlp.0/commitment.json")
    result = proving_under(work, tmp_path, tmp_path / "keys", "--backend", "sumcheck")
    assert (result.code, "commitment.json: no such file" in result.err) == (4, True)
    policy = ["policy", "init", work.path("model"), "--keys", tmp_path / "keys"]
    result = zkllm(*policy, "--backend", "sumcheck")
    assert (result.code, "commitment.json: no such file" in result.err) == (4, True)


@pytest.mark.parametrize("command", ["setup", "policy init"])
def test_a_file_in_the_place_of_keys(command: str, work: Work, tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    result = zkllm(*command.split(), work.path("model"), "--keys", tmp_path / "keys")
    assert result.code == 4
    assert f"{tmp_path / 'keys'}: expected a folder of keys, found a file\n" in result.err


def test_keys_of_units_that_are_not_proved(work: Work, tmp_path: Path) -> None:
    keys = some_keys(work, tmp_path, mlp_0="mlp.0")
    for options in (["--backend", "sumcheck", "--unit", "embed"], ["--backend", "replay"]):
        result = proving_under(work, tmp_path, keys, *options)
        assert result.code == 4
        assert "expected keys of a unit that is proved, found none" in result.err


def test_keys_of_some_units_only(work: Work, tmp_path: Path) -> None:
    """Which is what a policy for them demands; who proves is told what a verifier needs."""
    keys = some_keys(work, tmp_path, mlp_0="mlp.0", head="head")
    result = proving_under(work, tmp_path, keys)
    assert result.code == 0
    assert "no commitment to the weights of embed, attention[0-1], mlp[1] is in" in result.err
    model = ["--model", work.path("model"), "--keys", keys]
    done("policy", "init", work.path("model"), "--keys", keys, "-o", tmp_path / "policy")
    done("verify", tmp_path / "bundle", "--policy", tmp_path / "policy", *model)
    verify = ["verify", tmp_path / "bundle", "--policy", work.path("held.toml"), *model]
    result = zkllm(*verify, "--nonce", "abc")
    assert result.code == 3


def test_keys_of_another_unit(work: Work, tmp_path: Path) -> None:
    keys = some_keys(work, tmp_path, mlp_0="mlp.1", embed="embed")
    result = proving_under(work, tmp_path, keys)
    assert result.code == 4
    assert "the commitment is to mlp[1], expected mlp[0]" in result.err


def test_keys_of_another_model(work: Work, tiny_model: ExactModel, tmp_path: Path) -> None:
    assert tiny_model.folder is not None
    done("setup", tiny_model.folder, "--unit", "mlp[0]", "--keys", tmp_path / "keys")
    result = proving_under(work, tmp_path, tmp_path / "keys")
    assert result.code == 4
    model = ExactModel.from_folder(work.path("model"))
    assert f"the commitment is to {tiny_model.digest}, expected {model.digest}" in (
        result.err.replace("\n", " ")
    )


def test_a_commitment_to_other_weights(work: Work, tmp_path: Path) -> None:
    """It names model and unit, but its root is another: nothing is kept of what was proved."""
    keys = some_keys(work, tmp_path, embed="embed", mlp_0="mlp.0")
    path = keys / "mlp.0" / "commitment.json"
    found = json.loads(path.read_bytes())
    path.write_bytes(canonical_json(found | {"root": found["root"][::-1]}))
    result = proving_under(work, tmp_path, keys)
    assert result.code == 4
    assert "mlp[0]: the commitment is to other weights than the model's" in result.err


# Traces that are no runs


def load(work: Work, name: str) -> container.Bundle:
    specification = ExactModel.from_folder(work.path("model")).specification
    return container.load(work.path(name), specification)


def proving(work: Work, bundle: container.Bundle, folder: Path, *arguments: object) -> Any:
    model = ExactModel.from_folder(work.path("model"))
    container.save(seal(model, bundle), model.specification, folder / "trace")
    result = zkllm(
        *("prove", folder / "trace", "--model", model.folder, "--backend", "sumcheck"),
        *("--jobs", "1", "-o", folder / "bundle", *arguments),
    )
    assert not (folder / "bundle").exists()
    assert "Traceback" not in result.err
    return result


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("boundary", "unit"), [(0, "embed"), (2, "mlp[0]"), (3, "attention[1]")])
def test_a_trace_that_is_no_run_is_not_proved(
    boundary: int, unit: str, mode: str, work: Work, tmp_path: Path
) -> None:
    bundle = load(work, "trace")
    rows = [boundary.copy() for boundary in bundle.boundaries]
    right = int(rows[boundary][1, 7])
    rows[boundary][1, 7] += 1
    rows[boundary][2, 0] += 1
    under = ["--keys", work.path("keys")] if mode == "committed" else []
    result = proving(work, replace(bundle, boundaries=tuple(rows)), tmp_path, *under)
    assert result.code == 4
    assert result.err.splitlines()[-1] == (
        f"error: {unit}: the model gives {right} at [1, 7], the claim says {right + 1}"
    )


def test_a_token_that_is_not_the_arg_max_is_not_proved(work: Work, tmp_path: Path) -> None:
    model = ExactModel.from_folder(work.path("model"))
    chosen = load(work, "trace").statement.generated_ids
    wrong = (chosen[0], (chosen[1] + 1) % 10, *chosen[2:])
    result = proving(work, trace(model, "12+34=", 3, generated=wrong), tmp_path)
    assert result.code == 4
    assert f"head: row 1 has the arg-max {chosen[1]}, the claim says {wrong[1]}: " in result.err

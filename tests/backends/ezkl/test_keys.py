"""Keys from somebody else: a policy pins what the model gives, byte for byte, or nothing.

The forger here has the model with one weight negated: the same circuit, the same sizes, keys and
proofs that are right in every other way, and an `about.json` that names the honest model.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.ezkl.circuits import FOLDER, UNIT, Proved, prove, unit_circuit
from tests.commands import zkllm
from tests.engines.ezkl.circuits import run
from zkllm.backends.base import Pin
from zkllm.backends.ezkl import keys as keyring
from zkllm.backends.ezkl.backend import EzklBackend, relation
from zkllm.backends.ezkl.keys import VERIFYING, Made
from zkllm.backends.ezkl.settings import reproducible
from zkllm.digests import canonical_json, sha256
from zkllm.engines.ezkl import audit as auditing
from zkllm.engines.ezkl import srs
from zkllm.engines.ezkl.audit import audit
from zkllm.errors import (
    BackendError,
    DigestMismatch,
    Error,
    InputError,
    ProofRejected,
    UntrustedMaterial,
)
from zkllm.exact import reference
from zkllm.exact.model import ExactModel, save
from zkllm.keys import policy_for, setup

BACKEND = EzklBackend()
DEVELOPMENT, OTHER = "development-kzg14.srs", "other.srs"
"""The SRS of all keys here, and one of another secret, which the forger has too."""
NO_CHANGE = [*VERIFYING, "model.onnx", "pk.key", "about.json"]
"""Files of keys that are the same whenever they are made; model.compiled is not."""


def edited(model: ExactModel) -> ExactModel:
    """The model with its largest value weight negated, under the same name."""
    spec = model.specification
    tensors = {name: model.tensor(name).copy() for name in spec.tensors}
    weight = tensors["attention[0].value.weight"]
    place = np.unravel_index(np.abs(weight).argmax(), weight.shape)
    weight[place] = -weight[place]
    return ExactModel.in_memory(spec, tensors)


@pytest.fixture(scope="module")
def forged(proved: Proved, tmp_path_factory: pytest.TempPathFactory) -> Proved:
    """The forger's keys, over the same SRS, and a proof of what the forger's model says."""
    keys = tmp_path_factory.mktemp("forged")
    shutil.copytree(proved.keys / "srs", keys / "srs")
    run("gen_srs", path=keys / "srs" / OTHER, logrows=14)
    return prove(edited(proved.model), keys)


@pytest.fixture
def made_once(
    proved: Proved, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keys of the honest model that are made again over one SRS are made once for all tests."""
    original = keyring.making

    @contextlib.contextmanager
    def making(model: ExactModel, unit: str, circuit: Any, source: Path, *a: Any, **k: Any) -> Any:
        assert model is proved.model
        which = f"{circuit.public[0].shape}-{sha256(source.read_bytes())}"
        if which not in MADE:
            with original(model, unit, circuit, source, *a, **k) as made:
                kept = tmp_path_factory.mktemp("made")
                shutil.copytree(made.folder, kept / "keys")
                MADE[which] = replace(made, folder=kept / "keys")
        fresh = tmp_path_factory.mktemp("fresh") / "keys"  # some move it away
        shutil.copytree(MADE[which].folder, fresh)
        yield replace(MADE[which], folder=fresh)
        shutil.rmtree(fresh)

    monkeypatch.setattr(keyring, "making", making)


MADE: dict[str, Made] = {}


@pytest.fixture
def folder(proved: Proved, tmp_path: Path) -> Path:
    """The honest keys, to be spliced."""
    keys = tmp_path / "keys"
    shutil.copytree(proved.keys, keys)
    return keys


# The forgery itself


@pytest.mark.slow
def test_the_forgery_is_one(proved: Proved, forged: Proved) -> None:
    """Whoever pins the forger's keys believes in a run that is none of the model."""
    claim = forged.claim
    assert not np.array_equal(reference.run_unit(proved.model, UNIT, claim.inputs), claim.outputs)
    checked = BACKEND.verify(claim, forged.evidence, proved.model, forged.pin, forged.keys)
    assert checked.words == "proved (ezkl)"
    with pytest.raises(ProofRejected):
        BACKEND.verify(claim, forged.evidence, proved.model, proved.pin, proved.keys)


@pytest.mark.slow
def test_columns_say_nothing_of_commitments(proved: Proved, forged: Proved, folder: Path) -> None:
    """An audit of somebody else's proving key alone would find nothing."""
    vk = put(forged, folder, "vk.key").read_bytes()
    pk = folder / FOLDER / "pk.key"
    pk.write_bytes(vk + pk.read_bytes()[len(vk) :])
    settings = folder / FOLDER / "settings.json"
    report = audit(pk, settings, relation(unit_circuit(proved.model)))
    assert report.ok
    assert report.vk == forged.pin.digests["vk.key"]
    with pytest.raises(DigestMismatch, match=r"vk\.key: not of the keys of this model's"):
        BACKEND.pin(proved.model, UNIT, folder, recompute=True)
    with pytest.raises(InputError, match=r"vk\.key: expected a key of this model, found another"):
        BACKEND.setup(proved.model, UNIT, len(proved.claim.inputs), folder, audit=True)


# Splices

Splice = Callable[[Proved, Path], object]


def put(forged: Proved, keys: Path, *names: str) -> Path:
    for name in names:
        shutil.copy(forged.keys / FOLDER / name, keys / FOLDER / name)
    return keys / FOLDER / names[-1]


def about(**changes: object) -> Splice:
    def splice(_: Proved, keys: Path) -> None:
        path = keys / FOLDER / "about.json"
        path.write_bytes(canonical_json(json.loads(path.read_bytes()) | changes))

    return splice


def instead(name: str, make: Callable[[Path], object]) -> Splice:
    """Something else under the name of a file."""

    def splice(_: Proved, keys: Path) -> None:
        path = keys / FOLDER / name
        path.unlink()
        make(path)

    return splice


def both(*splices: Splice) -> Splice:
    def splice(forged: Proved, keys: Path) -> None:
        for each in splices:
            each(forged, keys)

    return splice


def edit_settings(_: Proved, keys: Path) -> None:
    """Settings that leave no freedom, and are not those of this circuit."""
    path = keys / FOLDER / "settings.json"
    values = json.loads(path.read_bytes())
    values["num_rows"] += 1
    path.write_text(json.dumps(values, sort_keys=True, separators=(",", ":")))


def reverse_tables(_: Proved, keys: Path) -> None:
    path = keys / FOLDER / "settings.json"
    values = json.loads(path.read_bytes())
    values["required_lookups"].reverse()
    path.write_text(json.dumps(values, sort_keys=True, separators=(",", ":")))


def foreign_reduced(forged: Proved, keys: Path) -> None:
    (keys / FOLDER / "kzg1.srs").write_bytes(srs.reduce(forged.keys / "srs" / OTHER))


def foreign_srs(forged: Proved, keys: Path) -> None:
    foreign_reduced(forged, keys)
    shutil.copy(forged.keys / "srs" / OTHER, keys / "srs" / DEVELOPMENT)


def link_to_all(forged: Proved, keys: Path) -> None:
    shutil.rmtree(keys / FOLDER)
    (keys / FOLDER).symlink_to(forged.keys / FOLDER)


def link_to_vk(forged: Proved, keys: Path) -> None:
    (keys / FOLDER / "vk.key").unlink()
    (keys / FOLDER / "vk.key").symlink_to(forged.keys / FOLDER / "vk.key")


ALL = (*VERIFYING, "model.onnx", "model.compiled", "pk.key", "about.json")
VK = r"attention\.0/vk\.key: not of the keys of this model's attention\[0\]"
NONE = "expected keys of ezkl, found none"
SRS = "expected the SRS with which the keys were made, found none"
SPLICES: dict[str, tuple[Splice, type[Error], str]] = {
    "all": (lambda f, keys: put(f, keys, *ALL), DigestMismatch, VK),
    "vk": (lambda f, keys: put(f, keys, "vk.key"), DigestMismatch, VK),
    "vk and pk": (lambda f, keys: put(f, keys, "vk.key", "pk.key"), DigestMismatch, VK),
    "verifying": (lambda f, keys: put(f, keys, *VERIFYING), DigestMismatch, VK),
    "all by a link": (link_to_all, DigestMismatch, VK),
    "vk by a link": (link_to_vk, DigestMismatch, VK),
    "settings": (edit_settings, DigestMismatch, r"settings\.json: not of the keys"),
    "tables": (reverse_tables, DigestMismatch, r"settings\.json: not of the keys"),
    "reduced SRS": (foreign_reduced, InputError, SRS),
    "whole SRS": (foreign_srs, DigestMismatch, VK),
    "no SRS": (lambda _, keys: shutil.rmtree(keys / "srs"), InputError, SRS),
    "other model": (
        about(model=sha256(b"other")),
        InputError,
        r"attention\.0: model: the keys are for sha256:d9298a10",
    ),
    "other model's": (
        both(lambda f, keys: put(f, keys, *ALL), about(model=sha256(b"other"))),
        InputError,
        "model: the keys are for",
    ),
    "other unit": (about(unit="attention[1]"), InputError, r"the keys are for attention\[1\]"),
    "other positions": (about(tokens=16), DigestMismatch, VK),
    "no positions": (about(tokens=9), Error, "expected a run of 8 or 16 positions, got 9"),
    "odd positions": (about(tokens=True), InputError, "expected a digest, a name and a number"),
    "odd unit": (about(unit=["\x1b[2J"]), InputError, "expected a digest, a name and a number"),
    "odd model": (about(model="\x1b[2Jx\n" * 99), InputError, r"are for \\x1b\[2Jx\\n\\x1b"),
    "no about": (instead("about.json", lambda path: None), InputError, r"no such file"),
    "about of nothing": (instead("about.json", Path.touch), InputError, "not strict JSON"),
    "deep about": (
        instead("about.json", lambda path: path.write_text("[" * 60_000)),
        InputError,
        "nested deeper than 16 levels",
    ),
    "huge about": (
        instead("about.json", lambda path: path.write_bytes(bytes(1 << 17))),
        InputError,
        r"about\.json: at most 65536 bytes expected, got 131072",
    ),
    "about in a pipe": (instead("about.json", os.mkfifo), InputError, "expected a regular file"),
    "vk in a pipe": (instead("vk.key", os.mkfifo), InputError, NONE),
    "vk in a folder": (instead("vk.key", Path.mkdir), InputError, NONE),
    "vk of zeros": (
        instead("vk.key", lambda path: path.symlink_to("/dev/zero")),
        InputError,
        NONE,
    ),
    "settings in a pipe": (
        instead("settings.json", os.mkfifo),
        InputError,
        "expected a regular file",
    ),
    "deep settings": (
        instead("settings.json", lambda path: path.write_text("[" * 60_000)),
        DigestMismatch,
        r"settings\.json: not of the keys",
    ),
    "short vk": (
        instead("vk.key", lambda path: path.write_bytes(b"short")),
        DigestMismatch,
        VK,
    ),
    "cut SRS": (
        lambda _, keys: os.truncate(keys / "srs" / DEVELOPMENT, 1 << 20),
        InputError,
        f"{DEVELOPMENT}: 1048576 bytes are not the size of an SRS of k = 14",
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize("name", SPLICES)
def test_no_policy_pins_spliced_keys(
    name: str, proved: Proved, forged: Proved, folder: Path
) -> None:
    splice, error, words = SPLICES[name]
    splice(forged, folder)
    with pytest.raises(error, match=words) as caught:
        policy_for(proved.model, folder, backends=["ezkl"])
    assert "\n" not in caught.value.message


@pytest.mark.slow
@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize("names", [(), ("model.onnx", "model.compiled"), ("pk.key",)])
def test_honest_keys_are_pinned(
    names: tuple[str, ...], proved: Proved, forged: Proved, folder: Path
) -> None:
    """What no verifier reads may be anything: the forger's proof is still refused."""
    if names:
        put(forged, folder, *names)
    (folder / FOLDER / "extra").write_text("more")
    policy = policy_for(proved.model, folder, backends=["ezkl"])
    assert policy.units == {UNIT: "ezkl", "mlp[0]": "replay"}
    assert policy.keys == {UNIT: proved.pin.digests}
    pin = Pin(dict(policy.keys[UNIT]))
    with pytest.raises(ProofRejected):
        BACKEND.verify(forged.claim, forged.evidence, proved.model, pin, folder)


@pytest.mark.parametrize("tokens", [0, -8, 9])
def test_positions_that_no_circuit_has(demo_model: ExactModel, tmp_path: Path, tokens: int) -> None:
    assert demo_model.folder is not None
    setup = ["setup", demo_model.folder, "--backend", "ezkl", "--keys", tmp_path / "keys"]
    result = zkllm(*setup, "--tokens", str(tokens))
    assert (result.code, f"got {tokens}" in result.err) == (4, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("made_once")
def test_a_verifying_half_alone_cannot_be_pinned(proved: Proved, tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    for name in VERIFYING:
        shutil.copy(proved.keys / FOLDER / name, tmp_path / FOLDER / name)
    with pytest.raises(InputError, match=r"about\.json: expected what the keys are for") as caught:
        policy_for(proved.model, tmp_path, backends=["ezkl"])
    assert f"the SRS in the folder {tmp_path / 'srs'}" in caught.value.hint
    assert "zkllm setup MODEL --backend ezkl" in caught.value.hint


# Public parameters


@pytest.fixture
def ceremony(proved: Proved, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SRS of the honest keys is that of a ceremony."""
    path = proved.keys / "srs" / DEVELOPMENT
    digests = {14: sha256(path.read_bytes()), 1: sha256(srs.reduce(path))}
    known = {k: digest.removeprefix("sha256:") for k, digest in digests.items()}
    monkeypatch.setattr(srs, "PUBLIC_SHA256", known)


@pytest.mark.slow
@pytest.mark.usefixtures("made_once", "ceremony")
def test_keys_over_a_public_srs(proved: Proved, forged: Proved, folder: Path) -> None:
    (folder / "srs" / DEVELOPMENT).rename(folder / "srs" / "kzg14.srs")
    assert policy_for(proved.model, folder, backends=["ezkl"]).keys == {UNIT: proved.pin.digests}
    put(forged, folder, *ALL)
    with pytest.raises(DigestMismatch, match=VK):
        policy_for(proved.model, folder, backends=["ezkl"])


@pytest.mark.slow
@pytest.mark.usefixtures("ceremony")
def test_a_public_srs_that_shares_only_its_ends(proved: Proved, folder: Path) -> None:
    """Other points give the honest circuit another key, which a proof of another circuit fits.

    A policy would call it public: the file that it pins of the SRS is that of the ceremony.
    """
    path = folder / "srs" / DEVELOPMENT
    data = bytearray(path.read_bytes())
    middle = 4 + 64 * ((1 << 14) + 100)
    data[middle : middle + 64] = data[middle + 64 : middle + 128]
    path.write_bytes(data)
    assert srs.is_public(sha256(srs.reduce(path)))
    with pytest.raises(InputError, match=SRS) as caught:
        policy_for(proved.model, folder, backends=["ezkl"])
    assert "zkllm srs import" in caught.value.hint
    shutil.rmtree(folder / FOLDER)
    with pytest.raises(UntrustedMaterial, match=f"{DEVELOPMENT}: has the reduced form of the publ"):
        setup(proved.model, "ezkl", folder, units=[UNIT])
    assert not (folder / FOLDER).exists()
    path.rename(folder / "srs" / "kzg14.srs")
    with pytest.raises(UntrustedMaterial, match=r"kzg14\.srs: expected the public SRS of k = 14"):
        setup(proved.model, "ezkl", folder, units=[UNIT])


# Setup where keys are already


@pytest.mark.slow
@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("all", r"vk\.key: expected a key of this model, found another"),
        ("vk", r"vk\.key: expected a key of this model, found another"),
        ("settings", r"settings\.json: expected a key of this model, found another"),
        ("reduced SRS", r"kzg1\.srs: expected a key of this model, found another"),
        ("whole SRS", r"vk\.key: expected a key of this model, found another"),
        ("other model", "model: the keys are for"),
        ("other positions", "tokens: the keys are for 16, expected 8"),
        ("about of nothing", "not strict JSON"),
        ("vk in a pipe", "expected a regular file"),
    ],
)
def test_setup_keeps_no_spliced_keys(
    name: str, words: str, proved: Proved, forged: Proved, folder: Path
) -> None:
    SPLICES[name][0](forged, folder)
    before = sorted((folder / FOLDER).iterdir())
    with pytest.raises(InputError, match=words):
        setup(proved.model, "ezkl", folder, units=[UNIT])
    assert sorted((folder / FOLDER).iterdir()) == before


@pytest.mark.slow
def test_setup_makes_the_prover_s_half_anew(proved: Proved, forged: Proved, folder: Path) -> None:
    """And leaves alone what is not of ezkl. Audited is what was made, not what was there."""
    put(forged, folder, "model.onnx", "model.compiled", "pk.key")
    (folder / FOLDER / "about.json").unlink()
    (folder / FOLDER / "commitment.json").write_text("of sumcheck")
    made = setup(proved.model, "ezkl", folder, units=[UNIT], audit=True)
    assert made[UNIT].digests == proved.pin.digests
    assert "no free operand" in made[UNIT].audit
    for name in NO_CHANGE:
        assert (folder / FOLDER / name).read_bytes() == (proved.keys / FOLDER / name).read_bytes()
    assert (folder / FOLDER / "commitment.json").read_text() == "of sumcheck"
    assert sorted(path.name for path in folder.iterdir()) == [FOLDER, "srs"]
    evidence = BACKEND.prove(proved.model, proved.claim, folder)
    BACKEND.verify(proved.claim, evidence, proved.model, proved.pin, folder)


@pytest.mark.slow
@pytest.mark.usefixtures("made_once")
def test_setup_where_something_else_is_in_the_way(proved: Proved, folder: Path) -> None:
    (folder / FOLDER / "pk.key").unlink()
    (folder / FOLDER / "pk.key").mkdir()
    with pytest.raises(BackendError, match=r"attention\.0: cannot be written: is a directory"):
        setup(proved.model, "ezkl", folder, units=[UNIT])
    shutil.rmtree(folder / FOLDER)
    (folder / FOLDER).touch()
    with pytest.raises(InputError, match=r"attention\.0: expected a folder, found a file"):
        setup(proved.model, "ezkl", folder, units=[UNIT])


@pytest.mark.slow
@pytest.mark.usefixtures("made_once")
def test_an_audit_needs_the_verifying_key_of_the_audited(
    proved: Proved, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    tokens = len(proved.claim.inputs)
    made = BACKEND.setup(proved.model, UNIT, tokens, folder, audit=True)
    assert "no free operand" in made.audit
    report = audit(
        folder / FOLDER / "pk.key",
        folder / FOLDER / "settings.json",
        relation(unit_circuit(proved.model)),
    )
    report.vk = sha256(b"")
    monkeypatch.setattr(auditing, "audit", lambda *_: report)
    with pytest.raises(UntrustedMaterial, match="contains another verifying key"):
        BACKEND.setup(proved.model, UNIT, tokens, folder, audit=True)


# What this process has made


@pytest.mark.slow
def test_what_was_just_made_is_not_made_again(
    proved: Proved, forged: Proved, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {UNIT: proved.pin}

    def making(*_: Any, **__: Any) -> Iterator[Made]:
        raise AssertionError("made again")

    monkeypatch.setattr(keyring, "making", making)
    assert policy_for(proved.model, folder, backends=["ezkl"], made=made).keys == {
        UNIT: proved.pin.digests
    }
    for name in VERIFYING:  # whatever was touched since then is made again
        path = folder / FOLDER / name
        honest = path.read_bytes()
        path.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
        with pytest.raises((AssertionError, InputError), match=r"made again|expected the SRS"):
            policy_for(proved.model, folder, backends=["ezkl"], made=made)
        path.write_bytes(honest)
    put(forged, folder, *ALL)
    with pytest.raises(AssertionError, match="made again"):
        policy_for(proved.model, folder, backends=["ezkl"], made=made)


# Proving and verifying


@pytest.mark.slow
def test_proving_with_somebody_else_s_key(proved: Proved, forged: Proved, folder: Path) -> None:
    put(forged, folder, "pk.key")
    with pytest.raises(InputError, match=r"pk\.key: expected the proving key of vk\.key"):
        BACKEND.prove(proved.model, proved.claim, folder)
    for name in ("pk.key", "model.compiled"):
        (folder / FOLDER / name).unlink()
        os.mkfifo(folder / FOLDER / name)
        with pytest.raises(InputError, match=rf"{name}: expected a file, found none"):
            BACKEND.prove(proved.model, proved.claim, folder)


@pytest.mark.slow
def test_keys_said_to_be_of_another_model_are_refused_before_anything_is_proved(
    proved: Proved, forged: Proved, folder: Path
) -> None:
    about(model=sha256(b"other"))(forged, folder)
    with pytest.raises(InputError, match="model: the keys are for"):
        BACKEND.pin(proved.model, UNIT, folder)


# The same bytes each time


def test_settings_are_written_the_same_each_time() -> None:
    one = {
        "timestamp": 1,
        "required_lookups": [{"ACosh": {"scale": 256.0}}, {"Exp": {"scale": 256.0, "base": 2.5}}],
        "einsum_params": {"equations": [["td,d->ta", {"t": 8, "d": 8}], ["a->b", {}]]},
    }
    other = {
        "required_lookups": [{"Exp": {"base": 2.5, "scale": 256.0}}, {"ACosh": {"scale": 256.0}}],
        "einsum_params": {"equations": [["td,d->ta", {"d": 8, "t": 8}], ["a->b", {}]]},
        "timestamp": 2,
    }
    written = reproducible(json.dumps(one).encode())
    assert written == reproducible(json.dumps(other).encode()) == reproducible(written)
    assert json.loads(written) == one | {"timestamp": 0}


@pytest.mark.slow
def test_keys_are_the_same_in_another_process(proved: Proved, tmp_path: Path) -> None:
    """With another number of threads, another home and another seed of Python's own hashes."""
    model = tmp_path / "model"
    spec = proved.model.specification
    tensors = {name: proved.model.tensor(name) for name in spec.tensors}
    save(spec, tensors, None, model)
    shutil.copytree(proved.keys / "srs", tmp_path / "keys" / "srs")
    subprocess.run(
        [sys.executable, "-m", "zkllm", "setup", model, "--backend", "ezkl", "--unit", UNIT],
        cwd=tmp_path,
        env=os.environ | {"RAYON_NUM_THREADS": "1", "HOME": "/", "PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
    )
    for name in NO_CHANGE:
        made = tmp_path / "keys" / FOLDER / name
        assert made.read_bytes() == (proved.keys / FOLDER / name).read_bytes(), name


@pytest.mark.slow
def test_the_tables_of_a_key_stand_in_one_order(
    proved: Proved, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order ezkl lists them in."""

    def listed_otherwise(settings: bytes) -> bytes:
        values = json.loads(settings)
        values["required_lookups"].reverse()
        return reproducible(json.dumps(values).encode())

    monkeypatch.setattr(keyring, "reproducible", listed_otherwise)
    assert BACKEND.pin(proved.model, UNIT, folder, recompute=True) == proved.pin


# From the command line


@pytest.mark.slow
def test_commands_refuse_a_forger_s_keys(proved: Proved, forged: Proved, tmp_path: Path) -> None:
    model, policy = tmp_path / "model", tmp_path / "policy.toml"
    spec = proved.model.specification
    save(spec, {name: proved.model.tensor(name) for name in spec.tensors}, None, model)
    keys = tmp_path / "keys"
    shutil.copytree(forged.keys, keys)
    demand = ("policy", "init", model, "--keys", keys, "--allow-insecure-srs", "-o", policy)
    done = zkllm(*demand)
    assert done.code == 3, done.err
    assert done.err.splitlines() == [
        f"refused: {keys / FOLDER / 'vk.key'}: not of the keys of this model's {UNIT}",
        "hint: make them in an empty folder with: zkllm setup MODEL --backend ezkl --keys DIR",
    ]
    assert not policy.exists()
    make = ("setup", model, "--backend", "ezkl", "--keys", keys, "--audit")
    done = zkllm(*make)
    assert done.code == 4
    assert f"{keys / FOLDER / 'vk.key'}: expected a key of this model, found another" in done.err
    assert done.out == ""
    shutil.rmtree(keys / FOLDER)
    done = zkllm(*make)
    assert done.code == 0, done.err
    assert "no free operand" in done.out
    assert zkllm(*demand).code == 0
    assert proved.pin.digests["vk.key"] in policy.read_text()

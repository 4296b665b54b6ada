"""Attacks on the verifying path: by bundles, names, policies, tokenizers, and the environment."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import zkllm
from tests.fitting import naming, tensors_of
from tests.test_verifying import NEW, PROMPT, change, header_of, refuse, with_header
from tests.traces import fragment_trace, trace
from zkllm import bundle as container
from zkllm import output, reports, tokenization, verifying
from zkllm.backends.base import INSECURE_ASSUMPTION, Checked, Claim, Pin
from zkllm.backends.replay import ReplayBackend
from zkllm.bundle import Bundle, Evidence
from zkllm.digests import parse_canonical_json, repeated
from zkllm.errors import (
    BackendError,
    InputError,
    InvalidBundle,
    LimitExceeded,
    PolicyViolation,
    StatementMismatch,
    UntrustedMaterial,
    WrongMaterial,
)
from zkllm.exact.model import ExactModel, save
from zkllm.exact.quantise import build
from zkllm.exporting import export
from zkllm.files import read_limited, write_folder_atomically
from zkllm.hidden import read_hidden
from zkllm.inspecting import inspect
from zkllm.keys import policy_for
from zkllm.operations.precision import PRECISIONS
from zkllm.policy import Policy
from zkllm.running import run_fragment
from zkllm.verifying import claims, verify

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def honest(tiny_model: ExactModel) -> Bundle:
    units = tiny_model.specification.units()
    return trace(tiny_model, PROMPT, NEW).with_evidence(
        dict.fromkeys(units, Evidence("replay", b""))
    )


@pytest.fixture(scope="module")
def policy(tiny_model: ExactModel) -> Policy:
    return policy_for(tiny_model, backends=["replay"])


@pytest.fixture
def work(tiny_model: ExactModel, honest: Bundle, policy: Policy, tmp_path: Path) -> Path:
    """A folder with a policy and two bundles, of which `bad` is truncated."""
    data = honest.to_bytes(tiny_model.specification)
    (tmp_path / "good").write_bytes(data)
    (tmp_path / "bad").write_bytes(data[:100])
    (tmp_path / "policy.toml").write_text(policy.to_toml())
    return tmp_path


def arguments(model: ExactModel, work: Path) -> list[str | Path]:
    assert model.folder is not None
    return ["--policy", work / "policy.toml", "--model", model.folder]


def shell(command: str, model: ExactModel, work: Path, **more: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a shell command in which `$ZKLLM` verifies."""
    options = " ".join(map(str, arguments(model, work)))
    names = {"ZKLLM": f"{sys.executable} -m zkllm verify {options}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=work,
        env=os.environ | names | more,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()


# What the header of a bundle may say


Edit = Callable[[dict[str, Any]], None]


def put(section: int, **fields: Any) -> Edit:
    return lambda header: header["sections"][section].update(fields)


def stretch(header: dict[str, Any]) -> None:
    """One byte of the second boundary becomes the last of the first."""
    header["sections"][2]["length"] += 1
    header["sections"][3]["length"] -= 1


def swap_texts(header: dict[str, Any]) -> None:
    header["sections"][:2] = reversed(header["sections"][:2])


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda header: header.update(kind="proof"), "header.kind: expected trace or bundle"),
        (lambda header: header.update(sections={}), "header.sections: expected a list"),
        (lambda header: header["sections"].append([]), "expected an object with name and length"),
        (lambda header: header["sections"][0].pop("length"), "an object with name and length"),
        (put(0, offset=0), "unknown field offset"),
        (put(0, name=""), "name: expected a short name"),
        (put(0, name="x" * 101), "name: expected a short name"),
        (put(0, name="prompt\x1b[2J"), "name: expected a short name"),
        (put(-1, name="evidence/::error::forged"), "name: expected a short name"),
        (put(0, name=7), "name: expected a short name"),
        (put(-1, backend="magic"), "backend: expected one of replay"),
        (put(-1, backend=None), "backend: expected one of replay"),
        (put(0, backend="replay"), "prompt: evidence, and only it, names a backend"),
        (lambda header: header["sections"][-1].pop("backend"), "evidence, and only it, names"),
        (stretch, r"boundary\[0\]: expected \d+ bytes"),
        (swap_texts, "expected prompt, completion.*got completion"),
        (lambda header: header["statement"].update({"a\nb": 0}), r"unknown field a\\nb"),
        (put(0, **{"a\nb": 0}), r"unknown field a\\nb"),
    ],
)
def test_header_of_another_form(
    edit: Edit, match: str, tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    header, body = header_of(honest.to_bytes(tiny_model.specification))
    edit(header)
    refuse(InvalidBundle, match, with_header(header, body), tiny_model, policy)


@pytest.mark.parametrize("count", [0, 4, 6])
def test_more_or_fewer_boundaries_than_the_model_has(
    count: int, tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    digests = (honest.statement.boundaries * 2)[:count]
    forged = change(honest, boundaries=digests)
    refuse(StatementMismatch, f"expected 5, got {count}", forged, tiny_model, policy)


def test_a_text_that_no_digest_binds(
    tiny_model: ExactModel, honest: Bundle, policy: Policy
) -> None:
    forged = change(honest, text=None)
    refuse(StatementMismatch, "text: expected a digest, got none", forged, tiny_model, policy)


class Name(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


def test_duplicates_are_found_in_linear_time() -> None:
    """Four megabytes of names must not take an hour."""
    names = [Name(i) for i in range(3000)]
    assert repeated([*names, Name(2999), Name(0)]) == "2999"
    assert repeated(names) == ""
    assert Name.compared < 3000
    many = ",".join(f'"{i:07d}":0' for i in range(200_000))
    with pytest.raises(InvalidBundle, match="duplicate key '0199999'"):
        parse_canonical_json(f'{{{many},"0199999":0}}'.encode(), "header")


def test_so_are_duplicate_sections(tiny_model: ExactModel, policy: Policy) -> None:
    sections = [{"length": 0, "name": f"{i:x}"} for i in [*range(100_000), 99_999]]
    data = with_header({"kind": "trace", "sections": sections, "statement": {}}, b"")
    refuse(InvalidBundle, "1869f appears twice", data, tiny_model, policy)


def test_the_size_cap_follows_from_the_policy(
    tiny_model: ExactModel, policy: Policy, tmp_path: Path
) -> None:
    """Who demands recomputation does not read a gigabyte of what another backend might need."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    with pytest.raises(LimitExceeded, match="at most"):
        verify(path, policy, model=tiny_model)
    spec = tiny_model.specification
    assert container.largest_size(spec, policy.units) < 16 << 20 < container.largest_size(spec)


def test_a_long_prompt_is_refused_before_it_is_encoded(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.traces import seal

    def encoded(*_: object) -> None:
        raise AssertionError("encoded")

    monkeypatch.setattr(tokenization.Tokenizer, "encode", encoded)
    forged = seal(tiny_model, replace(honest, prompt="a" * (1 << 20)))
    refuse(StatementMismatch, "expected for 5 tokens, got 1048576", forged, tiny_model, policy)


# Checks behind checks


def test_every_unit_was_checked(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = verifying.claims

    def forgetful(*parts: Any) -> Iterator[Claim]:
        return (claim for claim in original(*parts) if claim.unit != "mlp[1]")

    monkeypatch.setattr(verifying, "claims", forgetful)
    refuse(PolicyViolation, "not every unit", honest, tiny_model, policy)


def test_an_insecure_srs_has_to_be_allowed(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = Checked("proved", assumptions=(INSECURE_ASSUMPTION,))
    monkeypatch.setattr(ReplayBackend, "verify", lambda *_: checked)
    refuse(UntrustedMaterial, "development SRS without allowing it", honest, tiny_model, policy)
    allowed = replace(policy, insecure_srs=True)
    report = verify(honest.to_bytes(tiny_model.specification), allowed, model=tiny_model)
    assert report.verdict == "verified (insecure development SRS)"


@pytest.mark.parametrize("value", [2**51, -(2**51)])
def test_bounds_of_the_model_that_do_not_hold(
    value: int, tiny_model: ExactModel, honest: Bundle
) -> None:
    """Under a policy that was written by hand nobody proves them: still no sum wraps in silence."""
    name = tiny_model.specification.mlp[0].project.weight
    tensors = tensors_of(tiny_model)
    tensors[name] = tensors[name].copy()
    tensors[name][:, 5] = value
    specification = naming(tiny_model.specification, tensors)
    model = ExactModel.in_memory(specification, tensors)
    claim = list(claims(honest, tiny_model.specification))[2]
    assert claim.unit == "mlp[0]"
    with pytest.raises(WrongMaterial, match=r"^mlp\[0\]: a matrix product could reach 2\^6"):
        ReplayBackend().verify(claim, b"", model, Pin({}), None)


# Policies


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a = " + "[" * 100_000, "not TOML"),
        ("a=" + "{b=" * 5000, "not TOML"),
        ("a = " + "9" * 5000, "not TOML"),
        ("format = true", "policy format 1 or 2, got True"),
        ("format = 2.0", "policy format 1 or 2, got 2.0"),
        ('format = 1\n"a\\nb" = 1', r"unknown field a\\nb"),
    ],
)
def test_policies_that_end_in_one_line(text: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        Policy.from_file(path)
    assert "\n" not in caught.value.message
    assert zkllm("inspect", path).code == 4


def test_keys_are_a_table(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("keys = [1]\n" + policy.to_toml())
    with pytest.raises(InputError, match="keys: expected a table of tables"):
        Policy.from_file(path)


# Files and their names


def test_a_limit_larger_than_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_limited(tmp_path / "file", 1 << 62) == b"12345"


def test_a_name_that_no_file_has() -> None:
    with pytest.raises(InputError, match="null byte"):
        read_limited(Path("a\0b"), 10)


@pytest.mark.parametrize("name", ["x[/nope]", "x[/]\n\x1b[2Jverified  y", "x\n::error::y", ":cat:"])
def test_names_of_bundles_are_data(name: str, tiny_model: ExactModel, work: Path) -> None:
    path = work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for source, verdict, code in (("good", "verified", 0), ("bad", "invalid", 4)):
        path.write_bytes((work / source).read_bytes())
        done = zkllm("verify", path, *arguments(tiny_model, work), "--junit", work / "junit.xml")
        assert done.code == code, done.err
        first, *rest = done.out.splitlines()
        assert first.startswith(f"{verdict}  ")
        assert first.endswith(name[-6:].replace("\n", " "))
        assert not any(line.strip().startswith(("::", "verified")) for line in rest)
        assert "\x1b" not in done.out + done.err + (work / "junit.xml").read_text()


def test_names_of_models_are_data(tiny_model: ExactModel, work: Path) -> None:
    assert tiny_model.folder is not None
    model = work / "m[" / "b]"
    model.parent.mkdir()
    model.symlink_to(tiny_model.folder)
    new = work / "m[" / "policy]"
    done = zkllm("policy", "init", model, "-o", new)
    assert (done.code, done.err) == (0, f"  policy in {new}\n")


def test_a_file_that_says_it_has_a_gigabyte_of_prompt(tmp_path: Path, honest: Bundle) -> None:
    header = {
        "kind": "trace",
        "sections": [{"length": (4 << 20) + 1, "name": "prompt"}],
        "statement": honest.statement.to_json(),
    }
    (tmp_path / "trace").write_bytes(with_header(header, bytes((4 << 20) + 1)))
    with pytest.raises(LimitExceeded, match="prompt: at most 4194304 bytes"):
        inspect(tmp_path / "trace")


def test_force_deletes_nobodys_files(tiny_folder: Path, tmp_path: Path) -> None:
    """Many a project has a spec.json."""
    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "thesis.tex").write_text("three years")
    with pytest.raises(InputError, match=r"holds thesis.tex, which is not of zkllm"):
        export(tiny_folder, tmp_path, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "three years"


def test_a_folder_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "m").write_text("old")
    original = Path.rename

    def rename(self: Path, other: Path) -> Path:
        if other == target and not self.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        return original(self, other)

    monkeypatch.setattr(Path, "rename", rename)
    with (
        pytest.raises(BackendError, match="the disk is full"),
        write_folder_atomically(target, mark="m", force=True) as fresh,
    ):
        (fresh / "m").write_text("new")
    assert (target / "m").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# Hidden states


def header_only(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04garbage",
        b"",
        header_only(b"'''abc"),
        header_only(b"(" * 9000),
        header_only(b"{'descr': '<i8', 'fortran_order': False, 'shape': (1099511627776, 8)}\n"),
        header_only(b"{[]: 1}\n"),
        header_only(b"-" * 5000 + b"1\n"),
        header_only(b"{'descr': '<,8', 'fortran_order': False, 'shape': (1,)}\n"),
        header_only(b"{'descr': '<i8', 'fortran_order': False, 'shape': (True,)}\n"),
        header_only(b"{'descr': (('<i8',), (2,)), 'fortran_order': False, 'shape': (1,)}\n"),
        header_only(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"),
    ],
)
def test_rows_that_are_none(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"expected a \.npy file of integers"):
        read_hidden(path)


def test_rows_in_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.npy")
    with pytest.raises(InputError, match="regular file"):
        read_hidden(tmp_path / "rows.npy")


@pytest.mark.parametrize("kind", ["m8", "m8[s]", "M8[D]", "bool", "c16", "S8"])
def test_rows_of_what_is_no_integer(kind: str, tmp_path: Path) -> None:
    """A duration is a subtype of numpy's integers, and its entries are none."""
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((2, 32), dtype=kind))
    with pytest.raises(
        InputError, match=f"expected integers, got {np.dtype(kind)}".replace("[", r"\[")
    ):
        read_hidden(path)


def test_rows_are_never_changed(tiny_checkpoint: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.full((2, 32), 2**64 - 1, dtype=np.uint64))
    with pytest.raises(InputError, match="64 bits with a sign, got 18446744073709551615"):
        read_hidden(tmp_path / "rows.npy")
    specification, tensors = build(tiny_checkpoint, PRECISIONS["wide"], (0, 1))
    model = save(specification, tensors, None, tmp_path / "model")
    with pytest.raises(InputError, match="expected integers, got float64"):
        run_fragment(model, np.full((2, 32), 0.5))
    assert fragment_trace(model, np.ones((2, 32), dtype=np.int64)).statement.positions == 2


# Tokenizers


def tokenizer(exact: ExactModel, **changes: Any) -> bytes:
    data = exact.tokenizer_bytes()
    assert data is not None
    return json.dumps(json.loads(data) | changes).encode()


PANICS: dict[str, dict[str, Any]] = {
    "merges": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}},
    "charsmap": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
}


@pytest.mark.parametrize("name", PANICS)
def test_a_tokenizer_that_panics(name: str, tiny_model: ExactModel) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json: not a tokenizer"):
        tokenization.parse(tokenizer(tiny_model, **PANICS[name]), 29)


def test_a_decoder_that_panics(tiny_model: ExactModel, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tokenizer(
        tiny_model, decoder={"type": "Strip", "content": "a", "start": 100, "stop": 100}
    )
    monkeypatch.setattr(ExactModel, "tokenizer_bytes", lambda _: data)
    with pytest.raises(InputError, match="the tokenizer cannot decode"):
        tokenization.Tokenizer(tiny_model).decode([0])


def test_a_tokenizer_interrupted() -> None:
    """An interruption is no panic."""
    with pytest.raises(KeyboardInterrupt), tokenization._guarded(""):
        raise KeyboardInterrupt


def test_padding_and_truncation_are_off(tiny_model: ExactModel) -> None:
    padding = {
        "strategy": {"Fixed": 1 << 40},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "a",
    }
    cut = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}
    data = tokenizer(tiny_model, padding=padding, truncation=cut)
    assert tokenization.parse(data, 29).encode("cat").ids == [2, 0, 19]


# What is shown


COMMANDS = "##[set-env name=PATH]/x ###vso[task.setvariable variable=PATH]/x"


def test_no_text_commands_a_runner(
    tiny_model: ExactModel, honest: Bundle, policy: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some runners of pipelines obey a command wherever in a line it stands."""
    report = verify(honest.to_bytes(tiny_model.specification), policy, model=tiny_model)
    hostile = replace(report, prompt=COMMANDS, completion=COMMANDS)
    output.report(hostile, Path(COMMANDS))
    output.error(StatementMismatch(COMMANDS, COMMANDS))
    output.note(COMMANDS)
    output.emit_json(reports.report_json(hostile, Path(COMMANDS)))
    shown = capsys.readouterr()
    assert "##" not in shown.out + shown.err
    # nothing is lost: a literal and JSON have another spelling of the same text
    literal = next(line for line in shown.out.splitlines() if line.startswith("  completion  "))
    assert ast.literal_eval(literal.removeprefix("  completion  ")) == COMMANDS
    assert json.loads(shown.out[shown.out.index("{") :])["prompt"] == COMMANDS


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        monkeypatch.setattr(output.out, "_force_terminal", True)
        yield stream


def test_generated_text_does_not_drive_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as stream:
        output.text("a\x1b[2Jb\nc")
    assert stream.getvalue() == "a [2Jb\nc\n"


def test_generated_text_in_a_pipe_is_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.text("a\x1b[2J:cat:[/b]\n")
    assert capsys.readouterr().out == "a\x1b[2J:cat:[/b]\n"


def test_no_text_becomes_another(capsys: pytest.CaptureFixture[str]) -> None:
    output.facts([("prompt", "a :cat: [b]x[/b]")])
    assert capsys.readouterr().out == "  prompt  a :cat: [b]x[/b]\n"


def test_no_digest_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    rows = output.table("unit", "artefact", "digest")
    rows.add_row("attention[0]", "settings.json", "sha256:" + "ab" * 32)
    output.show(rows)
    assert "attention[0]  settings.json  sha256:" + "ab" * 32 in capsys.readouterr().out


def test_any_locale_and_any_name(tiny_model: ExactModel, work: Path) -> None:
    (work / "good").rename(work / os.fsdecode(b"nam\xff\xc3\xa9"))
    code, out, err = shell("$ZKLLM nam*", tiny_model, work, PYTHONIOENCODING="ascii")
    assert code == 0, err
    assert out.startswith("verified  nam")


@pytest.mark.parametrize("bundle", ["good", "bad"])
@pytest.mark.parametrize("stderr", ["/dev/full", "&-"])
def test_verdicts_without_a_stderr(
    stderr: str, bundle: str, tiny_model: ExactModel, work: Path
) -> None:
    command = f"unset PYTHONUNBUFFERED; $ZKLLM {bundle} 2>{stderr}"
    code, out, _ = shell(command, tiny_model, work)
    assert code == {"good": 0, "bad": 4}[bundle]
    assert out.startswith({"good": "verified  good", "bad": "invalid  bad"}[bundle])


@pytest.mark.parametrize("bundle", ["good", "bad"])
def test_verdicts_without_a_stdout(bundle: str, tiny_model: ExactModel, work: Path) -> None:
    code = {"good": 0, "bad": 4}[bundle]
    assert shell(f"$ZKLLM {bundle} --json >&-", tiny_model, work) == (code, "", "")
    command = f"unset PYTHONUNBUFFERED; $ZKLLM {bundle} --json >/dev/full"
    found, _, err = shell(command, tiny_model, work)
    assert found == (code or 5), "a verdict is not lost with its report"
    assert "No space left" in err


# The action


ACTION = ROOT / ".github" / "actions" / "verify"


def steps() -> list[str]:
    """The script of each step of the action."""
    text = (ACTION / "action.yml").read_text(encoding="utf-8")
    return [script.split("\n    - ")[0] for script in text.split("      run: |\n")[1:]]


def test_the_action_imports_nothing_from_the_checkout(tmp_path: Path) -> None:
    command = steps()[0].replace("pip install --quiet", "pip --version #")
    assert "pip --version #" in command
    (tmp_path / "pip.py").write_text("raise SystemExit('from the checkout')")
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "EXTRAS": "", "ACTION": str(ACTION)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "from the checkout" not in done.stderr


def test_the_action_lets_no_text_command_the_runner(tmp_path: Path) -> None:
    """Whatever a report shows stands between `stop-commands` and an unguessable token."""
    fake = tmp_path / "zkllm"
    fake.write_text("#!/bin/sh\necho '::error::forged'\nexit 3\n")
    fake.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    names = "POLICY MODEL KEYS NONCE PROMPT NEW_TOKENS JUNIT"
    inputs = dict.fromkeys(names.split(), "") | {"BUNDLES": "b", "ACTION": str(ACTION)}
    (tmp_path / "b").touch()
    done = subprocess.run(
        ["bash", "-c", steps()[-1]],
        cwd=tmp_path,
        env=os.environ | inputs | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    first, *middle, last = done.stdout.splitlines()
    assert middle == ["::error::forged"]
    token = first.removeprefix("::stop-commands::")
    assert len(token) >= 32
    assert last == f"::{token}::"


def test_the_action_waits_for_nobody(tmp_path: Path) -> None:
    """A file that is called - stands for standard input."""
    fake = tmp_path / "zkllm"
    fake.write_text('#!/bin/bash\ncat\nprintf "asked for %s" "${!#}" >&2\nexit 4\n')
    fake.chmod(0o755)
    (tmp_path / "-").touch()
    names = ("POLICY", "MODEL", "KEYS", "NONCE", "PROMPT", "NEW_TOKENS")
    inputs = dict.fromkeys(names, "") | {"BUNDLES": "-*", "JUNIT": "j", "ACTION": str(ACTION)}
    done = subprocess.run(
        ["bash", "-c", steps()[-1]],
        cwd=tmp_path,
        env=os.environ | inputs | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        input="from somebody",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (4, "asked for -")
    assert "from somebody" not in done.stdout

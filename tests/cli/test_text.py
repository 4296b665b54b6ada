"""From text to text through the command line, with tokenizers of every kind."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, processors

from tests.commands import zkllm
from tests.conftest import MakeCheckpoint
from tests.tokenizer_kinds import KINDS, byte_level, changed, characters, with_bos
from tests.traces import seal
from zkllm import bundle as container
from zkllm.exact.model import ExactModel

PROMPTS = {
    "byte level, space before": "hello the",
    "byte level, BOS by template": "hello",
    "unigram, always": "hello the",
    "SentencePiece": "hello the",
    "WordPiece": "Hello, the",
    "words": "hello WORLD the",
    "lower case, NFKC, stripped": " HELLO ",
    "end of word": "the hello",
    "holes": "hello the",
    "CTC": "hello",
}
"""One prompt for each kind whose decoder or encoder does more than to spell."""


def checkpoint_with(
    raw: Tokenizer, make_checkpoint: MakeCheckpoint, *, rows: int | None = None
) -> Path:
    rows = max(raw.get_vocab().values()) + 1 if rows is None else rows
    folder = make_checkpoint(vocab_size=rows, n_layer=1, n_positions=32, eos_token_id=None)
    raw.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("kind", PROMPTS)
def test_what_is_run_is_what_is_verified(
    kind: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    raw, prompt = KINDS[kind](), PROMPTS[kind]
    done = zkllm("export", checkpoint_with(raw, make_checkpoint), "-o", tmp_path / "model")
    assert done.code == 0, done.err
    done = zkllm(
        "run", tmp_path / "model", "-p", prompt, "-n", "4", "-o", tmp_path / "trace", "--json"
    )
    assert done.code == 0, done.err
    result = json.loads(done.out)
    statement = result["statement"]
    before = raw.encode(prompt).ids
    assert statement["prompt_ids"] == before
    text = raw.decode(before, skip_special_tokens=False) + result["completion"]
    after = [*before, *statement["generated_ids"]]
    assert text == raw.decode(after, skip_special_tokens=False)

    replay = ["--model", tmp_path / "model", "--backend", "replay", "-o", tmp_path / "bundle"]
    assert zkllm("prove", tmp_path / "trace", *replay).code == 0
    policy = ["policy", "init", tmp_path / "model", "--backend", "replay"]
    assert zkllm(*policy, "-o", tmp_path / "policy").code == 0
    demands = ["--policy", tmp_path / "policy", "--model", tmp_path / "model", "--prompt", prompt]
    done = zkllm("verify", tmp_path / "bundle", *demands)
    assert done.code == 0, done.err
    read = raw.decode(before, skip_special_tokens=False)
    said = re.search("read as +" + re.escape(repr(read)), done.out)
    assert (said is not None) == (read != prompt)

    # the completion as it reads alone: another text, unless the decoder joins tokens as they are
    model = ExactModel.from_folder(tmp_path / "model")
    honest = container.load(tmp_path / "bundle", model.specification)
    alone = raw.decode(statement["generated_ids"], skip_special_tokens=False)
    forged = seal(model, replace(honest, completion=alone))
    container.save(forged, model.specification, tmp_path / "forged")
    done = zkllm("verify", tmp_path / "forged", *demands)
    assert done.code == (0 if alone == result["completion"] else 3)
    if done.code:
        assert "completion: the ids decode to" in done.out


def bos_without_a_row() -> Tokenizer:
    raw = byte_level()
    raw.add_special_tokens(["<s>"])
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 263)]
    )
    return raw


def joined_then(step: decoders.Decoder) -> Tokenizer:
    """All is joined before `step` changes it, so that more text may change what was there."""
    raw = characters(unknown=False)
    raw.decoder = decoders.Sequence([decoders.Fuse(), step])
    return raw


REFUSED: dict[str, tuple[Tokenizer, int, str]] = {
    "dropout": (byte_level(dropout=0.2), 263, "model.dropout must be null, got 0.2"),
    "another model's": (byte_level(), 200, "at most 200 tokens expected, got 26"),
    "BOS without a row": (bos_without_a_row(), 263, "token 263, '<s>', for which the model has no"),
    "BOS that is nowhere": (
        with_bos(
            lambda _: processors.TemplateProcessing(
                single="<s> $A", special_tokens=[("<s>", 90000)]
            )
        ),
        263,
        "token 90000, 'None', for which the model has no row",
    ),
    "a decoder that panics": (
        changed(
            characters("a", unknown=False),
            decoder={"type": "Strip", "content": "a", "start": 9, "stop": 9},
        ),
        40,
        "no token can be read and spelled again: the tokenizer cannot decode its tokens: index out",
    ),
    "a decoder that changes what it said": (
        joined_then(decoders.Replace(Regex(r"^(?=[\s\S]{2})"), "?")),
        40,
        "no token can be read and spelled again: the tokenizer's decoder has no text for",
    ),
    "a template without the text": (
        changed(
            characters(),
            post_processor={
                "type": "TemplateProcessing",
                "single": [],
                "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
                "special_tokens": {},
            },
        ),
        40,
        "no token can be read and spelled again: the prompt gives no token",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_refused_at_export(
    name: str, make_checkpoint: MakeCheckpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw, rows, message = REFUSED[name]
    folder = checkpoint_with(raw, make_checkpoint, rows=rows)
    done = zkllm("export", folder, "-o", tmp_path / "model")
    assert (done.code, done.out) == (4, "")
    assert message in done.err
    assert done.err.startswith("error: tokenizer.json: ")
    assert len([line for line in done.err.splitlines() if not line.startswith("hint:")]) == 1
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "model").exists()


def test_a_prompt_that_no_context_holds(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint_with(byte_level(), make_checkpoint)
    assert zkllm("export", folder, "-o", tmp_path / "model").code == 0
    monkeypatch.setattr("zkllm.tokenization.Tokenizer.encode", lambda *_: pytest.fail("encoded"))
    done = zkllm("run", tmp_path / "model", "-p", "a" * 70_000, "-n", "1")
    assert done.code == 4
    assert "at most 69632 characters expected for 32 positions, got 70000" in done.err


def test_settings_beside_the_tokenizer_are_held_against_it(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    folder = checkpoint_with(byte_level(), make_checkpoint)
    (folder / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    done = zkllm("export", folder, "-o", tmp_path / "model")
    assert done.code == 4
    assert "add_prefix_space must be false as in tokenizer.json, got true" in done.err
    assert not (tmp_path / "model").exists()


def test_a_fragment_asks_nothing_of_the_tokenizer(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    folder = checkpoint_with(byte_level(dropout=0.2), make_checkpoint)
    assert zkllm("export", folder, "-o", tmp_path / "model", "--blocks", "0:1").code == 0


def test_a_token_that_the_model_has_no_row_for(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    raw = byte_level()
    raw.add_special_tokens([AddedToken("[PAD]", special=True)])
    folder = checkpoint_with(raw, make_checkpoint, rows=263)
    assert zkllm("export", folder, "-o", tmp_path / "model").code == 0
    assert zkllm("run", tmp_path / "model", "-p", "hello", "-n", "1").code == 0
    done = zkllm("run", tmp_path / "model", "-p", "hello [PAD]", "-n", "1")
    assert done.code == 4
    assert "the prompt has token 263, '[PAD]', for which the model has no row" in done.err


def test_a_decoder_that_has_no_text_for_some_completions(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    raw = joined_then(decoders.Replace(Regex(r"^x(?=[\s\S])"), "y"))
    folder = checkpoint_with(raw, make_checkpoint)
    assert zkllm("export", folder, "-o", tmp_path / "model").code == 0
    assert zkllm("run", tmp_path / "model", "-p", "a", "-n", "1").code == 0
    done = zkllm("run", tmp_path / "model", "-p", "x", "-n", "1", "-o", tmp_path / "trace")
    assert done.code == 4
    assert "error: the tokenizer's decoder has no text for the completion" in done.err
    assert "hint: ask for more tokens" in done.err
    assert not (tmp_path / "trace").exists()


# The text of the fidelity report


@pytest.mark.parametrize("text", ["", "1", "\n\n", " \n"])
def test_text_without_two_tokens_in_a_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(text)
    done = zkllm("export", "demo", "-o", tmp_path / "model", "--text", tmp_path / "text")
    assert (done.code, done.out) == (4, "")
    assert done.err == "error: --text: expected a line of at least two tokens, got none\n"
    assert not (tmp_path / "model").exists()


def test_text_that_the_tokenizer_lacks_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zkllm.exporting.build", lambda *_: pytest.fail("weights were rounded"))
    (tmp_path / "text").write_text("1+2=3\n1+x=3\n")
    done = zkllm("export", "demo", "-o", tmp_path / "model", "--text", tmp_path / "text")
    assert done.code == 4
    assert "cannot spell line 2 of --text: expected known characters, got 'x'" in done.err


@pytest.mark.parametrize("sample", [b"", b"\n", b"1", b"caf\xff\n", b"x y z\n"])
def test_a_sample_that_is_no_use(sample: bytes, demo_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo_folder, tmp_path / "demo"))
    (folder / "sample.txt").write_bytes(sample)
    done = zkllm("export", folder, "-o", tmp_path / "model", "--json")
    assert done.code == 0, done.err
    report: dict[str, Any] = json.loads(done.out)["fidelity"]
    assert report["text"] == "random tokens (sample.txt has no usable line)"
    assert report["positions"] == 16

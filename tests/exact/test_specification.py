"""spec.json: one encoding, one digest, and nothing in it that does not fit together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from zkllm.checkpoints import Checkpoint
from zkllm.digests import canonical_json, sha256, tagged
from zkllm.errors import InvalidBundle, UnsupportedVersion
from zkllm.exact import specification as module
from zkllm.exact.quantise import PRECISIONS, build
from zkllm.exact.specification import Specification, model_digest

Json = dict[str, Any]


@pytest.fixture(scope="module")
def text(tiny_checkpoint: Checkpoint) -> Specification:
    return build(tiny_checkpoint, PRECISIONS["wide"])[0]


@pytest.fixture(scope="module")
def fragment(tiny_checkpoint: Checkpoint) -> Specification:
    return build(tiny_checkpoint, PRECISIONS["ezkl"], (1, 2))[0]


def changed(specification: Specification, change: Callable[[Json], Any]) -> bytes:
    """The canonical bytes of `specification` after `change` has edited its JSON."""
    value = json.loads(specification.to_bytes())
    change(value)
    return canonical_json(value)


def test_a_specification_comes_back(text: Specification, fragment: Specification):
    for some in (text, fragment):
        again = Specification.from_bytes(some.to_bytes())
        assert again == some
        assert again.to_bytes() == some.to_bytes()
        assert again.digest == some.digest


def test_the_digest_is_that_of_the_bytes(text: Specification):
    data = text.to_bytes()
    assert text.digest == model_digest(data) == tagged("zkllm/model/v1", data)
    assert text.digest != sha256(data)


def test_units_and_boundaries_are_in_order(text: Specification, fragment: Specification):
    assert list(text.units()) == [
        "embed",
        "attention[0]",
        "mlp[0]",
        "attention[1]",
        "mlp[1]",
        "head",
    ]
    assert list(fragment.units()) == ["attention[1]", "mlp[1]"]
    bounds = [text.input]
    for attention, mlp in zip(text.attention, text.mlp, strict=True):
        bounds += [attention.output, mlp.output]
    assert text.boundary_bounds() == bounds
    assert len(fragment.boundary_bounds()) == 3


def test_every_tensor_belongs_to_a_unit(text: Specification):
    shapes = text.tensor_shapes()
    assert set(text.tensors) == set(shapes) | {"table.exp", "table.gelu"}
    assert shapes["embed.tokens"] == (29, 32)
    assert shapes["attention[1].out.weight"] == (32, 32)
    assert shapes["mlp[0].expand.weight"] == (32, 128)
    assert shapes["mlp[0].project.bias"] == (32,)
    assert shapes["head.logits.weight"] == (32, 29)


# Refusals


def put(path: str, value: Any) -> Callable[[Json], None]:
    """Set the value at a dotted path; numbers are indices of lists."""

    def change(json_value: Json) -> None:
        *parents, last = path.split("/")
        target: Any = json_value
        for name in parents:
            target = target[int(name) if name.isdigit() else name]
        target[int(last) if last.isdigit() else last] = value

    return change


def drop(path: str) -> Callable[[Json], None]:
    def change(json_value: Json) -> None:
        *parents, last = path.split("/")
        target: Any = json_value
        for name in parents:
            target = target[int(name) if name.isdigit() else name]
        del target[int(last) if last.isdigit() else last]

    return change


def test_another_format_is_another_release(text: Specification):
    for value in (0, 2, "1", None, 10**30):
        with pytest.raises(UnsupportedVersion, match="expected format 1, got"):
            Specification.from_bytes(changed(text, put("format", value)))
    with pytest.raises(InvalidBundle, match="format: expected int, got bool"):
        Specification.from_bytes(changed(text, put("format", True)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("pad_id"), "missing field pad_id"),
        (put("more", 1), "unknown field more"),
        (put("embed/more", 1), "embed: unknown field more"),
        (put("kind", "story"), "kind: expected one of text, fragment, got 'story'"),
        (put("kind", ["text"]), "kind: expected one of"),
        (put("source", "sha256:" + "0" * 63), "source: expected a sha256 digest"),
        (put("tokenizer", "sha256:" + "A" * 64), "tokenizer: expected a sha256 digest"),
        (put("tokenizer", {"a": 1}), "tokenizer: expected a sha256 digest"),
        (put("architecture", []), "architecture: expected an object, got list"),
        (put("architecture/width", "32"), "width: expected int, got str"),
        (put("architecture/width", True), "width: expected int, got bool"),
        (put("architecture/activation", "silu"), "activation: expected one of gelu_new"),
        (put("attention/1/norm/shift", None), r"attention\[1\].norm.shift: expected int"),
        (put("attention", {}), "attention: expected a list, got dict"),
        (put("tensors", []), "tensors: expected an object, got list"),
        (put("stop_ids", 28), "stop_ids: expected a list, got int"),
    ],
)
def test_other_fields_are_refused(
    text: Specification, change: Callable[[Json], None], message: str
):
    with pytest.raises(InvalidBundle, match=f"^spec.json.*{message}"):
        Specification.from_bytes(changed(text, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("architecture/heads", 0), "architecture's numbers do not fit"),
        (put("architecture/heads", 3), "architecture's numbers do not fit"),
        (put("architecture/first_block", -1), "architecture's numbers do not fit"),
        (put("architecture/first_block", 1), "a text model, and only it, has a tokenizer"),
        (put("architecture/blocks", 1), "expected 1 attention and mlp units each"),
        (drop("mlp/1"), "expected 2 attention and mlp units each"),
        (put("embed", None), "a text model, and only it, has embed and head"),
        (put("head", None), "a text model, and only it, has embed and head"),
        (put("kind", "fragment"), "a text model, and only it, has embed and head"),
        (put("tokenizer", None), "a text model, and only it, has a tokenizer"),
        (put("pad_id", 29), "pad and stop ids must be tokens"),
        (put("stop_ids/0", -1), "pad and stop ids must be tokens"),
        (put("architecture/vocabulary", 30), r"tensor embed.tokens of shape \[30, 32\]"),
        (put("architecture/inner", 127), r"expected a tensor mlp\[0\].expand.weight of shape"),
        (drop("tensors/head.logits.bias"), "expected a tensor head.logits.bias"),
        (drop("tensors/table.exp"), "expected a table table.exp"),
        (put("tensors/table.gelu/shape", [2, 2]), "expected a table table.gelu"),
        (put("mlp/1/gelu", "table.none"), "expected a table table.none"),
        (put("tensors/table.gelu/shape", [0]), "table.gelu: expected up to 4 positive"),
        (put("tensors/table.gelu/dtype", "uint8"), "table.gelu: expected dtype in"),
        (put("tensors/head.logits.bias/dtype", "float64"), "head.logits.bias: expected dtype"),
        (
            lambda v: v["tensors"].update(more=v["tensors"]["table.exp"]),
            "tensor more belongs to no unit",
        ),
        (
            put("attention/1/query/weight", "attention[0].query.weight"),
            r"two layers share the tensor attention\[0\].query.weight",
        ),
        (put("input", 0), "expected an input below"),
        (put("input", 1 << 52), "expected an input below"),
        (put("fractions/score", -1), "fractions.score must be at least 0"),
        (put("exp/logrows", -1), "exp.logrows must be at least 0"),
        (put("attention/0/norm/shift", 62), r"attention\[0\].norm.shift must be .* below 62"),
        (put("attention/0/norm/epsilon", 1 << 61), r"attention\[0\].norm.epsilon must be"),
        (put("attention/0/norm/variance", 1 << 61), r"attention\[0\].norm.variance must be"),
        (put("attention/0/score_shift", 62), r"attention\[0\].score_shift must be"),
        (put("attention/1/product", 1 << 52), r"attention\[1\].product must be .* below 450"),
        (put("attention/1/out/shift", -1), r"attention\[1\].out.shift must be at least 0"),
        (put("mlp/0/expand/accumulator", 1 << 52), r"mlp\[0\].expand.accumulator must be"),
        (put("head/logit", 1 << 52), "head.logit must be"),
        (put("embed/output", -1), "embed.output must be at least 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    text: Specification, change: Callable[[Json], None], message: str
):
    with pytest.raises(InvalidBundle, match=f"^spec.json: .*{message}"):
        Specification.from_bytes(changed(text, change))


def test_a_fragment_has_no_tokenizer(fragment: Specification):
    with pytest.raises(InvalidBundle, match="only it, has a tokenizer"):
        Specification.from_bytes(changed(fragment, put("tokenizer", sha256(b""))))
    dataclasses.replace(fragment, tokenizer=None).check()


def test_only_canonical_bytes_are_read(text: Specification):
    data = text.to_bytes()
    for other in (data + b"\n", data.replace(b'":', b'": ', 1), data[:-1], b"", b"[]"):
        with pytest.raises(InvalidBundle, match=r"^spec\.json"):
            Specification.from_bytes(other)


def test_a_huge_file_is_not_parsed(text: Specification, monkeypatch: pytest.MonkeyPatch):
    data = text.to_bytes()
    monkeypatch.setattr(module, "MAX_BYTES", len(data))
    assert Specification.from_bytes(data) == text
    monkeypatch.setattr(module, "MAX_BYTES", len(data) - 1)
    with pytest.raises(InvalidBundle, match=f"at most {len(data) - 1} bytes, got {len(data)}"):
        Specification.from_bytes(data)

"""spec.json: one encoding, one digest, and nothing in it that does not fit together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.exact.sizes import Sizes, text_model
from zkllm.checkpoints import Checkpoint
from zkllm.digests import canonical_json, sha256, tagged
from zkllm.errors import InvalidBundle, UnsupportedVersion
from zkllm.exact import limits
from zkllm.exact import specification as module
from zkllm.exact.quantise import build
from zkllm.exact.specification import Specification, model_digest
from zkllm.operations.precision import PRECISIONS
from zkllm.sizes import MAX_SIZES, MAX_STOP_IDS

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


def test_a_specification_comes_back(text: Specification, fragment: Specification) -> None:
    for some in (text, fragment):
        again = Specification.from_bytes(some.to_bytes())
        assert again == some
        assert again.to_bytes() == some.to_bytes()
        assert again.digest == some.digest


def test_the_digest_is_that_of_the_bytes(text: Specification) -> None:
    data = text.to_bytes()
    assert text.digest == model_digest(data) == tagged("zkllm/model/v1", data)
    assert text.digest != sha256(data)


def test_units_and_boundaries_are_in_order(text: Specification, fragment: Specification) -> None:
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


def test_every_tensor_belongs_to_a_unit(text: Specification) -> None:
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


def test_another_format_is_another_release(text: Specification) -> None:
    values: list[Any] = [0, 2, "1", None, 10**30, "\x1b[2J\n", "x" * 100_000, [[]]]
    for value in values:
        with pytest.raises(UnsupportedVersion, match=r"expected format 1, got [ -~]{,20}$"):
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
) -> None:
    with pytest.raises(InvalidBundle, match=f"^spec.json.*{message}"):
        Specification.from_bytes(changed(text, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("architecture/heads", 0), "architecture.heads: expected 1 to 1024, got 0"),
        (put("architecture/heads", 3), "architecture: expected a width that 3 heads share, got 32"),
        (put("architecture/first_block", -1), "architecture.first_block: expected 0 to 1024, got"),
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
        (put("mlp/1/gelu", "table.none"), r"mlp\[1\]: expected a tensor called table.gelu"),
        (put("tensors/table.gelu/shape", [0]), "table.gelu: expected up to 4 positive"),
        (put("tensors/table.gelu/dtype", "uint8"), "table.gelu: expected dtype in"),
        (put("tensors/head.logits.bias/dtype", "float64"), "head.logits.bias: expected dtype"),
        (
            lambda v: v["tensors"].update(more=v["tensors"]["table.exp"]),
            "tensor more belongs to no unit",
        ),
        (
            put("attention/1/query/weight", "attention[0].query.weight"),
            r"attention\[1\]: expected a tensor called attention\[1\].query.weight, got "
            r"attention\[0\].query.weight",
        ),
        (put("stop_ids", [1] * 257), "expected at most 256 stop ids, got 257"),
        (put("fractions/hidden", 62), "fractions.hidden must be .* below 62, got 62"),
        (put("exp/value_parameter", 1 << 18), "exp.value_parameter must be .* below 262144"),
        (put("tensors/table.exp/shape", [(1 << 18) + 1]), "table.exp of at most 262144 entries"),
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
) -> None:
    with pytest.raises(InvalidBundle, match=f"^spec.json: .*{message}"):
        Specification.from_bytes(changed(text, change))


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("width", 1 << 16),
        ("heads", 1 << 10),
        ("inner", 1 << 18),
        ("vocabulary", 1 << 20),
        ("context", 1 << 17),
        ("blocks", 1 << 10),
    ],
)
def test_no_size_is_larger_than_a_model_needs(
    fragment: Specification, name: str, largest: int
) -> None:
    for value in (largest + 1, 1 << 31, 1 << 62):
        with pytest.raises(
            InvalidBundle, match=f"architecture.{name}: expected 1 to {largest}, got {value}"
        ):
            Specification.from_bytes(changed(fragment, put(f"architecture/{name}", value)))
    with contextlib.suppress(InvalidBundle):  # of something else
        Specification.from_bytes(changed(fragment, put(f"architecture/{name}", largest)))


def test_a_fragment_is_not_deeper_than_a_model(fragment: Specification) -> None:
    Specification.from_bytes(changed(fragment, first_block(1023)))
    with pytest.raises(InvalidBundle, match="expected at most 1024 blocks, got 1025"):
        Specification.from_bytes(changed(fragment, first_block(1024)))


def first_block(index: int) -> Callable[[Json], None]:
    """The fragment's one block is the block `index`, by all its names."""

    def change(value: Json) -> None:
        text = json.dumps(value).replace("[1]", f"[{index}]")
        value.update(json.loads(text))
        value["architecture"]["first_block"] = index

    return change


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(1600, 25, 6400, 50257, 1024, 48),  # GPT-2 XL
        Sizes(4096, 32, 14336, 128256, 131072, 32),  # as Llama 3 8B
        Sizes(16384, 128, 53248, 128256, 131072, 126),  # as Llama 3 405B
    ],
    ids=str,
)
def test_the_caps_leave_room_for_the_models_that_there_are(sizes: Sizes) -> None:
    specification = Specification.from_bytes(canonical_json(text_model(sizes)))
    assert len(specification.units()) == 2 * sizes.blocks + 2
    assert specification.size > 10**9


HOSTILE_NAMES = [
    "",
    "x",
    "output",
    "constant/float64/0.5",
    "two\nlines",
    "\x1b[31mred",
    "##vso[task.complete]",
    "\u202eright to left",
    "n" * 1_000_000,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name[:20]))
@pytest.mark.parametrize(
    "role", ["embed/tokens", "attention/0/query/weight", "mlp/1/project/bias", "mlp/0/gelu"]
)
def test_a_tensor_has_the_name_of_its_role(text: Specification, name: str, role: str) -> None:
    def rename(value: Json) -> None:
        *parents, last = role.split("/")
        target: Any = value
        for step in parents:
            target = target[int(step) if step.isdigit() else step]
        stored = value["tensors"][target[last]]
        target[last] = name
        value["tensors"][name] = stored

    with pytest.raises(InvalidBundle, match="expected a tensor called") as caught:
        Specification.from_bytes(changed(text, rename))
    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()
    assert caught.value.message.isascii()


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name[:20]))
def test_a_tensor_without_a_role_is_named_in_short(text: Specification, name: str) -> None:
    def add(value: Json) -> None:
        value["tensors"][name] = value["tensors"]["table.exp"]

    with pytest.raises(InvalidBundle, match="belongs to no unit") as caught:
        Specification.from_bytes(changed(text, add))
    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("role", "other"),
    [
        ("attention/0/exp", "attention[0].query.bias"),
        ("mlp/0/gelu", "table.exp"),
        ("attention/0/query/bias", "attention[0].key.bias"),
        ("attention/1/out/bias", "mlp[1].project.bias"),
        ("embed/tokens", "head.logits.weight"),
        ("head/bias", "table.gelu"),
    ],
)
def test_a_tensor_has_one_role(text: Specification, role: str, other: str) -> None:
    with pytest.raises(InvalidBundle, match=r"expected a tensor called .*, got"):
        Specification.from_bytes(changed(text, put(role, other)))


def test_what_is_worked_out_once_is_not_of_another(text: Specification) -> None:
    assert text.units() is text.units()
    other = dataclasses.replace(text, pad_id=1)
    assert other.digest != text.digest
    assert other.digest == model_digest(other.to_bytes())
    assert text.size == sum(stored.type.size for stored in text.tensors.values())


def test_a_fragment_has_no_tokenizer(fragment: Specification) -> None:
    with pytest.raises(InvalidBundle, match="only it, has a tokenizer"):
        Specification.from_bytes(changed(fragment, put("tokenizer", sha256(b""))))
    dataclasses.replace(fragment, tokenizer=None).check()


def test_only_canonical_bytes_are_read(text: Specification) -> None:
    data = text.to_bytes()
    for other in (data + b"\n", data.replace(b'":', b'": ', 1), data[:-1], b"", b"[]"):
        with pytest.raises(InvalidBundle, match=r"^spec\.json"):
            Specification.from_bytes(other)


def test_every_size_and_number_at_its_cap_has_room() -> None:
    def longest(value: Json, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: longest(entry, key) for key, entry in value.items()}
        if isinstance(value, list) and name not in ("shape", "stop_ids"):
            return [longest(entry) for entry in value]
        return (1 << 52) - 1 if type(value) is int else value

    caps = {name: cap for name, cap in MAX_SIZES.items() if name != "first_block"}
    value = text_model(Sizes(**caps), table=limits.MAX_TABLE)
    value["stop_ids"] = [caps["vocabulary"] - 1] * MAX_STOP_IDS
    assert len(canonical_json(longest(value))) < module.MAX_BYTES


def test_a_huge_file_is_not_parsed(text: Specification, monkeypatch: pytest.MonkeyPatch) -> None:
    data = text.to_bytes()
    monkeypatch.setattr(module, "MAX_BYTES", len(data))
    assert Specification.from_bytes(data) == text
    monkeypatch.setattr(module, "MAX_BYTES", len(data) - 1)
    with pytest.raises(InvalidBundle, match=f"at most {len(data) - 1} bytes, got {len(data)}"):
        Specification.from_bytes(data)

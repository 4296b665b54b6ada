"""What `--json` prints is what `docs/output.schema.json` says, and `docs/json.md` names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.commands import zkllm
from zkllm.cli.commands import COMMANDS
from zkllm.reports import JSON_FORMAT

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = json.loads((ROOT / "docs" / "output.schema.json").read_text(encoding="utf-8"))
V1 = ROOT / "tests" / "golden" / "v1"


def hold(command: str, text: str) -> Any:
    """The value in `text`, which must be one of `command`."""
    value = json.loads(text)
    schema = SCHEMA | {"$ref": f"#/$defs/{command}"}
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)
    assert value["format"] == JSON_FORMAT
    return value


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        hold("run", json.dumps({"format": JSON_FORMAT}))


def test_every_command_with_json_is_defined_and_described() -> None:
    described = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        if "--json" in zkllm(command, "--help").out:
            assert command in SCHEMA["$defs"]
            assert f"| `{command}` |" in described


def test_from_export_to_verify(tmp_path: Path) -> None:
    model, trace, bundle = tmp_path / "model", tmp_path / "trace", tmp_path / "bundle"
    hold("export", zkllm("export", "demo", "-o", model, "--json").out)
    hold("export", zkllm("export", "demo", "--check", model, "--json").out)
    hold("run", zkllm("run", model, "-p", "12+34=", "-n", "3", "-o", trace, "--json").out)
    hold("run", zkllm("run", model, "-p", "12+34=", "--json").out)
    hold("plan", zkllm("plan", model, "--json").out)
    proved = hold("prove", zkllm("prove", trace, "--model", model, "-o", bundle, "--json").out)
    assert len(proved["units"]) == 6
    hold("setup", zkllm("setup", model, "--unit", "embed", "--keys", tmp_path, "--json").out)
    hold("doctor", zkllm("doctor", "--json").out)


def test_what_became_of_bundles(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"none")
    names = ["sumcheck.bundle", "replay.bundle", "replay.forged"]
    bundles = [*(V1 / name for name in names), tmp_path / "garbage", tmp_path / "none"]
    demands = ("--policy", V1 / "sumcheck.toml", "--model", V1 / "model")
    done = zkllm("verify", *bundles, *demands, "--json")
    found = hold("verify", done.out)["bundles"]
    words = [each["verdict"] for each in found]
    assert words == ["verified", "refused", "refused", "invalid", "invalid"]
    assert done.code == 3


def test_what_artefacts_say(tmp_path: Path) -> None:
    for name in ("model", "answer.trace", "ezkl.bundle", "ezkl.toml", "keys/embed/commitment.json"):
        hold("inspect", zkllm("inspect", V1 / name, "--json").out)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("plan", "none", "--json"), 4),
        (("verify", "none", "--policy", "none", "--model", "none", "--json"), 4),
        (("inspect", "none", "--json"), 4),
        (("run", "none", "-p", "1", "--json"), 4),
        (("export", "none", "-o", "x", "--json"), 4),
        (("export", "--json"), 2),
        (("verify", "--json"), 2),
        (("magic", "--json"), 2),
    ],
)
def test_failures(arguments: tuple[str, ...], code: int) -> None:
    done = zkllm(*arguments)
    assert done.code == code
    assert hold("error", done.out)["exit_code"] == code

"""What became of bundles, for programs: JSON, JUnit, one exit code. The console is in `output`."""

from __future__ import annotations

import datetime
import json
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkllm.backends.base import Checked
from zkllm.errors import Error, InputError, VerificationError, WrongMaterial
from zkllm.verdict import Report, weakest
from zkllm.wording import one_line, quiet_json, unit_ranges


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one bundle."""

    path: Path
    result: Report | Error
    seconds: float
    """Wall-clock time that it took to decide."""

    @property
    def verdict(self) -> str:
        """`verified`, `refused`, `invalid` for what is no bundle, or `error`."""
        if isinstance(self.result, Error):
            return verdict_of(self.result)
        return self.result.verdict

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; a failure has its class, clause, message and hint."""
        if isinstance(self.result, Error):
            return failure_json(self.result) | {"bundle": str(self.path), "verdict": self.verdict}
        return report_json(self.result, self.path)


_CLAUSES = {
    "refused": "the bundle does not show what it claims",
    "invalid": "this is no bundle that could be checked",
    "error": "the check could not be made",
}
"""What a failure means that does not say so itself."""


def judge(path: Path, check: Callable[[], Report]) -> Outcome:
    """What becomes of the bundle at `path` when `check` verifies it.

    Raises `WrongMaterial`, for which no bundle can be blamed.
    """
    start = time.perf_counter()
    result: Report | Error
    try:
        result = check()
    except WrongMaterial:
        raise
    except Error as failure:
        failure.clause = failure.clause or _CLAUSES[verdict_of(failure)]
        result = failure
    return Outcome(path, result, time.perf_counter() - start)


def verdict_of(failure: Error) -> str:
    """One word for a bundle that was not verified."""
    if isinstance(failure, VerificationError):
        return "refused"
    return "invalid" if isinstance(failure, InputError) else "error"


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """A refusal outweighs every other failure; else the first failure decides."""
    failures = [outcome.result for outcome in outcomes if isinstance(outcome.result, Error)]
    refusals = [failure for failure in failures if isinstance(failure, VerificationError)]
    return (refusals or failures)[0].exit_code if failures else 0


# JSON

JSON_FORMAT = 1
"""The number of all that `--json` prints: see `docs/json.md`."""


def json_text(value: Mapping[str, Any]) -> str:
    """`value` with the number of its format, as `--json` prints it: indented, keys sorted."""
    data = json.dumps({"format": JSON_FORMAT} | dict(value), indent=2, sort_keys=True)
    return quiet_json(data) + "\n"


def outcomes_json(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """What `zkllm verify` says of all bundles, as plain JSON values."""
    return {"bundles": [outcome.to_json() for outcome in outcomes]}


def report_json(result: Report, path: Path) -> dict[str, Any]:
    """A verified bundle as plain JSON values."""
    return result.to_json() | {"bundle": str(path), "error": None, "exit_code": 0}


def failure_json(failure: Error) -> dict[str, Any]:
    """An error as plain JSON values."""
    return {
        "error": {
            "class": type(failure).__name__,
            "clause": failure.clause,
            "hint": failure.hint,
            "message": failure.message,
        },
        "exit_code": failure.exit_code,
    }


def usage_json(message: str, code: int) -> dict[str, Any]:
    """A command that was not understood, in the form of an error."""
    told = {"class": "UsageError", "clause": "", "hint": "", "message": message}
    return {"error": told, "exit_code": code}


# How units were checked


@dataclass(frozen=True, slots=True)
class Group:
    """Units that were checked in the same way."""

    units: tuple[str, ...]
    checked: Checked
    """How; of its `details` only what the units share means anything."""
    bits: float | None
    """Soundness of the weakest of them, where they were proved by sumcheck."""

    @property
    def words(self) -> str:
        """The way, its figures, and what it hides."""
        text = self.checked.words
        if self.bits is not None:
            text += f", {'at least ' if len(self.units) > 1 else ''}{self.bits:.1f} bits"
        if "weights" in self.checked.details:
            text += f", weights {self.checked.details['weights']}"
        return text + (f"; hidden: {self.checked.hidden}" if self.checked.hidden else "")

    def __str__(self) -> str:
        return f"{unit_ranges(self.units)}: {self.words}"


def worst_first(units: Mapping[str, Checked]) -> list[Group]:
    """`units` in groups; the weakest way comes first."""
    groups: dict[object, list[str]] = {}
    for unit, checked in units.items():
        way = (checked.words, checked.hidden, checked.assumptions, checked.details.get("weights"))
        groups.setdefault(way, []).append(unit)
    found = [
        Group(tuple(names), units[names[0]], weakest(units[name] for name in names))
        for names in groups.values()
    ]
    return sorted(found, key=_rank)


def _rank(group: Group) -> tuple[int, float, str]:
    """What was merely recomputed, then what rests on an assumption, then the least bits."""
    checked = group.checked
    if checked.words == "recomputed":
        return (0, 0, "")
    bits = float("inf") if group.bits is None else group.bits
    return (1 if checked.assumptions else 2, bits, checked.words)


# JUnit


def junit(outcomes: Sequence[Outcome], began: datetime.datetime) -> bytes:
    """A JUnit report: one test case a bundle, failures for refusals, errors for the rest.

    How each unit was checked stands in `system-out`: readers know no other place for it.
    """
    verdicts = [outcome.verdict for outcome in outcomes]
    failures = verdicts.count("refused")
    errors = sum(isinstance(outcome.result, Error) for outcome in outcomes) - failures
    counts = {
        "tests": str(len(outcomes)),
        "failures": str(failures),
        "errors": str(errors),
        "time": f"{sum(outcome.seconds for outcome in outcomes):.3f}",
    }
    root = ElementTree.Element("testsuites", counts)
    more = {"name": "zkllm verify", "skipped": "0", "timestamp": f"{began:%Y-%m-%dT%H:%M:%S}"}
    suite = ElementTree.SubElement(root, "testsuite", more | counts)
    for outcome in outcomes:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname="zkllm",
            name=one_line(str(outcome.path)),
            time=f"{outcome.seconds:.3f}",
        )
        result = outcome.result
        if isinstance(result, Error):
            tag = "failure" if outcome.verdict == "refused" else "error"
            kind, message = type(result).__name__, one_line(result.sentence)
            failure = ElementTree.SubElement(case, tag, type=kind, message=message)
            failure.text = f"hint: {one_line(result.hint)}" if result.hint else None
        else:
            lines = [outcome.verdict, f"bundle {result.bundle}", f"model {result.statement.model}"]
            for unit, checked in result.units.items():
                lines.append(str(Group((unit,), checked, weakest([checked]))))
            ElementTree.SubElement(case, "system-out").text = "\n".join(map(one_line, lines))
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"

"""What counts as the trust path: what a verifier loads, but for what provers alone are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import trusted
from tests.trusted import LEFT_OUT, PROVERS, ROOT, TESTS


@pytest.fixture(scope="module")
def found() -> dict[str, Path]:
    return trusted.loaded()


def test_every_part_of_a_verdict_is_in_it() -> None:
    measured = set(trusted.trusted())
    for part in ("verifying", "material", "policy", "bundle", "statement", "records", "digests"):
        assert f"zkllm.{part}" in measured
    for part in ("backends", "engines.sumcheck", "engines.ezkl", "exact", "operations"):
        inside = [name for name in measured if name.startswith(f"zkllm.{part}.")]
        assert len(inside) >= 5, part


def test_what_only_provers_need_is_there_and_said_why(found: dict[str, Path]) -> None:
    """An exception for a module that is not loaded, or that is gone, would except nothing."""
    assert set(PROVERS) <= set(found)
    assert all(PROVERS.values())


def test_what_verifies_loads_no_prover(found: dict[str, Path]) -> None:
    """No kernel, no graph, nothing that fills a witness by rounds: `verify` is small."""
    for part in ("kernels", "prover", "rounds", "lowering", "onnx", "quantise", "checkpoint"):
        assert not [name for name in found if name.rpartition(".")[2] == part], part


def test_the_tests_that_measure_are_there() -> None:
    for path in TESTS:
        assert (ROOT / path).exists(), path
    for name in LEFT_OUT:
        assert list((ROOT / "tests").rglob(f"test_{name}.py")), name

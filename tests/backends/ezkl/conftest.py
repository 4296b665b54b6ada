"""Real keys and a real proof that several modules share; nobody may write there."""

from __future__ import annotations

import pytest

from tests.backends.ezkl.circuits import Proved, prove, random_model


@pytest.fixture(scope="session")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Proved:
    return prove(random_model(0.3), tmp_path_factory.mktemp("keys"))

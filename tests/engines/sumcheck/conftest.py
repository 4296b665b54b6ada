import pytest

from zkllm import threads as threading
from zkllm.engines.sumcheck import kernels


@pytest.fixture(params=["one thread", "three threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels work in one piece, or in many small ones beside each other."""
    count = 1 if request.param == "one thread" else 3
    monkeypatch.setattr(threading, "count", lambda: count)
    if count > 1:
        monkeypatch.setattr(kernels, "_GRAIN", 4)

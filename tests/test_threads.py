import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from zkllm import integers, threads
from zkllm.engines.sumcheck import field
from zkllm.threads import blas_alone, in_pieces, usable_cores

# Pieces


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def several(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "count", lambda: request.param)


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("size", [0, 1, 7, 8, 200])
def test_pieces_cover_the_work_in_order(size: int) -> None:
    pieces = in_pieces(size, 4, lambda start, stop: range(start, stop))
    assert [i for piece in pieces for i in piece] == list(range(size))
    assert len(pieces) == 1 or all(len(piece) >= 4 for piece in pieces)


def test_pieces_that_are_done_out_of_turn_are_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "count", lambda: 2)
    another = threading.Event()

    def work(start: int, stop: int) -> range:
        if start:
            another.set()
        else:
            assert another.wait(60)
        return range(start, stop)

    pieces = in_pieces(100, 1, work)
    assert [i for piece in pieces for i in piece] == list(range(100))


@pytest.mark.usefixtures("several")
def test_what_fails_in_a_piece_fails_the_whole() -> None:
    def failing(start: int, stop: int) -> None:
        if stop == 200:
            raise MemoryError

    with pytest.raises(MemoryError):
        in_pieces(200, 4, failing)


FORKED = """
import os
from zkllm import integers, threads
threads.count = lambda: 2
threads.in_pieces(100, 1, lambda start, stop: None)
with threads.blas_alone():
    child = os.fork()
    if child == 0:
        with threads.blas_alone():
            done = threads._pool().submit(int).result(timeout=30)
        os._exit(done + threads._alone._asking)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_has_threads_of_its_own() -> None:
    # newer Pythons warn of every fork beside threads
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=False)
    assert done.returncode == 0


# Cores


def test_cores_are_those_that_the_container_grants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(threads, "_CPU_LIMIT", limit)
    everything = usable_cores()
    assert everything >= 1
    for text, cores in (("max 100000", everything), ("100000 100000", 1), ("50000 100000", 1)):
        limit.write_text(text)
        assert usable_cores() == cores


@pytest.mark.parametrize(
    ("wanted", "found"), [("3", 3), ("1", 1), ("0", 1), ("", 7), ("all", 7), ("-2", 7)]
)
def test_the_number_of_threads_may_be_chosen(
    wanted: str, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", wanted)
    monkeypatch.setattr(threads, "usable_cores", lambda: 7)
    assert threads.count.__wrapped__() == found


# The threads of the BLAS library


def blas_threads() -> list[int]:
    found = ThreadpoolController().select(user_api="blas").info()
    return [library["num_threads"] for library in found]


@pytest.fixture
def host() -> Iterator[list[int]]:
    """A host that gives numpy two threads."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        found = blas_threads()
        if set(found) != {2}:
            pytest.skip("numpy's library of matrix products has no number of threads")
        yield found


def test_a_block_has_one_thread_and_leaves_what_was_there(host: list[int]) -> None:
    for _ in range(2):
        with blas_alone():
            assert set(blas_threads()) == {1}
            with blas_alone():
                assert set(blas_threads()) == {1}
            assert set(blas_threads()) == {1}
        assert blas_threads() == host


def test_blocks_that_overlap_leave_what_was_there(host: list[int]) -> None:
    """Two threads of a host: the first to come is the first to go, and the other still works."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(blas_alone())
    second.enter_context(blas_alone())
    first.close()
    assert set(blas_threads()) == {1}
    second.close()
    assert blas_threads() == host


def test_a_block_that_fails_leaves_what_was_there(host: list[int]) -> None:
    with pytest.raises(MemoryError), blas_alone():
        raise MemoryError
    assert blas_threads() == host


def contracted() -> object:
    return field.contract(np.ones((3, 2), dtype=np.uint64), np.ones((3, 5), dtype=np.int16))


def multiplied() -> object:
    return integers.matmul(np.ones((2, 3), dtype=np.int64), np.ones((3, 5), dtype=np.int16))


def multiplied_by_heads() -> object:
    return integers.matmul(np.ones((4, 2, 3), np.int64), np.ones((4, 3, 5), np.int64))


@pytest.mark.parametrize(
    ("product", "module"),
    [(contracted, field), (multiplied, integers), (multiplied_by_heads, integers)],
)
def test_products_use_one_thread_and_leave_what_was_there(
    product: Callable[[], object],
    module: ModuleType,
    host: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def watched(size: int, grain: int, work: Callable[[int, int], object]) -> list[object]:
        seen.extend(blas_threads())
        return in_pieces(size, grain, work)

    monkeypatch.setattr(module, "in_pieces", watched)
    product()
    assert set(seen) == {1}
    assert blas_threads() == host

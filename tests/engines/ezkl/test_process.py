"""The guarded subprocess: with stand-ins for the worker that misbehave, and with ezkl itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from zkllm.engines.ezkl import process, worker
from zkllm.engines.ezkl.process import Result, call
from zkllm.errors import BackendError

GIB = 1 << 30


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run `code` in the place of the worker."""
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", textwrap.dedent(code)))


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_answer_comes_back() -> None:
    result = call("version", {}, seconds=60, memory=GIB)
    assert result == Result("23.0.5", result.peak_bytes, result.seconds)
    assert 1 << 20 < result.peak_bytes < GIB
    assert result.seconds > 0


def test_progress_names_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 'import time; time.sleep(0.5); print(\'{"value": 1, "peak": 2}\')')
    monkeypatch.setattr(process, "_REPORT", 0.1)
    lines: list[str] = []
    call("prove", {}, seconds=60, memory=GIB, progress=lines.append)
    assert lines[0] == "ezkl prove"
    assert re.fullmatch(r"ezkl prove: \d s, \d+ MiB", lines[1])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(7)", "ezkl prove ended with status 7"),
        ("import os; os.abort()", "ezkl prove was killed by SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "ezkl prove was killed by SIGKILL"),
        ("import sys; sys.exit('boom\\x1b[31m')", "ezkl prove ended with status 1: boom [31m"),
        ("", "ezkl prove gave no answer: expected one JSON object, got b''"),
        ("print('garbage')", "got b'garbage"),
        ("print('[1]')", "expected one JSON object, got b'[1]"),
        ("print('{}')", "expected one JSON object, got b'{}"),
        ("print('{\"value\": 1}')", "expected one JSON object"),
        ('print(\'{"value": 1, "peak": "x"}\')', "expected one JSON object"),
        ('print(\'{"error": 1, "message": "m", "peak": 1}\')', "expected one JSON object"),
        ("print('[' * 50000)", "expected one JSON object"),
        ("print(' ' * 70000 + '{\"value\": 1, \"peak\": 2}')", "expected one JSON object"),
        (
            'print(\'{"error": "PanicException", "message": "a\\\\nb", "peak": 1}\')',
            "ezkl prove failed: PanicException: a b",
        ),
    ],
)
def test_a_child_that_fails(monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
    stand_in(monkeypatch, code)
    with pytest.raises(BackendError) as caught:
        call("prove", {}, seconds=60, memory=GIB)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_kill_hints_at_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(BackendError) as caught:
        call("setup", {}, seconds=60, memory=GIB)
    assert caught.value.hint == f"most likely out of memory; {GIB} bytes were allowed"


def test_a_missing_package_hints_at_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch,
        'print(\'{"error": "ModuleNotFoundError", "message": "No module", "peak": 1}\')',
    )
    with pytest.raises(BackendError) as caught:
        call("setup", {}, seconds=60, memory=GIB)
    assert "the extra 'ezkl'" in caught.value.message


def test_a_child_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "COMMAND", (str(tmp_path / "none"),))
    with pytest.raises(BackendError, match="ezkl setup could not be run: no such file"):
        call("setup", {}, seconds=60, memory=GIB)


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(
        monkeypatch,
        f"""
        import os, pathlib, time
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
        time.sleep(600)
        """,
    )
    with pytest.raises(BackendError, match=r"ezkl prove was stopped: at most 2 seconds allowed"):
        call("prove", {}, seconds=2, memory=GIB)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch,
        """
        import time
        held = b"x" * (200 << 20)
        time.sleep(600)
        """,
    )
    limit = 100 << 20
    expected = f"ezkl setup was stopped: at most {limit} bytes of memory allowed, got "
    with pytest.raises(BackendError, match=expected):
        call("setup", {}, seconds=60, memory=limit)


def test_address_space_is_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "_OVERHEAD_BYTES", 0)
    with pytest.raises(BackendError, match="ezkl gen_srs"):
        call("gen_srs", {"path": tmp_path / "srs", "logrows": 4}, seconds=60, memory=40 << 20)


@pytest.mark.parametrize(("before", "after"), [(-1, 1 << 40), (1 << 34, 1 << 34)])
def test_limits_of_the_child_itself(before: int, after: int) -> None:
    code = f"""
        import os, resource
        from zkllm.engines.ezkl import worker
        resource.setrlimit(resource.RLIMIT_AS, ({before}, {before}))
        worker._confine(1 << 40, os.getppid())
        print(*resource.getrlimit(resource.RLIMIT_CORE), *resource.getrlimit(resource.RLIMIT_AS))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.split() == ["0", "0", str(after), str(after)]


def test_a_child_without_its_parent_ends() -> None:
    code = "from zkllm.engines.ezkl import worker; worker._confine(1 << 40, 1); print('still here')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("end", ["answer", "exit", "sleep"])
def test_what_the_child_started_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    last = {
        "answer": 'print(\'{"value": 1, "peak": 2}\')',
        "exit": "raise SystemExit(1)",
        "sleep": "time.sleep(600)",
    }[end]
    stand_in(
        monkeypatch,
        f"""
        import pathlib, subprocess, sys, time
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(started.pid))
        {last}
        """,
    )
    if end == "answer":
        call("prove", {}, seconds=60, memory=GIB)
    else:
        with pytest.raises(BackendError):
            call("prove", {}, seconds=2, memory=GIB)
    grandchild = int((tmp_path / "pid").read_text())
    wait_until(lambda: not alive(grandchild))


def caller(folder: Path) -> subprocess.Popen[bytes]:
    """A program that is busy with an operation that takes minutes."""
    code = f"""
        from zkllm.engines.ezkl.process import call
        arguments = {{"path": {str(folder / "srs")!r}, "logrows": 21}}
        call("gen_srs", arguments, seconds=600, memory=8 << 30)
        """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=dict(os.environ, TMPDIR=str(folder), PYTHONPATH=os.pathsep.join(sys.path)),
        stderr=subprocess.DEVNULL,
    )


def child_of(program: subprocess.Popen[bytes]) -> int:
    """The worker of a caller, once it has read its request and is at work."""
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
    wait_until(lambda: children.read_text().split())
    child = int(children.read_text().split()[0])
    wait_until(lambda: "ezkl" in Path(f"/proc/{child}/maps").read_text())
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_child_ends_with_its_caller(tmp_path: Path, number: signal.Signals) -> None:
    program = caller(tmp_path)
    try:
        child = child_of(program)
        program.send_signal(number)
        program.wait(timeout=30)
        wait_until(lambda: not alive(child))
    finally:
        program.kill()
        program.wait()
    if number == signal.SIGINT:
        assert list(tmp_path.glob("zkllm-ezkl-*")) == []


def test_the_environment_is_scrubbed_and_the_home_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EZKL_KEY_FORMAT", "processed")
    monkeypatch.setenv("EZKL_REPO_PATH", str(tmp_path))
    monkeypatch.setenv("RUST_LOG", "debug")
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    stand_in(
        monkeypatch,
        """
        import json, os
        print(json.dumps({"value": [dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid()],
                          "peak": 1}))
        """,
    )
    environment, folder, leads = call("version", {}, seconds=60, memory=GIB).value
    environment.pop("LC_CTYPE", None)  # Python itself sets it
    assert set(environment) - {"LD_LIBRARY_PATH"} == {
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "HOME",
        "TMPDIR",
        "EZKL_REPO_PATH",
        "EZKL_BUF_CAPACITY",
        "RAYON_NUM_THREADS",
    }
    assert environment["HOME"] == environment["EZKL_REPO_PATH"] == environment["TMPDIR"] == folder
    assert environment["RAYON_NUM_THREADS"] == "1"
    assert int(environment["EZKL_BUF_CAPACITY"]) >= 1 << 20
    assert not Path(folder).exists()
    assert leads
    monkeypatch.delenv("RAYON_NUM_THREADS")
    environment, _, _ = call("version", {}, seconds=60, memory=GIB).value
    assert "RAYON_NUM_THREADS" not in environment


def test_modules_in_the_current_folder_are_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ezkl.py").write_text("__version__ = 'not this one'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert call("version", {}, seconds=60, memory=GIB).value == "23.0.5"


def test_an_operation_or_argument_that_does_not_exist() -> None:
    with pytest.raises(BackendError, match="ezkl get_srs failed: KeyError: 'get_srs'"):
        call("get_srs", {}, seconds=60, memory=GIB)
    with pytest.raises(BackendError, match="ezkl version failed: TypeError: "):
        call("version", {"path": "x"}, seconds=60, memory=GIB)


# With ezkl itself.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything of a circuit that squares three numbers, up to its proof."""
    folder = tmp_path_factory.mktemp("made")
    shape = [1, 3]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "x"], ["o"]), helper.make_node("Exp", ["x"], ["e"])],
        "square",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "oe"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model")
    run("gen_srs", path=folder / "srs", logrows=8)
    run("settings", model=folder / "model", settings=folder / "settings", run_args=RUN_ARGS)
    compiled = {"compiled": folder / "compiled"}
    run("compile", model=folder / "model", settings=folder / "settings", **compiled)
    run("setup", vk=folder / "vk", pk=folder / "pk", srs=folder / "srs", **compiled)
    (folder / "data").write_text(json.dumps({"input_data": [[1 / 128, 2 / 128, 3 / 128]]}))
    run("witness", data=folder / "data", output=folder / "witness", **compiled)
    run(
        "prove",
        witness=folder / "witness",
        pk=folder / "pk",
        proof=folder / "proof",
        srs=folder / "srs",
        **compiled,
    )
    return folder


RUN_ARGS: dict[str, Any] = {
    "logrows": 8,
    "lookup_range": [-200, 47],
    "scale_rebase_multiplier": 1000,
    "decomp_base": 64,
    "num_inner_cols": 1,
    "ignore_range_check_inputs_outputs": True,
}


def run(operation: str, **arguments: Any) -> Any:
    return call(operation, arguments, seconds=120, memory=2 * GIB).value


def verify(folder: Path, **changes: Path) -> Any:
    names = ("proof", "settings", "vk", "srs")
    return run("verify", **{name: folder / name for name in names} | changes)


def test_an_honest_proof_verifies(made: Path) -> None:
    assert run("mock", witness=made / "witness", compiled=made / "compiled") is True
    assert verify(made) is True
    assert json.loads((made / "settings").read_bytes())["run_args"]["disable_freivalds"] is True


def test_a_refused_proof_is_false(made: Path, tmp_path: Path) -> None:
    proof = json.loads((made / "proof").read_bytes())
    proof["proof"][40] ^= 1
    (tmp_path / "proof").write_text(json.dumps(proof))
    assert verify(made, proof=tmp_path / "proof") is False
    (tmp_path / "proof").write_text("no proof")
    assert verify(made, proof=tmp_path / "proof") is False


def test_a_verification_that_answers_false_is_false(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer:
        def verify(self, *_: Any, **__: Any) -> bool:
            return False

    monkeypatch.setattr(worker, "_ezkl", Answer)
    paths = [str(made / name) for name in ("proof", "settings", "vk", "srs")]
    assert worker.OPERATIONS["verify"](*paths) is False


@pytest.mark.parametrize("name", ["proof", "settings", "vk", "srs"])
def test_a_missing_file_is_no_refusal(made: Path, tmp_path: Path, name: str) -> None:
    missing = tmp_path / "none"
    with pytest.raises(BackendError, match=f"ezkl verify failed: FileNotFoundError: {missing}"):
        verify(made, **{name: missing})


def test_a_witness_that_does_not_satisfy_the_circuit(made: Path, tmp_path: Path) -> None:
    # 48 is one above the window of the lookup.
    (tmp_path / "data").write_text(json.dumps({"input_data": [[0, 0, 48 / 128]]}))
    witness = tmp_path / "witness"
    run("witness", data=tmp_path / "data", compiled=made / "compiled", output=witness)
    assert run("mock", witness=witness, compiled=made / "compiled") is False
    (tmp_path / "witness").write_text("no witness")
    with pytest.raises(BackendError, match="ezkl mock failed: RuntimeError: Failed to run mock"):
        run("mock", witness=witness, compiled=made / "compiled")


def test_a_panic_is_an_error(made: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text(json.dumps({"input_data": [[1e300, 0, 0]]}))
    with pytest.raises(BackendError, match="ezkl witness failed: PanicException: "):
        run(
            "witness",
            data=tmp_path / "data",
            compiled=made / "compiled",
            output=tmp_path / "witness",
        )


def test_rows_are_counted_on_one_thread(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On several, one in twenty settings has other numbers, and keys are not made again."""
    seen: list[str] = []

    class Options:
        disable_freivalds = True

    class Counter:
        PyRunArgs = Options

        def gen_settings(self, *_: Any) -> None:
            seen.append(os.environ["RAYON_NUM_THREADS"])

    monkeypatch.setenv("RAYON_NUM_THREADS", "8")
    monkeypatch.setattr(worker, "_ezkl", Counter)
    worker.OPERATIONS["settings"](str(made / "model"), str(tmp_path / "settings"), {})
    assert seen == ["1"]


def test_freivalds_is_never_on(made: Path, tmp_path: Path) -> None:
    arguments = RUN_ARGS | {"disable_freivalds": False}
    with pytest.raises(BackendError, match="disable_freivalds: expected true, got False"):
        run("settings", model=made / "model", settings=tmp_path / "settings", run_args=arguments)


def test_a_run_argument_that_does_not_exist(made: Path, tmp_path: Path) -> None:
    arguments = RUN_ARGS | {"tolerance": 1}
    with pytest.raises(BackendError, match="ezkl settings failed: AttributeError: "):
        run("settings", model=made / "model", settings=tmp_path / "settings", run_args=arguments)


def test_relative_paths_are_those_of_the_caller(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    assert verify(Path()) is True

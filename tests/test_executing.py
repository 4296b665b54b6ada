"""ONNX Runtime and numpy agree on every integer; what is not exact is not executed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.commands import zkllm
from tests.inner import attention_values, normalise
from zkllm.checkpoints import Checkpoint
from zkllm.digests import canonical_json, sha256
from zkllm.errors import BackendError, DigestMismatch, InputError, LimitExceeded
from zkllm.exact import graph, reference
from zkllm.exact.graph import compile_graphs, compile_units
from zkllm.exact.model import ExactModel, save, tensor_offsets
from zkllm.exact.quantise import build
from zkllm.executing import Executor, Past
from zkllm.operations.precision import PRECISIONS
from zkllm.tensors import IntArray

MakeCheckpoint = Callable[..., Path]


@dataclass(frozen=True)
class Made:
    """A compiled model and inputs that it can run."""

    model: ExactModel
    inputs: list[IntArray]


def compiled(checkpoint: Checkpoint, preset: str, folder: Path, **options: Any) -> ExactModel:
    specification, tensors = build(checkpoint, PRECISIONS[preset], **options)
    tokenizer = checkpoint.tokenizer if specification.kind == "text" else None
    model = save(specification, tensors, tokenizer, folder)
    compile_units(model, folder)
    return model


def sharpened(checkpoint: Checkpoint) -> Checkpoint:
    """Queries and keys eight times larger, so that many scores lie at the end of the table.

    The first head's keys are its queries with the other sign: its scores are negative.
    """
    d, heads = checkpoint.architecture.width, checkpoint.architecture.heads
    tensors = dict(checkpoint.tensors)
    for name in [name for name in tensors if "c_attn" in name]:
        values = tensors[name].copy()
        values[..., : 2 * d] *= 8
        values[..., d : d + d // heads] = -values[..., : d // heads]
        tensors[name] = values
    return replace(checkpoint, tensors=tensors)


def run(executor: Executor, unit: str, x: IntArray, first: int = 0) -> IntArray:
    """What `unit` gives for `x`, whose first row stands at position `first`."""
    return executor.run_unit(unit, x, Past(first))[0]


def extreme_rows(width: int, bound: int, tokens: int) -> IntArray:
    """Rows at the bound: constants, spikes, alternating signs, outlier channels, random."""
    random = np.random.default_rng(bound)
    rows = random.integers(-bound, bound + 1, (tokens, width))
    rows[0], rows[1], rows[2] = bound, -bound, 0
    rows[3] = np.where(np.arange(width) % 2, bound, -bound)
    rows[4, 1:] = 0
    rows[5] = random.integers(-300, 301, width)
    rows[5, [3, 17]] = bound, -bound
    return rows.astype(np.int64)


def text_inputs(model: ExactModel) -> list[IntArray]:
    a = model.specification.architecture
    random = np.random.default_rng(3)
    return [random.integers(0, a.vocabulary, tokens) for tokens in (1, 2, a.context)]


@pytest.fixture(scope="module")
def made(
    make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Made]:
    def folder() -> Path:
        return tmp_path_factory.mktemp("model")

    narrow = sharpened(Checkpoint.from_folder(make_checkpoint(1)))
    wide = sharpened(
        Checkpoint.from_folder(make_checkpoint(2, n_embd=96, n_head=3, n_positions=20))
    )
    relu = Checkpoint.from_folder(make_checkpoint(3, n_embd=64, activation_function="relu"))
    models = {
        "ezkl": compiled(narrow, "ezkl", folder()),
        "wide": compiled(wide, "wide", folder()),
        # the bound at which V comes near 2^61 with t = 0, and one that needs t > 0
        "fragment": compiled(wide, "wide", folder(), blocks=(1, 2), input_bound=2**27),
        "shifted": compiled(relu, "wide", folder(), blocks=(0, 1), input_bound=2**33),
    }
    inputs = {name: text_inputs(models[name]) for name in ("ezkl", "wide")}
    for name in ("fragment", "shifted"):
        spec = models[name].specification
        a = spec.architecture
        rows = extreme_rows(a.width, spec.input, a.context)
        inputs[name] = [rows[:1], rows[5:6], rows]
    return {name: Made(models[name], inputs[name]) for name in models}


def test_the_models_reach_the_limits(made: dict[str, Made]) -> None:
    """Otherwise the comparisons below would prove little."""
    for name, shifted in (("fragment", False), ("shifted", True)):
        one = made[name]
        unit = one.model.specification.attention[0]
        values = normalise(one.inputs[-1], unit.norm)
        assert int(values.variance.max()) >= 1 << 58
        assert (unit.norm.shift > 0) == shifted
    for name in ("ezkl", "wide"):
        one = made[name]
        unit = one.model.specification.attention[0]
        x = reference.forward(one.model, one.inputs[-1])[0]
        inner = attention_values(one.model, "attention[0]", x).attended
        table = one.model.tensor(unit.exp)
        assert (inner.maximum[:, :-1] < 0).any(), "no row whose visible scores are all negative"
        distance = inner.maximum[..., None] - inner.score
        assert (np.tril(distance) > len(table)).any() or name == "ezkl"
        assert (inner.exponential.max(axis=-1) == table[0]).all()
    types = {t.dtype for one in made.values() for t in one.model.specification.tensors.values()}
    assert types >= {"int8", "int16", "int32"}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimisation", ["off", "basic", "extended", "all"])
@pytest.mark.parametrize("name", ["ezkl", "wide", "fragment", "shifted"])
def test_every_boundary_equals_the_reference(
    made: dict[str, Made], name: str, optimisation: Any, threads: int
) -> None:
    one = made[name]
    executor = Executor(one.model, "cpu", threads=threads, optimisation=optimisation)
    for inputs in one.inputs:
        expected = reference.forward(one.model, inputs)
        got = executor.run(inputs)
        assert len(got) == len(expected)
        for left, right in zip(got, expected, strict=True):
            assert left.dtype == np.int64
            assert np.array_equal(left, right)
        if one.model.specification.head is not None:
            ids = reference.run_unit(one.model, "head", expected[-1])
            assert np.array_equal(run(executor, "head", expected[-1]), ids)


@pytest.mark.parametrize("name", ["ezkl", "wide", "fragment", "shifted"])
def test_units_are_exact_at_their_bounds(made: dict[str, Made], name: str) -> None:
    model = made[name].model
    executor = Executor(model, "cpu", threads=1)
    spec = model.specification
    bounds = spec.boundary_bounds()
    readers = [unit for unit in spec.units() if unit != "embed"]
    for unit, bound in zip(readers, bounds, strict=False):
        x = extreme_rows(spec.architecture.width, bound, 12)
        assert np.array_equal(run(executor, unit, x), reference.run_unit(model, unit, x)), unit


# Decoding


@pytest.fixture(scope="module")
def text(made: dict[str, Made]) -> ExactModel:
    return made["wide"].model


@pytest.fixture(scope="module")
def executor(text: ExactModel) -> Executor:
    return Executor(text, "cpu", threads=1)


@pytest.mark.parametrize("name", ["ezkl", "wide"])
def test_decoding_with_kept_keys_equals_full_passes(made: dict[str, Made], name: str) -> None:
    model = made[name].model
    executor = Executor(model, "cpu", threads=1)
    prompt = [3, 1, 4, 1, 5]
    count = model.specification.architecture.context - len(prompt) + 1
    ids = list(prompt)
    while len(ids) < len(prompt) + count:
        last = reference.forward(model, np.array(ids, dtype=np.int64))[-1][-1:]
        ids.append(int(reference.run_unit(model, "head", last)[0]))
    assert executor.decode(prompt, count) == ids[len(prompt) :]
    assert executor.decode(prompt[:1], 1) == executor.decode(prompt[:1], 2)[:1]
    # one pass over prompt and completion gives every token again
    passed = executor.run(np.array(ids[:-1], dtype=np.int64))[-1]
    assert run(executor, "head", passed[len(prompt) - 1 :]).tolist() == ids[len(prompt) :]


def test_a_stop_id_ends_the_text_and_belongs_to_it(executor: Executor) -> None:
    ids = executor.decode([3, 1, 4], 12)
    stop = ids[4]
    first = ids.index(stop)
    assert executor.decode([3, 1, 4], 12, stop_ids=(stop,)) == ids[: first + 1]
    assert executor.decode([3, 1, 4], 12, stop_ids=(99,)) == ids


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_attention_in_two_pieces_equals_one(made: dict[str, Made], cut: int) -> None:
    one = made["fragment"]
    executor = Executor(one.model, "cpu", threads=1)
    rows = one.inputs[-1]
    whole, once = executor.run_unit("attention[1]", rows)
    first, past = executor.run_unit("attention[1]", rows[:cut])
    second, twice = executor.run_unit("attention[1]", rows[cut:], past)
    assert (past.positions, once.positions, twice.positions) == (cut, len(rows), len(rows))
    assert np.array_equal(np.concatenate([first, second]), whole)
    for part in ("key", "value"):
        assert np.array_equal(twice.kept[part], once.kept[part])
    inner = attention_values(one.model, "attention[1]", rows)
    assert np.array_equal(once.kept["key"], inner.key)
    assert np.array_equal(once.kept["value"], inner.value)


def test_later_rows_change_nothing_before_them(made: dict[str, Made]) -> None:
    one = made["wide"]
    executor = Executor(one.model, "cpu", threads=1)
    ids = one.inputs[-1]
    other = ids.copy()
    other[7:] = (other[7:] + 1) % 29
    for left, right in zip(executor.run(ids), executor.run(other), strict=True):
        assert np.array_equal(left[:7], right[:7])
    assert not np.array_equal(executor.run(ids)[-1][7:], executor.run(other)[-1][7:])


def test_embed_starts_at_a_position(text: ExactModel, executor: Executor) -> None:
    ids = np.arange(9)
    assert np.array_equal(run(executor, "embed", ids)[4:], run(executor, "embed", ids[4:], 4))
    assert np.array_equal(run(executor, "embed", ids), reference.run_unit(text, "embed", ids))


@pytest.fixture(scope="module")
def tied(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Token 28 - i has the logits of token i."""
    checkpoint = Checkpoint.from_folder(make_checkpoint(4))
    rows = checkpoint.tensors["lm_head.weight"].copy()
    rows[15:] = rows[:14][::-1]
    changed = replace(checkpoint, tensors={**checkpoint.tensors, "lm_head.weight": rows})
    model = compiled(changed, "wide", tmp_path_factory.mktemp("tied"))
    return Made(model, text_inputs(model))


@pytest.mark.parametrize("optimisation", ["off", "all"])
def test_ties_go_to_the_lowest_id(tied: Made, optimisation: Any) -> None:
    executor = Executor(tied.model, "cpu", threads=1, optimisation=optimisation)
    x = executor.run(tied.inputs[-1])[-1]
    logits = reference.logits(tied.model, x)
    assert np.array_equal(logits[:, 15:], logits[:, :14][:, ::-1])
    ids = run(executor, "head", x)
    assert ids.max() < 15
    assert len(set(ids.tolist())) > 1
    assert np.array_equal(ids, reference.run_unit(tied.model, "head", x))


def test_the_arg_max_of_another_device_is_not_asked_for(tied: Made) -> None:
    """CUDA promises nothing about ties: numpy takes the arg-max of the logits."""
    executor = Executor(tied.model, "cpu", threads=1)
    x = executor.run(tied.inputs[-1])[-1]
    ids = run(executor, "head", x)
    graph = executor._graphs["head"]

    class LogitsOnly:
        def run(self, outputs: list[str], feeds: dict[str, IntArray]) -> Any:
            assert outputs == ["logits"]
            return graph.session.run(outputs, feeds)

    executor.device = "cuda"
    executor._graphs["head"] = replace(graph, session=LogitsOnly())
    assert np.array_equal(run(executor, "head", x), ids)


def test_a_fragment_does_not_generate(made: dict[str, Made]) -> None:
    executor = Executor(made["fragment"].model, "cpu")
    with pytest.raises(InputError, match="a fragment has no head"):
        executor.decode([1], 1)


# Inputs


@pytest.mark.parametrize(
    ("ids", "first", "words"),
    [
        ([0, 29], 0, "token ids: expected 0 to 28, got 0 to 29"),
        ([-1, 3], 0, "token ids: expected 0 to 28, got -1 to 3"),
        ([1, 2], 19, "positions: expected 0 to 19, got 19 to 20"),
        ([1], -1, "positions: expected 0 to 19, got -1 to -1"),
        ([], 0, r"at least one, got \[0\]"),
        ([[1]], 0, r"at least one, got \[1, 1\]"),
    ],
)
def test_ids_and_positions_are_checked(
    executor: Executor, ids: Any, first: int, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        run(executor, "embed", np.array(ids, dtype=np.int64), first)


@pytest.mark.parametrize("unit", ["embed", "attention[0]"])
def test_no_unit_that_knows_positions_exceeds_the_context(executor: Executor, unit: str) -> None:
    """The bounds of sums over positions are proven for so many."""
    x = np.zeros(21 if unit == "embed" else (21, 96), dtype=np.int64)
    _, past = executor.run_unit(unit, x[:19])
    executor.run_unit(unit, x[:1], past)
    with pytest.raises(InputError, match="positions: expected 0 to 19, got 0 to 20"):
        executor.run_unit(unit, x)
    with pytest.raises(InputError, match="positions: expected 0 to 19, got 19 to 20"):
        executor.run_unit(unit, x[:2], past)


def test_the_context_is_not_exceeded(executor: Executor) -> None:
    assert len(executor.decode([1] * 18, 3)) == 3
    with pytest.raises(InputError, match="at most 20 positions expected, got 21"):
        executor.decode([1] * 18, 4)
    with pytest.raises(InputError, match="at least 1, got 0"):
        executor.decode([1], 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_rows_beyond_their_bound_are_refused(
    text: ExactModel, executor: Executor, sign: int
) -> None:
    bounds = text.specification.boundary_bounds()
    for place, unit in {0: "attention[0]", 3: "mlp[1]", 4: "head"}.items():
        x = np.zeros((2, 96), dtype=np.int64)
        x[1, 5] = sign * bounds[place]
        run(executor, unit, x)
        x[1, 5] += sign
        with pytest.raises(LimitExceeded, match=f"±{bounds[place]}, got {bounds[place] + 1} in"):
            run(executor, unit, x)


@pytest.mark.parametrize("shape", [(2, 95), (0, 96), (96,)], ids=str)
def test_rows_of_another_shape_are_refused(executor: Executor, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"mlp\[0\]: expected rows \[T, 96\], got"):
        run(executor, "mlp[0]", np.zeros(shape, dtype=np.int64))


def test_a_failure_of_the_runtime_is_a_backend_error(executor: Executor) -> None:
    one_head_too_few = np.zeros((2, 1, 32), dtype=np.int64)
    past = Past(1, {"key": one_head_too_few, "value": one_head_too_few})
    with pytest.raises(BackendError, match=r"attention\[0\]: ONNX Runtime failed on cpu"):
        executor.run_unit("attention[0]", np.zeros((1, 96), dtype=np.int64), past)


# What is executed


@pytest.fixture
def fresh(tiny_checkpoint: Checkpoint, tmp_path: Path) -> ExactModel:
    return compiled(tiny_checkpoint, "wide", tmp_path / "fresh")


def folder_of(model: ExactModel) -> Path:
    assert model.folder is not None
    return model.folder


def test_an_edited_graph_is_refused(fresh: ExactModel) -> None:
    path = folder_of(fresh) / "head.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x13")
    with pytest.raises(DigestMismatch, match=r"head\.onnx"):
        Executor(fresh, "cpu")


def test_edited_weights_are_refused(fresh: ExactModel) -> None:
    path = folder_of(fresh) / "weights.safetensors"
    data = bytearray(path.read_bytes())
    # a unit that the self-test does not touch
    name = "mlp[1].project.weight"
    types = {n: stored.type for n, stored in fresh.specification.tensors.items()}
    data[tensor_offsets(types)[name][0]] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatch, match=r"tensor mlp\[1\]\.project\.weight: expected"):
        Executor(fresh, "cpu")


@pytest.mark.parametrize("unit", ["embed", "attention[0]", "mlp[0]", "head"])
def test_a_graph_that_computes_something_else_fails_the_self_test(
    fresh: ExactModel, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its operators are allowed, but it adds one."""
    graphs = compile_graphs(fresh.specification)
    proto = onnx.load_model_from_string(graphs[unit])
    output = proto.graph.output[0].name
    last = next(node for node in proto.graph.node if output in node.output)
    last.output[0] = "before"
    one = onnx.numpy_helper.from_array(np.array(1, dtype=np.int64), "one-more")
    proto.graph.initializer.append(one)
    proto.graph.node.append(onnx.helper.make_node("Add", ["before", "one-more"], [output]))
    graphs[unit] = proto.SerializeToString()
    monkeypatch.setattr(graph, "compile_graphs", lambda _: graphs)
    monkeypatch.setattr(graph, "check_compiled", lambda *_: None)
    words = rf"^{re.escape(unit)} on cpu: expected -?\d+ at .*, got"
    with pytest.raises(BackendError, match=words) as caught:
        Executor(fresh, "cpu")
    assert "does not compute exactly" in caught.value.hint


def swap_graphs(model: ExactModel) -> None:
    """The second MLP's graph is that of the first, and compiled.json says that it should be."""
    folder = folder_of(model)
    (folder / "mlp.1.onnx").write_bytes((folder / "mlp.0.onnx").read_bytes())
    manifest = json.loads((folder / "compiled.json").read_bytes())
    manifest["files"]["mlp.1.onnx"] = sha256((folder / "mlp.1.onnx").read_bytes())
    (folder / "compiled.json").write_bytes(canonical_json(manifest))


def test_graphs_that_the_model_digest_does_not_name_are_not_executed(fresh: ExactModel) -> None:
    honest = Executor(fresh, "cpu", threads=1).decode([3, 1, 4], 9)
    swap_graphs(fresh)
    with pytest.raises(DigestMismatch, match=r"^mlp\.1\.onnx: spec\.json compiles to"):
        Executor(fresh, "cpu")
    done = zkllm("run", folder_of(fresh), "-p", "abc", "-n", "5")
    assert (done.code, done.out) == (3, "")
    # nor where compiled.json says that nothing can be compared
    path = folder_of(fresh) / "compiled.json"
    path.write_bytes(canonical_json(json.loads(path.read_bytes()) | {"onnx": "0.0"}))
    assert Executor(fresh, "cpu", threads=1).decode([3, 1, 4], 9) == honest


def test_a_model_runs_without_compiled_files(fresh: ExactModel) -> None:
    honest = Executor(fresh, "cpu", threads=1).decode([3, 1, 4], 9)
    for path in [*folder_of(fresh).glob("*.onnx"), folder_of(fresh) / "compiled.json"]:
        path.unlink()
    assert Executor(fresh, "cpu", threads=1).decode([3, 1, 4], 9) == honest


def test_a_model_in_memory_runs(fresh: ExactModel) -> None:
    tensors = {name: fresh.tensor(name) for name in fresh.specification.tensors}
    memory = ExactModel.in_memory(fresh.specification, tensors)
    ids = np.arange(5)
    for left, right in zip(
        Executor(memory, "cpu").run(ids), reference.forward(fresh, ids), strict=True
    ):
        assert np.array_equal(left, right)


def test_weights_that_change_after_they_were_hashed_are_not_executed(
    fresh: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else writes into the folder while a session is opened."""
    path = folder_of(fresh) / "weights.safetensors"
    honest = Executor(fresh, "cpu", threads=1).decode([3, 1, 4], 9)
    real = onnxruntime.InferenceSession

    def session(*arguments: Any, **options: Any) -> Any:
        data = bytearray(path.read_bytes())
        types = {n: stored.type for n, stored in fresh.specification.tensors.items()}
        start, end = tensor_offsets(types)["mlp[1].project.weight"]
        data[start:end] = bytes(end - start)
        path.write_bytes(data)
        return real(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(Executor, "_self_test", lambda *_: None)  # it reads the weights again
    assert Executor(fresh, "cpu", threads=1).decode([3, 1, 4], 9) == honest


def test_a_graph_that_cannot_be_opened_is_a_backend_error(
    fresh: ExactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    with pytest.raises(BackendError, match=r"embed: ONNX Runtime cannot open it: no such kernel$"):
        Executor(fresh, "cpu")


def test_the_model_keeps_no_weights_that_were_read_for_graphs(fresh: ExactModel) -> None:
    Executor(fresh, "cpu")
    assert fresh._tensors == {}
    assert fresh._stored == {}


# Devices


def test_auto_falls_back_to_the_cpu_and_says_so(fresh: ExactModel) -> None:
    notes: list[str] = []
    executor = Executor(fresh, note=notes.append)
    assert executor.device == "cpu"
    assert notes == ["device: cpu, because CUDA is not available"]
    Executor(fresh, "cpu", note=notes.append)
    assert len(notes) == 1


def test_cuda_without_cuda_says_what_to_install(fresh: ExactModel) -> None:
    with pytest.raises(BackendError, match="device cuda: expected CUDAExecutionProvider") as caught:
        Executor(fresh, "cuda")
    assert "'.[gpu]'" in caught.value.hint


@pytest.fixture
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def promised_cuda(monkeypatch: pytest.MonkeyPatch, environment: None) -> list[Any]:
    """onnxruntime says that it has CUDA, takes the request, and opens sessions on the CPU."""
    requests: list[Any] = []
    real = onnxruntime.InferenceSession

    def session(graph: bytes, options: Any, providers: Any) -> Any:
        requests.append(providers)
        return real(graph, options, providers=["CPUExecutionProvider"])

    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return requests


def test_a_session_that_fell_back_silently_is_not_taken_for_cuda(
    fresh: ExactModel, promised_cuda: list[Any]
) -> None:
    with pytest.raises(BackendError, match="device cuda: expected CUDAExecutionProvider, got"):
        Executor(fresh, "cuda")
    notes: list[str] = []
    assert Executor(fresh, "auto", note=notes.append).device == "cpu"
    assert notes == ["device: cpu, because CUDA is not available"]


def test_cuda_is_asked_for_exact_products(fresh: ExactModel, promised_cuda: list[Any]) -> None:
    os.environ["CUBLAS_EMULATE_DOUBLE_PRECISION"] = "1"
    Executor(fresh, "auto")
    assert promised_cuda[0] == [
        ("CUDAExecutionProvider", {"use_tf32": "0"}),
        "CPUExecutionProvider",
    ]
    assert promised_cuda[1:] == [["CPUExecutionProvider"]] * 6
    assert os.environ["CUBLAS_EMULATE_DOUBLE_PRECISION"] == "0"

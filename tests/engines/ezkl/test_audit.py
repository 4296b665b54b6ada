"""The audit on real keys of small circuits, on bad circuits, and on keys and settings bent by hand.

Each circuit is made once; a bent key is handed to the audit in the place of the parsed one.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zkllm.digests import sha256
from zkllm.engines.ezkl.audit import Relation, Report, audit, check, layout, symbol
from zkllm.engines.ezkl.audit.layout import Layout, read_layout
from zkllm.engines.ezkl.audit.pk import ProvingKey, read_proving_key
from zkllm.engines.ezkl.audit.settings import Table, read_settings
from zkllm.engines.ezkl.audit.tables import table_problems
from zkllm.engines.ezkl.expressions import FIELD
from zkllm.engines.ezkl.process import call
from zkllm.errors import InputError

SCALE = 8
DIVISOR, STEP = 4, 8
WEIGHTS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]

Edit = Callable[[dict[str, Any]], None]
Bend = Callable[[ProvingKey, Layout], ProvingKey]


@dataclass(frozen=True)
class Circuit:
    folder: Path

    @property
    def pk(self) -> Path:
        return self.folder / "pk.key"

    @property
    def settings(self) -> Path:
        return self.folder / "settings.json"

    def key(self) -> ProvingKey:
        return read_proving_key(self.pk.read_bytes())

    def layout(self) -> Layout:
        return read_layout(read_settings(self.settings.read_bytes()), self.key())

    def audit(self, relation: Relation) -> Report:
        return audit(self.pk, self.settings, relation)

    def edited(self, folder: Path, edit: Edit) -> Circuit:
        """The same key under other settings."""
        settings = json.loads(self.settings.read_bytes())
        edit(settings)
        (folder / "pk.key").symlink_to(self.pk)
        (folder / "settings.json").write_text(json.dumps(settings))
        return Circuit(folder)


def network(
    nodes: list[tuple[str, list[str], str]],
    inputs: dict[str, list[int]],
    outputs: dict[str, list[int]],
    constants: dict[str, Any] | None = None,
) -> onnx.ModelProto:
    def values(shapes: dict[str, list[int]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    attributes: dict[str, Any] = {"ReduceSum": {"keepdims": 1}, "ReduceProd": {"axes": [1]}}
    graph = helper.make_graph(
        [helper.make_node(op, ins, [out], **attributes.get(op, {})) for op, ins, out in nodes],
        "circuit",
        values(inputs),
        values(outputs),
        [
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (constants or {}).items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def arguments(logrows: int, **changes: Any) -> dict[str, Any]:
    return {
        "logrows": logrows,
        "lookup_range": [9 - 2**logrows, 0],
        "input_scale": SCALE,
        "param_scale": SCALE,
        "scale_rebase_multiplier": 1000,
        "rebase_frac_zero_constants": True,
        "ignore_range_check_inputs_outputs": True,
        "num_inner_cols": 1,
        "decomp_base": 2 ** (logrows - 2),
        "input_visibility": "polycommit",
        "output_visibility": "public",
        "param_visibility": "fixed",
    } | changes


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Circuit]:
    """Make the key of a network; settings that exist already are kept."""
    parameters = tmp_path_factory.mktemp("srs")

    def make(
        model: onnx.ModelProto,
        logrows: int = 9,
        witness: list[list[float]] | None = None,
        settings: Callable[[Path, dict[str, Any]], None] | None = None,
        **changes: Any,
    ) -> Circuit:
        folder = tmp_path_factory.mktemp("circuit")
        network_file, compiled = folder / "network.onnx", folder / "compiled"
        srs = parameters / str(logrows)
        onnx.save(model, network_file)
        if not srs.exists():
            ezkl("gen_srs", path=srs, logrows=logrows)
        chosen = arguments(logrows, **changes)
        if settings is None:
            ezkl("settings", model=network_file, settings=folder / "settings.json", run_args=chosen)
        else:
            settings(folder, chosen)
        ezkl("compile", model=network_file, compiled=compiled, settings=folder / "settings.json")
        demanded: dict[str, Path] = {}
        if witness is not None:
            (folder / "data").write_text(json.dumps({"input_data": witness}))
            demanded["witness"] = folder / "witness"
            ezkl("witness", data=folder / "data", compiled=compiled, output=folder / "witness")
        vk, pk = folder / "vk.key", folder / "pk.key"
        ezkl("setup", compiled=compiled, vk=vk, pk=pk, srs=srs, **demanded)
        return Circuit(folder)

    return make


def ezkl(operation: str, **arguments: Any) -> Any:
    return call(operation, arguments, seconds=120, memory=2 << 30).value


def head(checked: bool = True) -> onnx.ModelProto:
    """s = q·k; z = s - D·y + ρ; o = Exp(y)·v; and ρ is in a window, if `checked`."""
    nodes = [
        ("MatMul", ["q", "k"], "s"),
        ("Mul", ["y", "divisor"], "dy"),
        ("Sub", ["s", "dy"], "d"),
        ("Add", ["d", "rho"], "z"),
        ("Exp", ["y"], "e"),
        ("MatMul", ["e", "v"], "o"),
    ]
    outputs = {"z": [2, 2], "o": [2, 2]}
    if checked:
        nodes += [
            ("Mul", ["rho", "step"], "c"),
            ("Acosh", ["c"], "a"),
            ("ReduceSum", ["a"], "f"),
        ]
        outputs["f"] = [1, 1]
    inputs = {"q": [2, 3], "k": [3, 2], "y": [2, 2], "rho": [2, 2], "v": [2, 2]}
    return network(nodes, inputs, outputs, {"divisor": [[DIVISOR] * 2], "step": [[STEP]]})


def head_relation(divisor: int = DIVISOR, exposed: bool = True) -> Relation:
    def evaluate(inputs: list[list[int]], p: int) -> tuple[list[int], dict[str, list[int]]]:
        q, k, y, rho, v = inputs
        unit = 1 << SCALE  # the scale by which q·k is finer than y and ρ
        s = [sum(q[3 * i + n] * k[2 * n + j] for n in range(3)) for i in (0, 1) for j in (0, 1)]
        z = [a - unit * divisor * b + unit * c for a, b, c in zip(s, y, rho, strict=True)]
        e = [symbol("Exp", value) for value in y]
        o = [e[2 * i] * v[j] + e[2 * i + 1] * v[2 + j] for i in (0, 1) for j in (0, 1)]
        c = [STEP * value % p for value in rho]
        outputs = [*z, *o, sum(symbol("ACosh", value) for value in c)]
        return outputs if exposed else outputs[:-1], {"Exp": y, "ACosh": c}

    return Relation((6, 6, 4, 4, 4), evaluate)


def chain() -> onnx.ModelProto:
    """One gate of each kind: products, sums, a running product, a difference, dots with weights."""
    nodes = [
        ("Add", ["x", "y"], "a"),
        ("Mul", ["a", "y"], "b"),
        ("Sub", ["b", "x"], "c"),
        ("ReduceSum", ["c"], "s"),
        ("ReduceProd", ["c"], "p"),
        ("MatMul", ["c", "w"], "m"),
        ("Exp", ["y"], "e"),
        ("ReduceSum", ["e"], "t"),
    ]
    shapes = {"x": [1, 3], "y": [1, 3]}
    return network(
        nodes, shapes, {"s": [1, 1], "p": [1, 1], "m": [1, 2], "t": [1, 1]}, {"w": WEIGHTS}
    )


def chain_relation(constants: list[int] | None = None) -> Relation:
    def evaluate(inputs: list[list[int]], p: int) -> tuple[list[int], dict[str, list[int]]]:
        x, y = inputs
        c = [((a + b) * b - (1 << SCALE) * a) % p for a, b in zip(x, y, strict=True)]
        m = [sum(c[n] * int(WEIGHTS[n][j]) for n in range(3)) for j in range(2)]
        outputs = [sum(c), c[0] * c[1] * c[2], *m, sum(symbol("Exp", value) for value in y)]
        demanded = constants or [0] * len(outputs)
        return [a - b for a, b in zip(outputs, demanded, strict=True)], {"Exp": y}

    return Relation((3, 3), evaluate)


@pytest.fixture(scope="module")
def good_head(make: Callable[..., Circuit]) -> Circuit:
    return make(head())


@pytest.fixture(scope="module")
def good_chain(make: Callable[..., Circuit]) -> Circuit:
    return make(chain(), logrows=5)


def test_a_good_head_passes(good_head: Circuit) -> None:
    report = good_head.audit(head_relation())
    assert report.problems == []
    assert report.ok
    assert report.free_operands == []
    assert report.lookups == {"Exp": 4, "ACosh": 4}
    assert report.gates["DOTINIT"] == 8
    assert report.vk == sha256((good_head.folder / "vk.key").read_bytes())
    assert min(report.rows, report.cells, report.constants) > 0


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("inputs", ["polycommit", "public", "private"])
def test_blocks_widths_and_input_visibilities(
    make: Callable[..., Circuit], width: int, inputs: str
) -> None:
    circuit = make(chain(), logrows=5, num_inner_cols=width, input_visibility=inputs)
    assert circuit.layout().blocks == (2 if width == 1 else 1)
    assert circuit.audit(chain_relation()).problems == []


def test_sums_that_go_on_in_the_next_block(make: Callable[..., Circuit]) -> None:
    def evaluate(inputs: list[list[int]], p: int) -> tuple[list[int], dict[str, list[int]]]:
        x, y = inputs
        return [sum(a * b for a, b in zip(x, y, strict=True)), sum(x), math.prod(x)], {}

    model = network(
        [("MatMul", ["x", "y"], "d"), ("ReduceSum", ["x"], "s"), ("ReduceProd", ["x"], "p")],
        {"x": [1, 20], "y": [20, 1]},
        {"d": [1, 1], "s": [1, 1], "p": [1, 1]},
    )
    circuit = make(model, logrows=5)
    assert circuit.layout().blocks > 2
    assert circuit.audit(Relation((20, 20), evaluate)).problems == []


@pytest.mark.parametrize("inputs", ["polycommit", "public"])
def test_committed_outputs(make: Callable[..., Circuit], inputs: str) -> None:
    circuit = make(chain(), output_visibility="polycommit", input_visibility=inputs)
    assert circuit.audit(chain_relation()).problems == []
    # The relation without its last output.
    shorter = Relation(
        (3, 3), lambda inputs, p: (chain_relation().evaluate(inputs, p)[0][:-1], {"Exp": inputs[1]})
    )
    assert circuit.audit(shorter).problems == ["committed outputs: 4 values expected, got 5"]


def test_fixed_outputs_are_what_setup_saw(make: Callable[..., Circuit]) -> None:
    x, y = [1, 2, 3], [-1, 0, -2]
    witness = [[value / 2**SCALE for value in tensor] for tensor in (x, y)]
    circuit = make(chain(), output_visibility="fixed", witness=witness)
    c = [(a + b) * b - (1 << SCALE) * a for a, b in zip(x, y, strict=True)]
    m = [sum(c[n] * int(WEIGHTS[n][j]) for n in range(3)) for j in range(2)]
    demanded = [sum(c), c[0] * c[1] * c[2], *m, 255 + 256 + 254]
    assert circuit.audit(chain_relation(demanded)).problems == []
    more = Relation(
        (3, 3),
        lambda inputs, p: (
            [*chain_relation(demanded).evaluate(inputs, p)[0], inputs[0][0]],
            {"Exp": inputs[1]},
        ),
    )
    assert circuit.audit(more).problems == [
        "fixed outputs: 6 expected, 1 of them are missing and 0 other results are tied to values"
    ]
    wrong = [demanded[0] + 1, *demanded[1:]]
    assert circuit.audit(chain_relation(wrong)).problems == [
        "fixed outputs: 5 expected, 1 of them are missing and 1 other results are tied to values"
    ]


# Bad controls: circuits that an honest prover satisfies, and that prove less than they seem to.


def test_a_freivalds_circuit_has_free_operands(
    make: Callable[..., Circuit], tmp_path: Path
) -> None:
    def settings(folder: Path, chosen: dict[str, Any]) -> None:
        # The worker refuses this, so it is asked for directly, in another process.
        chosen |= {"disable_freivalds": False, "lookup_range": tuple(chosen["lookup_range"])}
        code = (
            "import ezkl\noptions = ezkl.PyRunArgs()\n"
            f"for name, value in {chosen!r}.items(): setattr(options, name, value)\n"
            "ezkl.gen_settings('network.onnx', 'settings.json', options)\n"
        )
        environment = dict(os.environ, EZKL_REPO_PATH=str(tmp_path), HOME=str(tmp_path))
        subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)

    model = network(
        [("MatMul", ["x", "y"], "m"), ("Mul", ["m", "z"], "o")],
        {"x": [2, 3], "y": [3, 2], "z": [2, 2]},
        {"o": [2, 2]},
    )

    def evaluate(inputs: list[list[int]], p: int) -> tuple[list[int], dict[str, list[int]]]:
        x, y, z = inputs
        m = [sum(x[3 * i + n] * y[2 * n + j] for n in range(3)) for i in (0, 1) for j in (0, 1)]
        return [a * b for a, b in zip(m, z, strict=True)], {}

    relation = Relation((6, 6, 4), evaluate)
    assert make(model).audit(relation).problems == []
    report = make(model, settings=settings).audit(relation)
    assert not report.ok
    assert len(report.free_operands) == 4
    assert report.free_operands[0] == (
        "MULT in block 0, row 0: operand 0 is neither input, constant nor result of a gate"
    )
    assert any("total_einsum_col_size: expected 0, got" in problem for problem in report.problems)
    assert "4 gates depend on free operands" in report.problems
    assert "instance 0 is neither input, constant nor result of a gate" in report.problems


def test_a_missing_range_check_is_seen(make: Callable[..., Circuit]) -> None:
    report = make(head(checked=False)).audit(head_relation(exposed=False))
    assert report.problems == [
        "lookups in ACosh: 4 expected, 4 of them are missing and 0 others are there"
    ]


def test_a_lookup_too_many_is_seen(good_head: Circuit) -> None:
    def evaluate(inputs: list[list[int]], p: int) -> tuple[list[int], dict[str, list[int]]]:
        outputs, lookups = head_relation().evaluate(inputs, p)
        return outputs, {"Exp": lookups["Exp"], "ACosh": lookups["ACosh"][1:]}

    assert good_head.audit(Relation((6, 6, 4, 4, 4), evaluate)).problems == [
        "lookups in ACosh: 3 expected, 0 of them are missing and 1 others are there"
    ]


def test_one_wrong_coefficient_is_seen(good_head: Circuit) -> None:
    report = good_head.audit(head_relation(divisor=DIVISOR + 1))
    assert report.problems == [
        f"instance {row} is not what the relation demands" for row in range(4)
    ]


def test_another_number_of_outputs_is_seen(good_head: Circuit) -> None:
    problems = good_head.audit(head_relation(exposed=False)).problems
    assert "instances: 8 expected, got 9" in problems
    assert "instance 8 is tied, but there are only 8" in problems


# Keys bent by hand.


def cut(key: ProvingKey, cell: int) -> ProvingKey:
    """`key` with `cell` taken out of its cycle: one copy constraint less."""
    successors = key.successors.copy()
    flat = successors.ravel()
    flat[np.flatnonzero(flat == cell)[0]] = flat[cell]
    flat[cell] = cell
    return replace(key, successors=successors)


def tie(key: ProvingKey, one: int, other: int) -> ProvingKey:
    """`key` with the cycles of two cells made one."""
    successors = key.successors.copy()
    flat = successors.ravel()
    flat[one], flat[other] = flat[other], flat[one]
    return replace(key, successors=successors)


def switched(key: ProvingKey, selector: int, row: int) -> ProvingKey:
    selectors = key.selectors.copy()
    selectors[selector, row] ^= True
    return replace(key, selectors=selectors)


def with_fixed(key: ProvingKey, column: int, row: int, value: int) -> ProvingKey:
    fixed = [list(values) for values in key.fixed]
    fixed[column][row] = value
    return replace(key, fixed=fixed)


ADD, DOT_OF_BLOCK_0 = 0, 7
BENT: dict[str, tuple[Bend, str]] = {
    "a result that is used without a copy": (
        lambda key, layout: cut(key, layout.track(0, 0, 0, 3)),
        "MULT in block 0, row 3: operand 0 is neither input, constant nor result of a gate",
    ),
    "an input that is assigned twice": (
        lambda key, layout: cut(key, layout.track(0, 0, 0, 0)),
        "ADD in block 0, row 0: operand 0 is neither input, constant nor result of a gate",
    ),
    "an instance without a copy": (
        lambda key, layout: cut(key, layout.instance(2)),
        "instance 2 is tied to nothing",
    ),
    "an instance too many": (
        lambda key, layout: tie(key, layout.instance(5), layout.instance(0)),
        "instance 5 is tied, but there are only 5",
    ),
    "an instance of something else": (
        lambda key, layout: tie(
            cut(key, layout.instance(0)), layout.instance(0), layout.commitment(0, 0)
        ),
        "instance 0 is not what the relation demands",
    ),
    "another weight": (
        lambda key, layout: with_fixed(key, 0, 1, key.fixed[0][1] + 1),
        "instance 2 is not what the relation demands",
    ),
    "two constants tied": (
        lambda key, layout: tie(key, layout.constant(0, 0), layout.constant(0, 1)),
        "two different constants are tied, one of them in row 1",
    ),
    "an input tied to a constant": (
        lambda key, layout: tie(key, layout.commitment(0, 0), layout.constant(0, 0)),
        "input 0[0] is tied to a constant or to another input",
    ),
    "two inputs tied": (
        lambda key, layout: tie(key, layout.commitment(0, 0), layout.commitment(1, 0)),
        "input 1[0] is tied to a constant or to another input",
    ),
    "a result tied to an input": (
        lambda key, layout: tie(key, layout.commitment(0, 0), layout.track(2, 0, 0, 0)),
        "fixed outputs: 0 expected, 0 of them are missing and 1 other results are tied to values",
    ),
    "a gate that is off": (
        lambda key, layout: switched(key, ADD, 0),
        "selectors: the fixed columns are not those of the selector bits",
    ),
    "a selector column that is another": (
        lambda key, layout: with_fixed(key, layout.selector_column, 9, 1),
        "selectors: the fixed columns are not those of the selector bits",
    ),
    "a gate in the blinding rows": (
        lambda key, layout: switched(key, ADD, layout.usable),
        "selectors: a gate is active in the blinding rows",
    ),
    "a copy in the blinding rows": (
        lambda key, layout: tie(key, layout.track(2, 0, 0, 31), layout.track(2, 0, 0, 0)),
        "permutation: a cell of the blinding rows is tied",
    ),
    "a sum that begins nowhere": (
        lambda key, layout: switched(key, DOT_OF_BLOCK_0, 0),
        "DOT of block 0 reads a row before the first",
    ),
    "another entry in a table": (
        lambda key, layout: with_fixed(key, layout.window_column + 1, 3, 7),
        "table Exp: its column is not this function on -23..0",
    ),
    "a table that goes on": (
        lambda key, layout: with_fixed(key, layout.window_column + 1, layout.usable - 1, 7),
        "table Exp: its column is not this function on -23..0",
    ),
    "another window": (
        lambda key, layout: with_fixed(key, layout.window_column, 23, 1),
        "lookup window: expected -23..0 in its column",
    ),
}


@pytest.mark.parametrize("name", BENT)
def test_a_bent_key_is_seen(
    good_chain: Circuit, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bend, problem = BENT[name]
    bent = bend(good_chain.key(), good_chain.layout())
    monkeypatch.setattr(check, "read_proving_key", lambda _: bent)
    assert problem in good_chain.audit(chain_relation()).problems


def test_the_unbent_key_passes(good_chain: Circuit) -> None:
    assert good_chain.audit(chain_relation()).problems == []


def test_a_result_that_nobody_reads_is_counted(
    good_chain: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    bent = cut(good_chain.key(), good_chain.layout().track(0, 0, 0, 3))
    monkeypatch.setattr(check, "read_proving_key", lambda _: bent)
    assert good_chain.audit(chain_relation()).unused == 1


def test_many_free_operands_are_counted(
    make: Callable[..., Circuit], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network([("Add", ["x", "y"], "a")], {"x": [1, 15], "y": [1, 15]}, {"a": [1, 15]})
    circuit = make(model, logrows=6)
    key, layout = circuit.key(), circuit.layout()
    for row in range(15):
        key = cut(cut(key, layout.track(0, 0, 0, row)), layout.track(1, 0, 0, row))
    monkeypatch.setattr(check, "read_proving_key", lambda _: key)
    relation = Relation(
        (15, 15), lambda inputs, p: ([a + b for a, b in zip(*inputs, strict=True)], {})
    )
    report = circuit.audit(relation)
    assert len(report.free_operands) == 30
    assert "10 more free operands" in report.problems


# Settings bent by hand.


def put(*path: str, value: Any) -> Edit:
    def edit(settings: dict[str, Any]) -> None:
        for name in path[:-1]:
            settings = settings[name]
        settings[path[-1]] = value

    return edit


SETTINGS: dict[str, tuple[Edit, str]] = {
    "another version": (
        put("version", value="23.0.4"),
        "version: expected 23.0.5, got 23.0.4",
    ),
    "Freivalds": (
        put("einsum_params", "total_einsum_col_size", value=7),
        "einsum_params.total_einsum_col_size: expected 0, got 7",
    ),
    "range checks": (
        put("required_range_checks", value=[[-1, 1]]),
        "required_range_checks: expected 0 or [], got [[-1, 1]]",
    ),
    "dynamic lookups": (
        put("num_dynamic_lookups", value=1),
        "num_dynamic_lookups: expected 0 or [], got 1",
    ),
    "shuffles": (put("num_shuffles", value=2), "num_shuffles: expected 0 or [], got 2"),
    "hashes": (
        put("module_sizes", "poseidon", value=[3, [1]]),
        "module_sizes.poseidon: expected 0 or [], got 3",
    ),
    "hidden weights": (
        put("run_args", "param_visibility", value="Private"),
        "param_visibility: expected Fixed, got Private",
    ),
    "hashed inputs": (
        put("run_args", "input_visibility", value="Hashed"),
        "input_visibility: expected KZGCommit or Public or Private, got Hashed",
    ),
    "private outputs": (
        put("run_args", "output_visibility", value="Private"),
        "output_visibility: expected KZGCommit or Public or Fixed, got Private",
    ),
    "other tensors": (
        put("module_sizes", "polycommit", value=[3, 2]),
        "module_sizes.polycommit of the inputs: expected (3, 3), got (3, 2)",
    ),
    "a range that does not fill its column": (
        put("run_args", "lookup_range", value=[-22, 0]),
        "lookup_range: 24 values expected to fill the column, got 23",
    ),
    "a moved range": (
        put("run_args", "lookup_range", value=[-22, 1]),
        "lookup window: expected -22..1 in its column",
    ),
    "another k": (put("run_args", "logrows", value=6), "k: 6 expected from the settings, the key"),
    "another width": (
        put("run_args", "num_inner_cols", value=2),
        "selectors: 14 expected from the settings, the key has 20",
    ),
    "another size": (
        put("total_assignments", value=20),
        "permutation columns: 7 expected from the settings, the key has 10",
    ),
    "a table less": (
        put("required_lookups", value=[]),
        "selectors: 18 expected from the settings, the key has 20",
    ),
    "an instance more": (
        put("model_instance_shapes", value=[[1, 6]]),
        "instances: 5 expected, got 6",
    ),
    "a negative size": (
        put("total_const_size", value=-1),
        "settings: not those of ezkl 23.0.5: ValueError: expected a natural number, got -1",
    ),
    "a missing field": (
        lambda settings: settings.pop("module_sizes"),
        "settings: not those of ezkl 23.0.5: KeyError: 'module_sizes'",
    ),
    "an empty list": (
        put("module_sizes", "poseidon", value=[]),
        "settings: not those of ezkl 23.0.5: IndexError: list index out of range",
    ),
    "infinity": (
        put("run_args", "lookup_range", value=[-1, float("inf")]),
        "settings: not those of ezkl 23.0.5: OverflowError: cannot convert float infinity",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_bent_settings_are_seen(good_chain: Circuit, tmp_path: Path, name: str) -> None:
    edit, problem = SETTINGS[name]
    report = good_chain.edited(tmp_path, edit).audit(chain_relation())
    assert any(seen.startswith(problem) for seen in report.problems), report.problems


def test_columns_that_the_key_does_not_have(
    good_chain: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(settings: dict[str, Any]) -> None:
        settings["einsum_params"]["total_einsum_col_size"] = 7
        settings["total_assignments"] = 500

    problems = good_chain.edited(tmp_path, edit).audit(chain_relation()).problems
    assert problems[-1].startswith("permutation columns: 64 expected from the settings")
    bent = replace(good_chain.key(), fixed=good_chain.key().fixed[:2])
    monkeypatch.setattr(check, "read_proving_key", lambda _: bent)
    assert good_chain.audit(chain_relation()).problems == [
        "fixed columns: 3 expected from the settings, the key has 2"
    ]


@pytest.mark.parametrize(
    ("visibility", "sizes", "problem"),
    [
        ("KZGCommit", (27, 3), "inputs: at most 26 values expected in one place, got 27"),
        ("Public", (14, 13), "inputs: at most 26 values expected in one place, got 27"),
        ("Private", (27, 26), "inputs: at most 52 values expected in one place, got 53"),
    ],
)
def test_inputs_that_do_not_fit(
    good_chain: Circuit, tmp_path: Path, visibility: str, sizes: tuple[int, int], problem: str
) -> None:
    circuit = good_chain.edited(tmp_path, put("run_args", "input_visibility", value=visibility))
    relation = Relation(sizes, lambda inputs, p: ([], {}))
    assert circuit.audit(relation).problems[-1] == problem


def test_settings_that_are_no_json_are_a_problem(good_chain: Circuit, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_bytes(b"\xff{")
    report = audit(good_chain.pk, tmp_path / "settings.json", chain_relation())
    assert not report.ok


def test_files_that_are_not_there_are_errors(good_chain: Circuit, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        audit(tmp_path / "none", good_chain.settings, chain_relation())
    with pytest.raises(InputError):
        audit(good_chain.pk, tmp_path / "none", chain_relation())


# Tables.


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ([Table("Tanh", {"scale": 256.0})], "table Tanh: expected Exp"),
        ([Table("Exp", {"scale": 256.0, "base": 2.0})], "table Exp: expected Exp"),
        ([Table("Exp", {"scale": 255.0, "base": 2.7182817})], "table Exp: expected Exp"),
        ([Table("ACosh", {"scale": 2.0})], "table ACosh: expected Exp, or ACosh where it is zero"),
        ([Table("ACosh", {"scale": 256.0})] * 2, "lookup tables: expected different functions"),
    ],
)
def test_tables_that_are_not_known(tables: list[Table], problem: str) -> None:
    low, high = -20, 3
    column = [value % FIELD for value in (*range(low, high + 1), low, low, *[0] * 6)]
    nothing = np.zeros((0, 32))
    key = ProvingKey(5, [column, [0] * 32, [0] * 32], nothing > 0, nothing.astype(int), sha256(b""))
    problems = table_problems(key, tables, (low, high), 0)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


# Selectors.


def test_selectors_that_are_on_together_are_in_different_columns() -> None:
    shape = Layout(5, 1, 1, (), 0, (), foreign=False)
    selectors = np.zeros((len(shape.gates), 32), np.bool_)
    for selector, row in ((0, 0), (1, 0), (1, 1), (2, 2), (3, 3)):
        selectors[selector, row] = True
    columns = layout._compress(shape, selectors, 4)
    # ADD and SUB meet in row 0; MULT fits beside ADD, DOTINIT beside SUB.
    assert columns[0][:4].tolist() == [1, 0, 2, 0]
    assert columns[1][:4].tolist() == [1, 1, 0, 2]
    assert layout._compress(shape, selectors, 2) == []


# The file.


def test_a_key_with_a_byte_too_many_or_too_few(good_chain: Circuit) -> None:
    data = good_chain.pk.read_bytes()
    for bad in (data + b"\0", data[:-1], data[:1000], data[:5], b""):
        with pytest.raises(InputError, match="proving key: not one of ezkl 23"):
            read_proving_key(bad)


@pytest.mark.parametrize(("place", "value"), [(0, 2), (1, 60), (2, 0)])
def test_a_key_with_another_head(good_chain: Circuit, place: int, value: int) -> None:
    data = bytearray(good_chain.pk.read_bytes())
    data[place] = value
    with pytest.raises(InputError, match="expected version 3, compressed selectors and k"):
        read_proving_key(bytes(data))


def test_a_key_without_its_selectors(good_chain: Circuit) -> None:
    data = good_chain.pk.read_bytes()
    fixed = 7 + 64 * len(good_chain.key().fixed)
    end = (good_chain.folder / "vk.key").stat().st_size
    with pytest.raises(InputError, match="bytes of selectors are no multiple of 32 rows"):
        read_proving_key(data[:fixed] + data[end:])


def element(circuit: Circuit, listing: int, column: int) -> int:
    """Where in the file the first element of a column of one of the six lists stands."""
    data = circuit.pk.read_bytes()
    position = (circuit.folder / "vk.key").stat().st_size

    def number() -> int:
        nonlocal position
        position += 4
        return int.from_bytes(data[position - 4 : position], "big")

    for _ in range(3):
        size = 32 * number()
        position += size
    for current in range(6):
        count = number()
        position += 4 * count
        for index in range(count):
            size = 32 * number()
            if (current, index) == (listing, column):
                return position
            position += size
    raise AssertionError


def test_a_polynomial_of_another_length(good_chain: Circuit) -> None:
    data = bytearray(good_chain.pk.read_bytes())
    data[element(good_chain, 0, 1) - 1] += 1
    with pytest.raises(InputError, match="no polynomials found"):
        read_proving_key(bytes(data))
    data = bytearray(good_chain.pk.read_bytes())
    data[1] = 6
    with pytest.raises(InputError, match="expected a polynomial of 64 values"):
        read_proving_key(bytes(data))


def test_a_field_element_that_is_not_reduced(good_chain: Circuit) -> None:
    data = bytearray(good_chain.pk.read_bytes())
    place = element(good_chain, 0, 0)
    data[place : place + 32] = FIELD.to_bytes(32, "little")
    with pytest.raises(InputError, match="a field element is not reduced"):
        read_proving_key(bytes(data))


def test_a_permutation_that_is_none(good_chain: Circuit) -> None:
    place = element(good_chain, 3, 0)
    data = bytearray(good_chain.pk.read_bytes())
    data[place] ^= 1
    with pytest.raises(InputError, match="permutation column 0 leaves its domain at row 0"):
        read_proving_key(bytes(data))
    data = bytearray(good_chain.pk.read_bytes())
    data[place : place + 32] = data[place + 32 : place + 64]
    with pytest.raises(InputError, match="are not a permutation"):
        read_proving_key(bytes(data))


def test_symbols_differ_by_table_and_argument() -> None:
    assert len({symbol("Exp", 1), symbol("Exp", 2), symbol("ACosh", 1)}) == 3
    assert symbol("Exp", 1 + FIELD) == symbol("Exp", 1)

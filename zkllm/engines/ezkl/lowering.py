"""From a `Circuit` to the ONNX graph that ezkl compiles, cell for cell what the equations say.

ezkl labels every tensor with a scale. Integers have the label 0 here; only the tables of lookups
have another, and a factor 2^-label, which costs nothing, moves a tensor there.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from zkllm.engines.ezkl.circuit import Circuit
from zkllm.engines.ezkl.expressions import Expression
from zkllm.errors import BackendError

FloatArray = npt.NDArray[np.float32]

INPUT = "integers"
"""Name of the one input of every graph."""

_OPSET = 13
_IR_VERSION = 8
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul"}


def to_onnx(circuit: Circuit, label: int) -> bytes:
    """The graph of `circuit`; `label` is the scale of its tables.

    Its one input is `readings.flat_inputs`, its outputs are the values of `readings.demanded`, both
    in their order.
    """
    return _Graph(circuit, label).build()


class _Graph:
    def __init__(self, circuit: Circuit, label: int) -> None:
        self._circuit = circuit
        self._label = label
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._names: dict[int, str] = {}
        self._labels: dict[int, int] = {}
        self._aligned: dict[tuple[str, int], str] = {}
        self._constants: set[tuple[bytes, tuple[int, ...]]] = set()
        self._fresh = (f"n{i}" for i in itertools.count())

    def build(self) -> bytes:
        self._place_inputs()
        for node in self._circuit.expressions:
            if node.operation not in ("input", "constant"):
                self._labels[node.index], self._names[node.index] = self._emit(node)
        for node in self._circuit.exposed:
            self._output(self._names[node.index], node.shape)
        self._output(self._range_checks(), (1,))
        for equation in self._circuit.equations:
            node = equation.expression
            self._output(self._names[node.index], node.shape)
        inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, (self._circuit.size,))]
        graph = helper.make_graph(self._nodes, "circuit", inputs, self._outputs, self._initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _place_inputs(self) -> None:
        """Cut the one input tensor into the inputs of the circuit.

        It is one, because then ezkl assigns all inputs before anything else, in order: there the
        audit finds them. A Gather costs no cells, where a Slice would copy its whole source.
        """
        start = 0
        for node in self._circuit.inputs:
            end = start + math.prod(node.shape)
            piece = self._node("Gather", INPUT, self._indices(range(start, end)), axis=0)
            self._names[node.index] = self._node("Reshape", piece, self._indices(node.shape))
            self._labels[node.index] = 0
            start = end

    def _emit(self, node: Expression) -> tuple[int, str]:
        """The label and the name of the tensor that holds `node`."""
        operands = node.operands
        if node.operation in _BINARY:
            return self._binary(node)
        if node.operation == "exp":
            return self._label, self._node("Exp", self._at(operands[0], self._label))
        if node.operation == "concat":
            label = max(self._labels[operand.index] for operand in operands)
            names = [self._at(operand, label) for operand in operands]
            return label, self._node("Concat", *names, axis=0)
        if node.operation == "einsum":
            names = [
                self._names[o.index] if o.operation != "constant" else self._constant(o.detail, 0)
                for o in operands
            ]
            label = sum(self._labels.get(operand.index, 0) for operand in operands)
            return label, self._node("Einsum", *names, equation=node.detail)
        (operand,) = operands
        label, name = self._labels[operand.index], self._names[operand.index]
        if node.operation == "gather":
            return label, self._node("Gather", name, self._indices(node.detail), axis=0)
        if node.operation == "reshape":
            return label, self._node("Reshape", name, self._indices(node.shape))
        if node.operation == "product":
            # The label of a product is not the label of its factors; integers have none.
            if label:
                raise BackendError("a product is made of integers without a label only")
            return 0, self._node("ReduceProd", name, axes=[0], keepdims=0)
        return label, self._node("ReduceSum", name, self._indices([0]), keepdims=0)

    def _binary(self, node: Expression) -> tuple[int, str]:
        a, b = node.operands
        operator = _BINARY[node.operation]
        label = self._labels[a.index]
        if b.operation == "constant":
            shift = 0 if node.operation == "mul" else label
            return label, self._with_constant(operator, a, b, node.shape, shift)
        other = self._labels[b.index]
        if node.operation == "mul":
            names = (self._names[a.index], self._names[b.index])
            return label + other, self._node(operator, *names)
        label = max(label, other)
        return label, self._node(operator, self._at(a, label), self._at(b, label))

    def _at(self, node: Expression, label: int) -> str:
        """The tensor of `node` under `label`, which is not below its own."""
        name, own = self._names[node.index], self._labels[node.index]
        if own == label:
            return name
        if own > label:
            raise BackendError(f"expected a label of at most {label}, got {own}")
        if (name, label) not in self._aligned:
            self._aligned[name, label] = self._shift(name, label - own)
        return self._aligned[name, label]

    def _shift(self, name: str, label: int) -> str:
        factor = self._initializer(np.array(2.0**-label, dtype=np.float32))
        return self._node("Mul", name, factor)

    def _range_checks(self) -> str:
        """One sum over the lookups of all range checks, each of which gives zero.

        The table is Acosh, which has no value below 1 and is stored as 0 there: the whole window
        lies below 1 under the label of the tables.
        """
        if self._circuit.window.high >= 1 << self._label:
            raise BackendError(f"expected a window below 2^{self._label}")
        flat = []
        for check in self._circuit.ranges:
            name = self._at(check.expression, self._label)
            flat.append(self._node("Reshape", name, self._indices([-1])))
        zeros = self._node("Acosh", self._node("Concat", *flat, axis=0))
        return self._node("ReduceSum", zeros, self._indices([0]), keepdims=1)

    def _constant(self, values: object, label: int) -> str:
        return self._initializer(np.ldexp(np.array(values, dtype=np.float32), -label))

    def _with_constant(
        self, operator: str, a: Expression, b: Expression, shape: tuple[int, ...], label: int
    ) -> str:
        """`a` with the constant `b`, in a form that no equal constant has yet.

        tract merges constants of equal shape and value, and ezkl decomposes a constant that is
        used twice. So a constant is given one of the shapes that broadcast alike; where they are
        used up, both tensors are cut into as many axes as their sizes have prime factors.
        """
        name = self._names[a.index]
        array = np.ldexp(np.array(b.detail, dtype=np.float32), -label)
        padded = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
        constant = self._distinct(padded, shape)
        if constant is not None:
            return self._node(operator, name, constant)
        fine = [_prime_factors(size) for size in shape]
        target = tuple(itertools.chain.from_iterable(fine))
        cut = [f if own > 1 else [1] * len(f) for own, f in zip(padded.shape, fine, strict=True)]
        constant = self._distinct(padded.reshape([*itertools.chain.from_iterable(cut)]), target)
        if constant is None:
            raise BackendError(f"a constant is used too often with tensors of shape {list(shape)}")
        viewed = self._node("Reshape", name, self._indices(target))
        return self._node("Reshape", self._node(operator, viewed, constant), self._indices(shape))

    def _distinct(self, array: FloatArray, target: tuple[int, ...]) -> str | None:
        """An initializer with `array` in an unused shape between its own and `target`."""
        choices = [(a,) if a == b else (a, b) for a, b in zip(array.shape, target, strict=True)]
        for shape in itertools.product(*choices):
            wide = np.ascontiguousarray(np.broadcast_to(array, shape))
            key = (wide.tobytes(), shape)
            if key not in self._constants:
                self._constants.add(key)
                return self._initializer(wide)
        return None

    def _indices(self, values: object) -> str:
        return self._initializer(np.array(values, dtype=np.int64))

    def _initializer(self, array: npt.NDArray[Any]) -> str:
        name = next(self._fresh)
        self._initializers.append(numpy_helper.from_array(array, name))
        return name

    def _node(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = next(self._fresh)
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def _output(self, name: str, shape: tuple[int, ...]) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _prime_factors(size: int) -> list[int]:
    factors = []
    divisor = 2
    while size > 1:
        while size % divisor == 0:
            factors.append(divisor)
            size //= divisor
        divisor += 1
    return factors or [1]

"""A graph of exact integers, piece by piece.

Tensors are int64 at the boundary of a graph and float64 inside, where every value and every partial
sum is an integer below 2^53 in magnitude: additions may come in any order, with or without fused
multiply-add. What is larger is assembled in int64, element by element, from float64 sums, since
ONNX Runtime's int64 ReduceSum is not exact. Weights are external data inside weights.safetensors,
in their narrow types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx

from zkllm.integers import FLOAT64_LIMIT, require
from zkllm.tensors import TensorType

OPSET = 18
WEIGHTS = "weights.safetensors"
_IR_VERSION = 8

Shape: TypeAlias = Sequence[int | str]
"""Dimensions; a text stands for one that each run chooses, T for its rows."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor inside weights.safetensors."""

    type: TensorType
    start: int
    """Its first byte."""
    end: int


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a graph."""

    name: str
    """As the graph calls it: `PLACE/...`."""
    bound: int
    """Proven for every magnitude."""

    @property
    def place(self) -> str:
        """What made it, for the names of nodes that only give it another form."""
        return self.name.partition("/")[0]


Read: TypeAlias = Callable[[str], Value]
"""Gives what a step reads, by its name in the unit, and computes it where nobody did before."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a graph gives besides the output of its unit."""

    value: str
    name: str
    shape: Shape
    dtype: str = "int64"


class Builder:
    """Collects the nodes of one unit; methods return the name of the value that they add.

    Values are float64 unless their method says otherwise.
    """

    def __init__(self, unit: str, tensors: Mapping[str, Placed]) -> None:
        """`tensors` are the weights and tables that the unit may read."""
        self.unit = unit
        self._tensors = tensors
        self._nodes: dict[str, Any] = {}
        self._initialisers: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._besides: list[Output] = []

    def finish(self, value: str, name: str, shape: Shape) -> Any:
        """The `ModelProto` that gives `value` as its int64 output `name`, the first of all."""
        outputs = [self._output(output) for output in (Output(value, name, shape), *self._besides)]
        graph = onnx.helper.make_graph(
            list(self._nodes.values()),
            self.unit,
            self._inputs,
            outputs,
            list(self._initialisers.values()),
        )
        return onnx.helper.make_model(
            graph,
            producer_name="zkllm",
            ir_version=_IR_VERSION,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        )

    def require(self, value: int, tensor: str, limit: int = FLOAT64_LIMIT) -> None:
        """Raises `UnsupportedModel` for a bound of `tensor` that reaches `limit`."""
        require(value, limit, self.unit, tensor)

    # What comes in and goes out

    def input(self, name: str, shape: Shape) -> str:
        """An int64 input."""
        kind = onnx.TensorProto.INT64
        self._inputs.append(onnx.helper.make_tensor_value_info(name, kind, shape))
        return name

    def real_input(self, name: str, shape: Shape) -> str:
        """An int64 input as float64."""
        return self.cast(self.input(name, shape), f"{name}/float64")

    def also(self, output: Output) -> None:
        """Let the graph give this too, after the output of its unit."""
        self._besides.append(output)

    def _output(self, output: Output) -> Any:
        # a value of that name is given as it is; the cast makes 0 of -0.0
        if output.value != output.name:
            self.cast(output.value, output.name, output.dtype)
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(output.dtype))
        return onnx.helper.make_tensor_value_info(output.name, kind, output.shape)

    # Pieces

    def op(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """One node. Raises `ValueError` if another node, or a tensor, has this name."""
        node = onnx.helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        if name in self._tensors or self._nodes.setdefault(name, node) != node:
            raise ValueError(f"{self.unit}: two values are called {name}")
        return name

    def constant(self, value: int | float | Sequence[int], dtype: str = "float64") -> str:
        """Integers and powers of two only.

        ONNX Runtime's optimiser drops a multiplication by a constant that is 1 in float32, such as
        1 - 2^-40: between these there is none.
        """
        name = f"constant/{dtype}/{value}"
        array = np.array(value, dtype=dtype)
        self._initialisers[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def stored(self, name: str) -> str:
        """A tensor of the model, in its narrow type."""
        placed = self._tensors[name]
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(placed.type.dtype)),
            dims=placed.type.shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        place = (
            ("location", WEIGHTS),
            ("offset", placed.start),
            ("length", placed.end - placed.start),
        )
        for key, value in place:
            tensor.external_data.add(key=key, value=str(value))
        self._initialisers[name] = tensor
        return name

    def tensor(self, name: str) -> str:
        """A tensor of the model as float64; ONNX Runtime casts it once, when it loads."""
        return self.cast(self.stored(name), f"{name}/float64")

    def length(self, name: str) -> int:
        """How many rows a tensor of the model has, or a table entries."""
        return self._tensors[name].type.shape[0]

    def cast(self, value: str, name: str, dtype: str = "float64") -> str:
        to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.op("Cast", [value], name, to=to)

    # Arithmetic

    def round_shift(self, value: str, shift: int, name: str) -> str:
        """floor(value / 2^shift), where the half that rounds was added before."""
        if shift == 0:
            return value
        scaled = self.op("Mul", [value, self.constant(2.0**-shift)], f"{name}/scaled")
        return self.op("Floor", [scaled], f"{name}/rounded")

    def round_div(self, numerator: str, half: str, divisor: str, name: str) -> str:
        """floor((n + floor(d/2)) / d): the float64 quotient never reaches the next integer."""
        raised = self.op("Add", [numerator, half], f"{name}/raised")
        quotient = self.op("Div", [raised, divisor], f"{name}/quotient")
        return self.op("Floor", [quotient], f"{name}/rounded")

    def round_div_by(self, numerator: str, divisor: str, name: str) -> str:
        """As `round_div`, for a computed divisor."""
        halved = self.op("Mul", [divisor, self.constant(0.5)], f"{name}/halved")
        half = self.op("Floor", [halved], f"{name}/half")
        return self.round_div(numerator, half, divisor, name)

    def sum(self, value: str, name: str) -> str:
        """Sums along the last axis, which stays."""
        last = self.constant([-1], "int64")
        return self.op("ReduceSum", [value, last], name, keepdims=1)

    def columns(self, x: str, place: str) -> str:
        """[T, n] as [n, T]; who asks for the columns of the same rows again gets the same."""
        return self.op("Transpose", [x], f"{place}/columns", perm=[1, 0])

    def product(self, columns: str, weight: str) -> str:
        """x·W [T, m] from xᵀ [n, T], as (Wᵀ·xᵀ)ᵀ; `weight` is the name of W [n, m].

        ONNX Runtime copies the right factor of a float64 product before it multiplies; this way
        round it copies a few rows instead of all weights.
        """
        turned = self.op("Transpose", [self.tensor(weight)], f"{weight}/transposed", perm=[1, 0])
        product = self.op("MatMul", [turned, columns], f"{weight}/product")  # [m, T]
        return self.op("Transpose", [product], f"{weight}/rows", perm=[1, 0])

    # Sizes

    def size(self, value: str, axis: int, name: str) -> str:
        """One dimension of `value`, int64 []."""
        shape = self.op("Shape", [value], f"{name}/shape")
        return self.op("Gather", [shape, self.constant(axis, "int64")], name, axis=0)

    def range(self, start: str, end: str, name: str) -> str:
        """start, start + 1, ..., end - 1 in int64."""
        return self.op("Range", [start, end, self.constant(1, "int64")], name)

"""The nodes of a unit: exact arithmetic written in ONNX operators.

Tensors are int64 at the boundary of a unit and float64 inside, where every value and every partial
sum is an integer below 2^53 in magnitude: additions may come in any order, with or without fused
multiply-add. Only variances are larger; they are assembled in int64, element by element, from
float64 sums, since ONNX Runtime's int64 ReduceSum is not exact. Weights are external data inside
weights.safetensors, in their narrow types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx

from zkllm.exact.format1 import Attention, Head, Mlp, Record
from zkllm.exact.model import tensor_offsets
from zkllm.exact.specification import Specification
from zkllm.integers import FLOAT64_LIMIT, VARIANCE_LIMIT, require
from zkllm.operations.embed.exact import Embed
from zkllm.operations.linear.exact import Linear
from zkllm.operations.norm.exact import Norm

OPSET = 18
WEIGHTS = "weights.safetensors"
_IR_VERSION = 8


Spans: TypeAlias = Mapping[str, tuple[int, int]]
"""Byte ranges of tensors inside weights.safetensors, by name."""


def spans_of(specification: Specification) -> Spans:
    """Where the weights of a model lie."""
    return tensor_offsets({name: stored.type for name, stored in specification.tensors.items()})


def compile_unit(specification: Specification, name: str, spans: Spans | None = None) -> Any:
    """The `ModelProto` of one unit; `spans` spares who compiles many to work them out again."""
    units = specification.units()
    unit: Record = units[name]
    # The boundary before a unit; embed reads no boundary.
    place = list(units).index(name) - (specification.embed is not None)
    bound = 0 if isinstance(unit, Embed) else specification.boundary_bounds()[place]
    builder = Builder(specification, name, bound, spans)
    if isinstance(unit, Embed):
        builder.embed(unit)
    elif isinstance(unit, Attention):
        builder.attention(unit)
    elif isinstance(unit, Mlp):
        builder.mlp(unit)
    else:
        builder.head(unit)
    return builder.finish()


class Builder:
    """Collects the nodes of one unit; methods return the name of the value that they add.

    Values are float64 unless their method says otherwise.
    """

    def __init__(
        self, specification: Specification, unit: str, bound: int, spans: Spans | None = None
    ) -> None:
        self._specification = specification
        self._unit = unit
        self._bound = bound
        self._width = specification.architecture.width
        self._spans = spans_of(specification) if spans is None else spans
        self._nodes: list[Any] = []
        self._initialisers: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def finish(self) -> Any:
        graph = onnx.helper.make_graph(
            self._nodes,
            self._unit,
            self._inputs,
            self._outputs,
            list(self._initialisers.values()),
        )
        return onnx.helper.make_model(
            graph,
            producer_name="zkllm",
            ir_version=_IR_VERSION,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        )

    # Pieces of a graph

    def _op(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        node = onnx.helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        self._nodes.append(node)
        return name

    def _constant(self, value: int | float | Sequence[int], dtype: str = "float64") -> str:
        # Integers and powers of two only. ONNX Runtime's optimiser drops a multiplication by a
        # constant that is 1 in float32, such as 1 - 2^-40: between these there is none.
        name = f"constant/{dtype}/{value}"
        array = np.array(value, dtype=dtype)
        self._initialisers[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def _stored(self, name: str) -> str:
        """A tensor of the model, in its narrow type."""
        stored = self._specification.tensors[name]
        start, end = self._spans[name]
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(stored.dtype)),
            dims=stored.shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for key, value in (("location", WEIGHTS), ("offset", start), ("length", end - start)):
            tensor.external_data.add(key=key, value=str(value))
        self._initialisers[name] = tensor
        return name

    def _tensor(self, name: str) -> str:
        """A tensor of the model as float64; ONNX Runtime casts it once, when it loads."""
        return self._cast(self._stored(name), f"{name}/float64")

    def _cast(self, value: str, name: str, dtype: str = "float64") -> str:
        to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._op("Cast", [value], name, to=to)

    def _input(self, name: str, shape: Sequence[int | str]) -> str:
        """An int64 input."""
        kind = onnx.TensorProto.INT64
        self._inputs.append(onnx.helper.make_tensor_value_info(name, kind, shape))
        return name

    def _output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """An int64 output, cast from `value`; -0.0 becomes 0 here."""
        self._cast(value, name, "int64")
        kind = onnx.TensorProto.INT64
        self._outputs.append(onnx.helper.make_tensor_value_info(name, kind, shape))

    def _rows(self) -> str:
        """The input boundary [T, d]."""
        return self._cast(self._input("x", ["T", self._width]), "x/float64")

    def _require(self, value: int, tensor: str, limit: int = FLOAT64_LIMIT) -> None:
        require(value, limit, self._unit, tensor)

    # Operations

    def _round_shift(self, value: str, shift: int, name: str) -> str:
        """floor(value / 2^shift), where the half that rounds was added before."""
        if shift == 0:
            return value
        scaled = self._op("Mul", [value, self._constant(2.0**-shift)], f"{name}/scaled")
        return self._op("Floor", [scaled], f"{name}/rounded")

    def _round_div(self, numerator: str, half: str, divisor: str, name: str) -> str:
        """floor((n + floor(d/2)) / d): the float64 quotient never reaches the next integer."""
        raised = self._op("Add", [numerator, half], f"{name}/raised")
        quotient = self._op("Div", [raised, divisor], f"{name}/quotient")
        return self._op("Floor", [quotient], f"{name}/rounded")

    def _round_div_by(self, numerator: str, divisor: str, name: str) -> str:
        """As `_round_div`, for a computed divisor."""
        halved = self._op("Mul", [divisor, self._constant(0.5)], f"{name}/halved")
        return self._round_div(
            numerator, self._op("Floor", [halved], f"{name}/half"), divisor, name
        )

    def _sum(self, value: str, name: str) -> str:
        """Sums along the last axis, which stays."""
        last = self._constant([-1], "int64")
        return self._op("ReduceSum", [value, last], name, keepdims=1)

    def _norm(self, x: str, n: Norm) -> str:
        """LayerNorm of x [T, d], its affine part excepted."""
        d = self._width
        divisor = d << n.shift
        self._require(2 * d * self._bound + divisor // 2, "d·x - Σx")
        self._require(n.centred * n.gain + math.isqrt(n.variance) + 1, "c·K")
        spread = self._op("Mul", [x, self._constant(float(d))], "norm/spread")
        difference = self._op("Sub", [spread, self._sum(x, "norm/sum")], "norm/difference")
        half = self._constant(float(divisor // 2))
        centred = self._round_div(difference, half, self._constant(float(divisor)), "norm/centred")
        sigma = self._cast(self._sigma(self._variance(centred, n)), "norm/sigma")
        scaled = self._op("Mul", [centred, self._constant(float(n.gain))], "norm/scaled")
        return self._round_div_by(scaled, sigma, "norm/output")

    def _variance(self, centred: str, n: Norm) -> str:
        """V = Σ c² + E in int64 [T, 1], below 2^61: float64 sums of products of 16-bit limbs."""
        self._require(n.variance, "V", VARIANCE_LIMIT)
        self._require(self._width << 32, "the sum of squared limbs")
        top = self._op("Mul", [centred, self._constant(2.0**-16)], "norm/limb/top")
        high = self._op("Floor", [top], "norm/limb/high")
        base = self._op("Mul", [high, self._constant(2.0**16)], "norm/limb/base")
        low = self._op("Sub", [centred, base], "norm/limb/low")
        variance = self._constant(n.epsilon, "int64")
        for name, left, right, weight in (
            ("high", high, high, 1 << 32),
            ("mixed", high, low, 1 << 17),
            ("low", low, low, 1),
        ):
            place = f"norm/variance/{name}"
            products = self._op("Mul", [left, right], f"{place}/products")
            total = self._cast(self._sum(products, f"{place}/sum"), f"{place}/integer", "int64")
            scale = self._constant(weight, "int64")
            scaled = self._op("Mul", [total, scale], f"{place}/scaled")
            variance = self._op("Add", [variance, scaled], place)
        return variance

    def _sigma(self, variance: str) -> str:
        """isqrt(V) + 1 in int64: the float64 root is off by one at most, which integers mend."""
        real = self._cast(variance, "norm/root/real")
        guess = self._op("Sqrt", [real], "norm/root/guess")
        floor = self._op("Floor", [guess], "norm/root/floor")
        root = self._cast(floor, "norm/root/integer", "int64")
        square = self._op("Mul", [root, root], "norm/root/square")
        above = self._op("Greater", [square, variance], "norm/root/is-above")
        excess = self._cast(above, "norm/root/excess", "int64")
        lowered = self._op("Sub", [root, excess], "norm/root/lowered")
        successor = self._op("Add", [lowered, self._constant(1, "int64")], "norm/root/successor")
        next_square = self._op("Mul", [successor, successor], "norm/root/next-square")
        below = self._op("LessOrEqual", [next_square, variance], "norm/root/is-below")
        missing = self._cast(below, "norm/root/missing", "int64")
        return self._op("Add", [successor, missing], "norm/root/sigma")

    def _columns(self, x: str, name: str) -> str:
        """[T, n] as [n, T]."""
        return self._op("Transpose", [x], f"{name}/columns", perm=[1, 0])

    def _product(self, columns: str, weight: str) -> str:
        """x·W [T, m] from xᵀ [n, T], as (Wᵀ·xᵀ)ᵀ.

        ONNX Runtime copies the right factor of a float64 product before it multiplies; this way
        round it copies a few rows instead of all weights.
        """
        turned = self._op("Transpose", [self._tensor(weight)], f"{weight}/transposed", perm=[1, 0])
        product = self._op("MatMul", [turned, columns], f"{weight}/product")
        return self._op("Transpose", [product], f"{weight}/rows", perm=[1, 0])

    def _linear(self, columns: str, layer: Linear) -> str:
        """round((x·W + b) / 2^s) [T, m] from xᵀ [n, T]."""
        self._require(layer.accumulator, layer.weight)
        half = self._constant(float((1 << layer.shift) >> 1))
        bias = self._op("Add", [self._tensor(layer.bias), half], f"{layer.bias}/raised")
        product = self._product(columns, layer.weight)
        accumulator = self._op("Add", [product, bias], f"{layer.weight}/accumulator")
        return self._round_shift(accumulator, layer.shift, layer.weight)

    def _residual(self, x: str, change: str, bound: int) -> None:
        """The output boundary x + change."""
        self._require(bound, "the residual stream")
        output = self._op("Add", [x, change], "output/float64")
        self._output(output, "output", ["T", self._width])

    # Units

    def embed(self, unit: Embed) -> None:
        """Inputs ids [T] and first_position []; output [T, d]. All in int64."""
        ids = self._input("ids", ["T"])
        first = self._input("first_position", [])
        count = self._size("ids", 0, "ids/count")
        end = self._op("Add", [first, count], "positions/end")
        positions = self._range(first, end, "positions")
        rows = []
        for name, index in ((unit.tokens, ids), (unit.positions, positions)):
            gathered = self._op("Gather", [self._stored(name), index], f"{name}/rows", axis=0)
            rows.append(self._cast(gathered, f"{name}/int64", "int64"))
        self._op("Add", rows, "output")
        self._declare("output", "int64", ["T", self._width])

    def attention(self, unit: Attention) -> None:
        """Inputs x [T, d], past_key and past_value [h, P, d_head].

        Outputs: the boundary [T, d]; key and value [h, P + T, d_head], past and present.
        """
        a = self._specification.architecture
        shape: list[int | str] = [a.heads, "P", a.width // a.heads]
        x = self._rows()
        past = {
            part: self._cast(self._input(f"past_{part}", shape), f"past_{part}/float64")
            for part in ("key", "value")
        }
        columns = self._columns(self._norm(x, unit.norm), "norm")
        query = self._split_heads(self._linear(columns, unit.query), "query")
        both: dict[str, str] = {}
        for part, layer in (("key", unit.key), ("value", unit.value)):
            present = self._split_heads(self._linear(columns, layer), part)
            both[part] = self._op("Concat", [past[part], present], f"{part}/all", axis=1)
        mixed = self._attend(unit, query, both["key"], both["value"])
        joined = self._op("Transpose", [mixed], "heads/together", perm=[1, 0, 2])
        flat = self._op("Reshape", [joined, self._constant([-1, a.width], "int64")], "heads/joined")
        projected = self._linear(self._columns(flat, "heads"), unit.out)
        self._residual(x, projected, unit.output)
        for part, value in both.items():
            self._output(value, part, [a.heads, "P + T", a.width // a.heads])

    def _split_heads(self, x: str, name: str) -> str:
        """[T, h·d_head] to [h, T, d_head]."""
        a = self._specification.architecture
        shape = self._constant([-1, a.heads, a.width // a.heads], "int64")
        apart = self._op("Reshape", [x, shape], f"{name}/apart")
        return self._op("Transpose", [apart], f"{name}/heads", perm=[1, 0, 2])

    def _attend(self, unit: Attention, query: str, key: str, value: str) -> str:
        """The output [h, T, d_head] for the last T of the N = P + T positions of key and value."""
        self._require(unit.product, "q·k")
        self._require(unit.mixed, "the sum of e·v")
        turned = self._op("Transpose", [query], "query/columns", perm=[0, 2, 1])
        # [h, N, T]: as in `_product`, the larger factor stands on the left
        product = self._op("MatMul", [key, turned], "score/product")
        product = self._op("Transpose", [product], "score/rows", perm=[0, 2, 1])
        half = self._constant(float((1 << unit.score_shift) >> 1))
        raised = self._op("Add", [product, half], "score/raised")
        score = self._round_shift(raised, unit.score_shift, "score")
        causal = self._causal(query, key)
        lowest = self._constant(-float(2 * FLOAT64_LIMIT))  # below every score
        visible = self._op("Where", [causal, score, lowest], "score/visible")
        last = self._constant([-1], "int64")
        maximum = self._op("ReduceMax", [visible, last], "score/maximum", keepdims=1)
        distance = self._op("Sub", [maximum, score], "score/distance")
        # z >= 0 at every visible place; the others need an index too, and count as 0 after it
        cap = self._specification.tensors[unit.exp].shape[0] - 1
        ends = [self._constant(0.0), self._constant(float(cap))]
        capped = self._op("Clip", [distance, *ends], "score/capped")
        index = self._cast(capped, "exponential/index", "int64")
        found = self._op("Gather", [self._tensor(unit.exp), index], "exponential/found", axis=0)
        nothing = self._constant(0.0)
        exponential = self._op("Where", [causal, found, nothing], "exponential/visible")
        total = self._sum(exponential, "exponential/total")
        mixed = self._op("MatMul", [exponential, value], "mixed/sum")
        return self._round_div_by(mixed, total, "mixed")

    def _causal(self, query: str, key: str) -> str:
        """Which positions each row sees, bool [T, N]: j <= i, with i from P to N - 1."""
        count = self._size(query, 1, "causal/count")
        end = self._size(key, 1, "causal/end")
        start = self._op("Sub", [end, count], "causal/start")
        rows = self._range(start, end, "causal/rows")
        columns = self._range(self._constant(0, "int64"), end, "causal/columns")
        upright = self._op("Reshape", [rows, self._constant([-1, 1], "int64")], "causal/upright")
        return self._op("LessOrEqual", [columns, upright], "causal/visible")

    def _size(self, value: str, axis: int, name: str) -> str:
        """One dimension of `value`, int64 []."""
        shape = self._op("Shape", [value], f"{name}/shape")
        return self._op("Gather", [shape, self._constant(axis, "int64")], name, axis=0)

    def _range(self, start: str, end: str, name: str) -> str:
        """start, start + 1, ..., end - 1 in int64."""
        return self._op("Range", [start, end, self._constant(1, "int64")], name)

    def mlp(self, unit: Mlp) -> None:
        """Input x [T, d]; output [T, d]."""
        x = self._rows()
        columns = self._columns(self._norm(x, unit.norm), "norm")
        hidden = self._linear(columns, unit.expand)
        magnitude = self._op("Abs", [hidden], "gelu/magnitude")
        cap = self._specification.tensors[unit.gelu].shape[0] - 1
        capped = self._op("Min", [magnitude, self._constant(float(cap))], "gelu/capped")
        index = self._cast(capped, "gelu/index", "int64")
        below = self._op("Gather", [self._tensor(unit.gelu), index], "gelu/below", axis=0)
        positive = self._op("Max", [hidden, self._constant(0.0)], "gelu/positive")
        activated = self._op("Sub", [positive, below], "gelu/output")
        projected = self._linear(self._columns(activated, "gelu"), unit.project)
        self._residual(x, projected, unit.output)

    def head(self, unit: Head) -> None:
        """Input x [T, d]; outputs ids [T] (int64) and the raw logits [T, vocabulary] (float64).

        Ties go to the lowest id on the CPU provider; elsewhere the caller takes the arg-max.
        """
        self._require(unit.logit, "the logits")
        columns = self._columns(self._norm(self._rows(), unit.norm), "norm")
        product = self._product(columns, unit.weight)
        self._op("Add", [product, self._tensor(unit.bias)], "logits")
        self._op("ArgMax", ["logits"], "ids", axis=-1, keepdims=0, select_last_index=0)
        self._declare("ids", "int64", ["T"])
        self._declare("logits", "float64", ["T", self._specification.architecture.vocabulary])

    def _declare(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Make `name` an output of the unit as it is."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._outputs.append(onnx.helper.make_tensor_value_info(name, kind, shape))

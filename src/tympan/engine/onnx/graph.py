"""Builds ONNX graphs: any, and those with int8 weights, with the pieces that encoder and decoder share. Pure.

Every linear layer is quantised the way CTranslate2 does it: weights per output channel when the graph is made,
activations per row while it runs. A row's result is therefore the same whoever shares its batch: integer products are
exact, and everything else works on one row, or on the rows of one window, at a time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tympan.engine.onnx.eight_bit import STEPS, ZERO, Bytes, quantised
from tympan.engine.onnx.weights import Weight, Weights

CONTRIB = "com.microsoft"
"""Operators that ONNX Runtime adds to the standard ones."""

FLOAT, FLOAT16 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
INT8, UINT8 = int(TensorProto.INT8), int(TensorProto.UINT8)
INT32, INT64 = int(TensorProto.INT32), int(TensorProto.INT64)
"""Types of values."""

_OPSET = 21
_IR_VERSION = 10
_EPSILON = 1e-5
_BLOCK = 4096

Quantised = tuple[str, str]
"""Names of a quantised activation and of its scale per row."""

Shape = Sequence[str | int]


class Nodes:
    """Collects nodes and constants, in the model itself to save memory. Methods take and return names of values."""

    def __init__(self) -> None:
        """Start empty."""
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, 1)]
        empty = helper.make_graph([], "network", [], [])
        self._model = helper.make_model(empty, opset_imports=opsets, ir_version=_IR_VERSION)

    def input(self, name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> str:
        """Declare an input."""
        self._model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> str:
        """Declare an output; some node must have it as its ``out``."""
        self._model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, value: "NDArray[Any] | np.generic") -> str:
        """Store a value in the graph."""
        tensor = self._model.graph.initializer.add()
        tensor.name = f"c{len(self._model.graph.initializer)}"
        tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor.dims.extend(value.shape)
        tensor.raw_data = value.tobytes()
        name: str = tensor.name
        return name

    def node(self, kind: str, *inputs: str, out: Sequence[str] = (), **attributes: Any) -> str:
        """Add an operator; return its first output."""
        outputs = list(out) or [f"n{len(self._model.graph.node)}"]
        self._model.graph.node.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs[0]

    def serialised(self) -> bytes:
        """Return the model as ONNX Runtime takes it."""
        data: bytes = self._model.SerializeToString()
        return data


class Graph(Nodes):
    """Layers with int8 weights."""

    def __init__(self, weights: Weights, *, signed: bool) -> None:
        """Start empty; ``signed``: whether weights are int8.

        Processors whose int8 products saturate need uint8, which is exact and slower.
        """
        super().__init__()
        self.weights = weights
        self.signed = signed

    def real(self, name: str) -> str:
        """Store a weight as float32."""
        return self.constant(self.weights.real(name))

    def quantise(self, x: str, axis: int = -1, *, signed: bool = False) -> Quantised:
        """Scale the numbers along ``axis`` to their largest and round them to 8 bits, around 128 or around 0."""
        scale = self.scale(self.node("Abs", x), axis, STEPS)
        zero = self.constant(np.int8(0) if signed else np.uint8(ZERO))
        return self.node("QuantizeLinear", self.node("Div", x, scale), self.constant(np.float32(1)), zero), scale

    def quantise_rows(self, x: str) -> Quantised:
        """Do what ``quantise`` does for a matrix of many rows, in a third of the time.

        Nothing as large as the matrix is made on the way; for a few rows the more operators cost more than that saves.
        """
        axis = self.constant(np.array([-1]))
        largest = self.node("ReduceMax", x, axis, keepdims=1)
        lowest = self.node("Neg", self.node("ReduceMin", x, axis, keepdims=1))
        scale = self.node("Mul", self.node("Max", largest, lowest), self.constant(np.float32(1 / STEPS)))
        each = self.node("Reshape", scale, self.constant(np.array([-1])))
        middle = helper.make_tensor("zero", UINT8, [1], [ZERO])
        zeros = self.node("ConstantOfShape", self.node("Shape", each), value=middle)
        return self.node("QuantizeLinear", x, each, zeros, axis=0), scale

    def scale(self, x: str, axis: int, steps: int) -> str:
        """Return the largest number along ``axis``, divided by ``steps``."""
        largest = self.node("ReduceMax", x, self.constant(np.array([axis])), keepdims=1)
        return self.node("Mul", largest, self.constant(np.float32(1 / steps)))

    def whole_product(self, first: str, second: str, zeros: Sequence[int]) -> str:
        """Return the exact product of two 8-bit matrices; ``zeros`` are what stands for zero in them."""
        return self.node("MatMulInteger", first, second, *[self.constant(np.uint8(zero)) for zero in zeros])

    def scaled_product(self, first: str, second: str, scale: str, zeros: Sequence[int]) -> str:
        """Return the exact product of two 8-bit matrices, rounded to float32, times a scale for each of its columns.

        ``zeros`` are what stands for zero in the matrices.
        """
        points = [self.constant(np.uint8(zero)) for zero in zeros]
        one = self.constant(np.float32(1))
        return self.node("MatMulIntegerToFloat", first, second, one, scale, *points, domain=CONTRIB)

    def product(self, x: Quantised, weight: "NDArray[np.floating[Any]]") -> str:
        """Return ``x`` times the transpose of ``weight``, without bias."""
        stored, scale = self._stored(weight)
        points = [self.constant(np.uint8(ZERO))] * (1 if self.signed else 2)
        one = self.constant(np.float32(1))
        inputs = [x[0], self.constant(stored), one, self.constant(scale), *points]
        return self.node("Mul", self.node("MatMulIntegerToFloat", *inputs, domain=CONTRIB), x[1])

    def _stored(self, weight: "NDArray[np.floating[Any]]") -> tuple[Bytes, Weight]:
        """Return the transpose of ``weight`` in 8 bits and the scale of each of its columns."""
        rows, columns = weight.shape
        stored = np.empty((columns, rows), np.int8 if self.signed else np.uint8)
        scale = np.empty(rows, np.float32)
        for start in range(0, rows, _BLOCK):  # In blocks: the embedding alone would take several hundred megabytes.
            block = slice(start, start + _BLOCK)
            numbers, scales = quantised(weight[block].astype(np.float32), stored.dtype)
            stored[:, block], scale[block] = numbers.T, scales[:, 0]
        return stored, scale

    def linear(self, x: Quantised, weight: "NDArray[np.floating[Any]]", bias: Weight) -> str:
        """Return ``x`` times the transpose of ``weight``, plus ``bias``."""
        return self.node("Add", self.product(x, weight), self.constant(bias))

    def layer(self, x: Quantised, name: str) -> str:
        """Return the linear layer ``name`` of ``x``."""
        return self.linear(x, self.weights.floats(f"{name}/weight"), self.weights.real(f"{name}/bias"))

    def norm(self, x: str, name: str) -> str:
        """Normalise every row of ``x``."""
        gamma, beta = self.real(f"{name}/gamma"), self.real(f"{name}/beta")
        return self.node("LayerNormalization", x, gamma, beta, axis=-1, epsilon=_EPSILON)

    def hidden(self, x: Quantised, name: str) -> str:
        """Return the first of the two feed-forward layers ``name``, with its Gaussian error linear unit."""
        # Not fused with the bias: the runtime's operator for both costs the encoder 2 to 4 % more time.
        return self.node("Gelu", self.layer(x, f"{name}/linear_0"), domain=CONTRIB)

"""Whisper's encoder as an ONNX graph. Pure; the architecture is that of Radford et al. 2022."""

import numpy as np

from tympan.engine.onnx.dimensions import Dimensions
from tympan.engine.onnx.graph import CONTRIB, Graph
from tympan.engine.onnx.weights import Weights


def encoder_graph(weights: Weights, *, signed: bool) -> bytes:
    """Return the model from ``mel`` ``[1, n_mels, frames]`` to ``encoded`` ``[frames / 2, width]``."""
    size = Dimensions.of(weights, "encoder")
    graph = Graph(weights, signed=signed)
    x = _positioned(graph, _convolved(graph, graph.input("mel", [1, mel_bands(weights), "frames"])))
    for layer in range(size.layers):
        name = f"encoder/layer_{layer}"
        y = graph.norm(x, f"{name}/self_attention/layer_norm")
        x = graph.node("Add", x, _attention(graph, y, f"{name}/self_attention", size.heads))
        y = graph.norm(x, f"{name}/ffn/layer_norm")
        hidden = graph.hidden(graph.quantise_rows(y), f"{name}/ffn")
        x = graph.node("Add", x, graph.layer(graph.quantise_rows(hidden), f"{name}/ffn/linear_1"))
    graph.node("Identity", graph.norm(x, "encoder/layer_norm"), out=[graph.output("encoded", ["n", size.width])])
    return graph.serialised()


def mel_bands(weights: Weights) -> int:
    """Return how many mel bands the model listens to."""
    bands: int = weights.raw("encoder/conv1/weight").shape[1]
    return bands


def _convolved(graph: Graph, x: str) -> str:
    for name, stride in (("encoder/conv1", 1), ("encoder/conv2", 2)):
        weight, bias = graph.real(f"{name}/weight"), graph.real(f"{name}/bias")
        x = graph.node("Conv", x, weight, bias, kernel_shape=[3], pads=[1, 1], strides=[stride])
        x = graph.node("Gelu", x, domain=CONTRIB)
    return graph.node("Transpose", graph.node("Squeeze", x, graph.constant(np.array([0]))), perm=[1, 0])


def _positioned(graph: Graph, x: str) -> str:
    begin, axis = graph.constant(np.array([0])), graph.constant(np.array([0]))
    length = graph.node("Shape", x, start=0, end=1)
    positions = graph.node("Slice", graph.real("encoder/position_encodings/encodings"), begin, length, axis)
    return graph.node("Add", x, positions)


def _attention(graph: Graph, y: str, name: str, heads: int) -> str:
    packed = graph.layer(graph.quantise_rows(y), f"{name}/linear_0")
    one = graph.constant(np.array([0]))
    parts = [f"{packed}_{part}" for part in ("query", "key", "value")]
    graph.node("Split", graph.node("Unsqueeze", packed, one), out=parts, axis=-1, num_outputs=3)
    mixed = graph.node("MultiHeadAttention", *parts, domain=CONTRIB, num_heads=heads)
    return graph.layer(graph.quantise_rows(graph.node("Squeeze", mixed, one)), f"{name}/linear_1")

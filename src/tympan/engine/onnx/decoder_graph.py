"""Whisper's decoder as ONNX graphs. Pure; the architecture is that of Radford et al. 2022.

Two graphs. ``cross_graph`` turns an encoder output into the keys and values that every later step attends to, once per
window. ``step_graph`` takes rows of new tokens to log-probabilities.
"""

import numpy as np

from tympan.engine.onnx.dimensions import Dimensions
from tympan.engine.onnx.graph import CONTRIB, INT32, INT64, Graph, Shape
from tympan.engine.onnx.weights import Weights


def cross_graph(weights: Weights, *, signed: bool) -> bytes:
    """Return the model from an encoder output to cross-attention keys and values.

    Input ``encoded`` ``[positions, width]``; outputs per layer ``key{i}`` ``[heads, head_width, positions]`` and
    ``value{i}`` ``[heads, positions, head_width]``, the layouts in which a step reads them in order.
    """
    size = Dimensions.of(weights, "decoder")
    graph = Graph(weights, signed)
    encoded = graph.quantise(graph.input("encoded", ["n", size.width]))
    heads = graph.constant(np.array([-1, size.heads, size.head_width]))
    for layer in range(size.layers):
        name = f"decoder/layer_{layer}/attention/linear_1"
        key, value = np.split(weights.real(f"{name}/weight"), 2)
        key_bias, value_bias = np.split(weights.real(f"{name}/bias"), 2)
        keys = graph.node("Reshape", graph.linear(encoded, key, key_bias), heads)
        values = graph.node("Reshape", graph.linear(encoded, value, value_bias), heads)
        out = graph.output(f"key{layer}", [size.heads, size.head_width, "n"])
        graph.node("Transpose", keys, perm=[1, 2, 0], out=[out])
        out = graph.output(f"value{layer}", [size.heads, "n", size.head_width])
        graph.node("Transpose", values, perm=[1, 0, 2], out=[out])
    return graph.serialised()


def step_graph(weights: Weights, *, signed: bool) -> bytes:
    """Return the model that reads new tokens and says what may come next.

    Rows are hypotheses; ``rows / windows`` of them share a window. Inputs: ``x`` ``[rows, new, width]`` (embedded
    tokens), per layer the cross-attention ``key{i}`` ``[windows, heads, head_width, positions]`` and ``value{i}``
    ``[windows, heads, positions, head_width]``, ``bias`` ``[windows, 1, 1, positions]`` added to attention scores, the
    rows' own ``past_key{i}`` and ``past_value{i}`` ``[rows, heads, capacity, head_width]``, which are extended in place
    when bound as ``present_*`` too, ``last`` (index of each row's newest token), ``total`` (tokens with the new ones),
    ``split`` and ``joined`` (shapes ``[windows, rows / windows * new, heads, head_width]`` and ``[rows, new, width]``),
    ``pick`` (which of the new tokens to answer for), ``mask`` ``[picked or 1, tokens]`` added to their logits, and
    ``top`` (how many answers). Outputs: ``logprobs`` ``[rows, picked, tokens]``, ``best`` and ``ids``
    ``[rows, picked, top]``, and per layer ``attention{i}`` ``[windows, heads, rows / windows * new, positions]``.
    """
    size = Dimensions.of(weights, "decoder")
    graph = Graph(weights, signed)
    _declare(graph, size)
    x = "x"
    for layer in range(size.layers):
        name = f"decoder/layer_{layer}"
        y = graph.norm(x, f"{name}/self_attention/layer_norm")
        x = graph.node("Add", x, _self_attention(graph, y, layer, size))
        y = graph.norm(x, f"{name}/attention/layer_norm")
        x = graph.node("Add", x, _cross_attention(graph, y, layer, size))
        y = graph.norm(x, f"{name}/ffn/layer_norm")
        x = graph.node("Add", x, graph.feed_forward(y, f"{name}/ffn"))
    picked = graph.norm(graph.node("Gather", x, "pick", axis=1), "decoder/layer_norm")
    logits = graph.product(graph.quantise(picked), weights.real(_projection(weights)))
    graph.node("LogSoftmax", graph.node("Add", logits, "mask"), axis=-1, out=["logprobs"])
    graph.node("TopK", "logprobs", "top", axis=-1, out=["best", "ids"])
    return graph.serialised()


def vocabulary_size(weights: Weights) -> int:
    """Return how many tokens the model can say."""
    count: int = weights.raw(_projection(weights)).shape[0]
    return count


def _projection(weights: Weights) -> str:
    own = "decoder/projection/weight"
    return own if own in weights else "decoder/embeddings/weight"


def _declare(graph: Graph, size: Dimensions) -> None:
    tokens = vocabulary_size(graph.weights)
    graph.input("x", ["rows", "new", size.width])
    graph.input("bias", ["windows", 1, 1, "positions"])
    graph.input("mask", ["masks", tokens])
    graph.input("last", ["rows"], INT32)
    graph.input("total", [1], INT32)
    shapes: dict[str, Shape] = {"split": [4], "joined": [3], "pick": ["picked"], "top": [1]}
    for name, shape in shapes.items():
        graph.input(name, shape, INT64)
    graph.output("logprobs", ["rows", "picked", tokens])
    graph.output("best", ["rows", "picked", "answers"])
    graph.output("ids", ["rows", "picked", "answers"], INT64)
    own: Shape = ["rows", size.heads, "capacity", size.head_width]
    for layer in range(size.layers):
        graph.input(f"key{layer}", ["windows", size.heads, size.head_width, "positions"])
        graph.input(f"value{layer}", ["windows", size.heads, "positions", size.head_width])
        graph.output(f"attention{layer}", ["windows", size.heads, "queries", "positions"])
        for kind in ("key", "value"):
            graph.input(f"past_{kind}{layer}", own)
            graph.output(f"present_{kind}{layer}", own)


def _self_attention(graph: Graph, y: str, layer: int, size: Dimensions) -> str:
    name = f"decoder/layer_{layer}/self_attention"
    inputs = [graph.layer(y, f"{name}/linear_0"), "", "", f"past_key{layer}", f"past_value{layer}", "last", "total"]
    out = [f"own{layer}", f"present_key{layer}", f"present_value{layer}"]
    heads = {"num_heads": size.heads, "kv_num_heads": size.heads}
    return graph.layer(graph.node("GroupQueryAttention", *inputs, out=out, domain=CONTRIB, **heads), f"{name}/linear_1")


def _cross_attention(graph: Graph, y: str, layer: int, size: Dimensions) -> str:
    name = f"decoder/layer_{layer}/attention"
    # The usual division by the root of the head's width is done here, once, instead of at every step.
    scale = np.float32(size.head_width**-0.5)
    weight, bias = graph.weights.real(f"{name}/linear_0/weight"), graph.weights.real(f"{name}/linear_0/bias")
    query = graph.linear(graph.quantise(y), weight * scale, bias * scale)
    query = graph.node("Transpose", graph.node("Reshape", query, "split"), perm=[0, 2, 1, 3])
    scores = graph.node("Add", graph.node("MatMul", query, f"key{layer}"), "bias")
    shares = graph.node("Softmax", scores, axis=-1, out=[f"attention{layer}"])
    heard = graph.node("Transpose", graph.node("MatMul", shares, f"value{layer}"), perm=[0, 2, 1, 3])
    return graph.layer(graph.node("Reshape", heard, "joined"), f"{name}/linear_2")

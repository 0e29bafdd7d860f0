"""Whisper's decoder as ONNX graphs. Pure; the architecture is that of Radford et al. 2022.

Two graphs. ``cross_graph`` turns an encoder output into the keys and values that every later step attends to, once per
window. ``step_graph`` takes rows of new tokens to log-probabilities.
"""

import numpy as np

from tympan.engine.onnx.dimensions import Dimensions
from tympan.engine.onnx.eight_bit import ZERO
from tympan.engine.onnx.graph import CONTRIB, FLOAT, FLOAT16, INT8, INT32, INT64, UINT8, Graph, Shape
from tympan.engine.onnx.memory import DIGITS, KINDS
from tympan.engine.onnx.weights import Weights


def cross_graph(weights: Weights, *, signed: bool) -> bytes:
    """Return the model from an encoder output to cross-attention keys and values in 8 bits.

    Input ``encoded`` ``[positions, width]``. Outputs per layer: ``key{i}`` and ``value{i}``
    ``[heads, positions, head_width]``, and ``key_scale{i}`` and ``value_scale{i}`` ``[heads, 1, positions]``.
    """
    size = Dimensions.of(weights, "decoder")
    graph = Graph(weights, signed=signed)
    encoded = graph.quantise_rows(graph.input("encoded", ["n", size.width]))
    split = graph.constant(np.array([-1, size.heads, size.head_width]))
    for layer in range(size.layers):
        name = f"decoder/layer_{layer}/attention/linear_1"
        parts = zip(
            KINDS, np.split(weights.real(f"{name}/weight"), 2), np.split(weights.real(f"{name}/bias"), 2), strict=True
        )
        for kind, weight, bias in parts:
            heads = graph.node("Reshape", graph.linear(encoded, weight, bias), split)
            whole, scale = graph.quantise(heads, signed=_signed(kind, graph))
            shape: Shape = [size.heads, "n", size.head_width]
            out = graph.output(f"{kind}{layer}", shape, _type(kind, graph))
            graph.node("Transpose", whole, perm=[1, 0, 2], out=[out])
            out = graph.output(f"{kind}_scale{layer}", [size.heads, 1, "n"])
            graph.node("Transpose", scale, perm=[1, 2, 0], out=[out])
    return graph.serialised()


def _signed(kind: str, graph: Graph) -> bool:
    """Tell whether keys or values are signed: of the factors of a product, only the second may be."""
    return kind == "value" and graph.signed


def _type(kind: str, graph: Graph) -> int:
    return INT8 if _signed(kind, graph) else UINT8


def step_graph(weights: Weights, *, signed: bool) -> bytes:
    """Return the model that reads new tokens and says what may come next.

    Rows are hypotheses; ``rows / windows`` of them share a window. Inputs: ``x`` ``[rows, new, width]`` (embedded
    tokens), per layer what ``cross_graph`` gives for each window (``[windows, ...]``, positions padded), ``bias``
    ``[windows, 1, 1, positions]`` added to attention scores, the rows' own ``past_key{i}`` and ``past_value{i}``
    ``[rows, heads, capacity, head_width]``, which are extended in place when bound as ``present_*`` too, ``last``
    (index of each row's newest token), ``total`` (tokens with the new ones), ``split``, ``joined`` and ``scored``
    (shapes ``[windows, rows / windows * new, heads, head_width]``, ``[rows, new, width]`` and
    ``[windows, heads, rows / windows * new, positions]``), ``pick`` (which of the new tokens to answer for), ``mask``
    ``[picked or 1, tokens]`` added to their logits, and ``top`` (how many answers). Outputs: ``logprobs``
    ``[rows, picked, tokens]``, ``best`` and ``ids`` ``[rows, picked, top]``, and per layer ``attention{i}`` in the
    shape ``scored``.
    """
    size = Dimensions.of(weights, "decoder")
    graph = Graph(weights, signed=signed)
    _declare(graph, size)
    x = "x"
    for layer in range(size.layers):
        name = f"decoder/layer_{layer}"
        y = graph.norm(x, f"{name}/self_attention/layer_norm")
        x = graph.node("Add", x, _self_attention(graph, y, layer, size))
        y = graph.norm(x, f"{name}/attention/layer_norm")
        x = graph.node("Add", x, _cross_attention(graph, y, layer, size))
        y = graph.norm(x, f"{name}/ffn/layer_norm")
        hidden = graph.hidden(graph.quantise(y), f"{name}/ffn")
        x = graph.node("Add", x, graph.layer(graph.quantise(hidden), f"{name}/ffn/linear_1"))
    picked = graph.norm(graph.node("Gather", x, "pick", axis=1), "decoder/layer_norm")
    logits = graph.product(graph.quantise(picked), weights.floats(_projection(weights)))
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
    shapes: dict[str, Shape] = {"split": [4], "joined": [3], "scored": [4], "pick": ["picked"], "top": [1]}
    for name, shape in shapes.items():
        graph.input(name, shape, INT64)
    graph.output("logprobs", ["rows", "picked", tokens])
    graph.output("best", ["rows", "picked", "answers"])
    graph.output("ids", ["rows", "picked", "answers"], INT64)
    own: Shape = ["rows", size.heads, "capacity", size.head_width]
    for layer in range(size.layers):
        graph.output(f"attention{layer}", ["windows", size.heads, "queries", "positions"])
        graph.input(f"value_peak{layer}", ["windows", size.heads, 1, size.head_width])
        for kind in KINDS:
            graph.input(f"{kind}{layer}", ["windows", size.heads, "positions", size.head_width], _type(kind, graph))
            graph.input(f"{kind}_scale{layer}", ["windows", size.heads, 1, "positions"])
            graph.input(f"past_{kind}{layer}", own, FLOAT16)
            graph.output(f"present_{kind}{layer}", own, FLOAT16)


def _self_attention(graph: Graph, y: str, layer: int, size: Dimensions) -> str:
    name = f"decoder/layer_{layer}/self_attention"
    packed = graph.layer(graph.quantise(y), f"{name}/linear_0")
    inputs = [graph.node("Cast", packed, to=FLOAT16), "", "", f"past_key{layer}", f"past_value{layer}", "last", "total"]
    out = [f"own{layer}", f"present_key{layer}", f"present_value{layer}"]
    heads = {"num_heads": size.heads, "kv_num_heads": size.heads}
    mixed = graph.node("GroupQueryAttention", *inputs, out=out, domain=CONTRIB, **heads)
    return graph.layer(graph.quantise(graph.node("Cast", mixed, to=FLOAT)), f"{name}/linear_1")


def _cross_attention(graph: Graph, y: str, layer: int, size: Dimensions) -> str:
    name = f"decoder/layer_{layer}/attention"
    # The usual division by the root of the head's width is done here, once, instead of at every step.
    scale = np.float32(size.head_width**-0.5)
    weight, bias = graph.weights.real(f"{name}/linear_0/weight"), graph.weights.real(f"{name}/linear_0/bias")
    query = graph.node("Reshape", graph.linear(graph.quantise(y), weight * scale, bias * scale), "split")
    shares = graph.node("Softmax", _scores(graph, query, layer), axis=-1, out=[f"attention{layer}"])
    heard = graph.node("Transpose", _blend(graph, shares, layer), perm=[0, 2, 1, 3])
    return graph.layer(graph.quantise(graph.node("Reshape", heard, "joined")), f"{name}/linear_2")


def _scores(graph: Graph, query: str, layer: int) -> str:
    """Return how well each query ``[windows, queries, heads, head_width]`` fits each position's key."""
    columns = graph.node("Transpose", query, perm=[0, 2, 3, 1])
    whole, scale = graph.quantise(columns, axis=-2, signed=graph.signed)
    points = [ZERO] if graph.signed else [ZERO, ZERO]
    fits = graph.node("Cast", graph.whole_product(f"key{layer}", whole, points), to=FLOAT)
    # Positions become the last axis before anything is multiplied: along short axes that takes several times as long.
    # The shape is an input so that ONNX Runtime does not move the transposition to the end again.
    fits, scale = (graph.node("Transpose", name, perm=[0, 1, 3, 2]) for name in (fits, scale))
    fits = graph.node("Reshape", fits, "scored")
    return graph.node("Add", graph.node("Mul", graph.node("Mul", fits, scale), f"key_scale{layer}"), "bias")


def _blend(graph: Graph, shares: str, layer: int) -> str:
    """Return the mean of the values, weighted by ``shares``; their scales are put into the weights first.

    Weights are taken in two digits to the base of 255: many small ones, which one digit would round to nothing, add up.
    """
    weights = graph.node("Mul", shares, f"value_scale{layer}")
    first = graph.node("Cast", weights, to=UINT8)  # Cuts off what follows the point.
    rest = graph.node("Sub", weights, graph.node("Cast", first, to=FLOAT))
    second = graph.node("QuantizeLinear", rest, graph.constant(np.float32(1 / DIGITS)), graph.constant(np.uint8(0)))
    digits = graph.node("Concat", first, second, axis=-2)
    total = graph.scaled_product(digits, f"value{layer}", f"value_peak{layer}", [] if graph.signed else [0, ZERO])
    halves = [f"first{layer}", f"second{layer}"]
    graph.node("Split", total, out=halves, axis=-2, num_outputs=2)
    return graph.node("Add", halves[0], graph.node("Mul", halves[1], graph.constant(np.float32(1 / DIGITS))))

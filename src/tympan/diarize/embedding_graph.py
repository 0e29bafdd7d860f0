"""The embedding network as an ONNX graph: from the features of some speech to a vector that says whose it is. Pure.

CAM++ (Wang, Zheng, Chen, Cheng and Chen 2023, Apache-2.0), trained by 3D-Speaker on Chinese and English speech: a small
residual network over frequencies, then time-delay layers that each see all earlier ones of their block, under a mask
made from the means of 100 frames and of all; at the end mean and deviation over time. Normalisation by batch is folded
into the convolutions that it follows, and into those that follow it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tympan.diarize.features import N_BANDS
from tympan.engine.onnx.graph import FLOAT, Nodes

Weights = Mapping[str, NDArray[np.float32]]

FEATURES, EMBEDDING = "features", "embedding"
"""Input (utterances, frames, bands) and output (utterances, 192)."""

SIZE = 192

_BLOCKS: Sequence[tuple[int, int]] = ((12, 1), (24, 2), (16, 2))
"""How many layers each block has, and how far apart the frames are that they look at."""

_STRETCH = 100
_EPSILON = 1e-5
_BOTH = [1, 1, 1, 1]


def build(weights: Weights) -> bytes:
    """Return the network with these weights, named as in the checkpoint. Raises ``KeyError`` where one is missing."""
    n = _Network(weights)
    x = n.head(n.g.input(FEATURES, ["utterances", "frames", N_BANDS]))
    x = n.relu(n.conv(x, "xvector.tdnn.linear", "xvector.tdnn.nonlinear.batchnorm", strides=[2], pads=[2, 2]))
    n.measure(x)
    for number, (n_layers, distance) in enumerate(_BLOCKS, 1):
        for layer in range(1, n_layers + 1):
            x = n.dense(x, f"xvector.block{number}.tdnnd{layer}", distance)
        x = n.conv_of_normal(x, f"xvector.transit{number}.nonlinear.batchnorm", f"xvector.transit{number}.linear")
    x = n.moments(n.normal(x, "xvector.out_nonlinear.batchnorm"))
    x = n.conv(x, "xvector.dense.linear", "xvector.dense.nonlinear.batchnorm")
    out = [n.g.output(EMBEDDING, ["utterances", SIZE])]
    n.g.node("Squeeze", x, n.g.constant(np.array([2])), out=out)
    return n.g.serialised()


class _Network:
    """The layers; methods take and return names of values."""

    def __init__(self, weights: Weights) -> None:
        self.g = Nodes()
        self._weights = weights
        self._means = self._places = ""

    def head(self, x: str) -> str:
        """Return 320 channels: 32 maps of 10 bands, an eighth of the frequencies."""
        x = self.g.node("Unsqueeze", self.g.node("Transpose", x, perm=[0, 2, 1]), self.g.constant(np.array([1])))
        x = self.relu(self.conv(x, "head.conv1", "head.bn1", pads=_BOTH))
        for name in ("head.layer1.0", "head.layer1.1", "head.layer2.0", "head.layer2.1"):
            x = self._residual(x, name)
        x = self.relu(self.conv(x, "head.conv2", "head.bn2", strides=[2, 1], pads=_BOTH))
        return self.g.node("Reshape", x, self.g.constant(np.array([0, 32 * N_BANDS // 8, -1])))

    def _residual(self, x: str, name: str) -> str:
        strides = [2, 1] if name.endswith(".0") else [1, 1]
        y = self.relu(self.conv(x, f"{name}.conv1", f"{name}.bn1", strides=strides, pads=_BOTH))
        y = self.conv(y, f"{name}.conv2", f"{name}.bn2", pads=_BOTH)
        if name.endswith(".0"):
            x = self.conv(x, f"{name}.shortcut.0", f"{name}.shortcut.1", strides=strides)
        return self.relu(self.g.node("Add", y, x))

    def measure(self, x: str) -> None:
        """Note which stretch each frame of ``x`` lies in, and what makes the means of stretches and of all of it.

        As products with these matrices means and their repetition cost a fifth of what pooling and expanding do.
        """
        g = self.g
        n = g.node("Squeeze", self._length(x), g.constant(np.array([0])))
        frames = g.node("Range", g.constant(np.array(0)), n, g.constant(np.array(1)))
        stretches = g.node("Div", frames, g.constant(np.array(_STRETCH)))
        last = g.node("Div", g.node("Sub", n, g.constant(np.array(1))), g.constant(np.array(_STRETCH)))
        depth = g.node("Add", last, g.constant(np.array(1)))
        lies = g.node("OneHot", stretches, depth, g.constant(np.array([0, 1], np.float32)))
        shares = g.node("Div", lies, g.node("ReduceSum", lies, g.constant(np.array([0])), keepdims=1))
        self._means = g.node("Add", shares, g.node("Reciprocal", g.node("Cast", n, to=FLOAT)))
        self._places = g.node("Transpose", lies, perm=[1, 0])

    def dense(self, x: str, name: str, distance: int) -> str:
        """Return ``x`` with 32 channels more."""
        norms = f"{name}.nonlinear1.batchnorm", f"{name}.nonlinear2.batchnorm"
        y = self.relu(self.conv_of_normal(x, norms[0], f"{name}.linear1", norms[1]))
        local = self.conv(y, f"{name}.cam_layer.linear_local", pads=[distance, distance], dilations=[distance])
        return self.g.node("Concat", x, self.g.node("Mul", local, self._mask(y, f"{name}.cam_layer")), axis=1)

    def _mask(self, x: str, name: str) -> str:
        """Return how much of each channel is let through, from its mean over all and over each 100 frames."""
        y = self.relu(self.conv(self.g.node("MatMul", x, self._means), f"{name}.linear1"))
        return self.g.node("MatMul", self.g.node("Sigmoid", self.conv(y, f"{name}.linear2")), self._places)

    def moments(self, x: str) -> str:
        """Return mean and standard deviation over time, one frame of twice the channels."""
        g = self.g
        last = g.constant(np.array([-1]))
        mean = g.node("ReduceMean", x, last, keepdims=1)
        away = g.node("Sub", x, mean)
        squares = g.node("ReduceSum", g.node("Mul", away, away), last, keepdims=1)
        others = g.node("Sub", g.node("Cast", self._length(x), to=FLOAT), g.constant(np.ones(1, np.float32)))
        return g.node("Concat", mean, g.node("Sqrt", g.node("Div", squares, others)), axis=1)

    def _length(self, x: str) -> str:
        """Return how many frames there are."""
        return self.g.node("Shape", x, start=2, end=3)

    def conv(self, x: str, name: str, norm: str | None = None, **attributes: Any) -> str:
        """Return the convolution ``name``, with the normalisation that follows it folded in."""
        weight, bias = self._folded(name, norm)
        return self.g.node("Conv", x, self.g.constant(weight), self.g.constant(bias), **attributes)

    def conv_of_normal(self, x: str, before: str, name: str, norm: str | None = None) -> str:
        """Return the convolution ``name`` of single frames, of ``x`` normalised by ``before`` and cut off below 0.

        For a scale s above 0 and a shift b, max(0, sx + b) is s max(x, -b/s) + b: one pass over ``x``, and the rest
        is part of the weights.
        """
        scale, shift = self._scale(before)
        if scale.min() <= 0:
            return self.conv(self.normal(x, before), name, norm)
        weight, bias = self._folded(name, norm)
        bias = bias + weight[:, :, 0] @ shift
        x = self.g.node("Max", x, self.g.constant((-shift / scale)[:, None]))
        return self.g.node("Conv", x, self.g.constant(weight * scale[:, None]), self.g.constant(bias))

    def _folded(self, name: str, norm: str | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        weight = self._weights[f"{name}.weight"]
        bias = self._weights.get(f"{name}.bias", np.zeros(len(weight), np.float32))
        if norm is not None:
            scale, shift = self._scale(norm)
            weight, bias = weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift
        return weight, bias

    def normal(self, x: str, name: str) -> str:
        """Return ``x`` normalised, and cut off below 0."""
        scale, shift = (self.g.constant(each[:, None]) for each in self._scale(name))
        return self.relu(self.g.node("Add", self.g.node("Mul", x, scale), shift))

    def relu(self, x: str) -> str:
        """Return ``x`` cut off below 0."""
        return self.g.node("Relu", x)

    def _scale(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what normalisation by batch multiplies by and adds, once it is trained."""
        mean, variance = self._weights[f"{name}.running_mean"], self._weights[f"{name}.running_var"]
        scale = self._weights.get(f"{name}.weight", np.ones_like(mean)) / np.sqrt(variance + np.float32(_EPSILON))
        return scale, self._weights.get(f"{name}.bias", np.zeros_like(mean)) - mean * scale

"""The segmentation network as an ONNX graph: who of up to three people speaks, frame by frame, in ten seconds. Pure.

PyanNet as in pyannote/segmentation-3.0 (Bredin 2023, MIT): band-pass filters learnt by SincNet (Ravanelli and Bengio
2018), two convolutions, four bidirectional LSTM layers and two linear ones. It answers in "powerset" classes: nobody,
one of three, or two of three at once (Plaquet and Bredin 2023).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tympan.domain import SAMPLE_RATE_HZ
from tympan.engine.onnx.graph import Nodes

Weights = Mapping[str, NDArray[np.float32]]

AUDIO, SCORES = "audio", "scores"
"""Input (windows, 1, samples), in -1 to 1, and output (windows, frames, classes), log-probabilities."""

N_CLASSES = 7

_LEAK = 0.01
_LAYERS, _HIDDEN = 4, 128
_FILTER_STRIDE = 10
_LOWEST_HZ = _NARROWEST_HZ = 50.0


def build(weights: Weights) -> bytes:
    """Return the network with these weights, named as in the checkpoint. Raises ``KeyError`` where one is missing."""
    g = Nodes()
    x = _filtered(g, weights, g.input(AUDIO, ["windows", 1, "samples"]))
    x = g.node("Transpose", x, perm=[2, 0, 1])
    for layer in range(_LAYERS):
        x = _lstm(g, weights, x, layer)
    for name in ("linear.0", "linear.1"):
        x = g.node("LeakyRelu", _linear(g, weights, x, name), alpha=_LEAK)
    x = g.node("LogSoftmax", _linear(g, weights, x, "classifier"), axis=-1)
    g.node("Transpose", x, perm=[1, 0, 2], out=[g.output(SCORES, ["windows", "frames", N_CLASSES])])
    return g.serialised()


def sinc_filters(weights: Weights) -> NDArray[np.float32]:
    """Return the 80 filters, an even (cosine) and an odd (sine) one for each of 40 learnt bands.

    A band's filter is the difference of two low-pass filters, under a Hamming window, scaled by twice its width.
    """
    part = {name: weights[f"sincnet.conv1d.0.filterbank.{name}_"].astype(np.float64) for name in _FILTER_PARTS}
    low_hz = _LOWEST_HZ + np.abs(part["low_hz"])
    high_hz = np.clip(low_hz + _NARROWEST_HZ + np.abs(part["band_hz"]), _LOWEST_HZ, SAMPLE_RATE_HZ / 2)
    width = high_hz - low_hz
    low, high = low_hz @ part["n"], high_hz @ part["n"]
    even = 2.0 * (np.sin(high) - np.sin(low)) / part["n"] * part["window"]
    odd = 2.0 * (np.cos(low) - np.cos(high)) / part["n"] * part["window"]
    cosines = np.concatenate([even, 2.0 * width, even[:, ::-1]], axis=1)
    sines = np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1)
    return (np.concatenate([cosines, sines]) / (2.0 * np.tile(width, (2, 1))))[:, None].astype(np.float32)


_FILTER_PARTS = ("low_hz", "band_hz", "n", "window")


def _filtered(g: Nodes, weights: Weights, x: str) -> str:
    """Return 60 channels at 59 frames a second."""
    x = _normalised(g, weights, x, "sincnet.wav_norm1d")
    x = g.node("Abs", g.node("Conv", x, g.constant(sinc_filters(weights)), strides=[_FILTER_STRIDE]))
    for number in range(3):
        if number:
            name = f"sincnet.conv1d.{number}"
            x = g.node("Conv", x, g.constant(weights[f"{name}.weight"]), g.constant(weights[f"{name}.bias"]))
        x = g.node("MaxPool", x, kernel_shape=[3], strides=[3])
        x = g.node("LeakyRelu", _normalised(g, weights, x, f"sincnet.norm1d.{number}"), alpha=_LEAK)
    return x


def _normalised(g: Nodes, weights: Weights, x: str, name: str) -> str:
    gamma, beta = g.constant(weights[f"{name}.weight"]), g.constant(weights[f"{name}.bias"])
    return g.node("InstanceNormalization", x, gamma, beta, epsilon=1e-5)


def _lstm(g: Nodes, weights: Weights, x: str, layer: int) -> str:
    def both(name: str) -> NDArray[np.float32]:
        return np.stack([_gates(weights[f"lstm.{name}_l{layer}{way}"]) for way in ("", "_reverse")])

    biases = np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)
    inputs = [g.constant(value) for value in (both("weight_ih"), both("weight_hh"), biases)]
    y = g.node("LSTM", x, *inputs, direction="bidirectional", hidden_size=_HIDDEN)
    y = g.node("Transpose", y, perm=[0, 2, 1, 3])
    return g.node("Reshape", y, g.constant(np.array([0, 0, 2 * _HIDDEN])))


def _gates(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return PyTorch's order of gates (in, forget, cell, out) as ONNX has it (in, out, forget, cell)."""
    enter, forget, cell, leave = np.split(weight, 4)
    return np.concatenate([enter, leave, forget, cell])


def _linear(g: Nodes, weights: Weights, x: str, name: str) -> str:
    product = g.node("MatMul", x, g.constant(np.ascontiguousarray(weights[f"{name}.weight"].T)))
    return g.node("Add", product, g.constant(weights[f"{name}.bias"]))

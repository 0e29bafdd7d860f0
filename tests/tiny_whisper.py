"""A Whisper model of a few thousand random weights: as a ``model.bin``, and in plain NumPy to compare with."""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float32]
Variables = dict[str, NDArray[Any]]

WIDTH, HEADS, LAYERS = 32, 2, 2
BANDS, POSITIONS, DECODER_POSITIONS = 8, 200, 64
TOKENS = 40
HEAD_WIDTH = WIDTH // HEADS

_TYPE_NUMBERS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
_GELU_EXACT = 3


def packed(variables: Mapping[str, NDArray[Any]], version: int = 6) -> bytes:
    """Return variables in the layout of CTranslate2's ``model.bin``, without aliases."""
    parts = [struct.pack("<I", version), _text("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, array in variables.items():
        parts += [
            _text(name),
            struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape),
            struct.pack("<BI", _TYPE_NUMBERS[array.dtype.name], array.nbytes),
            array.tobytes(),
        ]
    return b"".join([*parts, struct.pack("<I", 0)])


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def write(path: Path, variables: Mapping[str, NDArray[Any]]) -> Path:
    """Write ``model.bin`` to the folder ``path``."""
    file = path / "model.bin"
    file.write_bytes(packed(variables))
    return file


def variables(seed: int = 0) -> Variables:
    """Return all variables of a model whose attention is far from even, stored as float16."""
    draw = np.random.default_rng(seed)
    found: Variables = {}

    def real(name: str, *shape: int, spread: float) -> None:
        found[name] = (draw.standard_normal(shape) * spread).astype(np.float16)

    def linear(name: str, outputs: int, inputs: int) -> None:
        real(f"{name}/weight", outputs, inputs, spread=1.3 * inputs**-0.5)
        real(f"{name}/bias", outputs, spread=0.1)

    def norm(name: str) -> None:
        real(f"{name}/gamma", WIDTH, spread=0.2)
        found[f"{name}/gamma"] += np.float16(1)
        real(f"{name}/beta", WIDTH, spread=0.1)

    def block(name: str, *, cross: bool) -> None:
        norm(f"{name}/self_attention/layer_norm")
        linear(f"{name}/self_attention/linear_0", 3 * WIDTH, WIDTH)
        linear(f"{name}/self_attention/linear_1", WIDTH, WIDTH)
        if cross:
            norm(f"{name}/attention/layer_norm")
            for number, outputs in enumerate((WIDTH, 2 * WIDTH, WIDTH)):
                linear(f"{name}/attention/linear_{number}", outputs, WIDTH)
        norm(f"{name}/ffn/layer_norm")
        linear(f"{name}/ffn/linear_0", 4 * WIDTH, WIDTH)
        linear(f"{name}/ffn/linear_1", WIDTH, 4 * WIDTH)

    for number, bands in ((1, BANDS), (2, WIDTH)):
        real(f"encoder/conv{number}/weight", WIDTH, bands, 3, spread=(3 * bands) ** -0.5)
        real(f"encoder/conv{number}/bias", WIDTH, spread=0.1)
    real("encoder/position_encodings/encodings", POSITIONS, WIDTH, spread=0.5)
    real("decoder/position_encodings/encodings", DECODER_POSITIONS, WIDTH, spread=0.5)
    real("decoder/embeddings/weight", TOKENS, WIDTH, spread=0.5)
    for part in ("encoder", "decoder"):
        for layer in range(LAYERS):
            block(f"{part}/layer_{layer}", cross=part == "decoder")
        norm(f"{part}/layer_norm")
        found[f"{part}/num_heads"] = np.array(HEADS, np.int16)
        described = {"pre_norm": 1, "activation": _GELU_EXACT, "alibi": 0, "scale_embeddings": 0}
        found |= {f"{part}/{name}": np.array(value, np.int8) for name, value in described.items()}
    return found


def as_int8(stored: Variables, names: Sequence[str]) -> Variables:
    """Return the variables with some of them rounded to int8 with a scale per row, as a quantised conversion does."""
    found = dict(stored)
    for name in names:
        weight = stored[name].astype(np.float32)
        scale = 127 / np.abs(weight).max(axis=1)
        found[name] = np.rint(weight * scale[:, None]).astype(np.int8)
        found[f"{name}_scale"] = scale.astype(np.float32)
    return found


class Reference:
    """The same model, one operation after the other, without quantisation, batches or memory."""

    def __init__(self, stored: Variables) -> None:
        """Take the variables as they are stored."""
        self._reals = {name: value.astype(np.float32) for name, value in stored.items()}

    def encode(self, mel: Reals) -> Reals:
        """Return the encoding of ``[bands, frames]``, shape ``[frames / 2, width]``."""
        x = _gelu(self._convolved(mel, "encoder/conv1", 1))
        x = _gelu(self._convolved(x, "encoder/conv2", 2)).T
        x = x + self._reals["encoder/position_encodings/encodings"][: len(x)]
        for layer in range(LAYERS):
            name = f"encoder/layer_{layer}"
            query, key, value = self._own(x, name)
            x = x + self._linear(_attention(query, key, value)[0], f"{name}/self_attention/linear_1")
            x = x + self._feed_forward(x, name)
        return self._norm(x, "encoder/layer_norm")

    def keys_and_values(self, encoded: Reals, layer: int) -> tuple[Reals, Reals]:
        """Return what the decoder's layer attends to, shape ``[positions, width]`` each."""
        both = self._linear(encoded, f"decoder/layer_{layer}/attention/linear_1")
        key, value = np.split(both, 2, axis=1)
        return key, value

    def attend(self, encoded: Reals, tokens: Sequence[int], weights: Reals) -> tuple[Reals, list[Reals]]:
        """Return logits after each token, ``[tokens, vocabulary]``, and each layer's attention to ``encoded``.

        ``weights`` says how often each position of ``encoded`` counts.
        """
        embeddings = self._reals["decoder/embeddings/weight"]
        x = embeddings[list(tokens)] + self._reals["decoder/position_encodings/encodings"][: len(tokens)]
        future = np.triu(np.full((len(tokens), len(tokens)), -np.inf, np.float32), 1)
        attention = []
        for layer in range(LAYERS):
            name = f"decoder/layer_{layer}"
            query, key, value = self._own(x, name)
            x = x + self._linear(_attention(query, key, value, future)[0], f"{name}/self_attention/linear_1")
            query = self._linear(self._norm(x, f"{name}/attention/layer_norm"), f"{name}/attention/linear_0")
            heard, shares = _attention(query, *self.keys_and_values(encoded, layer), np.log(weights))
            attention.append(shares)
            x = x + self._linear(heard, f"{name}/attention/linear_2")
            x = x + self._feed_forward(x, name)
        return self._norm(x, "decoder/layer_norm") @ embeddings.T, attention

    def _convolved(self, x: Reals, name: str, stride: int) -> Reals:
        padded = np.pad(x, [(0, 0), (1, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)[:, ::stride]
        found: Reals = np.einsum("iwk,oik->ow", windows, self._reals[f"{name}/weight"])
        return found + self._reals[f"{name}/bias"][:, None]

    def _own(self, x: Reals, name: str) -> list[Reals]:
        normal = self._norm(x, f"{name}/self_attention/layer_norm")
        return np.split(self._linear(normal, f"{name}/self_attention/linear_0"), 3, axis=1)

    def _linear(self, x: Reals, name: str) -> Reals:
        found: Reals = x @ self._reals[f"{name}/weight"].T + self._reals[f"{name}/bias"]
        return found

    def _norm(self, x: Reals, name: str) -> Reals:
        normal = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        found: Reals = normal * self._reals[f"{name}/gamma"] + self._reals[f"{name}/beta"]
        return found

    def _feed_forward(self, x: Reals, name: str) -> Reals:
        normal = self._norm(x, f"{name}/ffn/layer_norm")
        return self._linear(_gelu(self._linear(normal, f"{name}/ffn/linear_0")), f"{name}/ffn/linear_1")


def _gelu(x: Reals) -> Reals:
    erf = np.vectorize(math.erf, otypes=[np.float32])
    found: Reals = 0.5 * x * (1 + erf(x / np.float32(math.sqrt(2))))
    return found


def _attention(query: Reals, key: Reals, value: Reals, bias: Reals | float = 0.0) -> tuple[Reals, Reals]:
    """Return what is heard ``[queries, width]`` and the shares ``[heads, queries, positions]``."""
    heads = [np.split(part, HEADS, axis=1) for part in (query, key, value)]
    heard, shares = [], []
    for q, k, v in zip(*heads, strict=True):
        scores = q @ k.T * HEAD_WIDTH**-0.5 + bias
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        heard.append(share @ v)
        shares.append(share)
    return np.concatenate(heard, axis=1), np.stack(shares)


def log_softmax(logits: Reals) -> Reals:
    """Return log-probabilities along the last axis."""
    top = logits.max(axis=-1, keepdims=True)
    found: Reals = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    return found

"""What a decoder's steps attend to: each window's encoded speech, and each row's own past. Arrays and their upkeep."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tympan.engine.onnx.eight_bit import Bytes, Reals, quantised, zero_of

KINDS = ("key", "value")
"""What every layer keeps, in this order."""

DIGITS = 255
"""Base in which a position's weight in the blend is written, with two digits."""

_Number = TypeVar("_Number", bound=np.generic)

_BLOCK = 64
"""Positions are padded to a multiple of this. Sums over them then run in the same order in every batch."""

_IGNORED = -1e9

_TINY = np.float32(1e-12)  # Values that are all zero have no largest scale.


@dataclass(frozen=True, slots=True)
class Stored:
    """Keys or values of one layer: 8-bit ``numbers`` ``[heads, positions, head_width]`` and their scales.

    ``scales`` are ``[heads, 1, positions]``. Numbers are around 128 when unsigned, around 0 when signed.
    """

    numbers: Bytes
    scales: Reals

    def real(self) -> Reals:
        """Return the numbers as they are meant."""
        values: Reals = (self.numbers.astype(np.float32) - zero_of(self.numbers.dtype)) * self.scales.swapaxes(1, 2)
        return values

    @classmethod
    def of(cls, values: Reals, like: Bytes) -> "Stored":
        """Return ``values`` in the 8-bit type of ``like``."""
        numbers, scales = quantised(values, like.dtype)
        return cls(numbers, np.ascontiguousarray(scales.swapaxes(1, 2)))


class Tail:
    """Cross-attention keys and values of the silence after the speech, pooled along time.

    The encoding of silence changes slowly along the 30 s, so ``pool`` neighbours share one key and one value, their
    means; together they weigh as much in the attention as before when the logarithm of their number is added to their
    score. The last ``exact`` positions stay as they are: after a long window there is nothing else.
    """

    def __init__(self, stored: Sequence[Stored], pool: int, exact: int) -> None:
        """Take keys and values in turn, layer by layer."""
        self._pool = pool
        self._pooled = max(0, stored[0].numbers.shape[1] - exact) // pool
        self.parts = [_pooled(one, pool, self._pooled) for one in stored]
        self.length: int = self.parts[0].numbers.shape[1]
        self.weights = np.zeros(self.length, np.float32)
        """What is added to the score of each position."""
        self.weights[: self._pooled] = np.log(pool)

    def first(self, positions: int) -> int:
        """Return the first position of the tail that lies wholly after ``positions`` of speech."""
        after = positions - self._pooled * self._pool
        return min(self.length, self._pooled + after if after > 0 else -(-positions // self._pool))

    def after(self, positions: int) -> int:
        """Return how many positions of the tail follow ``positions`` of speech."""
        return self.length - self.first(positions)


def _pooled(stored: Stored, pool: int, count: int) -> Stored:
    """Return ``stored`` with its first ``count`` times ``pool`` positions pooled."""
    heads, _, width = stored.numbers.shape
    means = stored.real()[:, : count * pool].reshape(heads, count, pool, width).mean(axis=2)
    pooled = Stored.of(means, stored.numbers)
    return Stored(
        np.concatenate([pooled.numbers, stored.numbers[:, count * pool :]], axis=1),
        np.concatenate([pooled.scales, stored.scales[..., count * pool :]], axis=2),
    )


class Heard:
    """Cross-attention keys, values and score biases of a group of windows: speech, tail, padding.

    ``numbers`` and ``scales`` hold keys and values in turn, layer by layer, as ``Stored`` does, with a first axis more.
    Scales of values are relative to the largest of a window and head, which is ``DIGITS``; ``peaks`` hold, layer by
    layer, what one of those is worth, ``[windows, heads, 1, head_width]``. ``positions`` says how many are speech,
    window by window.
    """

    def __init__(self, positions: Sequence[int], tail: Tail) -> None:
        """Make room for windows whose speech has ``positions`` encoder positions."""
        self._tail = tail
        self.positions = list(positions)
        ends = [count + tail.after(count) for count in positions]
        length = -(-max(ends) // _BLOCK) * _BLOCK
        windows = len(positions)
        self.numbers: list[Bytes] = []
        self.scales: list[Reals] = []
        for part in tail.parts:
            heads, _, width = part.numbers.shape
            self.numbers.append(np.empty((windows, heads, length, width), part.numbers.dtype))
            self.scales.append(np.empty((windows, heads, 1, length), np.float32))
        heads, _, width = tail.parts[0].numbers.shape
        self.peaks = [np.empty((windows, heads, 1, width), np.float32) for _ in tail.parts[1::2]]
        self.bias = np.full((windows, 1, 1, length), _IGNORED, np.float32)

    def __len__(self) -> int:
        """Return how many windows there are."""
        return len(self.positions)

    def fill(self, window: int, stored: Sequence[Stored]) -> None:
        """Store the speech of one window; the tail follows it."""
        speech = self.positions[window]
        first = self._tail.first(speech)
        end = speech + self._tail.after(speech)
        for numbers, scales, own, tail in zip(self.numbers, self.scales, stored, self._tail.parts, strict=True):
            numbers[window, :, :speech], scales[window, ..., :speech] = own.numbers, own.scales
            numbers[window, :, speech:end], scales[window, ..., speech:end] = (
                tail.numbers[:, first:],
                tail.scales[..., first:],
            )
            numbers[window, :, end:], scales[window, ..., end:] = zero_of(numbers.dtype), 0.0
        for scales, peaks in zip(self.scales[1::2], self.peaks, strict=True):
            peaks[window] = np.maximum(scales[window].max(axis=-1, keepdims=True), _TINY) / np.float32(DIGITS)
            scales[window] /= peaks[window, ..., :1]
        self.bias[window, ..., :speech] = 0.0
        self.bias[window, ..., speech:end] = self._tail.weights[first:]

    def alone(self, window: int) -> "Heard":
        """Return one window in the same memory."""
        one = copy(self)
        place = slice(window, window + 1)
        one.positions = self.positions[place]
        one.numbers = [array[place] for array in self.numbers]
        one.scales = [array[place] for array in self.scales]
        one.peaks = [array[place] for array in self.peaks]
        one.bias = self.bias[place]
        return one

    def keep(self, windows: Sequence[int]) -> None:
        """Forget all windows but these, which take the first places in this order (one of ``stay_or_fill``)."""
        self.positions = [self.positions[window] for window in windows]
        self.numbers = [_gathered(array, windows) for array in self.numbers]
        self.scales = [_gathered(array, windows) for array in self.scales]
        self.peaks = [_gathered(array, windows) for array in self.peaks]
        self.bias = _gathered(self.bias, windows)


class Past:
    """Self-attention keys and values of every row, for all layers, and the tokens they stand for.

    ``store`` is ``[2 * layers, rows, heads, capacity, head_width]``; only the first ``rows`` of it are in use. Half
    precision is half the memory, and half of what a step with many rows has to read.
    """

    def __init__(self, shape: tuple[int, int, int, int, int]) -> None:
        """Make room; memory is used only as far as tokens are stored."""
        self.store = np.empty(shape, np.float16)
        self.rows = shape[1]
        self.length = 0
        self._tokens = np.zeros((shape[1], shape[3]), np.int64)

    def add(self, tokens: Sequence[Sequence[int]]) -> None:
        """Take note of the tokens ``[rows, new]`` that have just been stored."""
        end = self.length + len(tokens[0])
        self._tokens[: self.rows, self.length : end] = tokens
        self.length = end

    def spread(self, times: int, capacity: int) -> "Past":
        """Return a past with every row ``times`` times and room for ``capacity`` tokens."""
        layers, rows, heads, _, width = self.store.shape
        wide = Past((layers, rows * times, heads, capacity, width))
        wide.length = self.length
        wide.store[:, :, :, : self.length] = np.repeat(self.store[:, :, :, : self.length], times, axis=1)
        wide._tokens[:, : self.length] = np.repeat(self._tokens[:, : self.length], times, axis=0)
        return wide

    def layer(self, number: int) -> NDArray[np.float16]:
        """Return the rows in use of one layer's keys (even numbers) or values (odd ones)."""
        return self.store[number, : self.rows]

    def reorder(self, parents: Sequence[int]) -> None:
        """Let row ``i`` go on from the past of row ``parents[i]``.

        Rows of one window differ in their last few tokens only, so the beginning that all have in common stays.
        """
        moved = [row for row, parent in enumerate(parents) if row != parent]
        if not moved:
            return
        sources = [parents[row] for row in moved]
        differs = (self._tokens[moved, : self.length] != self._tokens[sources, : self.length]).any(axis=0)
        if differs.any():
            recent = slice(int(differs.argmax()), self.length)
            self._move(moved, sources, recent)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these, which take the first places in this order.

        Rows of different windows have nothing in common, whatever their tokens: they move whole.
        """
        moved = [place for place, row in enumerate(rows) if place != row]
        sources = [rows[place] for place in moved]
        self._move(moved, sources, slice(0, self.length))
        self.rows = len(rows)

    def _move(self, places: Sequence[int], sources: Sequence[int], tokens: slice) -> None:
        for layer in self.store:  # One by one, since all of them are copied before any is written.
            layer[places, :, tokens] = layer[sources, :, tokens]
        self._tokens[places, tokens] = self._tokens[sources, tokens]


def _gathered(array: NDArray[_Number], picked: Sequence[int]) -> NDArray[_Number]:
    """Return the picked entries of the first axis, moved to its beginning; those already there are not copied.

    The order must be one of ``stay_or_fill``, so that nothing is overwritten before it is moved.
    """
    for place, source in enumerate(picked):
        if place != source:
            array[place] = array[source]
    return array[: len(picked)]


def stay_or_fill(alive: Sequence[int]) -> list[int]:
    """Return ``alive`` in an order in which as many as can be keep their place: the last ones fill the gaps."""
    count = len(alive)
    staying = {i for i in alive if i < count}
    movers = iter(i for i in alive if i >= count)
    return [i if i in staying else next(movers) for i in range(count)]

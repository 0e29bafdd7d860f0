"""What a decoder's steps attend to: each window's encoded speech, and each row's own past. Arrays and their upkeep."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float32]

_BLOCK = 64
"""Positions are padded to a multiple of this. Sums over them then run in the same order in every batch."""

_IGNORED = -1e9


class Tail:
    """Cross-attention keys and values of the silence after the speech, in groups of neighbours.

    The encoding of silence changes slowly along the 30 s, so ``group`` neighbours share one key and one value, their
    means; a group weighs as much in the attention as its members together when the logarithm of their number is added
    to its score. 30 s of silence thus cost 60 positions instead of 1500.
    """

    def __init__(self, keys: Sequence[Reals], values: Sequence[Reals], group: int) -> None:
        """Take keys ``[heads, head_width, positions]`` and values ``[heads, positions, head_width]`` per layer."""
        self.group = group
        self.weight = float(np.log(group))
        self.keys = [_means(key, group, axis=2) for key in keys]
        self.values = [_means(value, group, axis=1) for value in values]
        self.length: int = self.keys[0].shape[2]

    def first(self, positions: int) -> int:
        """Return the first group that lies wholly after ``positions`` of speech."""
        return min(self.length, -(-positions // self.group))


def _means(array: Reals, group: int, axis: int) -> Reals:
    shape = list(array.shape)
    whole = shape[axis] // group
    shape[axis : axis + 1] = [whole, group]
    means: Reals = array.take(range(whole * group), axis=axis).reshape(shape).mean(axis=axis + 1)
    return np.ascontiguousarray(means)


class Scratch:
    """Memory that is used again for every group of windows: fresh pages cost more time than the copies into them."""

    def __init__(self) -> None:
        """Start with nothing; the memory grows to what the largest group needed."""
        self._floats = np.empty(0, np.float32)

    def arrays(self, *shapes: Sequence[int]) -> list[Reals]:
        """Return arrays of these shapes with any content; those of the last call must no longer be used."""
        sizes = [int(np.prod(shape)) for shape in shapes]
        if sum(sizes) > len(self._floats):
            self._floats = np.empty(0, np.float32)  # Given back before more is taken.
            self._floats = np.empty(sum(sizes), np.float32)
        ends = np.cumsum(sizes)
        return [
            self._floats[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)
        ]


class Heard:
    """Cross-attention keys, values and score biases of a group of windows: speech, tail, padding."""

    def __init__(self, positions: Sequence[int], tail: Tail, scratch: Scratch) -> None:
        """Make room for windows whose speech has ``positions`` encoder positions."""
        self._tail = tail
        self._speech = list(positions)
        heads, width, _ = tail.keys[0].shape
        windows, layers = len(positions), len(tail.keys)
        ends = [count + tail.length - tail.first(count) for count in positions]
        length = -(-max(ends) // _BLOCK) * _BLOCK
        keys, values = (windows, heads, width, length), (windows, heads, length, width)
        arrays = scratch.arrays(*[keys] * layers, *[values] * layers)
        self.keys, self.values = arrays[:layers], arrays[layers:]
        self.bias = np.full((windows, 1, 1, length), _IGNORED, np.float32)

    def __len__(self) -> int:
        """Return how many windows there are."""
        return len(self._speech)

    def fill(self, window: int, keys: Sequence[Reals], values: Sequence[Reals]) -> None:
        """Store the speech of one window, layer by layer; the tail follows it."""
        tail, speech = self._tail, self._speech[window]
        first = tail.first(speech)
        end = speech + tail.length - first
        for layer, (key, value) in enumerate(zip(keys, values, strict=True)):
            own_key, own_value = self.keys[layer][window], self.values[layer][window]
            own_key[:, :, :speech], own_value[:, :speech] = key, value
            own_key[:, :, speech:end], own_value[:, speech:end] = (
                tail.keys[layer][..., first:],
                tail.values[layer][:, first:],
            )
            own_key[:, :, end:], own_value[:, end:] = 0.0, 0.0
        self.bias[window, ..., :speech] = 0.0
        self.bias[window, ..., speech:end] = tail.weight

    def without_tail(self) -> None:
        """Let nothing but speech be heard from now on."""
        for window, speech in enumerate(self._speech):
            self.bias[window, ..., speech:] = _IGNORED

    def keep(self, windows: Sequence[int]) -> None:
        """Forget all windows but these, which take the first places in this order."""
        self._speech = [self._speech[window] for window in windows]
        self.keys = [_gathered(array, windows) for array in self.keys]
        self.values = [_gathered(array, windows) for array in self.values]
        self.bias = _gathered(self.bias, windows)


class Past:
    """Self-attention keys and values of every row, for all layers.

    ``store`` is ``[2 * layers, rows, heads, capacity, head_width]``; only the first ``rows`` of it are in use.
    """

    def __init__(self, shape: tuple[int, int, int, int, int]) -> None:
        """Make room; memory is used only as far as tokens are stored."""
        self.store = np.empty(shape, np.float32)
        self.rows = shape[1]
        self.length = 0

    def spread(self, times: int, capacity: int) -> "Past":
        """Return a past with every row ``times`` times and room for ``capacity`` tokens."""
        layers, rows, heads, _, width = self.store.shape
        wide = Past((layers, rows * times, heads, capacity, width))
        wide.length = self.length
        wide.store[:, :, :, : self.length] = np.repeat(self.store[:, :, :, : self.length], times, axis=1)
        return wide

    def layer(self, number: int) -> Reals:
        """Return the rows in use of one layer's keys (even numbers) or values (odd ones)."""
        return self.store[number, : self.rows]

    def reorder(self, parents: Sequence[int]) -> None:
        """Let row ``i`` go on from the past of row ``parents[i]``."""
        moved = [row for row, parent in enumerate(parents) if row != parent]
        if moved:
            sources = [parents[row] for row in moved]
            self.store[:, moved, :, : self.length] = self.store[:, sources, :, : self.length]

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these, which take the first places in this order."""
        self.reorder(rows)
        self.rows = len(rows)


def _gathered(array: Reals, picked: Sequence[int]) -> Reals:
    """Return the picked entries of the first axis, moved to its beginning; those already there are not copied."""
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

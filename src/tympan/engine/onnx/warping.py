"""Which encoder position belongs to which token: dynamic time warping over attention. Pure.

The method is Whisper's own (``whisper/timing.py``): attention of heads known to follow the speech, normalised over the
tokens, smoothed along time by a median of seven, averaged, and the cheapest monotone path through it.
"""

import numpy as np
from numpy.typing import NDArray

Attention = NDArray[np.float32]
"""Attention of some heads, shape ``[heads, tokens, positions]``."""

_MEDIAN_WIDTH = 7
_MEDIAN_OF_7 = (
    (0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4),
)  # fmt: skip
"""Comparisons after which place 3 of seven holds the median (N. Devillard, Fast median search, 1998)."""


def shares(attention: Attention) -> Attention:
    """Return the attention to some of the positions as shares of all attention to them."""
    sums = attention.sum(axis=-1, keepdims=True)
    parts: Attention = attention / np.maximum(sums, np.float32(1e-9))
    return parts


def follow(attention: Attention) -> Attention:
    """Return one matrix ``[tokens, positions]`` that is high where a token is spoken."""
    spread = np.maximum(attention.std(axis=1, keepdims=True), np.float32(1e-9))
    normal = (attention - attention.mean(axis=1, keepdims=True)) / spread
    mean: Attention = _median(normal).mean(axis=0)
    return mean


def _median(values: Attention) -> Attention:
    if values.shape[-1] <= _MEDIAN_WIDTH // 2:
        return values
    side = _MEDIAN_WIDTH // 2
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(side, side)], mode="reflect")
    count = values.shape[-1]
    places = [padded[..., shift : shift + count] for shift in range(_MEDIAN_WIDTH)]
    for low, high in _MEDIAN_OF_7:
        places[low], places[high] = np.minimum(places[low], places[high]), np.maximum(places[low], places[high])
    return places[side]


def cheapest_path(cost: Attention) -> list[tuple[int, int]]:
    """Return the cheapest monotone path through ``cost`` from its first to its last corner, as (row, column) pairs."""
    rows, columns = cost.shape
    total = _totals(cost)
    i, j = rows, columns
    path = []
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        both, up, left = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        if both <= up and both <= left:
            i, j = i - 1, j - 1
        elif up <= left:
            i -= 1
        else:
            j -= 1
    return path[::-1]


def _totals(cost: Attention) -> NDArray[np.float64]:
    """Return the cost of the cheapest path to each cell, with a border of infinity before the first row and column.

    Cells of one diagonal do not depend on one another; in memory they lie at equal distances, so each diagonal is one
    step for NumPy.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    total[1:, 1:] = cost
    flat = total.reshape(-1)
    step = columns
    for diagonal in range(2, rows + columns + 1):
        top = max(1, diagonal - columns)
        cells = min(rows, diagonal - 1) - top + 1
        first = top * (columns + 1) + diagonal - top
        stop = first + step * (cells - 1) + 1
        both, up = (
            flat[first - columns - 2 : stop - columns - 2 : step],
            flat[first - columns - 1 : stop - columns - 1 : step],
        )
        left = flat[first - 1 : stop - 1 : step]
        flat[first:stop:step] += np.minimum(np.minimum(both, up), left)
    return total

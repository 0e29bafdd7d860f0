"""From measured batches to their cost: non-negative least squares over five terms. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tympan.capacity.profile import BatchCost, features

MAX_RATIOS = 200


@dataclass(frozen=True, slots=True)
class Timed:
    """A batch that ran: the lengths of its windows in seconds, and the engine's milliseconds."""

    lengths_s: tuple[float, ...]
    ms: float


def fitted(batches: Sequence[Timed]) -> BatchCost:
    """Return the cost that fits ``batches`` best, relative errors counted; no term is negative.

    Raises ``ValueError`` when there are none.
    """
    if not batches:
        raise ValueError("There is no batch to fit a cost to.")
    weights = np.array([1.0 / max(batch.ms, 1e-3) for batch in batches])
    matrix = np.array([features(batch.lengths_s) for batch in batches]) * weights[:, None]
    return BatchCost(*_non_negative(matrix, np.ones(len(batches))))


def _non_negative(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """Return the best non-negative solution: with five unknowns, every choice of those that are not zero is tried."""
    n = matrix.shape[1]
    best, least = np.zeros(n), float(target @ target)
    for size in range(1, n + 1):
        for chosen in combinations(range(n), size):
            part = matrix[:, chosen]
            found = np.linalg.lstsq(part, target, rcond=None)[0]
            error = float(np.sum((part @ found - target) ** 2))
            if (found >= 0.0).all() and error < least * (1.0 - 1e-9):
                best, least = np.zeros(n), error
                best[list(chosen)] = found
    return [float(value) for value in best]


def ratios(cost: BatchCost, batches: Sequence[Timed]) -> tuple[float, ...]:
    """Return how long each batch took beside its cost, in order of size, evenly thinned to ``MAX_RATIOS``."""
    found = sorted(round(batch.ms / cost.ms(batch.lengths_s), 4) for batch in batches if cost.ms(batch.lengths_s) > 0)
    step = max(1, -(-len(found) // MAX_RATIOS))
    return tuple(found[step // 2 :: step]) or (1.0,)


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return constant and slope, neither negative, of the line through ``points`` with the least squares."""
    matrix = np.array([(1.0, x) for x, _ in points])
    constant, slope = _non_negative(matrix, np.array([max(0.0, y) for _, y in points]))
    return constant, slope

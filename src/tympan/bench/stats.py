"""Quantiles and spreads of measured times, and how sure a ratio of speeds is. Pure."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, median

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 20_000
"""Bootstrap resamples: enough that the far ends of the intervals used here do not move."""

_GRID = 20_001


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, middle and greatest of repeated measurements."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float], digits: int = 3) -> "Spread":
        """Return the spread of ``values``, rounded; raises ``ValueError`` when there are none."""
        return cls(round(min(values), digits), round(median(values), digits), round(max(values), digits))

    def as_dict(self) -> dict[str, float]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Interval:
    """A ratio with the interval that holds the true one at the confidence asked for; ``pairs`` it rests on."""

    value: float
    low: float
    high: float
    pairs: int


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed: always one that was measured."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratio_interval(
    groups: Sequence[Sequence[float]], *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 20240501
) -> Interval:
    """Return the geometric mean of ratios with its bootstrap interval; every group counts alike.

    A group holds the logarithms of the ratios of one cell's paired runs; runs are resampled within their group.
    Percentile intervals of few runs are too narrow: deviations are scaled by sqrt(n / (n - 1)) and the ends are taken
    where Student's t puts them (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 3.4).
    Raises ``ValueError`` when a group has fewer than two runs.
    """
    if not groups or min(len(group) for group in groups) < 2:
        raise ValueError("Every group needs at least two paired runs.")
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    centre = float(np.mean([array.mean() for array in arrays]))
    rng = np.random.default_rng(seed)
    spread = np.mean([_deviations(array, rng, resamples) for array in arrays], axis=0)
    freedom = sum(len(array) - 1 for array in arrays)
    tail = NormalDist().cdf(-_student(0.5 + confidence / 2.0, freedom))
    low, high = np.quantile(spread, [tail, 1.0 - tail])
    pairs = sum(len(array) for array in arrays)
    return Interval(math.exp(centre), math.exp(centre + low), math.exp(centre + high), pairs)


def _deviations(values: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """Return how far the mean of each resample lies from the mean."""
    n = len(values)
    residuals = (values - values.mean()) * math.sqrt(n / (n - 1))
    means: NDArray[np.float64] = residuals[rng.integers(0, n, size=(resamples, n))].mean(axis=1)
    return means


def _student(share: float, freedom: int) -> float:
    """Return the quantile of Student's t; with x = sqrt(freedom) tan(angle) its density is a power of the cosine."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, _GRID)[1:-1]
    mass = np.cumsum(np.cos(angles) ** (freedom - 1))
    angle = float(np.interp(share, mass / mass[-1], angles))
    return math.sqrt(freedom) * math.tan(angle)

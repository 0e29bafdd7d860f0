"""What came of a simulated run, and of several: percentiles with intervals. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from tympan.bench.stats import quantile

SHARES = (0.5, 0.95, 0.99)

_STUDENT_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom."""


@dataclass(slots=True)
class Sample:
    """One request: when it came, how long its audio is, and when the engine began and all was done; in seconds.

    ``began_s`` and ``done_s`` are infinite where that never happened. ``own_s`` is its own work before the engine,
    ``windows_s`` the windows that it becomes where the profile's are not meant.
    """

    number: int
    is_job: bool
    audio_s: float
    came_s: float
    windows_s: tuple[float, ...] = ()
    own_s: float = 0.0
    began_s: float = math.inf
    done_s: float = math.inf
    refused: bool = False
    broken: bool = False

    @property
    def wait_s(self) -> float:
        """How long it waited for others: until the engine began with it, its own preparation not counted."""
        return max(0.0, self.began_s - self.came_s - self.own_s)

    @property
    def turnaround_s(self) -> float:
        """How long until it was done."""
        return self.done_s - self.came_s


@dataclass(slots=True)
class Outcome:
    """One simulated run. ``span_s`` is the time watched; engines were busy for ``busy_s`` of it, taken together."""

    samples: list[Sample] = field(default_factory=list)
    span_s: float = 0.0
    busy_s: float = 0.0
    audio_s: float = 0.0
    batches: int = 0
    windows: int = 0
    replicas: int = 1

    @property
    def audio_s_per_s(self) -> float:
        """Seconds of audio done a second."""
        return self.audio_s / self.span_s if self.span_s else 0.0

    @property
    def utilisation(self) -> float:
        """Share of the time that engines were busy."""
        return self.busy_s / (self.span_s * self.replicas) if self.span_s else 0.0

    @property
    def windows_a_batch(self) -> float:
        """Mean size of a batch."""
        return self.windows / self.batches if self.batches else 0.0

    def times(self, value: Callable[[Sample], float], *, jobs: bool) -> list[float]:
        """Return one figure of every request that was let in: of jobs, or of synchronous ones."""
        return [value(sample) for sample in self.samples if sample.is_job == jobs and not sample.refused]

    @property
    def refused_share(self) -> float:
        """Share of the requests that were refused."""
        return sum(sample.refused for sample in self.samples) / len(self.samples) if self.samples else 0.0

    @property
    def broken(self) -> int:
        """Requests that ended because their machine did."""
        return sum(sample.broken for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure from several runs: their mean, and the 95 % interval of it; ``None`` for what never came."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Return the estimate from one figure of each run."""
        if not values or not all(map(math.isfinite, values)):
            return cls(None)
        mean = fmean(values)
        if len(values) < 2:
            return cls(round(mean, 4))
        half = _STUDENT_95[min(len(values) - 2, len(_STUDENT_95) - 1)] * stdev(values) / math.sqrt(len(values))
        return cls(round(mean, 4), round(max(0.0, mean - half), 4), round(mean + half, 4))


def percentiles(runs: Sequence[Outcome], value: Callable[[Sample], float], *, jobs: bool) -> dict[str, Estimate] | None:
    """Return the percentiles of one figure, each estimated from all runs; ``None`` where no such request came."""
    found = [times for run in runs if (times := run.times(value, jobs=jobs))]
    if not found:
        return None
    return {f"p{100 * share:g}": Estimate.of([quantile(times, share) for times in found]) for share in SHARES}

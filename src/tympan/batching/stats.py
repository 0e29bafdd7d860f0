"""What the batcher tells about itself: one report per batch, and a snapshot on request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from tympan.domain import Lane


class BatcherState(StrEnum):
    """Where the batcher stands; only ``ready`` has a working engine."""

    NEW = "new"
    LOADING = "loading"
    READY = "ready"
    RECYCLING = "recycling"
    DOWN = "down"
    FAILED = "failed"
    CLOSED = "closed"


_BEST_FIRST = tuple(BatcherState[name] for name in ["READY", "RECYCLING", "LOADING", "NEW", "DOWN", "FAILED", "CLOSED"])


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that ran. ``error`` is the error code when it failed, else ``None``; ``compute_s`` is engine time.

    ``most`` is how many windows it could have had; 0 where that is not known.
    """

    windows: int
    audio_s: float
    compute_s: float
    predicted_s: float
    error: str | None = None
    most: int = 0


class BatchObserver(Protocol):
    """Somebody who wants to know, for metrics. Called on the engine's thread, so it has to return at once."""

    def on_batch(self, report: BatchReport) -> None:
        """A batch ran, well or not."""
        ...

    def on_restart(self, reason: str) -> None:
        """The engine process is being replaced; ``reason`` is an error code, or ``memory`` for a planned recycle."""
        ...


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """A snapshot of the batcher; ``predicted_drain_s`` is the time until all accepted work should be done."""

    state: BatcherState = BatcherState.NEW
    queued_windows: Mapping[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    queued_audio_s: Mapping[Lane, float] = field(default_factory=lambda: dict.fromkeys(Lane, 0.0))
    running_windows: int = 0
    restarts: int = 0
    batches: int = 0
    windows: int = 0
    audio_s: float = 0.0
    compute_s: float = 0.0
    max_batch: int = 0
    compute_s_per_audio_s: float = 0.0
    predicted_drain_s: float = 0.0
    engines: int = 0

    @property
    def ready(self) -> bool:
        """Whether an engine is loaded and answering."""
        return self.state is BatcherState.READY

    @property
    def mean_batch(self) -> float:
        """Windows per batch so far; 0 before the first."""
        return self.windows / self.batches if self.batches else 0.0

    def predicted_wait_s(self, audio_s: float) -> float:
        """Return the seconds until ``audio_s`` more seconds of audio, sent now, would be done."""
        return self.predicted_drain_s + audio_s * self.compute_s_per_audio_s


def together(each: Sequence[BatcherStats]) -> BatcherStats:
    """Return several batchers' figures as one: sums; the best state; what a window sent now waits for the first.

    ``each`` has at least one. Their rates are joined as if every one took its share of the work.
    """
    rates = [one.compute_s_per_audio_s for one in each if one.compute_s_per_audio_s]
    open_ones = [one for one in each if one.ready] or each
    return replace(
        BatcherStats(),
        state=min((one.state for one in each), key=_BEST_FIRST.index),
        queued_windows={lane: sum(one.queued_windows.get(lane, 0) for one in each) for lane in Lane},
        queued_audio_s={lane: sum(one.queued_audio_s.get(lane, 0.0) for one in each) for lane in Lane},
        running_windows=sum(one.running_windows for one in each),
        restarts=sum(one.restarts for one in each),
        batches=sum(one.batches for one in each),
        windows=sum(one.windows for one in each),
        audio_s=sum(one.audio_s for one in each),
        compute_s=sum(one.compute_s for one in each),
        max_batch=max(one.max_batch for one in each),
        compute_s_per_audio_s=sum(rates) / len(rates) ** 2 if rates else 0.0,
        predicted_drain_s=min(one.predicted_drain_s for one in open_ones),
        engines=sum(one.engines for one in each),
    )

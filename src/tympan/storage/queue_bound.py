"""How much may wait: steps and seconds of audio of all jobs together, never more than the bound by a single job.

Counting is a query over what waits, so far from the bound it is done every few seconds, and this process adds what it
takes in between. Where all processes together could reach the bound in that time, it is counted in the transaction that
adds a job, one such transaction at a time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from tympan.domain import SAMPLE_RATE_HZ, JobState, Lane, NewJob
from tympan.errors import Overloaded
from tympan.storage.database import Database
from tympan.storage.tables import jobs, steps, workers

ASSUMED_BYTES_PER_S = 8_000
"""For how long a job may take: speech comes as MP3 or Opus of 32 to 64 kbit/s more often than as PCM."""

UNKNOWN_S = 60.0
"""What a job counts for whose audio is not here yet."""

SEEN_WITHIN_S = 30.0
"""A worker that has not been seen for this long does not count."""

_FAR_SHARE, _FAR_STEPS, _FAR_ALIKE = 0.9, 20_000, 2_000
"""Far from the bound: below nine tenths of it, by more jobs, of a minute each, than come in two seconds, and by more
jobs as long as the one in hand than come in that time, which are fewer."""

_ROOM = 0.99
_COUNT_EVERY_S = 2.0
_DEFAULT_WAIT_S, _MOST_WAIT_S = 60.0, 3600.0
_LOCK = 0x74796D70  # Any number that nobody else uses: PostgreSQL's advisory locks have no names.


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Most steps and most seconds of audio of jobs that wait; calls that are answered at once are bounded elsewhere."""

    max_steps: int = 1_000_000
    max_audio_s: float = 36_000_000.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits: steps, seconds of audio, and how many of those the workers do in a second, if that is known."""

    steps: int = 0
    audio_s: float = 0.0
    rate: float | None = None


_LEAST = Waiting(1, 1.0)


class QueueBound:
    """Keeps what waits within its limits, by all processes together."""

    def __init__(self, database: Database, limits: QueueLimits | None = None) -> None:
        """Count in ``database``."""
        self._db, self.limits = database, limits or QueueLimits()
        self._counted_at = float("-inf")
        self._waiting = Waiting()
        self._added = Waiting()

    def check(self) -> None:
        """Raise ``Overloaded`` when nothing fits any more, by the last count: before anything is stored."""
        if time.monotonic() - self._counted_at > _COUNT_EVERY_S:
            self._note(self._db.read(self._count))
        if self._is_over(_sum(self._now(), _LEAST)):
            raise self._refusal(self._now())

    def check_in(self, transaction: Connection, new: Sequence[NewJob]) -> None:
        """Raise ``Overloaded`` when these jobs do not fit; else they count from now on."""
        if new[0].lane is not Lane.BATCH:
            return
        more = Waiting(len(new), sum(map(estimate_s, new)))
        longest_s = max(map(estimate_s, new))
        if self._is_far(_sum(self._now(), more), longest_s) and time.monotonic() - self._counted_at < _COUNT_EVERY_S:
            self._added = _sum(self._added, more)
            return
        if not self._db.is_sqlite:  # SQLite has one writer at a time anyway.
            transaction.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        found = self._count(transaction)
        self._note(found)
        if self._is_over(_sum(found, more)):
            raise self._refusal(found)
        self._added = _sum(self._added, more)

    def _now(self) -> Waiting:
        return _sum(self._waiting, self._added)

    def _note(self, found: Waiting) -> None:
        self._waiting, self._added, self._counted_at = found, Waiting(), time.monotonic()

    def _is_over(self, waiting: Waiting) -> bool:
        return waiting.steps > self.limits.max_steps or waiting.audio_s > self.limits.max_audio_s

    def _is_far(self, waiting: Waiting, longest_s: float) -> bool:
        """Whether nobody can reach the limits before they are looked at again, with jobs of ``longest_s`` at most."""
        most_steps, most_s = self.limits.max_steps, self.limits.max_audio_s
        far_steps = min(_FAR_SHARE * most_steps, most_steps - _FAR_STEPS)
        far_s = min(_FAR_SHARE * most_s, most_s - max(_FAR_STEPS * UNKNOWN_S, _FAR_ALIKE * longest_s))
        return waiting.steps < far_steps and waiting.audio_s < far_s

    def _refusal(self, waiting: Waiting) -> Overloaded:
        over_s = waiting.audio_s - _ROOM * self.limits.max_audio_s
        wait_s = max(1.0, over_s / waiting.rate) if waiting.rate and over_s > 0 else _DEFAULT_WAIT_S
        return Overloaded(
            f"The job queue is full: {waiting.steps} pieces of work, {waiting.audio_s / 3600:.1f} h of audio, wait.",
            remedy="Try again after the time in Retry-After.",
            retry_after_s=min(_MOST_WAIT_S, wait_s),
        )

    def _count(self, transaction: Connection) -> Waiting:
        ready = (steps.c.state == "ready", steps.c.lane == int(Lane.BATCH))
        samples = func.coalesce(func.sum(steps.c.end_sample - steps.c.start_sample), 0)
        row = transaction.execute(select(func.count(), samples).where(*ready)).one()
        assumed = func.coalesce(jobs.c.source_bytes / float(ASSUMED_BYTES_PER_S), UNKNOWN_S)
        queued = (jobs.c.state == JobState.QUEUED.value, jobs.c.lane == int(Lane.BATCH))
        unprepared = transaction.scalar(select(func.coalesce(func.sum(assumed), 0.0)).where(*queued))
        seen = workers.c.seen_at > self._db.now() - SEEN_WITHIN_S
        rate = transaction.scalar(select(func.sum(workers.c.rate)).where(seen))
        return Waiting(int(row[0]), float(row[1]) / SAMPLE_RATE_HZ + float(unprepared or 0.0), rate)


def estimate_s(job: NewJob) -> float:
    """Return about how many seconds of audio a new job has."""
    return UNKNOWN_S if job.source.n_bytes is None else job.source.n_bytes / ASSUMED_BYTES_PER_S


def _sum(one: Waiting, other: Waiting) -> Waiting:
    return Waiting(one.steps + other.steps, one.audio_s + other.audio_s, one.rate)

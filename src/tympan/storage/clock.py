"""Somebody set the clock: notice it, and put right what counts on it. Without a step this costs one short read.

Ahead: leases that were alive would all be over at once, and work in progress would be done twice. Back: a lease whose
worker has died would last for as long as the step was, and steps that are ready would wait for as long.
"""

import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select, update

from tympan.storage.database import Database
from tympan.storage.tables import steps


@dataclass(slots=True)
class ClockWatch:
    """Compares the database's clock with the time that passes here. Pure."""

    _before: tuple[float, float, float] | None = None

    def step_s(self, clock_s: float, asked_s: float, told_s: float) -> float:
        """Return by how much the clock was set since the last look, negative for back; 0 when that is not sure.

        ``asked_s`` and ``told_s`` are monotonic times before and after the clock was read. An answer may be of any
        time between them: of all the steps that would explain both looks, the smallest is returned.
        """
        before, self._before = self._before, (clock_s, asked_s, told_s)
        if before is None:
            return 0.0
        moved_s = clock_s - before[0]
        least_s, most_s = moved_s - (told_s - before[1]), moved_s - (asked_s - before[2])
        return max(least_s, 0.0) + min(most_s, 0.0)


class LeaseClock:
    """Keeps the leases of steps true to time that has passed, whatever becomes of the clock."""

    def __init__(self, database: Database, lease_s: float) -> None:
        """Work on ``database``, where leases are good for ``lease_s``."""
        self._db, self._lease_s = database, lease_s
        self._watch = ClockWatch()

    def mend(self) -> float:
        """Look at the clock, mend what a step has put out of order, and return the step in seconds, 0 for none.

        A step of less than half a lease is none: leases bear it, and nothing waits for it longer than that.
        """
        asked_s = time.monotonic()
        clock_s = float(self._db.read(lambda tx: tx.scalar(select(self._db.now()))) or 0.0)
        step_s = self._watch.step_s(clock_s, asked_s, time.monotonic())
        if step_s > self._lease_s / 2:
            self._db.write(lambda tx: self._keep_alive(tx, clock_s - step_s))
        elif step_s < -self._lease_s / 2:
            self._db.write(self._bring_near)
        else:
            self._end_the_endless()
            return 0.0
        return step_s

    def _keep_alive(self, tx: Connection, before_s: float) -> None:
        """Extend the leases that were good before the clock was set ahead."""
        alive = (steps.c.state == "running", steps.c.lease_until > before_s)
        tx.execute(update(steps).where(*alive).values(lease_until=self._db.now() + self._lease_s))

    def _bring_near(self, tx: Connection) -> None:
        """Let nothing wait for the time that was."""
        now = self._db.now()
        tx.execute(update(steps).where(steps.c.state == "ready", steps.c.run_at > now).values(run_at=now))
        self._shorten(tx)

    def _end_the_endless(self) -> None:
        """Shorten leases from before a step that nobody saw; a worker that lives extends them anyway."""
        endless = select(steps.c.id).where(*self._too_long()).limit(1)
        if self._db.read(lambda tx: tx.scalar(endless)) is not None:
            self._db.write(self._shorten)

    def _shorten(self, tx: Connection) -> None:
        tx.execute(update(steps).where(*self._too_long()).values(lease_until=self._db.now() + self._lease_s))

    def _too_long(self) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return steps.c.state == "running", steps.c.lease_until > self._db.now() + 2 * self._lease_s

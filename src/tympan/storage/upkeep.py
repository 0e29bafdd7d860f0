"""What keeps the tables in order while nobody asks: lost leases, passed deadlines, lost doorbells, old data."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from tympan.domain import Job
from tympan.faultpoints import reach
from tympan.storage.calls import CALLS
from tympan.storage.clock import LeaseClock
from tympan.storage.database import Database
from tympan.storage.endings import Endings
from tympan.storage.prospects import ORDER
from tympan.storage.queue_bound import SEEN_WITHIN_S
from tympan.storage.rows import job_from
from tympan.storage.tables import batches, bells, events, idempotency, jobs, steps, workers

MAX_CRASHES = 5
"""A job is given up when this many of the processes that worked on one of its steps have died."""

_PAGE = 500
_FORGET_WORKER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that works: how many steps it can run, how many it runs, audio-seconds done per second, its models."""

    id: str
    slots: int
    busy: int
    rate: float | None = None
    weights: str = ""


class Upkeep:
    """Looks after the job tables; any number of processes may do so at once."""

    def __init__(self, database: Database, endings: Endings, *, lease_s: float = 30.0, rings: bool = False) -> None:
        """Work on ``database``, where leases last ``lease_s``; ``rings`` writes doorbells for what is released."""
        self._db, self._endings, self._rings = database, endings, rings
        self._clock = LeaseClock(database, lease_s)

    def mend_clock(self) -> float:
        """Put right what a step of the database's clock has put out of order; return the step in seconds."""
        return self._clock.mend()

    def release_expired(self) -> int:
        """Make steps claimable again whose worker let the lease run out; return how many. Some jobs are given up."""

        def work(tx: Connection) -> int:
            now = self._db.now()
            released = tx.execute(
                update(steps)
                .where(steps.c.state == "running", steps.c.lease_until < now)
                .values(state="ready", lease_owner=None, lease_until=None, run_at=now, crashes=steps.c.crashes + 1)
                .returning(steps.c.job_id, steps.c.lane, steps.c.crashes)
            ).all()
            for row in released:
                if row.crashes >= MAX_CRASHES:
                    self._endings.quarantine(tx, row.job_id, row.crashes)
                elif self._rings:
                    tx.execute(insert(bells).values(lane=row.lane, created_at=now))
            reach("sweep.release")
            return len(released)

        return self._db.write(work) if self._any_expired() else 0

    def disown(self) -> int:
        """Release every lease, uncharged, and forget all workers; for one who knows that nobody else can be alive."""
        query = (
            update(steps)
            .where(steps.c.state == "running")
            .values(state="ready", lease_owner=None, lease_until=None, run_at=self._db.now())
        )

        def work(tx: Connection) -> int:
            tx.execute(delete(workers))
            return tx.execute(query).rowcount

        return self._db.write(work)

    def expire_deadlines(self) -> int:
        """End jobs whose deadline has passed; return how many."""
        late = (
            select(jobs.c.id)
            .where(jobs.c.deadline < self._db.now(), jobs.c.deadline.is_not(None), jobs.c.finished_at.is_(None))
            .limit(_PAGE)
        )
        found = self._db.read(lambda tx: list(tx.scalars(late)))
        return sum(self._db.write(partial(self._endings.expire, job_id=job_id)) for job_id in found)

    def ring_idle(self) -> int:
        """Ring again for steps that wait although workers have room: their doorbells were lost. Return how many."""

        def work(tx: Connection) -> int:
            now = self._db.now()
            room = tx.scalar(
                select(func.sum(workers.c.slots - workers.c.busy)).where(workers.c.seen_at > now - SEEN_WITHIN_S)
            )
            waiting = select(steps.c.lane).where(steps.c.state == "ready", steps.c.run_at <= now)
            lanes = list(tx.scalars(waiting.order_by(*ORDER).limit(max(0, room or 0))))
            unsent = tx.scalar(select(func.count()).select_from(select(bells.c.id).limit(_PAGE).subquery())) or 0
            missing = lanes[unsent:]
            for lane in missing:
                tx.execute(insert(bells).values(lane=lane, created_at=now))
            return len(missing)

        return self._db.write(work)

    def seen(self, worker: Worker) -> None:
        """Note that a worker lives, and forget those that have not been seen for an hour."""
        now = self._db.now()
        values: dict[str, Any] = {"seen_at": now, "rate": worker.rate, "slots": worker.slots, "busy": worker.busy}
        values["weights"] = worker.weights

        def work(tx: Connection) -> None:
            mine = self._db.insert(workers).values(id=worker.id, started_at=now, **values)
            tx.execute(mine.on_conflict_do_update(index_elements=[workers.c.id], set_=values))
            tx.execute(delete(workers).where(workers.c.seen_at < now - _FORGET_WORKER_S))

        self._db.write(work)

    def has_workers(self) -> bool:
        """Return whether a worker has been seen lately."""
        query = select(workers.c.id).where(workers.c.seen_at > self._db.now() - SEEN_WITHIN_S).limit(1)
        return self._db.read(lambda tx: tx.scalar(query)) is not None

    def gone(self, worker_id: str) -> None:
        """Forget a worker that has stopped."""
        self._db.write(lambda tx: tx.execute(delete(workers).where(workers.c.id == worker_id)))

    def audio_due(self) -> list[str]:
        """Return ids of jobs whose audio has been kept long enough."""
        query = select(jobs.c.id).where(jobs.c.audio_until < self._db.now()).limit(_PAGE)
        return self._db.read(lambda tx: list(tx.scalars(query)))

    def audio_gone(self, job_ids: Iterable[str]) -> None:
        """Note that the audio of these jobs has been removed."""
        query = update(jobs).where(jobs.c.id.in_(list(job_ids))).values(audio_until=None)
        self._db.write(lambda tx: tx.execute(query))

    def text_due(self) -> list[Job]:
        """Return jobs that have been kept long enough."""
        query = select(jobs).where(jobs.c.text_until < self._db.now()).limit(_PAGE)
        return self._db.read(lambda tx: [job_from(row) for row in tx.execute(query).mappings()])

    def with_audio(self, job_ids: Iterable[str]) -> set[str]:
        """Return which of these jobs may still have blobs."""
        wanted = jobs.c.id.in_(list(job_ids))
        query = select(jobs.c.id).where(wanted, jobs.c.finished_at.is_(None) | jobs.c.audio_until.is_not(None))
        return self._db.read(lambda tx: set(tx.scalars(query)))

    def forget_keys(self) -> None:
        """Remove idempotency keys that have expired, and finished batches (with their event) whose jobs are gone."""
        now = self._db.now()
        empty = ~select(jobs.c.id).where(jobs.c.batch_id == batches.c.id).exists()

        def work(tx: Connection) -> None:
            # Rows about callers are kept until whoever drops the jobs of those who have gone has seen them.
            over = (idempotency.c.expires_at < now, idempotency.c.route.not_in(CALLS))
            tx.execute(delete(idempotency).where(*over))
            gone = select(batches.c.id).where(batches.c.pending <= 0, empty).limit(_PAGE)
            found = list(tx.scalars(gone))
            tx.execute(delete(batches).where(batches.c.id.in_(found)))
            tx.execute(delete(events).where(events.c.subject_id.in_(found)))

        self._db.write(work)

    def scrub(self) -> bool:
        """Leave nothing of what was removed in the database's own files; return whether that worked at once."""
        return self._db.scrub()

    def _any_expired(self) -> bool:
        query = select(steps.c.id).where(steps.c.state == "running", steps.c.lease_until < self._db.now()).limit(1)
        return self._db.read(lambda tx: tx.scalar(query)) is not None

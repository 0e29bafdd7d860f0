"""Jobs as their owners see them: hand in, look at, list, cancel, erase. Every query names its tenant.

The fair order: a step carries a tag, counted in audio-seconds of service, and the lowest tag goes first within lane and
priority. A new job gets the greater of the tag now being served and where its tenant's last job stood; each further
section adds its own length. So a long file advances by one section for every other job that waits, and a tenant with
a thousand jobs delays another's first one by no more than one section. (Start-time fair queueing, Goyal et al., 1996.)
"""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, delete, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from tympan.domain import Job, JobState, Lane, NewJob, StepKind, Transcript
from tympan.errors import IdempotencyMismatch, NotFound
from tympan.faultpoints import reach
from tympan.storage import codec
from tympan.storage.database import Database
from tympan.storage.endings import Endings
from tympan.storage.rows import job_from, values_of
from tympan.storage.tables import batches, bells, events, idempotency, jobs, results, steps, tenants, workers

SECTION_S = 300.0
"""What a job costs in the fair order before its length is known, at most: one section."""

ORDER = (steps.c.lane, steps.c.rank, steps.c.tag_s, steps.c.id)
"""The order in which ready steps are taken; an index has it."""

_ASSUMED_BYTES_PER_S = 8_000
_MIN_COST_S = 1.0
_MAX_COUNTED = 10_000
_COUNT_EVERY_S = 2.0
_KEY_S = 24 * 3600.0
_WORKER_S = 30.0


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key for one request on one route, with a digest of everything that was asked for."""

    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list, newest first; ``after`` is the id that the page before ended with."""

    states: tuple[JobState, ...] = ()
    batch_id: str | None = None
    after: str | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands among others: jobs and sections ahead of it (capped), and audio-seconds to its end."""

    position: int | None
    remaining_s: float
    rate: float | None


class JobStore:
    """The jobs table and what hangs on it."""

    def __init__(self, database: Database, endings: Endings, *, rings: bool = False) -> None:
        """Work on ``database``; ``rings`` writes a doorbell for each step that becomes ready."""
        self._db, self._endings, self._rings = database, endings, rings
        self._counted_at, self._waiting = -_COUNT_EVERY_S, 0

    def submit(self, job: NewJob, key: IdempotencyKey | None = None) -> tuple[Job, bool]:
        """Return the stored job, and whether it is an earlier one with the same key.

        Raises ``IdempotencyMismatch``, ``StorageUnavailable``, ``InsufficientStorage``.
        """
        try:
            stored, replayed = self._db.write(lambda tx: self._submit(tx, job, key))
        except IntegrityError:
            # The connection broke in the commit and the second try found what the first had done.
            return self.get(job.tenant, job.id), False
        if not replayed:
            reach("job.committed")
        return stored, replayed

    def submit_many(self, new: list[NewJob]) -> list[Job]:
        """Store several jobs in one transaction: all of them or none."""
        return self._db.write(lambda tx: [self._submit(tx, job, None)[0] for job in new])

    def get(self, tenant: str, job_id: str) -> Job:
        """Return a job. Raises ``NotFound``, for another tenant's as for none."""
        return self._db.read(lambda tx: self._get(tx, tenant, job_id))

    def page(self, tenant: str, wanted: JobFilter) -> list[Job]:
        """Return one page of jobs, newest first."""
        query = select(jobs).where(jobs.c.tenant == tenant)
        if wanted.states:
            query = query.where(jobs.c.state.in_([state.value for state in wanted.states]))
        if wanted.batch_id is not None:
            query = query.where(jobs.c.batch_id == wanted.batch_id)
        if wanted.after is not None:
            query = query.where(jobs.c.id < wanted.after)
        query = query.order_by(jobs.c.id.desc()).limit(wanted.limit)
        return self._db.read(lambda tx: [job_from(row) for row in tx.execute(query).mappings()])

    def transcript(self, tenant: str, job_id: str) -> Transcript | None:
        """Return the stored transcript; ``None`` while there is none, or when it has been removed."""
        query = (
            select(results.c.transcript)
            .join(jobs, jobs.c.id == results.c.job_id)
            .where(jobs.c.id == job_id, jobs.c.tenant == tenant)
        )
        text = self._db.read(lambda tx: tx.scalar(query))
        return None if text is None else codec.TRANSCRIPT.validate_json(text)

    def partial_texts(self, job_id: str, after: int = -1) -> list[tuple[int, str]]:
        """Return index and text of the finished sections beyond ``after``, as far as none is missing between them."""
        query = (
            select(steps.c.idx, steps.c.text)
            .where(
                steps.c.job_id == job_id,
                steps.c.kind == StepKind.SECTION.value,
                steps.c.state == "done",
                steps.c.idx > after,
            )
            .order_by(steps.c.idx)
        )
        found = self._db.read(lambda tx: [(row.idx, row.text or "") for row in tx.execute(query)])
        return [pair for place, pair in enumerate(found) if pair[0] == after + 1 + place]

    def standing(self, job: Job) -> Standing:
        """Return how long a job that has not ended still has to wait and run."""
        return self._db.read(lambda tx: self._standing(tx, job))

    def cancel(self, tenant: str, job_id: str) -> Job:
        """Return the job, cancelled unless it had ended. What runs of it stops within a window. Raises ``NotFound``."""

        def work(tx: Connection) -> Job:
            self._get(tx, tenant, job_id)
            self._endings.end(tx, job_id, JobState.CANCELLED)
            reach("job.cancel")
            return self._get(tx, tenant, job_id)

        return self._db.write(work)

    def erase(self, tenant: str, job_id: str) -> None:
        """Remove every row about a job; its blobs are the caller's to remove. Raises ``NotFound``."""

        def work(tx: Connection) -> None:
            job = self._get(tx, tenant, job_id)
            tx.execute(delete(steps).where(steps.c.job_id == job_id))
            tx.execute(delete(results).where(results.c.job_id == job_id))
            tx.execute(delete(events).where(events.c.subject_id == job_id))
            tx.execute(delete(idempotency).where(idempotency.c.subject_id == job_id))
            tx.execute(delete(jobs).where(jobs.c.id == job_id))
            if job.batch_id is not None and not job.state.is_terminal:
                tx.execute(update(batches).where(batches.c.id == job.batch_id).values(pending=batches.c.pending - 1))
            reach("erase.rows")

        self._db.write(work)

    def is_full(self, max_waiting: int) -> bool:
        """Return whether ``max_waiting`` steps or more wait; counted every few seconds only."""
        now = time.monotonic()
        if now - self._counted_at > _COUNT_EVERY_S:
            self._counted_at = now
            query = select(func.count()).select_from(steps).where(steps.c.state == "ready")
            self._waiting = self._db.read(lambda tx: tx.scalar(query)) or 0
        return self._waiting >= max_waiting

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs there are in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        found = self._db.read(lambda tx: {JobState(state): count for state, count in tx.execute(query)})
        return {state: found.get(state, 0) for state in JobState}

    def backlog_s(self) -> float:
        """Return about how many audio-seconds wait, for admission and autoscaling."""
        query = select(func.coalesce(func.sum(steps.c.end_sample - steps.c.start_sample), 0)).where(
            steps.c.state == "ready"
        )
        waiting = select(func.coalesce(func.sum(_cost_column()), 0.0)).where(jobs.c.state == JobState.QUEUED.value)
        return self._db.read(lambda tx: float(tx.scalar(query) or 0) / 16_000 + float(tx.scalar(waiting) or 0.0))

    def _submit(self, tx: Connection, job: NewJob, key: IdempotencyKey | None) -> tuple[Job, bool]:
        if key is not None and (earlier := self._earlier(tx, job, key)) is not None:
            return earlier, True
        now = self._db.now()
        row = (
            tx.execute(
                insert(jobs).values(**values_of(job), state=JobState.QUEUED.value, created_at=now).returning(*jobs.c)
            )
            .mappings()
            .one()
        )
        tx.execute(
            insert(steps).values(
                job_id=job.id,
                kind=StepKind.PREPARE.value,
                idx=0,
                state="ready",
                lane=int(job.lane),
                rank=-job.priority,
                tag_s=self._tag(tx, job),
                run_at=now,
            )
        )
        if self._rings:
            tx.execute(insert(bells).values(lane=int(job.lane), created_at=now))
        reach("job.insert")
        return job_from(row), False

    def _earlier(self, tx: Connection, job: NewJob, key: IdempotencyKey) -> Job | None:
        """Claim the key for this job; return the job that had it before."""
        table, now = idempotency.c, self._db.now()
        mine = (table.tenant == job.tenant, table.route == key.route, table.key == key.key)
        tx.execute(delete(idempotency).where(*mine, table.expires_at < now))
        taken = tx.execute(
            self._db.insert(idempotency)
            .values(
                tenant=job.tenant,
                route=key.route,
                key=key.key,
                fingerprint=key.fingerprint,
                subject_id=job.id,
                expires_at=now + _KEY_S,
            )
            .on_conflict_do_nothing()
        )
        if taken.rowcount:
            return None
        earlier = tx.execute(select(table.fingerprint, table.subject_id).where(*mine)).one()
        if earlier.fingerprint != key.fingerprint:
            raise IdempotencyMismatch(param="Idempotency-Key", remedy="Use a new key for a new request.")
        return self._get(tx, job.tenant, earlier.subject_id)

    def _tag(self, tx: Connection, job: NewJob) -> float:
        """Return the new job's place in the fair order, and move its tenant's on."""
        served = _served(tx, job.lane)
        tx.execute(self._db.insert(tenants).values(id=job.tenant).on_conflict_do_nothing())
        cost_s = _cost_s(job)
        begins = case((tenants.c.virtual_s > served, tenants.c.virtual_s), else_=served)
        row = tx.execute(
            update(tenants)
            .where(tenants.c.id == job.tenant)
            .values(virtual_s=begins + cost_s / tenants.c.weight)
            .returning(tenants.c.virtual_s, tenants.c.weight)
        ).one()
        return float(row.virtual_s) - cost_s / float(row.weight)

    @staticmethod
    def _get(tx: Connection, tenant: str, job_id: str) -> Job:
        row = tx.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant)).mappings().first()
        if row is None:
            raise NotFound("There is no such job.", remedy="Check the id; jobs are removed after their retention time.")
        return job_from(row)

    def _standing(self, tx: Connection, job: Job) -> Standing:
        seen = workers.c.seen_at > self._db.now() - _WORKER_S
        rate = tx.scalar(select(func.sum(workers.c.rate)).where(seen))
        if job.state is not JobState.QUEUED:
            total_s = job.progress.audio_s_total or job.progress.audio_s_done
            return Standing(None, max(0.0, total_s - job.progress.audio_s_done), rate)
        mine = tx.execute(select(*ORDER).where(steps.c.job_id == job.id)).first()
        if mine is None:
            return Standing(None, 0.0, rate)
        place = tuple_(*ORDER)
        ahead = select(steps.c.id).where(steps.c.state == "ready", place < tuple_(*mine)).limit(_MAX_COUNTED)
        count = tx.scalar(select(func.count()).select_from(ahead.subquery())) or 0
        waits_s = max(0.0, mine.tag_s - _served(tx, job.lane))
        return Standing(count + 1, waits_s + _estimate_s(job.source.n_bytes), rate)


def _served(tx: Connection, lane: Lane) -> float:
    """Return the tag that is being served in a lane: that of its first waiting step, else of its last running one."""
    mine = steps.c.lane == int(lane)
    first = select(steps.c.tag_s).where(steps.c.state == "ready", mine).order_by(*ORDER).limit(1)
    last = select(func.max(steps.c.tag_s)).where(steps.c.state == "running", mine)
    tag = tx.scalar(first)
    return float((tx.scalar(last) if tag is None else tag) or 0.0)


def _estimate_s(n_bytes: int | None) -> float:
    return _MIN_COST_S if n_bytes is None else max(_MIN_COST_S, n_bytes / _ASSUMED_BYTES_PER_S)


def _cost_s(job: NewJob) -> float:
    return min(SECTION_S, _estimate_s(job.source.n_bytes))


def _cost_column() -> Any:
    return func.coalesce(jobs.c.source_bytes, 0) / float(_ASSUMED_BYTES_PER_S)

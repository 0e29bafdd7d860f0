"""Jobs as their owners see them: hand in, look at, list, cancel, erase. Every query names its tenant.

The fair order: a step carries a tag, counted in audio-seconds of service, and the lowest tag goes first within lane and
priority. A new job gets the greater of the tag now being served and where its tenant's last job stood; each further
section adds its own length. So a long file advances by one section for every other job that waits, and a tenant with
a thousand jobs delays another's first one by no more than one section. (Start-time fair queueing, Goyal et al., 1996.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from sqlalchemy import Connection, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from tympan.domain import SAMPLE_RATE_HZ, Job, JobState, Lane, NewJob, StepKind
from tympan.faultpoints import reach
from tympan.storage.codec import SECTION, SectionResult
from tympan.storage.database import Database
from tympan.storage.endings import Endings
from tympan.storage.idempotency import IdempotencyKey, claim_key, find_key
from tympan.storage.prospects import ORDER, Prospects, Standing, no_such_job
from tympan.storage.queue_bound import ASSUMED_BYTES_PER_S, QueueBound
from tympan.storage.results import StoredResult, find_result
from tympan.storage.rows import job_from, values_of
from tympan.storage.tables import bells, edits, events, idempotency, jobs, results, steps, tenants
from tympan.storage.tenants import possessions

__all__ = ["Beside", "IdempotencyKey", "JobFilter", "JobStore", "SectionText", "Standing"]

SECTION_S = 300.0
"""What a job costs in the fair order before its length is known, at most: one section."""

_CHARGED_BYTES_PER_S = 32_000
"""Bytes of a second of 16-kHz PCM. What is compressed is charged too little, which favours short jobs."""

_MIN_COST_S = 1.0

CheckPossessions: TypeAlias = Callable[[str, Callable[[], tuple[int, int]], int], None]
"""Told of a tenant, how to count what it has now, and how many jobs of it are new; raises to refuse them."""

Beside: TypeAlias = Callable[[Connection], object]
"""Writes something that goes with a row, in the row's transaction."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list, newest first; ``after`` is the id that the page before ended with."""

    states: tuple[JobState, ...] = ()
    batch_id: str | None = None
    after: str | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True)
class SectionText:
    """The text of one finished section, and where in the audio it ends."""

    index: int
    text: str
    end_s: float


class JobStore:
    """The jobs table and what hangs on it."""

    def __init__(
        self,
        database: Database,
        endings: Endings,
        *,
        rings: bool = False,
        section_s: float = SECTION_S,
        bound: QueueBound | None = None,
    ) -> None:
        """Work on ``database``; ``rings`` writes a doorbell for each step that becomes ready, ``bound`` may refuse."""
        self.database, self.endings, self._rings, self._section_s = database, endings, rings, section_s
        self.check_possessions: CheckPossessions = lambda _tenant, _count, _added: None
        self.bound = bound or QueueBound(database)
        self._prospects = Prospects(database)

    def submit(
        self, job: NewJob, key: IdempotencyKey | None = None, beside: Beside = lambda _: None
    ) -> tuple[Job, bool]:
        """Return the stored job, and whether it is an earlier one with the same key.

        What goes with a new one is written ``beside`` it, in the same transaction.
        Raises ``IdempotencyMismatch``, ``Overloaded``, ``StorageUnavailable``, ``InsufficientStorage``.
        """
        try:
            stored, replayed = self.database.write(lambda tx: self._submit(tx, job, key, beside))
        except IntegrityError:
            # The connection broke in the commit and the second try found what the first had done.
            return self.get(job.tenant, job.id), False
        if not replayed:
            reach("job.committed")
        return stored, replayed

    def earlier(self, tenant: str, key: IdempotencyKey) -> Job | None:
        """Return the job that has this key already. Raises ``IdempotencyMismatch``."""

        def work(tx: Connection) -> Job | None:
            job_id = find_key(self.database, tx, tenant, key)
            return None if job_id is None else self._get(tx, tenant, job_id)

        return self.database.read(work)

    def now_s(self) -> float:
        """Return the time by the database's clock, in Unix seconds."""
        return float(self.database.read(lambda tx: tx.scalar(select(self.database.now()))) or 0.0)

    def get(self, tenant: str, job_id: str) -> Job:
        """Return a job. Raises ``NotFound``, for another tenant's as for none."""
        return self.database.read(lambda tx: self._get(tx, tenant, job_id))

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
        return self.database.read(lambda tx: [job_from(row) for row in tx.execute(query).mappings()])

    def result(self, tenant: str, job_id: str) -> StoredResult:
        """Return the stored transcript. Raises ``NotFound`` while there is none, and when it has been removed."""
        return find_result(self.database, jobs.c.id == job_id, jobs.c.tenant == tenant)

    def partial_texts(self, job_id: str, after: int = -1) -> list[SectionText]:
        """Return the texts of the finished sections beyond ``after``, as far as none is missing between them."""
        query = (
            select(steps.c.idx, steps.c.text, steps.c.end_sample)
            .where(
                steps.c.job_id == job_id,
                steps.c.kind == StepKind.SECTION.value,
                steps.c.state == "done",
                steps.c.idx > after,
            )
            .order_by(steps.c.idx)
        )
        rows = self.database.read(lambda tx: tx.execute(query).all())
        found = [SectionText(row.idx, row.text or "", row.end_sample / SAMPLE_RATE_HZ) for row in rows]
        return [section for place, section in enumerate(found) if section.index == after + 1 + place]

    def section_result(self, tenant: str, job_id: str, index: int) -> SectionResult | None:
        """Return what a finished section came to; ``None`` while it is not finished, and once its job has ended."""
        of_job = (jobs.c.id == job_id, jobs.c.tenant == tenant, steps.c.kind == StepKind.SECTION.value)
        done = (steps.c.state == "done", steps.c.idx == index)
        query = select(steps.c.result).join(jobs, jobs.c.id == steps.c.job_id).where(*of_job, *done)
        found = self.database.read(lambda tx: tx.scalar(query))
        return None if found is None else SECTION.validate_json(found)

    def live(self, tenant: str, job_id: str) -> Job:
        """Return a job whose progress counts what its running sections have done so far. Raises ``NotFound``."""
        return self._prospects.look(tenant, job_id)[0]

    def prospects(self, tenant: str, job_id: str) -> tuple[Job, Standing | None]:
        """Return what ``live`` does, and how long the job still has to wait and run, unless it has ended."""
        return self._prospects.look(tenant, job_id)

    def cancel(self, tenant: str, job_id: str) -> Job:
        """Return the job, cancelled unless it had ended. What runs of it stops within a window. Raises ``NotFound``."""

        def work(tx: Connection) -> Job:
            self._get(tx, tenant, job_id)
            self.endings.end(tx, job_id, JobState.CANCELLED)
            reach("job.cancel")
            return self._get(tx, tenant, job_id)

        return self.database.write(work)

    def erase(self, tenant: str, job_id: str) -> str | None:
        """Remove every row about a job; its blobs are the caller's to remove. Return its fingerprint, if it had one.

        Raises ``NotFound``.
        """
        return self.database.write(lambda tx: self.erase_in(tx, tenant, job_id))

    def erase_in(self, tx: Connection, tenant: str, job_id: str) -> str | None:
        """Do as ``erase``, in the caller's transaction. What has not ended is ended first, for its batch's sake."""
        self._get(tx, tenant, job_id)
        self.endings.end(tx, job_id, JobState.CANCELLED)
        for table in (results, edits):
            tx.execute(delete(table).where(table.c.job_id == job_id))
        tx.execute(delete(events).where(events.c.subject_id == job_id))
        tx.execute(delete(idempotency).where(idempotency.c.subject_id == job_id))
        fingerprint = tx.scalar(delete(jobs).where(jobs.c.id == job_id).returning(jobs.c.fingerprint))
        reach("erase.rows")
        return fingerprint

    def insert_many(self, tx: Connection, new: Sequence[NewJob]) -> None:
        """Store jobs of one tenant and lane, in this order, in the caller's transaction: a few statements for all."""
        self.bound.check_in(tx, new)
        now = tx.scalar(select(self.database.now()))
        costs = [self._cost_s(job) for job in new]
        tag_s, weight = self._tag(tx, new[0], sum(costs))
        tags = accumulate((cost / weight for cost in costs[:-1]), initial=tag_s)
        queued = {"state": JobState.QUEUED.value, "created_at": now}
        tx.execute(insert(jobs), [{**values_of(job), **queued} for job in new])
        tx.execute(insert(steps), [_first_step(job, tag, now) for job, tag in zip(new, tags, strict=True)])
        if self._rings:
            tx.execute(insert(bells), [{"lane": int(job.lane), "created_at": now} for job in new])
        self._check_possessions(tx, new[0], len(new))
        reach("job.insert")

    def ring_for(self, tx: Connection, job_id: str) -> None:
        """Ring for the steps of a job that may be taken again, in the caller's transaction."""
        if self._rings:
            waiting = select(steps.c.lane, self.database.now()).where(
                steps.c.job_id == job_id, steps.c.state == "ready"
            )
            tx.execute(insert(bells).from_select(["lane", "created_at"], waiting))

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs there are in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        found = self.database.read(lambda tx: {JobState(state): count for state, count in tx.execute(query)})
        return {state: found.get(state, 0) for state in JobState}

    def backlog_s(self) -> float:
        """Return about how many audio-seconds wait, for admission and autoscaling."""
        query = select(func.coalesce(func.sum(steps.c.end_sample - steps.c.start_sample), 0)).where(
            steps.c.state == "ready"
        )
        waiting = select(func.coalesce(func.sum(_cost_column()), 0.0)).where(jobs.c.state == JobState.QUEUED.value)
        return self.database.read(
            lambda tx: float(tx.scalar(query) or 0) / SAMPLE_RATE_HZ + float(tx.scalar(waiting) or 0.0)
        )

    def _submit(self, tx: Connection, job: NewJob, key: IdempotencyKey | None, beside: Beside) -> tuple[Job, bool]:
        if key is not None and (earlier := claim_key(self.database, tx, job.tenant, key, job.id)) is not None:
            return self._get(tx, job.tenant, earlier), True
        self.bound.check_in(tx, [job])
        now = self.database.now()
        row = (
            tx.execute(
                insert(jobs).values(**values_of(job), state=JobState.QUEUED.value, created_at=now).returning(*jobs.c)
            )
            .mappings()
            .one()
        )
        tx.execute(insert(steps).values(_first_step(job, self._tag(tx, job, self._cost_s(job))[0], now)))
        if self._rings:
            tx.execute(insert(bells).values(lane=int(job.lane), created_at=now))
        self._check_possessions(tx, job, 1)
        beside(tx)
        reach("job.insert")
        return job_from(row), False

    def _check_possessions(self, tx: Connection, job: NewJob, added: int) -> None:
        """Refuse what is too much for a tenant, whose row is locked by now: two of its requests cannot both fit."""
        if job.lane is Lane.BATCH:
            self.check_possessions(job.tenant, lambda: possessions(tx, job.tenant), added)

    def _tag(self, tx: Connection, job: NewJob, cost_s: float) -> tuple[float, float]:
        """Return the new job's place in the fair order and its tenant's weight; move the tenant on by ``cost_s``."""
        served = _served(tx, job.lane)
        begins = case((tenants.c.virtual_s > served, tenants.c.virtual_s), else_=served)
        move_on = (
            update(tenants)
            .where(tenants.c.id == job.tenant)
            .values(virtual_s=begins + cost_s / tenants.c.weight)
            .returning(tenants.c.virtual_s, tenants.c.weight)
        )
        row = tx.execute(move_on).first()
        if row is None:  # The tenant's first job.
            tx.execute(self.database.insert(tenants).values(id=job.tenant).on_conflict_do_nothing())
            row = tx.execute(move_on).one()
        weight = float(row.weight)
        return float(row.virtual_s) - cost_s / weight, weight

    def _cost_s(self, job: NewJob) -> float:
        """Return what a job is charged before its length is known."""
        length_s = (job.source.n_bytes or 0) / _CHARGED_BYTES_PER_S
        return min(self._section_s, max(_MIN_COST_S, length_s))

    @staticmethod
    def _get(tx: Connection, tenant: str, job_id: str) -> Job:
        row = tx.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant)).mappings().first()
        if row is None:
            raise no_such_job()
        return job_from(row)


def _first_step(job: NewJob, tag_s: float, now: Any) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "kind": StepKind.PREPARE.value,
        "idx": 0,
        "state": "ready",
        "lane": int(job.lane),
        "rank": -job.priority,
        "tag_s": tag_s,
        "run_at": now,
    }


def _served(tx: Connection, lane: Lane) -> float:
    """Return the tag that is being served in a lane: that of its first waiting step, else of its last running one."""
    mine = steps.c.lane == int(lane)
    first = select(steps.c.tag_s).where(steps.c.state == "ready", mine).order_by(*ORDER).limit(1)
    last = select(func.max(steps.c.tag_s)).where(steps.c.state == "running", mine)
    tag = tx.scalar(first)
    return float((tx.scalar(last) if tag is None else tag) or 0.0)


def _cost_column() -> Any:
    return func.coalesce(jobs.c.source_bytes, 0) / float(ASSUMED_BYTES_PER_S)

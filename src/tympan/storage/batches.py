"""Batches: many jobs handed in at once, counted down as they end. Every query names the tenant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from tympan.domain import Job, JobState, NewJob
from tympan.errors import NotFound
from tympan.faultpoints import reach
from tympan.storage.idempotency import IdempotencyKey, claim_key, find_key
from tympan.storage.jobs import JobStore
from tympan.storage.queue_bound import QueueBound
from tympan.storage.rows import job_from
from tympan.storage.tables import batches, events, idempotency, jobs, steps

_ALIVE = (JobState.QUEUED.value, JobState.RUNNING.value)
_AT_ONCE = 50
"""Jobs that one transaction ends or erases: it keeps other writers waiting for a few hundredths of a second."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What is asked for, beside the jobs."""

    id: str
    tenant: str = "default"
    metadata: str = "{}"
    webhook_endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is stored, and how its jobs stand. Times are Unix seconds by the database's clock."""

    id: str
    tenant: str
    created_at: float
    finished_at: float | None
    total: int
    pending: int
    metadata: str
    webhook_endpoint: str | None
    counts: Mapping[JobState, int]
    audio_s_done: float
    audio_s_total: float


class BatchStore:
    """The batches table, and the jobs that belong to batches."""

    def __init__(self, store: JobStore) -> None:
        """Work on the database of ``store``."""
        self._jobs, self._db = store, store.database

    @property
    def bound(self) -> QueueBound:
        """What keeps the jobs that wait below their limit."""
        return self._jobs.bound

    def submit(self, new: NewBatch, members: Sequence[NewJob], key: IdempotencyKey | None) -> tuple[Batch, bool]:
        """Store a batch and all its jobs, or nothing; return it, and whether it is an earlier one with the same key.

        Raises ``IdempotencyMismatch``, ``StorageUnavailable``, ``InsufficientStorage``.
        """

        def work(tx: Connection) -> tuple[Batch, bool]:
            if key is not None and (earlier := claim_key(self._db, tx, new.tenant, key, new.id)) is not None:
                return self._get(tx, new.tenant, earlier), True
            tx.execute(
                insert(batches).values(
                    id=new.id,
                    tenant=new.tenant,
                    created_at=self._db.now(),
                    total=len(members),
                    pending=len(members),
                    webhook_endpoint=new.webhook_endpoint,
                    metadata=new.metadata,
                )
            )
            self._jobs.insert_many(tx, members)
            return self._get(tx, new.tenant, new.id), False

        try:
            batch, replayed = self._db.write(work)
        except IntegrityError:
            # The connection broke in the commit and the second try found what the first had done.
            return self.get(new.tenant, new.id), False
        if not replayed:
            reach("job.committed")
        return batch, replayed

    def earlier(self, tenant: str, key: IdempotencyKey) -> Batch | None:
        """Return the batch that has this key already. Raises ``IdempotencyMismatch``."""

        def work(tx: Connection) -> Batch | None:
            batch_id = find_key(self._db, tx, tenant, key)
            return None if batch_id is None else self._get(tx, tenant, batch_id)

        return self._db.read(work)

    def get(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch. Raises ``NotFound``, for another tenant's as for none."""
        return self._db.read(lambda tx: self._get(tx, tenant, batch_id))

    def page(self, tenant: str, limit: int, after: str | None = None) -> list[Batch]:
        """Return up to ``limit`` batches, newest first, from beyond ``after``."""
        query = select(batches).where(batches.c.tenant == tenant).order_by(batches.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(batches.c.id < after)
        return self._db.read(lambda tx: _with_counts(tx, tx.execute(query).mappings().all()))

    def members(self, tenant: str, batch_id: str, limit: int, after: str = "") -> list[Job]:
        """Return up to ``limit`` jobs of a batch, in the order they were handed in, from beyond ``after``."""
        query = (
            select(jobs)
            .where(jobs.c.batch_id == batch_id, jobs.c.tenant == tenant, jobs.c.id > after)
            .order_by(jobs.c.id)
            .limit(limit)
        )
        return self._db.read(lambda tx: [job_from(row) for row in tx.execute(query).mappings()])

    def cancel_some(self, tenant: str, batch_id: str) -> int:
        """Cancel some of the jobs that have not ended; return how many, 0 when there are no more."""

        def work(tx: Connection) -> int:
            found = _lock_some(tx, tenant, batch_id, alive=True)
            for job_id in found:
                self._jobs.endings.end(tx, job_id, JobState.CANCELLED)
            reach("job.cancel")
            return len(found)

        return self._db.write(work)

    def erase_some(self, tenant: str, batch_id: str) -> dict[str, str | None]:
        """Remove every row about some of the jobs; return their ids and fingerprints. Blobs are the caller's to remove.

        When there are no more, remove the batch itself.
        """

        def work(tx: Connection) -> dict[str, str | None]:
            # Nobody waits any more for the word that it is finished.
            mine = (batches.c.id == batch_id, batches.c.tenant == tenant)
            found = _lock_some(tx, tenant, batch_id, alive=False)
            tx.execute(update(batches).where(*mine).values(webhook_endpoint=None))
            gone = {job_id: self._jobs.erase_in(tx, tenant, job_id) for job_id in found}
            if not found:
                tx.execute(delete(events).where(events.c.subject_id == batch_id, events.c.tenant == tenant))
                tx.execute(delete(idempotency).where(idempotency.c.subject_id == batch_id))
                tx.execute(delete(batches).where(*mine))
            return gone

        return self._db.write(work)

    @staticmethod
    def _get(tx: Connection, tenant: str, batch_id: str) -> Batch:
        row = tx.execute(select(batches).where(batches.c.id == batch_id, batches.c.tenant == tenant)).mappings().first()
        if row is None:
            raise NotFound(
                "There is no such batch.", remedy="Check the id; a batch is removed with the last of its jobs."
            )
        return _with_counts(tx, [row])[0]


def _lock_some(tx: Connection, tenant: str, batch_id: str, *, alive: bool) -> list[str]:
    """Return ids of some jobs of a batch, with their rows locked: steps before jobs, as everywhere."""
    query = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.tenant == tenant)
    if alive:
        query = query.where(jobs.c.state.in_(_ALIVE))
    found = list(tx.scalars(query.order_by(jobs.c.id).limit(_AT_ONCE)))
    tx.execute(select(steps.c.id).where(steps.c.job_id.in_(found)).order_by(steps.c.id).with_for_update()).all()
    tx.execute(select(jobs.c.id).where(jobs.c.id.in_(found)).order_by(jobs.c.id).with_for_update()).all()
    return found


def _with_counts(tx: Connection, rows: Sequence[RowMapping]) -> list[Batch]:
    known = func.coalesce(jobs.c.audio_s_total, 0.0)
    query = (
        select(jobs.c.batch_id, jobs.c.state, func.count(), func.sum(jobs.c.audio_s_done), func.sum(known))
        .where(jobs.c.batch_id.in_([row["id"] for row in rows]), jobs.c.tenant.in_({row["tenant"] for row in rows}))
        .group_by(jobs.c.batch_id, jobs.c.state)
    )
    found: dict[str, list[tuple[JobState, int, float, float]]] = {row["id"]: [] for row in rows}
    for batch_id, state, count, done_s, total_s in tx.execute(query):
        found[batch_id].append((JobState(state), count, done_s, total_s))
    return [
        Batch(
            **row,
            counts=dict.fromkeys(JobState, 0) | {state: count for state, count, _, _ in found[row["id"]]},
            audio_s_done=sum(done_s for _, _, done_s, _ in found[row["id"]]),
            audio_s_total=sum(total_s for _, _, _, total_s in found[row["id"]]),
        )
        for row in rows
    ]

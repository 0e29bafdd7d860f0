"""Callers who wait for a job, and those who have gone and may come back, to whichever process.

Both are rows among the idempotency keys, under routes of their own: the key is the caller's ticket, the fingerprint
says what was asked. A job has rows of those who wait, or else one of the last who left, until that one's time is over.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from tympan.domain import Job, JobState
from tympan.storage.database import Database
from tympan.storage.idempotency import LEFT, WAITS, IdempotencyKey, find_key
from tympan.storage.jobs import JobStore
from tympan.storage.rows import job_from
from tympan.storage.tables import idempotency, jobs, steps

CALLS = (WAITS, LEFT)
"""The routes of rows that are about callers; they go with their job."""

_ROW = idempotency.c
_HOPEFUL = (JobState.QUEUED.value, JobState.RUNNING.value, JobState.SUCCEEDED.value)
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who wants a result within ``for_s``: who, what (a digest of it all), and the key if there is one.

    ``is_retry`` says that the call has been made before. The ``ticket`` is this caller's alone.
    """

    tenant: str
    likeness: str
    ticket: str
    for_s: float
    key: IdempotencyKey | None = None
    is_retry: bool = False


class CallStore:
    """Who waits for which job."""

    def __init__(self, jobs: JobStore) -> None:
        """Work beside ``jobs``."""
        self._jobs, self._db = jobs, jobs.database

    def begin(self, tx: Connection, caller: Caller, job_id: str) -> None:
        """Note who waits for a new job, in the transaction that stores it."""
        tx.execute(insert(idempotency).values(_row(self._db, caller, WAITS, job_id, caller.for_s)))

    def take_up(self, caller: Caller) -> Job | None:
        """Return the job that this call is about once more, for which the caller waits from now on.

        By its key; else if the call says that it is a retry, or nobody waits for a job that is like it. ``None`` where
        there is none, or it has failed. Raises ``IdempotencyMismatch`` for a key that belongs to another call.
        """
        job_id = self._db.read(lambda tx: self._find(tx, caller))
        return None if job_id is None else self._db.write(lambda tx: self._take(tx, caller, job_id))

    def leave(self, caller: Caller, job_id: str, keep_s: float) -> bool:
        """Let a caller wait no more; the last of them keeps the job for ``keep_s``, or at 0 erases it.

        Return whether it was erased: what is stored of it beside the database is the caller's to remove then.
        """

        def work(tx: Connection) -> bool:
            there = self._lock(tx, caller.tenant, job_id, whole=not keep_s) is not None
            tx.execute(delete(idempotency).where(_of(job_id), _ROW.route == WAITS, _ROW.key == caller.ticket))
            if not there or self._is_awaited(tx, job_id):
                return False
            if keep_s:
                tx.execute(insert(idempotency).values(_row(self._db, caller, LEFT, job_id, keep_s)))
            else:
                self._jobs.erase_in(tx, caller.tenant, job_id)
            return not keep_s

        return self._db.write(work)

    def abandoned(self) -> list[tuple[str, str]]:
        """Return tenant and id of jobs for which nobody waits and nobody came back in time, some of them."""
        query = select(_ROW.tenant, _ROW.subject_id).where(_ROW.route.in_(CALLS), _ROW.expires_at < self._db.now())
        rows = self._db.read(lambda tx: tx.execute(query.distinct().limit(_PAGE)).all())
        return [(row.tenant, row.subject_id) for row in rows]

    def drop(self, tenant: str, job_id: str) -> bool:
        """Erase a job unless somebody waits for it, or may come back in time; return whether it was."""

        def work(tx: Connection) -> bool:
            over = (_of(job_id), _ROW.route.in_(CALLS), _ROW.expires_at < self._db.now())
            there = self._lock(tx, tenant, job_id, whole=True) is not None
            tx.execute(delete(idempotency).where(*over))
            left = select(func.count()).select_from(idempotency).where(_of(job_id), _ROW.route.in_(CALLS))
            if not there or tx.scalar(left):
                return False
            self._jobs.erase_in(tx, tenant, job_id)
            return True

        return self._db.write(work)

    def _find(self, tx: Connection, caller: Caller) -> str | None:
        if caller.key is not None:
            return find_key(self._db, tx, caller.tenant, caller.key)
        routes = CALLS if caller.is_retry else (LEFT,)
        alike = (_ROW.tenant == caller.tenant, _ROW.route.in_(routes), _ROW.fingerprint == caller.likeness)
        query = select(_ROW.subject_id).where(*alike, _ROW.expires_at >= self._db.now()).order_by(_ROW.expires_at)
        return tx.scalar(query.limit(1))

    def _take(self, tx: Connection, caller: Caller, job_id: str) -> Job | None:
        job = self._lock(tx, caller.tenant, job_id)
        if job is None:
            return None
        if job.state.value not in _HOPEFUL:
            self._let_begin_anew(tx, caller, job_id)
            return None
        if caller.key is None and not caller.is_retry and self._is_awaited(tx, job_id):
            return None  # Somebody else came back first.
        tx.execute(delete(idempotency).where(_of(job_id), _ROW.route == LEFT))
        self._jobs.ring_for(tx, job_id)
        self.begin(tx, caller, job_id)
        until = self._db.now() + caller.for_s
        sooner = (jobs.c.id == job_id, jobs.c.deadline < until)
        tx.execute(update(jobs).where(*sooner).values(deadline=until))
        return job

    def _let_begin_anew(self, tx: Connection, caller: Caller, job_id: str) -> None:
        """Take the key away from a job that has failed; the janitor erases it."""
        if caller.key is not None:
            mine = (_of(job_id), _ROW.route == caller.key.route, _ROW.key == caller.key.key)
            tx.execute(delete(idempotency).where(*mine))

    def _lock(self, tx: Connection, tenant: str, job_id: str, *, whole: bool = False) -> Job | None:
        """Return a job whose callers nobody else changes in the meantime; ``None`` when it is not there.

        ``whole`` is for who may erase it: its steps are locked first, as everywhere.
        """
        if whole:
            tx.execute(select(steps.c.id).where(steps.c.job_id == job_id).order_by(steps.c.id).with_for_update())
        query = select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant).with_for_update()
        row = tx.execute(query).mappings().first()
        return None if row is None else job_from(row)

    def _is_awaited(self, tx: Connection, job_id: str) -> bool:
        waiting = (_of(job_id), _ROW.route == WAITS, _ROW.expires_at >= self._db.now())
        return bool(tx.scalar(select(func.count()).select_from(idempotency).where(*waiting)))


def _of(job_id: str) -> ColumnElement[bool]:
    return _ROW.subject_id == job_id


def _row(database: Database, caller: Caller, route: str, job_id: str, for_s: float) -> dict[str, object]:
    return {
        "tenant": caller.tenant,
        "route": route,
        "key": caller.ticket,
        "fingerprint": caller.likeness,
        "subject_id": job_id,
        "expires_at": database.now() + for_s,
    }

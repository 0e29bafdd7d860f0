"""How a job stands: what is done of it and what is still before it, by one statement. Clients ask for this all day."""

from dataclasses import dataclass, replace

from sqlalchemy import Connection, Row, Select, and_, bindparam, case, func, select, tuple_

from tympan.domain import SAMPLE_RATE_HZ, Job, JobState, StepKind
from tympan.errors import NotFound
from tympan.storage.database import Database
from tympan.storage.queue_bound import ASSUMED_BYTES_PER_S, SEEN_WITHIN_S
from tympan.storage.rows import job_from
from tympan.storage.tables import jobs, steps, workers

ORDER = (steps.c.lane, steps.c.rank, steps.c.tag_s, steps.c.id)
"""The order in which ready steps are taken; an index has it."""

_MIN_COST_S = 1.0
_MAX_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands among others: jobs and sections ahead of it (capped), and audio-seconds to its end."""

    position: int | None
    remaining_s: float
    rate: float | None


class Prospects:
    """Looks at one job at a time. The statement is made once; making it takes as long as asking."""

    def __init__(self, database: Database) -> None:
        """Look at the jobs of ``database``."""
        self._database, self._query = database, _query(database)

    def look(self, tenant: str, job_id: str) -> tuple[Job, Standing | None]:
        """Return a job and how long it still has to wait and run, ``None`` when it has ended.

        Its progress counts what its running sections have done so far. Raises ``NotFound``.
        """
        return self._database.read(lambda tx: self._look(tx, tenant, job_id))

    def _look(self, tx: Connection, tenant: str, job_id: str) -> tuple[Job, Standing | None]:
        row = tx.execute(self._query, {"of_tenant": tenant, "of_job": job_id}).first()
        if row is None:
            raise no_such_job()
        job = job_from(row._mapping)  # noqa: SLF001  (SQLAlchemy's public name for it)
        if job.state is JobState.RUNNING:
            done_s = job.progress.audio_s_done + float(row.look_running or 0) / SAMPLE_RATE_HZ
            job = replace(job, progress=replace(job.progress, audio_s_done=done_s))
        return job, None if job.state.is_terminal else _standing(job, row)


def no_such_job() -> NotFound:
    """Return what to raise for a job that is not there, or another tenant's."""
    return NotFound("There is no such job.", remedy="Check the id; jobs are removed after their retention time.")


def _standing(job: Job, row: Row[tuple[object, ...]]) -> Standing:
    rate = row.look_rate
    if job.state is not JobState.QUEUED:
        total_s = job.progress.audio_s_total or job.progress.audio_s_done
        return Standing(None, max(0.0, total_s - job.progress.audio_s_done), rate)
    if row.look_tag_s is None:
        return Standing(None, 0.0, rate)
    served_s = row.look_first_s if row.look_first_s is not None else row.look_last_s
    waits_s = max(0.0, row.look_tag_s - float(served_s or 0.0))
    return Standing(row.look_ahead + 1, waits_s + _estimate_s(job.source.n_bytes), rate)


def _estimate_s(n_bytes: int | None) -> float:
    return _MIN_COST_S if n_bytes is None else max(_MIN_COST_S, n_bytes / ASSUMED_BYTES_PER_S)


def _query(database: Database) -> Select[tuple[object, ...]]:
    """Return the look at a job: its row, its first step, and what only its state asks for, so that no more is read.

    The tag that is being served in a lane is that of its first waiting step, else of its last running one.
    """
    queued, running = jobs.c.state == JobState.QUEUED.value, jobs.c.state == JobState.RUNNING.value
    own, first = steps.alias("own"), steps.alias("first")
    seen = workers.c.seen_at > database.now() - SEEN_WITHIN_S
    done = select(func.sum(own.c.done_samples)).where(
        own.c.job_id == jobs.c.id, own.c.kind == StepKind.SECTION.value, own.c.state == "running"
    )
    place = tuple_(first.c.lane, first.c.rank, first.c.tag_s, first.c.id)
    ahead = select(steps.c.id).where(steps.c.state == "ready", tuple_(*ORDER) < place).limit(_MAX_COUNTED)
    in_lane = steps.c.lane == jobs.c.lane
    waiting = select(steps.c.tag_s).where(steps.c.state == "ready", in_lane).order_by(*ORDER).limit(1)
    served = select(func.max(steps.c.tag_s)).where(steps.c.state == "running", in_lane)
    of_job = select(func.min(own.c.id)).where(own.c.job_id == jobs.c.id)
    return (
        select(
            jobs,
            select(func.sum(workers.c.rate)).where(seen).scalar_subquery().label("look_rate"),
            case((running, done.scalar_subquery())).label("look_running"),
            first.c.tag_s.label("look_tag_s"),
            case((queued, select(func.count()).select_from(ahead.correlate(first).subquery()).scalar_subquery())).label(
                "look_ahead"
            ),
            case((queued, waiting.correlate(jobs).scalar_subquery())).label("look_first_s"),
            case((queued, served.correlate(jobs).scalar_subquery())).label("look_last_s"),
        )
        .select_from(jobs.outerjoin(first, and_(queued, first.c.id == of_job.scalar_subquery())))
        .where(jobs.c.id == bindparam("of_job"), jobs.c.tenant == bindparam("of_tenant"))
    )

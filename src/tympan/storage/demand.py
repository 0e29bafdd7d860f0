"""What was asked of a server lately, for planning: when jobs came and how long their audio was. Nothing is changed."""

from dataclasses import dataclass

from sqlalchemy import desc, select

from tympan.storage.database import Database
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.tables import jobs

MAX_JOBS = 200_000
"""The latest so many are read."""


@dataclass(frozen=True, slots=True)
class PastJob:
    """When a job was created (Unix seconds), and the length of its audio; ``None`` while nobody knows."""

    created_at: float
    audio_s: float | None


def past_jobs(database: Database, since: float) -> list[PastJob]:
    """Return the jobs created at ``since`` (Unix seconds) and later, the latest first, ``MAX_JOBS`` at most.

    Clips of golden sets are left out: they wait behind everybody.
    """
    query = (
        select(jobs.c.created_at, jobs.c.audio_s_total)
        .where(jobs.c.created_at >= since, jobs.c.tenant != MEASURING_TENANT)
        .order_by(desc(jobs.c.id))
        .limit(MAX_JOBS)
    )
    return database.read(lambda tx: [PastJob(*row) for row in tx.execute(query)])

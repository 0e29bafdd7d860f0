"""What was asked of this installation lately, for capacity planning; a server may be running on the same stores."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tympan.access.usage import Period
from tympan.bootstrap.jobs import open_stores
from tympan.bootstrap.pipeline import make_data_dir
from tympan.capacity.demand import Lengths, Seen, thinned
from tympan.config import Settings
from tympan.errors import InvalidRequest
from tympan.storage.demand import MAX_JOBS, PastJob, past_jobs
from tympan.storage.usage import UsageStore, Used

BUSIEST_HOUR = 0.1
"""Share of a day's calls that is taken for the busiest hour where only days are on the books."""

_DAY_S = 86_400.0
_ENOUGH = 100


def seen(settings: Settings, days: int) -> Seen:
    """Return arrivals by the hour (UTC) of a mean day, and lengths, of the last ``days`` days.

    Raises ``InvalidRequest`` when there was nothing, and ``StorageUnavailable``.
    """
    make_data_dir(settings.data_dir)
    now = datetime.now(UTC)
    with open_stores(settings) as stores:
        found = past_jobs(stores.database, time.time() - days * _DAY_S)
        rows = UsageStore(stores.database).between(Period((now - timedelta(days=days)).date(), now.date()))
    calls = Used()
    for row in rows:
        calls = calls.plus(row.used) if row.kind == "sync" else calls
    return put_together(found, calls, days)


def put_together(found: Sequence[PastJob], calls: Used, days: int) -> Seen:
    """Return what jobs, and the books of synchronous calls, tell of a mean day."""
    if not found and not calls.requests:
        raise InvalidRequest(
            f"The database knows of no request in the last {days} days.",
            remedy="Give --days, or say what is expected: --per-hour and --mean-length.",
        )
    job_hours = [0.0] * 24
    for job in found:
        job_hours[datetime.fromtimestamp(job.created_at, UTC).hour] += 1.0 / days
    daily = calls.requests / days
    shape = [hour / sum(job_hours) for hour in job_hours] if len(found) >= _ENOUGH else _peaked()
    lengths = [(job.audio_s, 1.0) for job in found if job.audio_s]
    of_jobs = thinned(lengths) if lengths else None
    of_calls = Lengths((calls.audio_s / calls.requests,)) if calls.audio_s > 0 else None
    notes = ["Of synchronous calls only days are on the books: their mean length stands for all of them, and "
             + ("they are spread over the day as the jobs are." if len(found) >= _ENOUGH else
                f"the busiest hour has {100 * BUSIEST_HOUR:g} % of a day's.")] if calls.requests else []  # fmt: skip
    if len(found) == MAX_JOBS:
        notes.append(f"Only the latest {MAX_JOBS} jobs were read.")
    return Seen(
        by_hour=tuple(job + daily * share for job, share in zip(job_hours, shape, strict=True)),
        lengths=of_calls or of_jobs,
        job_share=sum(job_hours) / (sum(job_hours) + daily),
        job_lengths=of_jobs,
        notes=tuple(notes),
    )


def _peaked() -> list[float]:
    return [BUSIEST_HOUR if hour == 12 else (1.0 - BUSIEST_HOUR) / 23.0 for hour in range(24)]

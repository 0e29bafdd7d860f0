"""From settings to plans of capacity: how the server is set, the last profile that was measured, its own demand."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from tympan.access.usage import Period
from tympan.batching.queue import BatchLimits
from tympan.capacity.demand import Lengths, Seen, thinned
from tympan.capacity.desk import PlanDesk
from tympan.capacity.kept import KEY, kept_path, known
from tympan.capacity.profile import Profile
from tympan.capacity.replica import House
from tympan.config import Settings
from tympan.errors import InvalidRequest, MediaMissing
from tympan.storage.blobs import BlobStore
from tympan.storage.database import Database
from tympan.storage.demand import MAX_JOBS, PastJob, past_jobs
from tympan.storage.usage import UsageStore, Used

BUSIEST_HOUR = 0.1
"""Share of a day's calls that is taken for the busiest hour where only days are on the books."""

_DAY_S = 86_400.0
_ENOUGH = 100


@contextmanager
def planning(settings: Settings, database: Database, blobs: BlobStore) -> Iterator[PlanDesk]:
    """Yield what plans for whoever asks; a plan that is being made at the end is given up."""
    desk = PlanDesk(lambda: last_profile(settings, blobs), lambda days: seen_in(database, days), house_of(settings))
    try:
        yield desk
    finally:
        desk.close()


def house_of(settings: Settings) -> House:
    """Return the server's settings that bear on waiting."""
    return House(
        batch=BatchLimits(max_ms=settings.max_batch_ms),
        max_concurrent=settings.max_concurrent,
        max_requests=settings.max_requests,
        max_wait_s=min(settings.max_wait_s, settings.request_timeout_s),
        job_slots=settings.job_slots,
        recovery_s=settings.lease_s + settings.sweep_s + 2.0,
    )


def last_profile(settings: Settings, blobs: BlobStore) -> Profile | None:
    """Return the profile that `tympan capacity` measured last: anywhere in the cluster, or on this machine.

    ``None`` where there is none. Raises ``StorageUnavailable``.
    """
    if settings.mode == "cluster":
        try:
            return known(blobs.read(KEY))
        except MediaMissing:
            pass  # It may have been measured here before there was a cluster.
    try:
        return known(kept_path(settings.data_dir).read_bytes())
    except OSError:
        return None


def seen_in(database: Database, days: int) -> Seen:
    """Return arrivals by the hour (UTC) of a mean day, and lengths, of the last ``days`` days.

    Raises ``InvalidRequest`` when there was nothing, and ``StorageUnavailable``.
    """
    now = datetime.now(UTC)
    found = past_jobs(database, time.time() - days * _DAY_S)
    rows = UsageStore(database).between(Period((now - timedelta(days=days)).date(), now.date()))
    calls = Used()
    for row in rows:
        calls = calls.plus(row.used) if row.kind == "sync" else calls
    return put_together(found, calls, days)


def put_together(found: Sequence[PastJob], calls: Used, days: int) -> Seen:
    """Return what jobs, and the books of synchronous calls, tell of a mean day."""
    if not found and not calls.requests:
        raise InvalidRequest(
            f"There were no requests in the last {days} days.",
            remedy="Give more --days, or say what you expect with --per-hour and --mean-length.",
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

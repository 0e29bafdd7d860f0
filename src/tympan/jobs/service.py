"""What may be asked about jobs: hand in, look at, read, cancel, try again, erase. For the HTTP interface and others.

All of it is short and blocks on the database; callers on an event loop give it a thread.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tympan import telemetry
from tympan.domain import Job, JobState, Lane, NewJob, Source, SourceKind, Transcript
from tympan.errors import (
    IdempotencyMismatch,
    JobNotFinished,
    JobNotRetryable,
    MediaMissing,
    NotFound,
    Overloaded,
    RateLimited,
)
from tympan.faultpoints import reach
from tympan.jobs.batches import BatchService
from tympan.jobs.calls import CallDesk
from tympan.jobs.edits import EditDesk
from tympan.jobs.fetching import SourceGuard
from tympan.jobs.media import job_prefix, media_key
from tympan.jobs.recordings import Recordings
from tympan.jobs.result_cache import ResultCache
from tympan.storage.batches import BatchStore
from tympan.storage.blobs import BlobStore
from tympan.storage.calls import CallStore
from tympan.storage.codec import SectionResult
from tympan.storage.ids import new_id
from tympan.storage.jobs import Beside, IdempotencyKey, JobFilter, JobStore, SectionText
from tympan.storage.results import StoredResult
from tympan.storage.tenants import forget_tenant

__all__ = ["IdempotencyKey", "JobFilter", "JobService", "JobView", "SectionText", "StoredResult", "new_id"]

_LOG = telemetry.get_logger(__name__)
_RETRYABLE = (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
_POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it stands: its place among those that wait, seconds to its end (about), and its text so far."""

    job: Job
    position: int | None = None
    eta_s: float | None = None
    partial_text: str | None = None


class JobService:
    """The jobs of one installation."""

    def __init__(
        self,
        store: JobStore,
        blobs: BlobStore,
        guard: SourceGuard,
        *,
        ring: Callable[[], None],
        cache: ResultCache | None = None,
    ) -> None:
        """Keep jobs in ``store`` and audio in ``blobs``; ``ring`` wakes a worker in this process.

        ``cache`` holds results of equal synchronous calls, which go when a job is erased.
        """
        self._store, self._blobs, self._guard, self._ring = store, blobs, guard, ring
        self._cache = cache or ResultCache()
        self.calls = CallDesk(CallStore(store), blobs)
        self.edits = EditDesk(store)
        self.recordings = Recordings(store, blobs)
        self.batches = BatchService(BatchStore(store), blobs, guard, ring=ring, cache=self._cache)

    def submit(
        self,
        new: NewJob,
        media: Path | None = None,
        key: IdempotencyKey | None = None,
        beside: Beside = lambda _: None,
    ) -> tuple[Job, bool]:
        """Return the stored job, and whether it is an earlier one with the same key.

        What goes with a new one is written ``beside`` it, in the same transaction. ``media`` is the local file of a
        stored source; it is moved away. When this returns, job and audio are on disk.
        Raises ``IdempotencyMismatch``, ``Overloaded``, ``InsufficientStorage``, ``StorageUnavailable``.
        """
        self._guard.check(new.source)
        if new.lane is Lane.BATCH:
            self._store.bound.check()
        if media is not None:
            self._blobs.adopt(media_key(new.id), media)
        try:
            job, replayed = self._store.submit(new, key, beside)
        except (IdempotencyMismatch, Overloaded, RateLimited):
            # After any other failure the row may be there all the same; what is not is swept up later.
            self._blobs.delete_prefix(job_prefix(new.id))
            raise
        if replayed:
            self._blobs.delete_prefix(job_prefix(new.id))
        else:
            self._ring()
        # From here on the log knows the work by the job's id; this line ties it to the request that handed it in.
        _LOG.info("job_submitted", job_id=job.id, tenant=job.tenant, replayed=replayed)
        return job, replayed

    def check(self, source: Source) -> None:
        """Raise ``InvalidRequest`` or ``AddressRefused`` for an address that may not be read; nothing is stored."""
        self._guard.check(source)

    def earlier(self, tenant: str, key: IdempotencyKey) -> Job | None:
        """Return the job that has this key already. Raises ``IdempotencyMismatch``."""
        return self._store.earlier(tenant, key)

    def now_s(self) -> float:
        """Return the time that deadlines are measured by, in Unix seconds."""
        return self._store.now_s()

    def get(self, tenant: str, job_id: str) -> Job:
        """Return a job. Raises ``NotFound``."""
        return self._store.get(tenant, job_id)

    def live(self, tenant: str, job_id: str) -> Job:
        """Return a job whose progress counts what its running sections have done so far. Raises ``NotFound``."""
        return self._store.live(tenant, job_id)

    def view(self, tenant: str, job_id: str) -> JobView:
        """Return a job with its prospects. Raises ``NotFound``."""
        job, standing = self._store.prospects(tenant, job_id)
        if standing is None:
            return JobView(job)
        eta_s = math.ceil(standing.remaining_s / standing.rate) if standing.rate else None
        text = None
        if job.state is JobState.RUNNING:
            text = " ".join(section.text for section in self._store.partial_texts(job_id) if section.text)
        return JobView(job, standing.position, eta_s, text)

    def page(self, tenant: str, wanted: JobFilter) -> list[Job]:
        """Return one page of jobs, newest first."""
        return self._store.page(tenant, wanted)

    def section_texts(self, tenant: str, job_id: str, after: int = -1) -> list[SectionText]:
        """Return the texts of sections finished beyond ``after``, without gaps. Raises ``NotFound``."""
        self._store.get(tenant, job_id)
        return self._store.partial_texts(job_id, after)

    def section_result(self, tenant: str, job_id: str, index: int) -> SectionResult | None:
        """Return what a finished section came to; ``None`` while it is not finished, and once its job has ended."""
        return self._store.section_result(tenant, job_id, index)

    def result(self, tenant: str, job_id: str) -> tuple[Job, StoredResult]:
        """Return a job that succeeded, with its transcript, which is read little by little.

        Raises ``NotFound``, and ``JobNotFinished`` for a job that has not succeeded.
        """
        job = self._store.get(tenant, job_id)
        if not job.state.is_terminal:
            raise JobNotFinished(
                f"The job is {job.state.value}.", remedy="Ask again later, or let a webhook tell you.",
                retry_after_s=_POLL_S,
            )  # fmt: skip
        if job.state is not JobState.SUCCEEDED:
            cause = job.error.message if job.error else f"It was {job.state.value}."
            raise JobNotFinished(f"The job has no result. {cause}", remedy="POST to its /retry to try again.")
        return job, self._store.result(tenant, job_id)

    def transcript(self, tenant: str, job_id: str) -> tuple[Job, Transcript]:
        """Return a job that succeeded, with its transcript as a whole. Raises as ``result``."""
        job, found = self.result(tenant, job_id)
        return job, found.whole()

    def cancel(self, tenant: str, job_id: str) -> Job:
        """Return the job, cancelled unless it had ended. Raises ``NotFound``."""
        return self._store.cancel(tenant, job_id)

    def retry(self, tenant: str, job_id: str) -> Job:
        """Return a new job for the same audio and options.

        Raises ``NotFound``, ``JobNotRetryable``, ``MediaMissing``.
        """
        old = self._store.get(tenant, job_id)
        if old.state not in _RETRYABLE:
            raise JobNotRetryable(f"The job is in state {old.state.value!r}.", remedy="Hand in a new one.")
        new = replace(_again(old), retry_of=old.id)
        if self._blobs.size(media_key(old.id)) is not None:
            self._blobs.copy(media_key(old.id), media_key(new.id))
        elif old.source.kind is SourceKind.STORED:
            raise MediaMissing("The audio of this job is no longer kept.", remedy="Hand it in again, with its audio.")
        return self.submit(new)[0]

    def erase(self, tenant: str, job_id: str) -> None:
        """Remove everything about a job: rows first, so that nobody finds it half gone. Raises ``NotFound``.

        What is kept of synchronous calls that were equal to it goes as well.
        """
        self._cache.forget(tenant, [self.discard(tenant, job_id)])

    def discard(self, tenant: str, job_id: str) -> str | None:
        """Remove a job that was nothing but the way to a result, and return its fingerprint. Raises ``NotFound``."""
        fingerprint = self._store.erase(tenant, job_id)
        reach("erase.blobs")
        self._blobs.delete_prefix(job_prefix(job_id))
        return fingerprint

    def erase_tenant(self, tenant: str) -> int:
        """Remove everything about a tenant, who should hand in nothing meanwhile; return how many jobs that were.

        What was erased is out of SQLite's own files after the next sweep; PostgreSQL looks after its own. It may be run
        again after a failure.
        """
        count = 0
        while page := self._store.page(tenant, JobFilter(limit=100)):
            for job in page:
                with suppress(NotFound):  # Its time was over in the meantime.
                    self.erase(tenant, job.id)
                    count += 1
        for upload_id in forget_tenant(self._store.database, tenant):
            self._blobs.delete_prefix(f"uploads/{upload_id}/")
        self._cache.forget_tenant(tenant)
        return count

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs there are in each state."""
        return self._store.counts()

    def backlog_s(self) -> float:
        """Return about how many audio-seconds wait."""
        return self._store.backlog_s()


def _again(old: Job) -> NewJob:
    """Return the same request as a new job, without the deadline that may have passed."""
    return NewJob(
        id=new_id("job"),
        source=old.source,
        options=old.options,
        output=old.output,
        tenant=old.tenant,
        lane=old.lane,
        priority=old.priority,
        model=old.model,
        metadata=old.metadata,
        webhook_endpoint=old.webhook_endpoint,
    )

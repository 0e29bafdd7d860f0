"""Synchronous calls on a machine without an engine: handed to the workers as jobs of the interactive lane."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tympan.domain import Job, JobState, Lane, NewJob, Options, Progress, Source, SourceKind, Transcript
from tympan.errors import Cancelled, NotFound, RequestTimeout, TympanError, Unavailable
from tympan.jobs.service import JobService, new_id
from tympan.pipeline import RequestContext

_FIRST_POLL_S, _LONGEST_POLL_S = 0.03, 0.5
_PEEK_S = 2.0


@dataclass(frozen=True, slots=True)
class RemoteEngine:
    """What is known here of the workers' engines."""

    model: str
    engine: str = "remote"
    device: str = "remote"
    compute_type: str = "remote"
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteQueue:
    """What waits is counted where it is worked off."""

    queued_windows: Mapping[Lane, int]
    queued_audio_s: Mapping[Lane, float]


class RemoteTranscriber:
    """Looks like the pipeline to the HTTP interface; the work is done elsewhere."""

    def __init__(self, jobs: JobService, model: str, has_workers: Callable[[], bool]) -> None:
        """Hand work to ``jobs``; ``has_workers`` says whether anybody would take it, and is asked every 2 s at most."""
        self._jobs, self._info, self._has_workers = jobs, RemoteEngine(model), has_workers
        self._asked_at, self._ready = -_PEEK_S, False

    @property
    def info(self) -> RemoteEngine:
        """The model that the workers serve."""
        return self._info

    @property
    def ready(self) -> bool:
        """Whether a worker has been seen lately."""
        if time.monotonic() - self._asked_at > _PEEK_S:
            self._asked_at = time.monotonic()
            try:
                self._ready = self._has_workers()
            except TympanError:
                self._ready = False  # Without the database nothing is ready.
        return self._ready

    def stats(self) -> RemoteQueue:
        """Return an empty queue: nothing waits in this process."""
        return RemoteQueue({}, {})

    def transcribe(
        self,
        source: Path,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Transcript:
        """Return the transcript of a media file; the file is moved away.

        Raises what the worker's step failed with, ``Cancelled``, ``RequestTimeout``, ``StorageUnavailable``.
        """
        stored = Source(SourceKind.STORED, "", source.stat().st_size)
        deadline = None if context.deadline is None else time.time() + context.deadline - time.monotonic()
        new = NewJob(new_id("job"), stored, options, tenant=context.tenant, lane=Lane.INTERACTIVE, deadline=deadline)
        self._jobs.submit(new, source)
        try:
            return self._wait(context, new.id)
        finally:
            self._erase(context.tenant, new.id)

    def _wait(self, context: RequestContext, job_id: str) -> Transcript:
        pause_s = _FIRST_POLL_S
        while True:
            job = self._jobs.get(context.tenant, job_id)
            if job.state is JobState.SUCCEEDED:
                return self._jobs.transcript(context.tenant, job_id)[1]
            if job.state.is_terminal:
                raise _error_of(job)
            if context.deadline is not None and time.monotonic() > context.deadline:
                raise RequestTimeout(remedy="Send shorter audio, or hand it in as a job.")
            if context.cancel.wait(pause_s):
                raise Cancelled
            pause_s = min(_LONGEST_POLL_S, pause_s * 1.3)

    def _erase(self, tenant: str, job_id: str) -> None:
        try:
            self._jobs.erase(tenant, job_id)
        except NotFound:
            return


def _error_of(job: Job) -> TympanError:
    """Return the error that a job ended with, as it was raised in the worker."""
    if job.error is None:
        return Unavailable("The request was cancelled.", remedy="Try again.", retry_after_s=1.0)
    kind = _kinds().get(job.error.code, TympanError)
    return kind(job.error.message, remedy=job.error.remedy)


def _kinds(base: type[TympanError] = TympanError) -> dict[str, type[TympanError]]:
    found = {base.code: base}
    for kind in base.__subclasses__():
        found |= {code: known for code, known in _kinds(kind).items() if code not in found}
    return found

"""Synchronous calls on a machine without an engine: handed to the workers as jobs of the interactive lane."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tympan.background import Background, attempt
from tympan.domain import (
    Abilities,
    Job,
    JobState,
    Lane,
    NewJob,
    Options,
    Progress,
    Source,
    SourceKind,
    Transcript,
)
from tympan.errors import Cancelled, NotFound, RequestTimeout, StorageUnavailable, TympanError, Unavailable
from tympan.jobs.calls import Caller
from tympan.jobs.service import IdempotencyKey, JobService, new_id
from tympan.jobs.signals import LocalSignals, Signals
from tympan.jobs.telling import Telling
from tympan.pipeline import RequestContext

_FIRST_POLL_S, _LONGEST_POLL_S = 0.03, 0.5
_PEEK_S = 1.0
_STALE_S = 8.0
_NOTICE_S = 0.1
_UNBOUNDED_S = 86_400.0
_ROUTE_CHARS = 32
_JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class RemoteEngine:
    """What is known here of the workers' engines."""

    model: str
    engine: str = "remote"
    device: str = "remote"
    compute_type: str = "remote"
    digest: str = ""
    languages: tuple[str, ...] = ()
    multilingual: bool = True
    can: Abilities = field(default_factory=Abilities)


@dataclass(frozen=True, slots=True)
class RemoteQueue:
    """What waits is counted where it is worked off."""

    queued_windows: Mapping[Lane, int]
    queued_audio_s: Mapping[Lane, float]
    compute_s_per_audio_s: float = 0.0
    engines: int = 0


class Lookout:
    """Asks a question over and over in a thread of its own, so that the last answer is there without waiting."""

    def __init__(self, ask: Callable[[], bool], *, period_s: float = _PEEK_S, stale_s: float = _STALE_S) -> None:
        """Ask every ``period_s``; an answer is good for ``stale_s``, and what cannot be asked is a no."""
        self._ask, self._period_s, self._stale_s = ask, period_s, stale_s
        self._yes_at: float | None = None
        self._background = Background("lookout", self._run, _JOIN_S)

    @property
    def says_yes(self) -> bool:
        """The last answer; never waits."""
        asked_at = self._yes_at
        return asked_at is not None and time.monotonic() - asked_at < self._stale_s

    def start(self) -> None:
        """Ask once, and go on asking."""
        self._look()
        self._background.start()

    def stop(self) -> None:
        """Ask no more."""
        self._background.stop()

    def _run(self) -> None:
        while not self._background.over.wait(self._period_s):
            self._look()

    def _look(self) -> None:
        asked_at = time.monotonic()
        self._yes_at = asked_at if attempt(self._background.name, self._ask) else None


class RemoteTranscriber:
    """Looks like the pipeline to the HTTP interface; the work is done elsewhere."""

    def __init__(
        self,
        jobs: JobService,
        model: str,
        workers: Lookout,
        signals: Signals | None = None,
        *,
        job_model: Callable[[], str | None] = lambda: None,
        reattach_s: float = 0.0,
    ) -> None:
        """Hand work to ``jobs``; ``workers`` knows whether anybody would take it, ``signals`` when to look again.

        ``job_model`` returns what a job asks for; ``None``: the default of whoever takes it. A caller who has gone may
        come back for ``reattach_s``.
        """
        self._jobs, self._info, self._workers, self._job_model = jobs, RemoteEngine(model), workers, job_model
        self._signals: Signals = signals or LocalSignals()
        self._reattach_s = reattach_s

    @property
    def info(self) -> RemoteEngine:
        """The model that the workers serve."""
        return self._info

    @property
    def ready(self) -> bool:
        """Whether a worker has been seen lately; never waits."""
        return self._workers.says_yes

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
        """Return the transcript of a media file; the file may be moved away.

        A call that comes again takes up the job of its first try, whichever process began it. When nobody waits any
        more the job goes on for a while, and is erased unless somebody comes back.
        Raises what the worker's step failed with, ``Cancelled``, ``RequestTimeout``, ``IdempotencyMismatch``,
        ``StorageUnavailable``.
        """
        visit = self._visit(context)
        job = self._take_up(visit, context) or self._hand_in(visit, source, options, context)
        keep_s = self._reattach_s
        try:
            transcript = self._wait(context, job)
            keep_s = keep_s if visit and visit.key else 0.0  # Its answer may be lost on the way.
        except StorageUnavailable:
            raise  # Erasing would have to wait for the database once more; the janitor does it.
        except (Cancelled, RequestTimeout):
            self._leave(visit, context.tenant, job.id, keep_s)
            raise
        except TympanError:
            self._leave(visit, context.tenant, job.id, 0.0)
            raise
        self._leave(visit, context.tenant, job.id, keep_s)
        return transcript

    def detect_language(self, source: Path, context: RequestContext, options: Options) -> Transcript:
        """Return which languages the beginning of a media file may be in: a transcript without text.

        Raises as ``transcribe``.
        """
        return self.transcribe(source, replace(options, language_only=True), context)

    def _visit(self, context: RequestContext) -> Caller | None:
        """Return the caller as all processes know it; ``None`` where none is known again."""
        call = context.call
        if call is None or not self._reattach_s:
            return None
        left_s = _UNBOUNDED_S if context.deadline is None else max(0.0, context.deadline - time.monotonic())
        key = None if call.key is None else IdempotencyKey(call.door[:_ROUTE_CHARS], call.key, call.likeness)
        return Caller(context.tenant, call.likeness, new_id("call"), left_s + self._reattach_s, key, call.is_retry)

    def _take_up(self, visit: Caller | None, context: RequestContext) -> Job | None:
        """Return the job that an earlier try has begun. Raises ``IdempotencyMismatch``."""
        job = None if visit is None else self._jobs.calls.take_up(visit)
        if job is not None and context.call is not None:
            context.call.resumed()
        return job

    def _hand_in(self, visit: Caller | None, source: Path, options: Options, context: RequestContext) -> Job:
        left_s = None if context.deadline is None else context.deadline - time.monotonic()
        new = NewJob(
            new_id("job"),
            Source(SourceKind.STORED, "", source.stat().st_size),
            options,
            tenant=context.tenant,
            lane=Lane.INTERACTIVE,
            deadline=None if left_s is None else time.time() + left_s + (self._reattach_s if visit else 0.0),
            model=self._job_model(),
        )
        if visit is None:
            return self._jobs.submit(new, source)[0]
        job, replayed = self._jobs.submit(new, source, visit.key, self._jobs.calls.waiting(visit, new.id))
        if not replayed:
            return job
        # Another process was handed the same call with the same key a moment ago.
        found = self._take_up(visit, context)
        if found is None:
            raise Unavailable("The same call has just failed elsewhere.", remedy="Try again.", retry_after_s=1.0)
        return found

    def _wait(self, context: RequestContext, found: Job) -> Transcript:
        job_id, pause_s = found.id, _FIRST_POLL_S
        telling = self._telling(context, found)
        while True:
            job = self._jobs.get(context.tenant, job_id)
            if job.state is JobState.SUCCEEDED:
                transcript = self._jobs.transcript(context.tenant, job_id)[1]
                if telling is not None:
                    telling.check(transcript)
                elif context.on_segments is not None and transcript.segments:
                    context.on_segments(transcript.segments)
                return transcript
            if job.state.is_terminal:
                raise _error_of(job)
            if telling is not None:
                telling.go_on()
            if context.deadline is not None and time.monotonic() > context.deadline:
                raise RequestTimeout(remedy="Send shorter audio, or hand it in as a job.")
            self._pause(context, job_id, pause_s)
            pause_s = min(_LONGEST_POLL_S, pause_s * 1.3)

    def _pause(self, context: RequestContext, job_id: str, pause_s: float) -> None:
        """Wait until there is something to look at, or it is time to. Raises ``Cancelled`` once the caller has gone."""
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0 and not context.cancel.is_set():
            if self._signals.wait(job_id, min(_NOTICE_S, left_s)):
                break
        if context.cancel.is_set():
            raise Cancelled

    def _telling(self, context: RequestContext, job: Job) -> Telling | None:
        if context.on_segments is None or job.options.may_hear_voices:  # Then who speaks is known at the end.
            return None
        section = partial(self._jobs.section_result, context.tenant, job.id)
        return Telling(section, job.options, context.on_segments)

    def _leave(self, visit: Caller | None, tenant: str, job_id: str, keep_s: float) -> None:
        try:
            if visit is None:
                self._jobs.discard(tenant, job_id)
            else:
                self._jobs.calls.leave(visit, job_id, keep_s)
        except (NotFound, StorageUnavailable):
            return  # What is left is removed by the janitor within the hour.


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

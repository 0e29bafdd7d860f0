"""Synchronous calls on a machine without an engine: handed to the workers as jobs of the interactive lane."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

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
from tympan.jobs.background import attempt
from tympan.jobs.service import JobService, new_id
from tympan.jobs.signals import LocalSignals, Signals
from tympan.jobs.telling import Telling
from tympan.pipeline import RequestContext

_FIRST_POLL_S, _LONGEST_POLL_S = 0.03, 0.5
_PEEK_S = 1.0
_STALE_S = 8.0
_JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class RemoteEngine:
    """What is known here of the workers' engines."""

    model: str
    engine: str = "remote"
    device: str = "remote"
    compute_type: str = "remote"
    languages: tuple[str, ...] = ()
    multilingual: bool = True
    can: Abilities = field(default_factory=Abilities)


@dataclass(frozen=True, slots=True)
class RemoteQueue:
    """What waits is counted where it is worked off."""

    queued_windows: Mapping[Lane, int]
    queued_audio_s: Mapping[Lane, float]
    compute_s_per_audio_s: float = 0.0


class Lookout:
    """Asks a question over and over in a thread of its own, so that the last answer is there without waiting."""

    def __init__(self, ask: Callable[[], bool], *, period_s: float = _PEEK_S, stale_s: float = _STALE_S) -> None:
        """Ask every ``period_s``; an answer is good for ``stale_s``, and what cannot be asked is a no."""
        self._ask, self._period_s, self._stale_s = ask, period_s, stale_s
        self._yes_at: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    @property
    def says_yes(self) -> bool:
        """The last answer; never waits."""
        asked_at = self._yes_at
        return asked_at is not None and time.monotonic() - asked_at < self._stale_s

    def start(self) -> None:
        """Ask once, and go on asking."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._over.wait(self._period_s):
            self._look()

    def _look(self) -> None:
        asked_at = time.monotonic()
        self._yes_at = asked_at if attempt(self._thread.name, self._ask) else None


class RemoteTranscriber:
    """Looks like the pipeline to the HTTP interface; the work is done elsewhere."""

    def __init__(
        self,
        jobs: JobService,
        model: str,
        workers: Lookout,
        signals: Signals | None = None,
        *,
        job_model: str | None = None,
    ) -> None:
        """Hand work to ``jobs``; ``workers`` knows whether anybody would take it, ``signals`` when to look again.

        ``job_model`` is what the jobs ask for; ``None``: the default of whoever takes them.
        """
        self._jobs, self._info, self._workers, self._job_model = jobs, RemoteEngine(model), workers, job_model
        self._signals: Signals = signals or LocalSignals()

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
        """Return the transcript of a media file; the file is moved away.

        Raises what the worker's step failed with, ``Cancelled``, ``RequestTimeout``, ``StorageUnavailable``.
        """
        stored = Source(SourceKind.STORED, "", source.stat().st_size)
        deadline = None if context.deadline is None else time.time() + context.deadline - time.monotonic()
        new = NewJob(
            new_id("job"),
            stored,
            options,
            tenant=context.tenant,
            lane=Lane.INTERACTIVE,
            deadline=deadline,
            model=self._job_model,
        )
        self._jobs.submit(new, source)
        try:
            transcript = self._wait(context, new)
        except StorageUnavailable:
            raise  # Erasing would have to wait for the database once more; the janitor does it.
        except TympanError:
            self._erase(context.tenant, new.id)
            raise
        self._erase(context.tenant, new.id)
        return transcript

    def detect_language(self, source: Path, context: RequestContext, options: Options) -> Transcript:
        """Return which languages the beginning of a media file may be in: a transcript without text.

        Raises as ``transcribe``.
        """
        return self.transcribe(source, replace(options, language_only=True), context)

    def _wait(self, context: RequestContext, new: NewJob) -> Transcript:
        job_id, pause_s = new.id, _FIRST_POLL_S
        telling = self._telling(context, new)
        while True:
            job = self._jobs.get(context.tenant, job_id)
            if job.state is JobState.SUCCEEDED:
                transcript = self._jobs.transcript(context.tenant, job_id)[1]
                if telling is not None:
                    telling.check(transcript)
                return transcript
            if job.state.is_terminal:
                raise _error_of(job)
            if telling is not None:
                telling.go_on()
            if context.deadline is not None and time.monotonic() > context.deadline:
                raise RequestTimeout(remedy="Send shorter audio, or hand it in as a job.")
            self._signals.wait(job_id, pause_s)
            if context.cancel.is_set():
                raise Cancelled
            pause_s = min(_LONGEST_POLL_S, pause_s * 1.3)

    def _telling(self, context: RequestContext, new: NewJob) -> Telling | None:
        if context.on_segments is None:
            return None
        section = partial(self._jobs.section_result, context.tenant, new.id)
        return Telling(section, new.options, context.on_segments)

    def _erase(self, tenant: str, job_id: str) -> None:
        try:
            self._jobs.erase(tenant, job_id)
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

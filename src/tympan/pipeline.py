"""What happens to a request's audio, in order: decode, find speech, pack, batch and infer, assemble.

``Transcriber.transcribe`` is the one way through; the command line, the synchronous endpoint and the workers call it.
It blocks, so callers give it a thread. Memory is flat: a bounded number of windows is alive at a time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from tympan import fallback
from tympan.audio.vad import SpeechDetector
from tympan.audio.windows import SampleBuffer, WindowPacker
from tympan.batching.queue import Origin
from tympan.batching.stats import BatcherStats
from tympan.domain import (
    SAMPLE_RATE_HZ,
    DecodeParams,
    DecodeStats,
    Lane,
    Options,
    Progress,
    Samples,
    Timestamps,
    Transcript,
    Window,
    WindowResult,
    WindowTask,
)
from tympan.engine.base import EngineInfo
from tympan.errors import Cancelled, Overloaded, RequestTimeout, UnsupportedLanguage, UnsupportedOption
from tympan.transcript import Totals, assemble

MAX_IN_FLIGHT = 32
"""Windows of one request that may wait or run at once; bounds its audio to about 29 MB."""

MAX_GAP_S = 4.0
"""A silence beyond this starts a new window: what lies behind it is another thought."""

SURE_OF_LANGUAGE = 0.5
"""Below this probability another window is asked, up to ``LANGUAGE_VOTES`` in all."""

LANGUAGE_VOTES = 3

_POLL_S = 0.05


class AudioSource(Protocol):
    """Where samples come from: the sandboxed decoder."""

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = ...
    ) -> Generator[Samples, None, None]:
        """Yield the file's samples in order; closing ends the work. Raises ``MediaError`` and its kin, ``TooLong``."""
        ...


class WindowService(Protocol):
    """Where windows are answered: the batcher."""

    @property
    def info(self) -> EngineInfo | None:
        """The loaded engine, or ``None`` while there is none."""
        ...

    @property
    def ready(self) -> bool:
        """Whether windows are being answered."""
        ...

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Accept one window. Raises ``Overloaded`` or ``Unavailable``."""
        ...

    def stats(self) -> BatcherStats:
        """What waits and runs."""
        ...


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asks, how urgently, and how to stop. ``deadline`` is a ``time.monotonic()`` value."""

    request_id: str
    tenant: str = "default"
    lane: Lane = Lane.INTERACTIVE
    max_audio_s: float = 14_400.0
    cancel: threading.Event = field(default_factory=threading.Event)
    deadline: float | None = None

    def check(self) -> None:
        """Raise ``Cancelled`` or ``RequestTimeout`` when the request should not go on."""
        if self.cancel.is_set():
            raise Cancelled
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise RequestTimeout(remedy="Send shorter audio, or raise TYMPAN_REQUEST_TIMEOUT_S.")


class Transcriber:
    """Audio in, transcript out."""

    def __init__(
        self, source: AudioSource, detector: SpeechDetector, service: WindowService, *, max_window_s: float = 28.0
    ) -> None:
        """Join the parts; ``max_window_s`` is the longest window packed, at most 30 s."""
        self._source = source
        self._detector = detector
        self._service = service
        self._max_window_s = max_window_s

    @property
    def info(self) -> EngineInfo | None:
        """The loaded engine, or ``None`` while there is none."""
        return self._service.info

    @property
    def ready(self) -> bool:
        """Whether requests are being answered."""
        return self._service.ready

    def stats(self) -> BatcherStats:
        """What waits and runs."""
        return self._service.stats()

    def transcribe(
        self,
        source: Path,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Transcript:
        """Return the transcript of the media file at ``source``.

        Raises ``MediaError``, ``TooLong``, ``Cancelled``, ``RequestTimeout``, ``Overloaded``, ``EngineError`` and
        ``UnsupportedOption``; whatever it raises, none of the request's windows waits on.
        """
        started = time.monotonic()
        check_options(options, self._service.info)
        run = _Run(self._service, options, context, on_progress)
        speech = _Speech(self._detector, options, self._max_window_s)
        try:
            with closing(self._samples(source, context)) as chunks:
                for window in speech.windows(chunks, context):
                    run.take(window)
            parts = run.finish(speech.audio_samples)
        except BaseException:
            run.abandon()
            raise
        info = self._service.info
        totals = Totals(speech.audio_samples, speech.speech_samples, info.model if info else "", run.stats)
        transcript = assemble(parts, run.languages, options, totals)
        return replace(transcript, processing_s=time.monotonic() - started)

    def detect_language(self, source: Path, context: RequestContext) -> tuple[tuple[str, float], ...]:
        """Return language codes with probabilities, likeliest first, from the first speech in ``source``.

        Empty when there is no speech.
        """
        options = Options(beam_size=1, timestamps=Timestamps.NONE, temperature_fallback=False)
        run = _Run(self._service, options, context, None, only_language=True)
        speech = _Speech(self._detector, options, self._max_window_s)
        try:
            with closing(self._samples(source, context)) as chunks:
                for window in speech.windows(chunks, context):
                    run.take(window)
                    if run.language_is_settled:
                        break
            run.finish(speech.audio_samples)
        except BaseException:
            run.abandon()
            raise
        return run.languages

    def _samples(self, source: Path, context: RequestContext) -> Generator[Samples, None, None]:
        """Return the source's blocks. Close it: an error's traceback would keep the decoder at work."""
        return self._source.stream(source, max_audio_s=context.max_audio_s, cancelled=context.cancel.is_set)


def check_options(options: Options, info: EngineInfo | None) -> None:
    """Raise ``UnsupportedLanguage`` or ``UnsupportedOption`` when the model cannot do what ``options`` ask."""
    if info is None:
        return
    if options.language is not None and options.language not in info.languages:
        raise UnsupportedLanguage(
            f"The model {info.model!r} does not know the language {options.language!r}.",
            param="language",
            remedy="Leave the language out to have it detected, or choose a multilingual model.",
        )
    if options.task == "translate" and not info.multilingual:
        raise UnsupportedOption(
            f"The model {info.model!r} only knows English and cannot translate.",
            param="task",
            remedy="Choose a multilingual model.",
        )


class _Speech:
    """A request's samples on their way to windows."""

    def __init__(self, detector: SpeechDetector, options: Options, max_window_s: float) -> None:
        self._stream = detector.stream(options.vad, max_window_s)
        self._keep_all = options.vad is None
        self._buffer = SampleBuffer()
        self._packer = WindowPacker(max_window_s, MAX_GAP_S)

    @property
    def audio_samples(self) -> int:
        return self._buffer.end_sample

    @property
    def speech_samples(self) -> int:
        return self.audio_samples if self._keep_all else min(self._stream.speech_samples, self.audio_samples)

    def windows(self, chunks: Iterator[Samples], context: RequestContext) -> Iterator[Window]:
        for chunk in chunks:
            context.check()
            self._buffer.push(chunk)
            yield from self._packer.add(self._stream.push(chunk), self._buffer)
            self._buffer.forget(self._stream.settled_sample)
        yield from self._packer.add(self._stream.finish(), self._buffer)
        yield from self._packer.finish()


@dataclass(slots=True)
class _Attempt:
    """A window under way, with what earlier attempts gave."""

    window: Window
    params: DecodeParams
    reply: Future[WindowResult]
    earlier: list[WindowResult] = field(default_factory=list)


class _Run:
    """One request's windows: submitted in order, decoded again where needed, collected in order."""

    def __init__(
        self,
        service: WindowService,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None,
        *,
        only_language: bool = False,
    ) -> None:
        self._only_language = only_language
        self._service = service
        self._options = options
        self._context = context
        self._on_progress = on_progress
        self._origin = Origin(context.request_id, context.tenant, context.lane)
        self._under_way: deque[_Attempt] = deque()
        self._done: list[tuple[Window, WindowResult]] = []
        self._done_samples = 0
        self._has_begun = False
        self._votes: list[dict[str, float]] = []
        self._language = options.language
        self.languages: tuple[tuple[str, float], ...] = ((options.language, 1.0),) if options.language else ()
        self.stats = DecodeStats()

    @property
    def language_is_settled(self) -> bool:
        return self._language is not None

    def take(self, window: Window) -> None:
        """Submit the next window; wait for the oldest when too many are under way."""
        self._under_way.append(self._start(window, fallback.first_attempt(self._options, self._language)))
        if not self.language_is_settled:
            self._collect()
            self._vote()
        while len(self._under_way) >= MAX_IN_FLIGHT:
            self._collect()
        while self._under_way and self._under_way[0].reply.done():
            self._collect()

    def finish(self, audio_samples: int) -> list[tuple[Window, WindowResult]]:
        """Wait for what is under way and return every window with its result."""
        while self._under_way:
            self._collect()
        self._settle_language()
        self._report(audio_samples, audio_samples)
        return self._done

    def abandon(self) -> None:
        """Withdraw whatever still waits."""
        for attempt in self._under_way:
            attempt.reply.cancel()

    def _start(self, window: Window, params: DecodeParams) -> _Attempt:
        return _Attempt(window, params, self._submit(window, params))

    def _submit(self, window: Window, params: DecodeParams) -> Future[WindowResult]:
        """Hand a window over. A full queue refuses a new request, but makes one that has begun wait."""
        while True:
            try:
                reply = self._service.submit(WindowTask(window, params), self._origin)
            except Overloaded:
                if not self._has_begun:
                    raise
            else:
                self._has_begun = True
                return reply
            self._context.check()
            time.sleep(_POLL_S)

    def _collect(self) -> None:
        """Finish the oldest window: wait, and decode it again as long as the ladder says so."""
        attempt = self._under_way[0]
        while True:
            result = self._wait(attempt.reply)
            attempt.earlier.append(result)
            following = fallback.next_attempt(attempt.window, attempt.params, result, self._options)
            if following is None:
                break
            attempt.params = following
            attempt.reply = self._submit(attempt.window, following)
        self._under_way.popleft()
        self._keep(attempt)

    def _wait(self, reply: Future[WindowResult]) -> WindowResult:
        while True:
            self._context.check()
            if wait((reply,), _POLL_S).done:
                return reply.result()

    def _keep(self, attempt: _Attempt) -> None:
        result = fallback.best_of(attempt.earlier, self._options)
        rejected = fallback.is_silence(attempt.window, result, self._options)
        self._count(attempt.window, result, +1, len(attempt.earlier) - 1)
        # Once nothing can be decoded again, the samples are dropped: they would add up to the whole file.
        window = attempt.window.without_samples() if self.language_is_settled else attempt.window
        self._done.append((window, replace(result, text="", tokens=(), words=()) if rejected else result))
        last = attempt.window.pieces[-1]
        self._done_samples = max(self._done_samples, last.source_sample + last.n_samples)
        self._report(self._done_samples, None)

    def _count(self, window: Window, result: WindowResult, sign: int, fallbacks: int) -> None:
        """Book a window's result, or with ``sign=-1`` take it back because it is decoded again."""
        self.stats = replace(
            self.stats,
            windows=self.stats.windows + sign,
            fallbacks=self.stats.fallbacks + fallbacks,
            full_context=self.stats.full_context + sign * result.full_context,
            rejected=self.stats.rejected + sign * fallback.is_silence(window, result, self._options),
        )

    def _report(self, done_samples: int, total_samples: int | None) -> None:
        if self._on_progress is not None:
            total_s = None if total_samples is None else total_samples / SAMPLE_RATE_HZ
            self._on_progress(Progress(done_samples / SAMPLE_RATE_HZ, total_s))

    def _vote(self) -> None:
        """Let the window just collected speak for the language; settle once sure, or after enough votes."""
        self._votes.append(dict(self._done[-1][1].language_probabilities))
        best = max(self._votes[-1].values(), default=0.0)
        if best >= SURE_OF_LANGUAGE or len(self._votes) >= LANGUAGE_VOTES:
            self._settle_language()

    def _settle_language(self) -> None:
        """Fix the language for the rest, and decode again what was decoded in another."""
        if self.language_is_settled or not self._votes:
            return
        names = {name for vote in self._votes for name in vote}
        means = {name: sum(vote.get(name, 0.0) for vote in self._votes) / len(self._votes) for name in names}
        ranked = sorted(means.items(), key=lambda pair: -pair[1])
        self.languages = tuple(ranked[:5])
        self._language = ranked[0][0]
        if not self._only_language:
            self._redo_other_languages()

    def _redo_other_languages(self) -> None:
        done, self._done = self._done, []
        for window, result in done:
            if result.language == self._language:
                self._done.append((window, result))
            else:
                self._count(window, result, -1, 1)
                self._under_way.append(self._start(window, fallback.first_attempt(self._options, self._language)))
                self._collect()

"""What happens to a request's audio, in order: decode, find speech, pack, batch and infer, assemble.

``Transcriber.transcribe`` is the one way through for a whole file; a job takes the same steps one by one: ``listen``,
``decode`` for each section, ``assemble``. Everything blocks, so callers give it a thread. Memory is flat: a bounded
number of windows is alive at a time.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from tympan import tracing
from tympan.audio.condition import ConditionMeter
from tympan.audio.vad import SpeechDetector
from tympan.batching.stats import BatcherStats
from tympan.domain import (
    SAMPLE_RATE_HZ,
    DecodeStats,
    Options,
    Progress,
    Provenance,
    Ranking,
    Timestamps,
    Transcript,
    Window,
    WindowResult,
)
from tympan.engine.base import EngineInfo
from tympan.observation import Observer, observed
from tympan.pipeline.checks import check_detection, check_options, tells_language
from tympan.pipeline.decoding import Decoding, WindowService
from tympan.pipeline.request import RequestContext
from tympan.pipeline.sampling import Sampler
from tympan.pipeline.speech import AudioSource, Speech
from tympan.pipeline.voices import VoiceDesk
from tympan.transcript import Totals, assemble

_DETECTION = Options(beam_size=1, timestamps=Timestamps.NONE, temperature_fallback=False)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Windows with their results, in order; what is known of the language; and how hard it was."""

    parts: tuple[tuple[Window, WindowResult], ...]
    languages: Ranking
    stats: DecodeStats


class Transcriber:
    """Audio in, transcript out."""

    def __init__(
        self,
        source: AudioSource,
        detector: SpeechDetector,
        service: WindowService,
        *,
        max_window_s: float = 28.0,
        observer: Observer | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        """Join the parts; ``max_window_s`` is the longest window packed, at most 30 s.

        An ``observer`` is told of every transcript that is made, and how the speech for it came in; a ``sampler`` of
        every window whose text is final. ``voices`` tells speakers apart by theirs, if there are any.
        """
        self._source = source
        self._detector = detector
        self._service = service
        self._max_window_s = max_window_s
        self.observer = observer
        self.sampler = sampler
        self.voices: VoiceDesk | None = None

    def hearing(self, voices: VoiceDesk | None) -> Self:
        """Return this, which tells speakers apart by what ``voices`` hears as well from now on."""
        self.voices = voices
        return self

    @property
    def info(self) -> EngineInfo | None:
        """The loaded engine, or ``None`` while there is none."""
        return self._service.info

    @property
    def service(self) -> WindowService:
        """Where windows are answered."""
        return self._service

    @property
    def detector(self) -> SpeechDetector:
        """What finds speech."""
        return self._detector

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
        speech = self.listen(options)
        tell = context.on_segments if self.voices is not None and options.may_hear_voices else None
        if tell is not None:  # Who speaks is known at the end.
            context = replace(context, on_segments=None)
        with tracing.span("transcribe", parent=context.trace) as span, closing(speech):
            with closing(speech.windows(source, context)) as windows:
                decoded = self.decode(windows, options, context, on_progress, speech)
            turns = speech.turns()
            span.note({"tympan.audio_s": speech.audio_samples / SAMPLE_RATE_HZ, "tympan.windows": len(decoded.parts)})
        info = self._service.info
        model, provenance = (info.model, info.provenance) if info else ("", Provenance())
        totals = Totals(speech.audio_samples, speech.speech_samples, model, decoded.stats, provenance)
        transcript = assemble(decoded.parts, decoded.languages, options, totals, turns)
        if tell is not None and transcript.segments:
            tell(transcript.segments)
        if self.observer is not None:
            self.observer(observed("call", transcript, speech.condition))
        return replace(transcript, processing_s=time.monotonic() - started)

    @contextmanager
    def held(self, context: RequestContext) -> Iterator["Transcriber"]:
        """Yield a transcriber whose engine stays inside the block: this one."""
        yield self

    def listen(self, options: Options) -> Speech:
        """Return what turns one file into windows."""
        meter = None if self.observer is None else ConditionMeter()
        return Speech(self._source, self._detector, options, self._max_window_s, meter, self.voices)

    def decode(
        self,
        windows: Iterable[Window],
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
        speech: Speech | None = None,
    ) -> Decoded:
        """Return what the engine makes of ``windows``; ``speech``, if they come from it, knows how long the audio is.

        Raises as ``transcribe`` does.
        """
        check_options(options, self._service.info)
        decoding = Decoding(self._service, options, context, on_progress, sampler=self.sampler)
        try:
            for window in windows:
                decoding.take(window)
            parts = decoding.finish(speech.audio_samples if speech else 0)
        except BaseException:
            decoding.abandon()
            raise
        return Decoded(tuple(parts), decoding.languages, decoding.stats)

    def rank_languages(
        self, windows: Iterable[Window], context: RequestContext, allowed: tuple[str, ...] = ()
    ) -> Ranking:
        """Return language codes with probabilities, likeliest first, from as many of ``windows`` as it takes.

        Only languages that are ``allowed``, if there are any.

        Empty when there are none, or when the model does not tell languages.
        """
        if not tells_language(self._service.info):
            return ()
        decoding = Decoding(self._service, replace(_DETECTION, languages=allowed), context, only_language=True)
        try:
            for window in windows:
                decoding.take(window)
                if decoding.language_is_settled:
                    break
            decoding.finish(0)
        except BaseException:
            decoding.abandon()
            raise
        return decoding.languages

    def detect_language(self, source: Path, context: RequestContext, options: Options = _DETECTION) -> Transcript:
        """Return which languages the first speech in ``source`` may be in: a transcript that has no text.

        It has no language when there is no speech. Its accounting covers what was heard until the language was known.
        Of ``options`` count the languages to choose among and how speech is found. Raises ``UnsupportedOption`` when
        the model does not tell languages apart, and as ``transcribe`` does.
        """
        started = time.monotonic()
        with self.held(context) as held:
            check_detection(held.info)
            speech = self.listen(replace(_DETECTION, vad=options.vad))
            with closing(speech.windows(source, context)) as windows:
                ranking = held.rank_languages(windows, context, options.languages)
            model = held.info.model if held.info else ""
        transcript = assemble((), ranking, options, Totals(speech.audio_samples, speech.speech_samples, model))
        return replace(transcript, processing_s=time.monotonic() - started)

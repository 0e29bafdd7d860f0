"""What happens to a request's audio, in order: decode, find speech, pack, batch and infer, assemble.

``Transcriber.transcribe`` is the one way through; the command line, the synchronous endpoint and the workers call it.
It blocks, so callers give it a thread. Memory is flat: a bounded number of windows is alive at a time.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tympan.audio.vad import SpeechDetector
from tympan.audio.windows import SampleBuffer, WindowPacker
from tympan.batching.stats import BatcherStats
from tympan.domain import Options, Progress, Samples, Timestamps, Transcript, Window
from tympan.engine.base import EngineInfo
from tympan.errors import UnsupportedLanguage, UnsupportedOption
from tympan.pipeline.decoding import Decoding, WindowService
from tympan.pipeline.request import RequestContext
from tympan.transcript import Totals, assemble

MAX_GAP_S = 4.0
"""A silence beyond this starts a new window: what lies behind it is another thought."""


class AudioSource(Protocol):
    """Where samples come from: the sandboxed decoder."""

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = ...
    ) -> Generator[Samples, None, None]:
        """Yield the file's samples in order; closing ends the work. Raises ``MediaError`` and its kin, ``TooLong``."""
        ...


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
        decoding = Decoding(self._service, options, context, on_progress)
        speech = _Speech(self._detector, options, self._max_window_s)
        try:
            with closing(self._samples(source, context)) as chunks:
                for window in speech.windows(chunks, context):
                    decoding.take(window)
            parts = decoding.finish(speech.audio_samples)
        except BaseException:
            decoding.abandon()
            raise
        info = self._service.info
        totals = Totals(speech.audio_samples, speech.speech_samples, info.model if info else "", decoding.stats)
        transcript = assemble(parts, decoding.languages, options, totals)
        return replace(transcript, processing_s=time.monotonic() - started)

    def detect_language(self, source: Path, context: RequestContext) -> tuple[tuple[str, float], ...]:
        """Return language codes with probabilities, likeliest first, from the first speech in ``source``.

        Empty when there is no speech.
        """
        options = Options(beam_size=1, timestamps=Timestamps.NONE, temperature_fallback=False)
        decoding = Decoding(self._service, options, context, only_language=True)
        speech = _Speech(self._detector, options, self._max_window_s)
        try:
            with closing(self._samples(source, context)) as chunks:
                for window in speech.windows(chunks, context):
                    decoding.take(window)
                    if decoding.language_is_settled:
                        break
            decoding.finish(speech.audio_samples)
        except BaseException:
            decoding.abandon()
            raise
        return decoding.languages

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

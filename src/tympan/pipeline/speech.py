"""A source's samples on their way to windows: decode, find speech, pack. Memory is flat whatever the length."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from tympan.audio.condition import ConditionMeter
from tympan.audio.stereo import LevelMeter, Stereo, StereoMixer
from tympan.audio.vad import SpeechDetector
from tympan.audio.windows import SampleBuffer, WindowPacker
from tympan.domain import SAMPLE_RATE_HZ, DiarizeBy, Options, Samples, Turn, Window
from tympan.errors import NotStereo
from tympan.observation import Condition, MediaFacts
from tympan.pipeline.request import RequestContext
from tympan.pipeline.voices import Ear, VoiceDesk

MAX_GAP_S = 4.0
"""A silence beyond this starts a new window: what lies behind it is another thought."""

_Block = TypeVar("_Block", Samples, Stereo)


class AudioSource(Protocol):
    """Where samples come from: the sandboxed decoder."""

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = ...
    ) -> Generator[Samples, None, MediaFacts | None]:
        """Yield the file's samples in order, and return what kind of file it is, if that is known.

        Closing ends the work. Raises ``MediaError`` and its kin, ``TooLong``.
        """
        ...

    def stream_stereo(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = ...
    ) -> Generator[Stereo, None, MediaFacts | None]:
        """Yield both channels of a stereo file; return as ``stream``. Raises ``NotStereo`` too."""
        ...


class Speech:
    """One source, heard once: iterate over ``windows``, then ask what was counted on the way."""

    def __init__(
        self,
        source: AudioSource,
        detector: SpeechDetector,
        options: Options,
        max_window_s: float,
        condition: ConditionMeter | None = None,
        voices: VoiceDesk | None = None,
    ) -> None:
        """Listen to what ``source`` decodes; ``max_window_s`` is the longest window packed.

        With a ``condition`` meter it is told how speech came in. ``voices`` hears who speaks; without it channels tell.
        """
        self._source, self._options, self._max_window_s = source, options, max_window_s
        self._stream = detector.stream(options.vad, max_window_s)
        self._keep_all = options.vad is None
        self._clip = _Clip(options)
        self._buffer = SampleBuffer()
        self._voices = voices if options.may_hear_voices else None
        self._ear: Ear | None = None
        self._meter = LevelMeter() if options.diarize and options.diarize_by is not DiarizeBy.VOICES else None
        self._packer = WindowPacker(max_window_s, MAX_GAP_S, self._meter)
        self._condition, self._media = condition, MediaFacts()

    @property
    def audio_samples(self) -> int:
        """Where in the source it has been heard to, in samples."""
        return self._clip.skipped + self._buffer.end_sample

    @property
    def speech_samples(self) -> int:
        """How many of them were speech."""
        heard = self._buffer.end_sample
        return heard if self._keep_all else min(self._stream.speech_samples, heard)

    @property
    def condition(self) -> Condition | None:
        """How speech came in, as far as it was heard; ``None`` without a meter."""
        return None if self._condition is None else self._condition.condition(self._media)

    def turns(self) -> tuple[Turn, ...] | None:
        """Wait, and return who spoke when once all windows were yielded; ``None`` where channels tell, or nobody asks.

        Raises ``Cancelled``, ``RequestTimeout``.
        """
        return None if self._ear is None else self._ear.turns(self._clip.start_s)

    def close(self) -> None:
        """Hear no more; who spoke when is not asked for any more."""
        if self._ear is not None:
            self._ear.close()

    def windows(self, path: Path, context: RequestContext) -> Generator[Window, None, None]:
        """Yield the windows of the file at ``path`` in order. Close it: a traceback would keep the decoder at work.

        Raises ``MediaError`` and its kin, ``NotStereo`` where only channels may tell speakers apart, ``TooLong``,
        ``Cancelled``, ``RequestTimeout``, and ``ModelUnavailable`` and its kin where voices should and cannot.
        """
        with closing(self._samples(path, context)) as chunks:
            for chunk in chunks:
                context.check()
                if self._ear is not None:
                    self._ear.push(chunk)
                self._buffer.push(chunk)
                yield from map(self._ready, self._packer.add(self._stream.push(chunk), self._buffer))
                self._forget(self._stream.settled_sample)
        if self._ear is not None:
            self._ear.end()
        yield from map(self._ready, self._packer.add(self._stream.finish(), self._buffer))
        yield from map(self._ready, self._packer.finish())

    def _ready(self, window: Window) -> Window:
        if self._condition is not None:
            self._condition.hear(window.samples)
        return self._clip.placed(window)

    def _samples(self, path: Path, context: RequestContext) -> Generator[Samples, None, None]:
        if self._meter is None:
            return self._mono(path, context)
        both = self._source.stream_stereo(path, max_audio_s=context.max_audio_s, cancelled=context.cancel.is_set)
        stereo = _metered(self._clip.cut(self._noted(both)), self._meter)
        if self._voices is None:
            return stereo
        self._ear = Ear(self._voices, self._options, context, self._meter.judge)
        return self._either(stereo, path, context)

    def _mono(self, path: Path, context: RequestContext) -> Generator[Samples, None, None]:
        if self._voices is not None:  # First of all, so that nothing is decoded in vain where they cannot be had.
            self._ear = Ear(self._voices, self._options, context)
        source = self._source.stream(path, max_audio_s=context.max_audio_s, cancelled=context.cancel.is_set)
        return self._clip.cut(self._noted(source))

    def _either(
        self, stereo: Generator[Samples, None, None], path: Path, context: RequestContext
    ) -> Generator[Samples, None, None]:
        """Yield both channels as one where there are two, else all channels as one: then voices alone can tell."""
        has_begun = False
        try:
            with closing(stereo):
                for block in stereo:
                    has_begun = True
                    yield block
        except NotStereo:
            if has_begun or self._clip.skipped:
                raise
        else:
            return
        self._meter, self._packer = None, WindowPacker(self._max_window_s, MAX_GAP_S)
        with closing(self._mono(path, context)) as mono:
            yield from mono

    def _noted(self, blocks: Generator[_Block, None, MediaFacts | None]) -> Generator[_Block, None, None]:
        """Yield the blocks, and take note of what is told at their end."""
        self._media = (yield from blocks) or self._media

    def _forget(self, before_sample: int) -> None:
        self._buffer.forget(before_sample)
        if self._meter is not None:
            self._meter.forget(before_sample)


class _Clip:
    """The part of a source that is asked for."""

    def __init__(self, options: Options) -> None:
        self.skipped = 0
        self.start_s = options.start_s
        self._start = round(options.start_s * SAMPLE_RATE_HZ)
        self._length = None if options.length_s is None else round(options.length_s * SAMPLE_RATE_HZ)

    def cut(self, blocks: Generator[_Block, None, None]) -> Generator[_Block, None, None]:
        """Yield what lies inside; the source is closed behind it."""
        left = self._length
        with closing(blocks):
            for block in blocks:
                before = min(len(block), self._start - self.skipped)
                self.skipped += before
                part = block[before:] if left is None else block[before : before + left]
                if len(part):
                    yield part
                if left is not None:
                    left -= len(part)
                    if not left:
                        return

    def placed(self, window: Window) -> Window:
        """Return a window of the part with its place in the whole."""
        if not self._start:
            return window
        pieces = (replace(piece, source_sample=piece.source_sample + self._start) for piece in window.pieces)
        return replace(window, pieces=tuple(pieces))


def _metered(blocks: Generator[Stereo, None, None], meter: LevelMeter) -> Generator[Samples, None, None]:
    """Yield both channels as one, once it is measured how loud each is."""
    mixer = StereoMixer()
    with closing(blocks):
        for block in blocks:
            meter.push(block)
            yield mixer.push(block)
    meter.finish()
    yield mixer.finish()

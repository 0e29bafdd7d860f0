"""A source's samples on their way to windows: decode, find speech, pack. Memory is flat whatever the length."""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Protocol

from tympan.audio.vad import SpeechDetector
from tympan.audio.windows import SampleBuffer, WindowPacker
from tympan.domain import Options, Samples, Window
from tympan.pipeline.request import RequestContext

MAX_GAP_S = 4.0
"""A silence beyond this starts a new window: what lies behind it is another thought."""


class AudioSource(Protocol):
    """Where samples come from: the sandboxed decoder."""

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = ...
    ) -> Generator[Samples, None, None]:
        """Yield the file's samples in order; closing ends the work. Raises ``MediaError`` and its kin, ``TooLong``."""
        ...


class Speech:
    """One source, heard once: iterate over ``windows``, then ask what was counted on the way."""

    def __init__(self, source: AudioSource, detector: SpeechDetector, options: Options, max_window_s: float) -> None:
        """Listen to what ``source`` decodes; ``max_window_s`` is the longest window packed."""
        self._source = source
        self._stream = detector.stream(options.vad, max_window_s)
        self._keep_all = options.vad is None
        self._buffer = SampleBuffer()
        self._packer = WindowPacker(max_window_s, MAX_GAP_S)

    @property
    def audio_samples(self) -> int:
        """Samples heard so far."""
        return self._buffer.end_sample

    @property
    def speech_samples(self) -> int:
        """How many of them were speech."""
        return self.audio_samples if self._keep_all else min(self._stream.speech_samples, self.audio_samples)

    def windows(self, path: Path, context: RequestContext) -> Generator[Window, None, None]:
        """Yield the windows of the file at ``path`` in order. Close it: a traceback would keep the decoder at work.

        Raises ``MediaError`` and its kin, ``TooLong``, ``Cancelled``, ``RequestTimeout``.
        """
        chunks = self._source.stream(path, max_audio_s=context.max_audio_s, cancelled=context.cancel.is_set)
        with closing(chunks):
            for chunk in chunks:
                context.check()
                self._buffer.push(chunk)
                yield from self._packer.add(self._stream.push(chunk), self._buffer)
                self._buffer.forget(self._stream.settled_sample)
        yield from self._packer.add(self._stream.finish(), self._buffer)
        yield from self._packer.finish()

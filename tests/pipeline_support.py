"""Sources and window services without files, processes or models, for the tests of the pipeline."""

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tympan.audio.vad import SpeechDetector, SpeechStream
from tympan.batching.queue import Origin
from tympan.batching.stats import BatcherStats
from tympan.domain import SAMPLE_RATE_HZ, Samples, VadOptions, WindowResult, WindowTask, Word
from tympan.engine.base import EngineInfo
from tympan.observation import MediaFacts
from tympan.pipeline import Transcriber

INFO = EngineInfo("fake", "demo", "1", "cpu", "int8", 1, ("en", "de", "fr"), multilingual=True)
SOURCE = Path("source")
EN = (("en", 0.9), ("de", 0.1))


def never() -> bool:
    """Say no."""
    return False


@dataclass
class ArraySource:
    """Blocks of samples as a decoder would give them; knows how much was asked for and whether it was closed."""

    blocks: Iterable[Samples]
    given: int = 0
    closed: bool = False
    facts: MediaFacts | None = None

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, MediaFacts | None]:
        """Yield the blocks; return the facts."""
        try:
            for block in self.blocks:
                self.given += 1
                yield block
            return self.facts
        finally:
            self.closed = True

    def stream_stereo(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, MediaFacts | None]:
        """Yield the blocks, which have two channels."""
        return self.stream(path, max_audio_s=max_audio_s, cancelled=cancelled)


def blocks(seconds: float, block_s: float = 5.0, seed: int = 1) -> list[Samples]:
    """Return faint noise in blocks, in which every window is unlike the others."""
    drawn = np.random.default_rng(seed).integers(-40, 40, round(seconds * SAMPLE_RATE_HZ)).astype(np.int16)
    step = round(block_s * SAMPLE_RATE_HZ)
    return [drawn[at : at + step] for at in range(0, len(drawn), step)]


def answer(task: WindowTask) -> WindowResult:
    """Return a sure result whose text names the window."""
    text = f" w{task.window.index}."
    token = task.window.index + 1
    words = (Word(text, 0.0, min(0.5, task.window.duration_s), 0.9, (token,)),) if task.params.align else ()
    return WindowResult(
        text=text,
        tokens=(token,),
        language=task.params.language or "en",
        language_probabilities=EN if task.params.language is None else (),
        avg_logprob=-0.1,
        no_speech_prob=0.0,
        compression_ratio=1.0,
        temperature=task.params.temperature,
        full_context=task.params.full_context,
        words=words,
    )


Reply = WindowResult | BaseException | None
"""What becomes of a window: its result, its error, or silence."""


@dataclass
class WindowDesk:
    """A window service in the caller's own thread: answers at once, as ``reply`` says.

    ``held`` windows wait until ``release``; ``refusals`` are raised by ``submit`` for the given submission numbers.
    """

    reply: Callable[[WindowTask], Reply] = answer
    refusals: dict[int, BaseException] = field(default_factory=dict)
    hold: bool = False
    tasks: list[WindowTask] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    futures: list[Future[WindowResult]] = field(default_factory=list)
    submissions: int = 0
    most_open: int = 0
    info: EngineInfo | None = INFO
    ready: bool = True

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Accept a window, or refuse it."""
        self.submissions += 1
        if self.submissions in self.refusals:
            raise self.refusals[self.submissions]
        future: Future[WindowResult] = Future()
        self.tasks.append(task)
        self.origins.append(origin)
        self.futures.append(future)
        self.most_open = max(self.most_open, sum(not f.done() for f in self.futures))
        if not self.hold:
            settle(future, self.reply(task))
        return future

    def stats(self) -> BatcherStats:
        """Nothing waits here."""
        return BatcherStats()

    def release(self, order: Sequence[int] | None = None) -> None:
        """Answer what waits, in the given order of submissions or from the oldest on."""
        for index in order if order is not None else range(len(self.futures)):
            if not self.futures[index].done():
                settle(self.futures[index], self.reply(self.tasks[index]))

    @property
    def open(self) -> int:
        """Windows that somebody still waits for."""
        return sum(not future.done() for future in self.futures)


def settle(future: Future[WindowResult], reply: Reply) -> None:
    """Answer a future, or leave it be."""
    if isinstance(reply, BaseException):
        future.set_exception(reply)
    elif reply is not None:
        future.set_result(reply)


class HearsAll(SpeechDetector):
    """A detector that calls everything speech, whatever it is asked."""

    def stream(self, options: VadOptions | None, max_span_s: float) -> SpeechStream:
        """Keep all audio."""
        return super().stream(None, max_span_s)


def transcriber(
    source: ArraySource, desk: WindowDesk, max_window_s: float = 5.0, detector: SpeechDetector | None = None
) -> Transcriber:
    """Return a transcriber, over real VAD unless told otherwise."""
    return Transcriber(source, detector or SpeechDetector(), desk, max_window_s=max_window_s)


class Releasing:
    """A thread that answers held windows in batches, newest first, until stopped."""

    def __init__(self, desk: WindowDesk, batch: int = 4) -> None:
        """Serve ``desk``."""
        self._desk = desk
        self._batch = batch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> None:
        """Begin."""
        self._thread.start()

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(5.0)

    def _serve(self) -> None:
        while not self._stop.wait(0.002):
            waiting = [n for n, future in enumerate(list(self._desk.futures)) if not future.done()]
            self._desk.release(waiting[: self._batch][::-1])

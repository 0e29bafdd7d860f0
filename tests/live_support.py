"""Speech that can be read off its samples, for the tests of live sessions: no model, and every word is known."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.pipeline_support import ArraySource, WindowDesk
from tympan.audio.spans import FRAME_SAMPLES, SpanFinder
from tympan.audio.vad import SpeechDetector, SpeechStream
from tympan.domain import (
    SAMPLE_RATE_HZ,
    Options,
    Samples,
    Timestamps,
    TokenChance,
    VadOptions,
    WindowResult,
    WindowTask,
    Word,
)
from tympan.live import Ended, Event, Final, LiveLimits, LiveOptions, LiveSession
from tympan.observation import Observer
from tympan.pipeline import RequestContext, Transcriber

WORD_S = 0.4
OPTIONS = Options(language="en", timestamps=Timestamps.WORD)
_LOUDEST = 2000
_HEARD_S = 0.18


def spoken(*words: int) -> Samples:
    """Return speech of numbered words, 0.4 s each, without a pause; a word's number is its loudness."""
    parts = [np.full(round(WORD_S * SAMPLE_RATE_HZ), _LOUDEST + word, dtype=np.int16) for word in words]
    return np.concatenate(parts) if parts else quiet(0.0)


def quiet(seconds: float) -> Samples:
    """Return digital silence."""
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.int16)


def joined(*parts: Samples) -> Samples:
    """Return the parts one after the other."""
    return np.concatenate(parts)


def text_of(words: Iterable[int]) -> str:
    """Return what is read off these words."""
    return " ".join(f"w{word}" for word in words)


def read(task: WindowTask) -> WindowResult:
    """Return what a window says. Of a word that has just begun, only that there is one can be told."""
    samples = task.window.samples
    edges = [0, *(np.flatnonzero(np.diff(samples)) + 1).tolist(), len(samples)]
    words: list[Word] = []
    for begin, end in pairwise(edges):
        if end > begin and samples[begin] >= _LOUDEST:
            known = end - begin >= _HEARD_S * SAMPLE_RATE_HZ
            name = f"w{int(samples[begin]) - _LOUDEST}" if known else "hm"
            words.append(Word(f" {name}", begin / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, 0.9, (len(words),)))
    text = "".join(word.text for word in words)
    return WindowResult(
        text=text,
        tokens=tuple(range(len(words))),
        language=task.params.language or "en",
        language_probabilities=() if task.params.language else (("en", 0.9),),
        avg_logprob=-0.1,
        no_speech_prob=0.0,
        compression_ratio=1.0,
        temperature=task.params.temperature,
        full_context=task.params.full_context,
        words=tuple(words) if task.params.align else (),
        token_chances=tuple(TokenChance(tuple(word.text.encode()), -0.1) for word in words)
        if task.params.token_chances
        else (),
    )


class HearsLoudness(SpeechDetector):
    """A detector to which whatever is loud is speech."""

    def __init__(self) -> None:
        """No model is loaded."""

    def stream(self, options: VadOptions | None, max_span_s: float) -> SpeechStream:
        """Return a stream over the real rules of spans."""
        return _LoudStream(None, SpanFinder(options, max_span_s))


class _LoudStream(SpeechStream):
    def _score(self, samples: Samples) -> NDArray[np.float32]:
        loudest = np.abs(samples.reshape(-1, FRAME_SAMPLES)).max(axis=1)
        scores: NDArray[np.float32] = np.where(loudest > 500, 0.95, 0.02).astype(np.float32)
        return scores


def desk(**knobs: Any) -> WindowDesk:
    """Return a window service that reads."""
    return WindowDesk(**{"reply": read, **knobs})


def opened(
    service: WindowDesk,
    live: LiveOptions | None = None,
    limits: LiveLimits | None = None,
    options: Options = OPTIONS,
    context: RequestContext | None = None,
    clock: Callable[[], float] = time.monotonic,
    observer: Observer | None = None,
) -> LiveSession:
    """Return a session over ``service``."""
    transcriber = Transcriber(ArraySource([]), HearsLoudness(), service, observer=observer)
    return LiveSession(transcriber, options, context or RequestContext("live-test"), live, limits, clock)


def feed(session: LiveSession, samples: Samples, block_s: float = 0.1) -> None:
    """Feed everything in blocks, each once the one before has been heard: so no session falls behind."""
    step = round(block_s * SAMPLE_RATE_HZ)
    for at in range(0, len(samples), step):
        session.feed(samples[at : at + step], timeout_s=60.0)
        eventually(lambda: not session._inbox.waiting_samples)


def heard(session: LiveSession, samples: Samples, block_s: float = 0.1) -> list[Event]:
    """Feed everything, finish, and return all events."""
    events: list[Event] = []
    reader = threading.Thread(target=lambda: events.extend(session.events()), daemon=True)
    reader.start()
    feed(session, samples, block_s)
    session.finish()
    reader.join(60.0)
    assert not reader.is_alive()
    return events


def until(session: LiveSession, wanted: type[Event], limit_s: float = 30.0) -> list[Event]:
    """Return events up to the first ``wanted`` one."""
    events: list[Event] = []
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        event = session.next_event(0.1)
        if event is not None:
            events.append(event)
        if isinstance(event, wanted):
            return events
    raise AssertionError(f"no {wanted.__name__} among {events}")


def finals(events: Sequence[Event]) -> list[Final]:
    """Return the finals."""
    return [event for event in events if isinstance(event, Final)]


def whole(events: Sequence[Event]) -> str:
    """Return the text that the session ended with."""
    last = events[-1]
    assert isinstance(last, Ended)
    return last.transcript.text


def eventually(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about"
        time.sleep(0.001)

"""A live session over a real model: what is said comes while it is said, and ends as a file's text would."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.live_support import feed, finals, joined, quiet
from tests.pipeline_support import SOURCE, ArraySource
from tests.real_model import clip, plain, spec
from tympan.audio.vad import SpeechDetector
from tympan.batching.batcher import Batcher
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, Timestamps
from tympan.live import Ended, LiveSession, Partial, SpeechStopped
from tympan.pipeline import RequestContext, Transcriber

pytestmark = pytest.mark.model

OPTIONS = Options(language="en", timestamps=Timestamps.WORD)


@pytest.fixture(scope="module")
def batcher() -> Iterator[Batcher]:
    """Return a batcher over tiny.en in a process of its own."""
    one = Batcher(spec("onnx", "tiny.en"))
    one.start()
    try:
        one.wait_ready(60.0)
        yield one
    finally:
        one.close(0.0)


def talk() -> Samples:
    """Return two clips with a second between them."""
    return joined(clip("quick_brown_fox"), quiet(1.2), clip("counting"), quiet(1.2))


def test_the_text_is_the_one_of_the_file(batcher: Batcher) -> None:
    """Two utterances or more, each told as it ends: the same words as from a file, at the same times."""
    detector, audio = SpeechDetector(), talk()
    offline = Transcriber(ArraySource([audio]), detector, batcher).transcribe(SOURCE, OPTIONS, RequestContext("file"))
    with LiveSession(Transcriber(ArraySource([]), detector, batcher), OPTIONS, RequestContext("live")) as session:
        feed(session, audio)
        session.finish()
        events = list(session.events())
    last = events[-1]
    assert isinstance(last, Ended)
    assert plain(last.transcript.text) == plain(offline.text)
    assert len(finals(events)) >= 2
    ends = np.array([[word.end_s for word in text.words] for text in (last.transcript, offline)])
    assert float(np.median(np.abs(ends[0] - ends[1]))) < 0.1


def test_a_partial_comes_before_the_speaker_stops(batcher: Batcher) -> None:
    """At the pace of speech, words are shown while others are still being said."""
    audio = joined(clip("quick_brown_fox"), quiet(1.2))
    started_s = time.monotonic()
    with LiveSession(Transcriber(ArraySource([]), SpeechDetector(), batcher), OPTIONS, RequestContext("r")) as session:
        for at in range(0, len(audio), 1600):
            time.sleep(max(0.0, started_s + at / SAMPLE_RATE_HZ - time.monotonic()))
            session.feed(audio[at : at + 1600], timeout_s=20.0)
        session.finish()
        events = list(session.events())
    kinds = [type(event) for event in events]
    assert kinds.index(Partial) < kinds.index(SpeechStopped)
    shown = next(event for event in events if isinstance(event, Partial))
    assert shown.text

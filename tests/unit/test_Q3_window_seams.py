"""Clips joined with known silences: every clip's words come out once, where they were said, however windows fall."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from tests.pipeline_support import SOURCE, ArraySource, WindowDesk, transcriber
from tests.real_model import clip
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, Timestamps, Transcript
from tympan.engine import factory, models
from tympan.engine.base import Engine, EngineSpec
from tympan.pipeline import RequestContext

pytestmark = pytest.mark.model

PLAN = [
    ("quick_brown_fox", 0.4),
    ("hello_world", 1.5),
    ("quick_brown_fox", 3.0),
    ("quick_brown_fox", 0.2),
    ("hello_world", 6.0),
    ("quick_brown_fox", 2.5),
]
"""Which clip, and how many seconds of silence after it."""

SAID = {
    "quick_brown_fox": ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"],
    "hello_world": ["hello", "world"],
}


@dataclass(frozen=True)
class Stitched:
    """The joined clips, and where each of them lies in seconds."""

    samples: Samples
    clips: tuple[tuple[str, float, float], ...]


@pytest.fixture(scope="module")
def engine(tiny_en: models.ResolvedModel) -> Iterator[Engine]:
    """Give the smallest real model."""
    loaded = factory.create(EngineSpec("ct2", "tiny.en", path=str(tiny_en.path), threads=2))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def stitched() -> Stitched:
    """Join the clips as planned."""
    parts, clips, at = [np.zeros(SAMPLE_RATE_HZ, np.int16)], list[tuple[str, float, float]](), 1.0
    for name, gap_s in PLAN:
        audio = clip(name)
        clips.append((name, at, at + len(audio) / SAMPLE_RATE_HZ))
        parts += [audio, np.zeros(round(gap_s * SAMPLE_RATE_HZ), np.int16)]
        at = sum(map(len, parts)) / SAMPLE_RATE_HZ
    return Stitched(np.concatenate(parts), tuple(clips))


def transcribe(engine: Engine, stitched: Stitched, options: Options, max_window_s: float) -> tuple[Transcript, int]:
    """Return the transcript, and into how many windows the audio went."""
    desk = WindowDesk(lambda task: engine.transcribe([task])[0], info=engine.info)
    source = ArraySource(np.array_split(stitched.samples, 7))
    service = transcriber(source, desk, max_window_s=max_window_s)
    transcript = service.transcribe(SOURCE, options, RequestContext("seams"))
    return transcript, len({task.window.index for task in desk.tasks})


def bag(text: str) -> Counter[str]:
    """Return the words of a text with their counts."""
    return Counter(re.findall(r"[a-z']+", text.lower()))


@pytest.mark.parametrize(("max_window_s", "at_least_windows"), [(28.0, 2), (6.0, 4)])
@pytest.mark.parametrize("keep_all", [False, True])
def test_Q3_every_word_comes_out_once(
    engine: Engine, stitched: Stitched, max_window_s: float, at_least_windows: int, *, keep_all: bool
) -> None:
    """Few long windows or many short ones, packed speech or all audio: no word is lost at a seam or said twice."""
    options = Options(language="en", timestamps=Timestamps.WORD, vad=None if keep_all else Options().vad)
    transcript, n_windows = transcribe(engine, stitched, options, max_window_s)
    assert n_windows >= at_least_windows
    expected = Counter(word for name, _ in PLAN for word in SAID[name])
    heard = bag(transcript.text)
    wrong = (expected - heard).total() + (heard - expected).total()
    assert wrong <= 2, transcript.text
    assert heard["fox"] == expected["fox"], transcript.text
    words = transcript.words
    assert all(before.end_s <= after.start_s + 0.01 for before, after in pairwise(words))


def test_Q3_every_word_has_the_time_at_which_it_was_said(engine: Engine, stitched: Stitched) -> None:
    """Times count in the source, although silences were cut out before decoding."""
    options = Options(language="en", timestamps=Timestamps.WORD)
    transcript, _ = transcribe(engine, stitched, options, 28.0)
    foxes = [word for word in transcript.words if "fox" in word.text.lower()]
    spoken = [(start_s, end_s) for name, start_s, end_s in stitched.clips if name == "quick_brown_fox"]
    assert len(foxes) == len(spoken)
    for fox, (start_s, end_s) in zip(foxes, spoken, strict=True):
        assert start_s < fox.start_s < fox.end_s < end_s

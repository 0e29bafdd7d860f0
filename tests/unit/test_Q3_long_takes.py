"""Speech without a pause to cut in: windows end inside it, and no word is lost there or comes out twice."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.seam_counts import ELSEWHERE, Alignment, Part, Tally, parts_of, tally, zones
from tests.pipeline_support import SOURCE, ArraySource, WindowDesk, transcriber
from tympan.audio.spans import FRAME_SAMPLES, SpanFinder
from tympan.audio.windows import SampleBuffer, WindowPacker
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, Timestamps, VadOptions
from tympan.engine import factory, models
from tympan.engine.base import Engine, EngineSpec
from tympan.pipeline import RequestContext
from tympan.quality.scoring import units

TAKE_S = 95.0
_QUIET_DB = -45.0
_BLOCK = SAMPLE_RATE_HZ // 100
_THRESHOLD = VadOptions().threshold


@dataclass(frozen=True)
class Take:
    """Sentences read one after the other, and what they say."""

    samples: Samples
    text: str


@pytest.fixture(scope="module")
def engine(tiny_en: models.ResolvedModel) -> Iterator[Engine]:
    """Give the smallest real model."""
    loaded = factory.create(EngineSpec("ct2", "tiny.en", path=str(tiny_en.path), threads=2))
    yield loaded
    loaded.close()


@cache
def sentences() -> tuple[tuple[Samples, str], ...]:
    """Return the sentences that come with the program, with half a second after each, at 16 kHz."""
    folder = Path(str(files("tympan.bench")))
    samples, rate_hz = soundfile.read(folder / "speech.opus", dtype="int16")
    assert rate_hz == SAMPLE_RATE_HZ
    told = json.loads((folder / "speech.json").read_text())["sentences"]
    starts = [round(one["start_s"] * SAMPLE_RATE_HZ) for one in told]
    parts = np.split(samples, starts[1:])
    return tuple((part, one["text"]) for part, one in zip(parts, told, strict=True))


def long_take() -> Take:
    """Return the sentences, and again from the first on, as far as time allows."""
    chosen, length = list[tuple[Samples, str]](), 0
    while length < TAKE_S * SAMPLE_RATE_HZ:
        one = sentences()[len(chosen) % len(sentences())]
        chosen.append(one)
        length += len(one[0])
    return Take(np.concatenate([samples for samples, _ in chosen]), " ".join(text for _, text in chosen))


def without_a_breath(take: Take) -> Take:
    """Return a take without any hundredth of a second that is quieter than its loudest by 45 dB."""
    blocks = take.samples[: len(take.samples) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    level = np.sqrt((blocks.astype(np.float64) ** 2).mean(axis=1))
    return Take(blocks[level > level.max() * 10 ** (_QUIET_DB / 20)].reshape(-1), take.text)


def heard(engine: Engine, take: Take, max_window_s: float) -> list[Part]:
    """Return what the pipeline makes of a take, cut at the seams."""
    desk = WindowDesk(lambda task: engine.transcribe([task])[0], info=engine.info)
    service = transcriber(ArraySource(np.array_split(take.samples, 7)), desk, max_window_s=max_window_s)
    options = Options(language="en", beam_size=1, timestamps=Timestamps.WORD)
    context = RequestContext("takes")
    return parts_of(service.decode(service.listen(options).windows(SOURCE, context), options, context).parts)


def judged(take: Take, parts: list[Part]) -> tuple[Tally, Tally]:
    """Return what is wrong within three words of the cuts, and elsewhere."""
    alignment = Alignment(units(take.text, "en"), units("".join(part.text for part in parts), "en"))
    found = tally(alignment, zones(alignment, parts, "en"))
    return found["cut"], found[ELSEWHERE]


@pytest.mark.model
def test_Q3_a_long_take_loses_no_word_where_it_is_cut(engine: Engine) -> None:
    """A minute and a half without a pause of two seconds: every cut lies inside speech, every word comes out once."""
    take = long_take()
    parts = heard(engine, take, 28.0)
    assert [part.kind for part in parts] == ["start", *["cut"] * (len(parts) - 1)]
    assert len(parts) >= 4
    near, elsewhere = judged(take, parts)
    assert near.units == 6 * (len(parts) - 1)
    assert near.lost_or_added == 0, parts
    assert near.substitutions + elsewhere.substitutions + elsewhere.lost_or_added <= 6, parts


@pytest.mark.model
def test_Q3_speech_without_a_breath_is_cut_in_the_middle_of_a_sentence_and_stays_whole(engine: Engine) -> None:
    """Words run into each other and windows are short: a cut may cost a syllable, and with it a word, and no more."""
    take = without_a_breath(Take(np.concatenate([s for s, _ in sentences()]), " ".join(t for _, t in sentences())))
    parts = heard(engine, take, 10.0)
    assert [part.kind for part in parts] == ["start", *["cut"] * (len(parts) - 1)]
    assert len(parts) >= 5
    ends = [part.text.rstrip()[-1:] for part in parts[:-1]]
    assert any(mark not in ".?!" for mark in ends) or any(part.text.strip()[0].islower() for part in parts[1:])
    near, elsewhere = judged(take, parts)
    assert near.lost_or_added <= len(parts) - 1, parts
    assert near.repeats == 0, parts
    assert near.substitutions + elsewhere.substitutions + elsewhere.lost_or_added <= 25, parts


@settings(max_examples=50, deadline=None)
@given(
    stretches=st.lists(
        st.tuples(st.sampled_from([0.95, 0.7, 0.4, 0.02]), st.integers(1, 400)), min_size=1, max_size=20
    ),
    max_window_s=st.sampled_from([3.0, 10.0, 28.0]),
    keep_all=st.booleans(),
)
def test_Q3_every_sample_of_speech_is_in_one_window_and_none_is_in_two(
    stretches: list[tuple[float, int]], max_window_s: float, *, keep_all: bool
) -> None:
    """Windows never overlap, so nothing is merged: what is heard once can only come out once."""
    scores = [score for score, n_frames in stretches for _ in range(n_frames)]
    options = None if keep_all else VadOptions(min_speech_ms=0)
    source = np.arange(len(scores) * FRAME_SAMPLES, dtype=np.int64).astype(np.int16)
    finder, buffer, packer = SpanFinder(options, max_window_s), SampleBuffer(), WindowPacker(max_window_s, 4.0)
    buffer.push(source)
    windows = [*packer.add(finder.push(scores) + finder.finish(), buffer), *packer.finish()]
    times = np.zeros(len(source), dtype=np.int64)
    for window in windows:
        assert len(window.samples) <= max_window_s * SAMPLE_RATE_HZ
        for piece in window.pieces:
            place = slice(piece.source_sample, piece.source_sample + piece.n_samples)
            times[place] += 1
            there = window.samples[piece.window_sample : piece.window_sample + piece.n_samples]
            assert np.array_equal(there, source[place])
    assert times.max(initial=0) <= 1
    spoken = np.repeat([keep_all or score >= _THRESHOLD for score in scores], FRAME_SAMPLES)
    assert times[spoken].all()

"""Silero VAD over a stream: the same spans for any chunks, the same as the reference, nothing in noise, flat memory."""

import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from faster_whisper import vad as reference

from tests.conftest import SpokenClip
from tympan.audio.spans import FRAME_SAMPLES
from tympan.audio.vad import SpeechDetector
from tympan.domain import SAMPLE_RATE_HZ, Samples, Span, VadOptions

MAX_SPAN_S = 28.0
NEVER_CUT_S = 600.0


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    """Give the model, loaded once."""
    return SpeechDetector()


@pytest.fixture(scope="module")
def conversation(spoken_clips: tuple[SpokenClip, ...]) -> Samples:
    """Return nine voices with silences of 0.2 to 4.2 s between them, and a silent end."""
    parts = list[Samples]()
    for n, clip in enumerate(spoken_clips[::3]):
        parts += [silence(0.2 + 0.5 * n), read(clip)]
    return np.concatenate([*parts, silence(3.0)])


def read(clip: SpokenClip) -> Samples:
    """Return a clip's samples."""
    audio, rate = soundfile.read(clip.path, dtype="float32")
    assert rate == SAMPLE_RATE_HZ
    return (np.asarray(audio) * 32767).astype(np.int16)


def silence(seconds: float) -> Samples:
    """Return digital silence."""
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.int16)


def noise(seconds: float, amplitude: float = 1000.0) -> Samples:
    """Return white noise of the given standard deviation."""
    drawn = np.random.default_rng(7).normal(0, amplitude, round(seconds * SAMPLE_RATE_HZ))
    return drawn.clip(-32768, 32767).astype(np.int16)


def hum(seconds: float) -> Samples:
    """Return a 50 Hz hum."""
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (8000 * np.sin(2 * np.pi * 50 * t)).astype(np.int16)


def find(
    detector: SpeechDetector, chunks: Iterable[Samples], options: VadOptions | None, max_span_s: float = MAX_SPAN_S
) -> list[Span]:
    """Return the spans of a stream."""
    stream = detector.stream(options, max_span_s)
    spans = [span for chunk in chunks for span in stream.push(chunk)]
    return spans + stream.finish()


def chunked(samples: Samples, seed: int, longest: int) -> Iterator[Samples]:
    """Cut samples into chunks of random lengths, some of them empty."""
    chance, at = random.Random(seed), 0  # noqa: S311 - repeatable, not secret
    while at < len(samples):
        n = chance.randint(0, longest)
        yield samples[at : at + n]
        at += n


def positions(spans: Iterable[Span]) -> list[tuple[int, int]]:
    """Return where the spans lie."""
    return [(span.start_sample, span.end_sample) for span in spans]


@pytest.mark.parametrize("longest", [700, 5000, 80_000, 300_000])
def test_chunks_make_no_difference(detector: SpeechDetector, conversation: Samples, longest: int) -> None:
    """Pushing a source bit by bit finds the same spans as pushing it at once."""
    options = VadOptions(min_silence_ms=300)
    part = conversation[: 20 * SAMPLE_RATE_HZ] if longest < 5000 else conversation
    whole = find(detector, [part], options)
    assert len(whole) >= 3
    assert positions(find(detector, chunked(part, longest, longest), options)) == positions(whole)


@pytest.mark.parametrize(("min_silence_ms", "speech_pad_ms"), [(2000, 400), (500, 100), (2000, 0)])
def test_spans_agree_with_the_reference(
    detector: SpeechDetector, conversation: Samples, min_silence_ms: int, speech_pad_ms: int
) -> None:
    """The same model with faster-whisper's own rules gives the same speech, to two frames."""
    options = VadOptions(min_silence_ms=min_silence_ms, speech_pad_ms=speech_pad_ms)
    expected = reference.get_speech_timestamps(
        conversation.astype(np.float32) / 32768.0,
        reference.VadOptions(
            min_speech_duration_ms=options.min_speech_ms,
            min_silence_duration_ms=min_silence_ms,
            speech_pad_ms=speech_pad_ms,
        ),
    )
    found = positions(find(detector, [conversation], options, NEVER_CUT_S))
    assert len(found) == len(expected) >= 2
    for (start, end), timestamps in zip(found, expected, strict=True):
        assert abs(start - timestamps["start"]) <= 2 * FRAME_SAMPLES
        assert abs(end - timestamps["end"]) <= 2 * FRAME_SAMPLES


def test_every_voice_is_found_between_its_silences(
    detector: SpeechDetector, spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """Each of three clips, five seconds apart, lies in a span of its own that reaches about as far as the clip."""
    parts, clips, at = [silence(5)], list[tuple[int, int]](), 5 * SAMPLE_RATE_HZ
    for clip in spoken_clips[:3]:
        audio = read(clip)
        clips.append((at, at + len(audio)))
        parts += [audio, silence(5)]
        at += len(audio) + 5 * SAMPLE_RATE_HZ
    spans = find(detector, [np.concatenate(parts)], VadOptions())
    assert len(spans) == 3
    for (start, end), span in zip(clips, spans, strict=True):
        assert start - SAMPLE_RATE_HZ < span.start_sample < start + SAMPLE_RATE_HZ
        assert end - SAMPLE_RATE_HZ < span.end_sample < end + SAMPLE_RATE_HZ
        assert span.peak > 0.9


@pytest.mark.parametrize("make", [silence, noise, hum])
def test_where_nobody_speaks_nothing_is_found(detector: SpeechDetector, make: Callable[[float], Samples]) -> None:
    """Silence, white noise and hum are not speech, and nothing of them is counted as speech."""
    stream = detector.stream(VadOptions(), MAX_SPAN_S)
    assert stream.push(make(60)) + stream.finish() == []
    assert stream.speech_samples == 0


def test_without_options_everything_is_kept_to_the_last_sample(detector: SpeechDetector, conversation: Samples) -> None:
    """Spans touch, start at zero and reach the end; only the last frame's padding may lie beyond it."""
    odd = conversation[: len(conversation) // FRAME_SAMPLES * FRAME_SAMPLES - 100]
    spans = find(detector, [odd], None, 10.0)
    assert spans[0].start_sample == 0
    assert all(before.end_sample == after.start_sample for before, after in pairwise(spans))
    assert 0 <= spans[-1].end_sample - len(odd) < FRAME_SAMPLES
    assert all(span.end_sample - span.start_sample <= 10 * SAMPLE_RATE_HZ for span in spans)


def test_cuts_of_kept_audio_fall_into_silence(detector: SpeechDetector, conversation: Samples) -> None:
    """Where pauses lie within reach, no cut goes through a word."""
    spans = find(detector, [conversation], None, MAX_SPAN_S)
    cuts = [span.end_sample for span in spans[:-1]]
    assert cuts
    loudest = int(np.abs(conversation).max())
    assert all(np.abs(conversation[cut - 160 : cut + 160]).max() < loudest / 20 for cut in cuts)


def test_kept_audio_tells_how_likely_speech_is(detector: SpeechDetector, conversation: Samples) -> None:
    """A span of noise has a low peak, a span with a voice a high one."""
    assert find(detector, [noise(10)], None)[0].peak < VadOptions().threshold
    assert find(detector, [conversation[: 10 * SAMPLE_RATE_HZ]], None)[0].peak > 0.9


def test_streams_do_not_share_state(detector: SpeechDetector, conversation: Samples) -> None:
    """Two requests that take turns on one model each find what they would find alone."""
    options = VadOptions(min_silence_ms=300)
    other = conversation[::-1].copy()
    alone = find(detector, [conversation], options), find(detector, [other], options)
    streams = detector.stream(options, MAX_SPAN_S), detector.stream(options, MAX_SPAN_S)
    found: tuple[list[Span], list[Span]] = ([], [])
    for at in range(0, len(conversation), 10_000):
        for stream, samples, spans in zip(streams, (conversation, other), found, strict=True):
            spans.extend(stream.push(samples[at : at + 10_000]))
    for stream, spans in zip(streams, found, strict=True):
        spans.extend(stream.finish())
    assert tuple(map(positions, found)) == tuple(map(positions, alone))


def test_no_audio_gives_no_spans(detector: SpeechDetector) -> None:
    """An empty stream and one shorter than a frame end quietly."""
    assert find(detector, [], VadOptions()) == []
    assert find(detector, [silence(0.01)], VadOptions()) == []
    assert positions(find(detector, [silence(0.01)], None)) == [(0, FRAME_SAMPLES)]


def peak_bytes(detector: SpeechDetector, chunk: Samples, n_chunks: int, options: VadOptions | None) -> int:
    """Return the most memory that a stream of equal chunks held at a time."""
    stream = detector.stream(options, MAX_SPAN_S)
    stream.push(chunk)
    tracemalloc.start()
    try:
        for _ in range(n_chunks):
            stream.push(chunk)
        stream.finish()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.long
@pytest.mark.parametrize("options", [None, VadOptions()])
def test_an_hour_in_chunks_needs_no_more_memory_than_a_minute(
    detector: SpeechDetector, conversation: Samples, options: VadOptions | None
) -> None:
    """State is one frame, one LSTM state and one span: length does not count."""
    chunk = conversation[: 5 * SAMPLE_RATE_HZ]
    assert peak_bytes(detector, chunk, 720, options) < peak_bytes(detector, chunk, 24, options) + 200_000


@pytest.mark.parametrize("options", [None, VadOptions()])
def test_minutes_in_chunks_need_no_more_memory_than_one(
    detector: SpeechDetector, conversation: Samples, options: VadOptions | None
) -> None:
    """As for an hour, in a few seconds."""
    chunk = conversation[: 5 * SAMPLE_RATE_HZ]
    assert peak_bytes(detector, chunk, 72, options) < peak_bytes(detector, chunk, 12, options) + 200_000

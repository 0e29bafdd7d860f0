"""Scores to spans: hysteresis, shortest speech and silence, padding, the longest span and where it is cut."""

import random
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tympan.audio.spans import FRAME_SAMPLES, SpanFinder
from tympan.domain import SAMPLE_RATE_HZ, Span, VadOptions

MAX_SPAN_S = 10.0
FRAME_MS = 32
BARE = VadOptions(min_speech_ms=0, min_silence_ms=10 * FRAME_MS, speech_pad_ms=0)

OPTIONS = st.sampled_from(
    [
        None,
        VadOptions(),
        BARE,
        VadOptions(min_silence_ms=100),
        VadOptions(min_speech_ms=500, min_silence_ms=500, speech_pad_ms=200),
    ]
)
STRETCHES = st.lists(st.tuples(st.sampled_from([0.9, 0.6, 0.4, 0.05]), st.integers(1, 120)), min_size=1, max_size=30)


def scores_of(stretches: list[tuple[float, int]]) -> list[float]:
    """Return one score per frame."""
    return [score for score, n_frames in stretches for _ in range(n_frames)]


def find(scores: list[float], options: VadOptions | None, max_span_s: float = MAX_SPAN_S) -> list[Span]:
    """Return the spans of scores pushed all at once."""
    finder = SpanFinder(options, max_span_s)
    return finder.push(scores) + finder.finish()


def frames(spans: list[Span]) -> list[tuple[int, int]]:
    """Return the spans' bounds in frames."""
    assert all(span.start_sample % FRAME_SAMPLES == span.end_sample % FRAME_SAMPLES == 0 for span in spans)
    return [(span.start_sample // FRAME_SAMPLES, span.end_sample // FRAME_SAMPLES) for span in spans]


@settings(max_examples=150, deadline=None)
@given(STRETCHES, OPTIONS, st.sampled_from([1.5, 10.0, 28.0]))
def test_spans_are_in_order_apart_and_no_longer_than_allowed(
    stretches: list[tuple[float, int]], options: VadOptions | None, max_span_s: float
) -> None:
    """Whatever the scores: no overlap, nothing empty, nothing too long, nothing beyond the audio."""
    scores = scores_of(stretches)
    spans = find(scores, options, max_span_s)
    assert all(before.end_sample <= after.start_sample for before, after in pairwise(spans))
    assert all(0 < span.end_sample - span.start_sample <= max_span_s * SAMPLE_RATE_HZ for span in spans)
    assert all(span.start_sample >= 0 and span.end_sample <= len(scores) * FRAME_SAMPLES for span in spans)


@settings(max_examples=150, deadline=None)
@given(STRETCHES, OPTIONS, st.integers(0, 2**32))
def test_spans_do_not_depend_on_chunks_and_never_reach_behind_what_is_settled(
    stretches: list[tuple[float, int]], options: VadOptions | None, seed: int
) -> None:
    """Any chunking gives the same spans, and audio before ``settled_sample`` may be forgotten at once."""
    scores, chance = scores_of(stretches), random.Random(seed)  # noqa: S311 - repeatable, not secret
    finder, spans, at, settled = SpanFinder(options, MAX_SPAN_S), list[Span](), 0, 0
    while at < len(scores):
        n_frames = chance.randint(1, 200)
        found = finder.push(scores[at : at + n_frames])
        assert all(span.start_sample >= settled for span in found)
        assert finder.settled_sample >= settled
        spans, at, settled = spans + found, at + n_frames, finder.settled_sample
    last = finder.finish()
    assert all(span.start_sample >= settled for span in last)
    assert spans + last == find(scores, options)


@settings(max_examples=150, deadline=None)
@example([(0.9, 150), (0.05, 20), (0.9, 270)], VadOptions(min_silence_ms=100))
@given(STRETCHES, OPTIONS)
def test_what_is_not_settled_is_never_more_than_a_span_and_its_margins(
    stretches: list[tuple[float, int]], options: VadOptions | None
) -> None:
    """So the audio kept for a request is bounded, however long it talks or keeps silent.

    A span waits for what follows it only until that is certain to be speech: the margins are its padding, the gap, and
    the longest of the shortest speech or silence.
    """
    scores = scores_of(stretches)
    finder = SpanFinder(options, MAX_SPAN_S)
    chosen = options or VadOptions(speech_pad_ms=0)
    wait_ms = 3 * chosen.speech_pad_ms + chosen.min_speech_ms + chosen.min_silence_ms + 5 * FRAME_MS
    margin = wait_ms / 1000 * SAMPLE_RATE_HZ
    for n_frames, score in enumerate(scores, start=1):
        finder.push([score])
        assert n_frames * FRAME_SAMPLES - finder.settled_sample <= MAX_SPAN_S * SAMPLE_RATE_HZ + margin


@settings(max_examples=150, deadline=None)
@given(STRETCHES)
def test_without_options_all_audio_is_kept_exactly_once(stretches: list[tuple[float, int]]) -> None:
    """Keeping everything leaves no gap at the start, between spans or at the end."""
    scores = scores_of(stretches)
    spans = find(scores, None)
    assert spans[0].start_sample == 0
    assert spans[-1].end_sample == len(scores) * FRAME_SAMPLES
    assert all(before.end_sample == after.start_sample for before, after in pairwise(spans))


@settings(max_examples=150, deadline=None)
@given(STRETCHES)
def test_every_loud_frame_of_long_enough_speech_is_in_a_span(stretches: list[tuple[float, int]]) -> None:
    """With no minimum length, a frame at or over the threshold is never lost."""
    scores = scores_of(stretches)
    inside = {frame for start, end in frames(find(scores, BARE)) for frame in range(start, end)}
    assert {frame for frame, score in enumerate(scores) if score >= BARE.threshold} <= inside


@pytest.mark.parametrize("options", [None, VadOptions()])
def test_no_frames_give_no_spans(options: VadOptions | None) -> None:
    """An empty source ends quietly."""
    assert find([], options) == []


def test_speech_begins_at_the_threshold_and_goes_on_a_little_below_it() -> None:
    """0.5 starts a span, 0.35 and more continue it, less ends it; 0.49 alone starts nothing."""
    scores = [0.49] * 5 + [0.5] * 5 + [0.36] * 20 + [0.3] * 20
    assert frames(find(scores, BARE)) == [(5, 30)]
    assert find([0.49] * 50, BARE) == []


@pytest.mark.parametrize(("silent_frames", "expected"), [(9, [(0, 29)]), (10, [(0, 10), (20, 30)])])
def test_a_silence_ends_speech_only_from_the_shortest_allowed_on(
    silent_frames: int, expected: list[tuple[int, int]]
) -> None:
    """Ten frames are the minimum here: nine are bridged."""
    scores = [0.9] * 10 + [0.0] * silent_frames + [0.9] * 10
    assert frames(find(scores, BARE)) == expected


@pytest.mark.parametrize(("spoken_frames", "expected"), [(4, []), (5, [(20, 25)])])
def test_a_burst_shorter_than_the_shortest_speech_is_dropped(
    spoken_frames: int, expected: list[tuple[int, int]]
) -> None:
    """Five frames are the minimum here; neither a click's span nor its samples are counted."""
    options = VadOptions(min_speech_ms=5 * FRAME_MS, min_silence_ms=10 * FRAME_MS, speech_pad_ms=0)
    finder = SpanFinder(options, MAX_SPAN_S)
    spans = finder.push([0.0] * 20 + [0.9] * spoken_frames + [0.0] * 20) + finder.finish()
    assert frames(spans) == expected
    assert finder.speech_samples == sum(end - start for start, end in expected) * FRAME_SAMPLES


def padded(silent_frames: int, lead: int = 20, tail: int = 20) -> list[tuple[int, int]]:
    """Return the spans of two words, five frames of padding each, with so much silence between them."""
    options = VadOptions(min_speech_ms=0, min_silence_ms=4 * FRAME_MS, speech_pad_ms=5 * FRAME_MS)
    scores = [0.0] * lead + [0.9] * 10 + [0.0] * silent_frames + [0.9] * 10 + [0.0] * tail
    return frames(find(scores, options))


def test_spans_are_padded_on_both_sides() -> None:
    """In a wide gap both neighbours get their padding in full, and silence is left between them."""
    assert padded(30) == [(15, 35), (55, 75)]


def test_padding_shares_a_narrow_gap() -> None:
    """Eight frames for twice five of padding: four each, and the spans touch."""
    assert padded(8) == [(15, 34), (34, 53)]


def test_padding_ends_with_the_audio() -> None:
    """There is nothing before the first frame and nothing after the last."""
    assert padded(30, lead=2, tail=3) == [(0, 17), (37, 55)]


def test_padding_is_not_counted_as_speech() -> None:
    """The account of speech knows the frames that were scored so."""
    finder = SpanFinder(VadOptions(), MAX_SPAN_S)
    spans = finder.push([0.0] * 100 + [0.9] * 40 + [0.0] * 100) + finder.finish()
    assert finder.speech_samples == 40 * FRAME_SAMPLES
    assert frames(spans) == [(88, 152)]


def test_long_speech_is_cut_at_the_lowest_score_of_its_later_half() -> None:
    """The dip in the earlier half is deeper, but cutting there would leave a short piece."""
    scores = [0.9] * 100
    scores[20], scores[70], scores[80] = 0.36, 0.4, 0.45
    assert frames(find(scores, BARE, max_span_s=90 * FRAME_MS / 1000)) == [(0, 70), (70, 100)]


def test_a_cut_gets_no_padding_but_the_outer_ends_do() -> None:
    """At a cut the pieces touch: nothing is heard twice and nothing is lost."""
    options = VadOptions(min_speech_ms=0, min_silence_ms=4 * FRAME_MS, speech_pad_ms=5 * FRAME_MS)
    scores = [0.0] * 20 + [0.9] * 60 + [0.4] + [0.9] * 39 + [0.0] * 20
    assert frames(find(scores, options, max_span_s=100 * FRAME_MS / 1000)) == [(15, 80), (80, 125)]


def test_the_rest_after_a_cut_is_kept_however_short() -> None:
    """The shortest speech is a rule about clicks, not about the end of a long sentence."""
    options = VadOptions(min_speech_ms=50 * FRAME_MS, min_silence_ms=10 * FRAME_MS, speech_pad_ms=0)
    scores = [0.9] * 88 + [0.4] + [0.9] * 3 + [0.0] * 20
    assert frames(find(scores, options, max_span_s=90 * FRAME_MS / 1000)) == [(0, 88), (88, 92)]


def test_a_span_knows_its_highest_score() -> None:
    """Speech and the quiet around it keep their own peaks, before a cut and after it."""
    scores = [0.6] * 60 + [0.4] + [0.95] * 60 + [0.0] * 20 + [0.7] * 20
    spans = find(scores, BARE, max_span_s=90 * FRAME_MS / 1000)
    assert [round(span.peak, 2) for span in spans] == [0.6, 0.95, 0.7]
    assert [round(span.peak, 2) for span in find([0.1] * 50, None)] == [0.1]


def test_padding_never_reaches_back_over_a_cut() -> None:
    """Only silence followed the cut, and the next word begins nearer to it than its padding is long."""
    options = VadOptions(min_speech_ms=0, min_silence_ms=4 * FRAME_MS, speech_pad_ms=5 * FRAME_MS)
    scores = [0.9] * 88 + [0.0] * 4 + [0.9] * 10 + [0.0] * 20
    assert frames(find(scores, options, max_span_s=100 * FRAME_MS / 1000)) == [(0, 88), (88, 107)]

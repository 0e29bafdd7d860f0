"""Times of words and the pauses between them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.domain import SAMPLE_RATE_HZ, Samples, Word
from tympan.engine.pauses import BASE_HEADS, TINY_EN_HEADS, Quiet, lead_s, quiets, settled

LOUD, SILENT = 8000.0, 0.0
SPOKEN = ((LOUD, 1.0), (SILENT, 0.4), (LOUD, 1.0))


def sound(*parts: tuple[float, float], noise: float = 0.0) -> Samples:
    """Return stretches of a tone, each of an amplitude and so many seconds, in steady noise."""
    amplitude = np.concatenate([np.full(round(seconds * SAMPLE_RATE_HZ), height) for height, seconds in parts])
    tone = np.sin(np.arange(len(amplitude)) * (2 * np.pi * 300 / SAMPLE_RATE_HZ)) * amplitude
    hiss = np.random.default_rng(1).normal(0.0, 1.0, len(amplitude)) * noise
    samples: Samples = (tone + hiss).astype(np.int16)
    return samples


def words(*bounds_s: float) -> list[Word]:
    """Return words that last from one of ``bounds_s`` to the next."""
    return [Word(f" w{i}", start, end, 0.5, (i,)) for i, (start, end) in enumerate(pairwise(bounds_s))]


def times(found: tuple[Word, ...]) -> list[tuple[float, float]]:
    """Return starts and ends in seconds, to the millisecond."""
    return [(round(word.start_s, 3), round(word.end_s, 3)) for word in found]


def stretches(found: list[Quiet]) -> list[tuple[float, float]]:
    """Return starts and ends in seconds, to the millisecond."""
    return [(round(one.start_s, 3), round(one.end_s, 3)) for one in found]


@pytest.mark.parametrize("boundary_s", [0.85, 1.0, 1.2, 1.4, 1.45])
def test_words_end_and_start_at_the_edges_of_a_pause(boundary_s: float) -> None:
    """Wherever in the pause, or shortly beside it, attention passed from one word to the next."""
    assert times(settled(words(0.0, boundary_s, 2.4), sound(*SPOKEN), 0.0)) == [(0.0, 1.0), (1.4, 2.4)]


@pytest.mark.parametrize("boundary_s", [0.84 - 0.01, 1.46 + 0.01])
def test_a_boundary_far_from_a_pause_is_not_drawn_to_it(boundary_s: float) -> None:
    """The reach is short, and shorter after the pause: a word that starts there has begun."""
    assert times(settled(words(0.0, boundary_s, 2.4), sound(*SPOKEN), 0.0)) == [(0.0, boundary_s), (boundary_s, 2.4)]


def test_the_first_word_starts_with_speech_and_the_last_one_ends_with_it() -> None:
    """A path begins with its window and ends with it; the padding around speech belongs to no word."""
    padded = sound((SILENT, 0.4), (LOUD, 1.0), (SILENT, 0.5))
    assert times(settled(words(0.0, 0.9, 1.9), padded, 0.0)) == [(0.4, 0.9), (0.9, 1.4)]


def test_a_closure_is_not_taken_for_a_pause() -> None:
    """80 ms of quiet may lie before or in the word: the boundary goes to the middle, and no gap is made."""
    closed = sound((LOUD, 1.0), (SILENT, 0.08), (LOUD, 1.0))
    assert times(settled(words(0.0, 0.96, 2.08), closed, 0.0)) == [(0.0, 1.04), (1.04, 2.08)]


def test_a_closure_inside_a_word_is_not_taken_for_its_start() -> None:
    """A word that begins 60 ms before a closure of 110 ms keeps its start."""
    closed = sound((LOUD, 1.0), (SILENT, 0.11), (LOUD, 1.0))
    assert times(settled(words(0.0, 0.94, 2.11), closed, 0.0)) == [(0.0, 0.94), (0.94, 2.11)]


def test_quiet_of_a_few_frames_tells_nothing() -> None:
    """40 ms between loud parts move no boundary."""
    dipped = sound((LOUD, 1.0), (SILENT, 0.04), (LOUD, 1.0))
    assert times(settled(words(0.0, 0.95, 2.04), dipped, 0.0)) == [(0.0, 0.95), (0.95, 2.04)]


def test_a_pause_inside_a_word_leaves_it_whole() -> None:
    """Attention hears one word on both sides: it keeps its times."""
    assert times(settled(words(0.0, 0.5, 2.0, 2.4), sound(*SPOKEN), 0.0)) == [(0.0, 0.5), (0.5, 2.0), (2.0, 2.4)]


def test_only_the_nearest_boundary_belongs_to_a_pause() -> None:
    """Of two near it, the one takes it for which both have to move least; the other makes way."""
    assert times(settled(words(0.0, 1.1, 1.35, 2.4), sound(*SPOKEN), 0.0)) == [(0.0, 1.0), (1.4, 1.4), (1.4, 2.4)]
    assert times(settled(words(0.0, 0.9, 1.2, 2.4), sound(*SPOKEN), 0.0)) == [(0.0, 0.9), (0.9, 1.0), (1.4, 2.4)]


def test_quiet_in_which_several_words_are_heard_is_a_quiet_voice() -> None:
    """A second speaker 40 dB below the first is no pause: words are not pushed to its edges."""
    faint = sound((LOUD, 3.0), (LOUD / 100, 2.0), (LOUD, 1.0))
    given = words(0.0, 2.9, 3.4, 3.8, 4.3, 4.7, 6.0)
    assert times(settled(given, faint, 0.0)) == [(word.start_s, word.end_s) for word in given]


def test_a_lead_is_taken_off_but_not_from_the_start_of_the_window() -> None:
    """Words found 50 ms early come 50 ms later, and earlier where heads are late; never beyond the window."""
    steady = sound((LOUD, 2.0))
    assert times(settled(words(0.0, 0.5, 1.98), steady, 0.05)) == [(0.0, 0.55), (0.55, 2.0)]
    assert times(settled(words(0.06, 0.5, 2.0), steady, -0.1)) == [(0.0, 0.4), (0.4, 1.9)]


def test_heads_that_nobody_measured_have_no_lead() -> None:
    """Known models are put right, others are taken as they are."""
    assert lead_s(BASE_HEADS) > 0.0 > lead_s(TINY_EN_HEADS)
    assert lead_s(((0, 0),)) == 0.0
    assert lead_s(()) == 0.0


def test_pauses_are_found_in_noise() -> None:
    """Noise 25 dB below speech hides no pause; noise 10 dB below it hides them all, and none are invented."""
    assert stretches(quiets(sound(*SPOKEN, noise=300.0))) == [(1.0, 1.4)]
    assert quiets(sound(*SPOKEN, noise=2500.0)) == []


def test_no_sound_no_words() -> None:
    """Nothing in, nothing out; samples shorter than a frame tell nothing."""
    assert settled([], sound(*SPOKEN), 0.05) == ()
    assert quiets(np.zeros(100, np.int16)) == []
    assert times(settled(words(0.0, 0.005), np.zeros(100, np.int16), 0.0)) == [(0.0, 0.005)]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(2, 60)), min_size=1, max_size=30),
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=30),
    st.sampled_from([0.05, 0.0, -0.1]),
)
def test_any_words_and_pauses_give_ordered_words_inside_the_window(
    parts: list[tuple[bool, int]], shares: list[float], lead: float
) -> None:
    """No word starts before its predecessor ends, or ends before it starts, or leaves the window; texts stay."""
    samples = sound(*((LOUD if loud else SILENT, frames / 100) for loud, frames in parts))
    duration_s = len(samples) / SAMPLE_RATE_HZ
    given_words = words(*(share * duration_s for share in sorted(shares)))
    found = settled(given_words, samples, lead)
    moments = [moment for word in found for moment in (word.start_s, word.end_s)]
    assert moments == sorted(moments)
    assert moments[0] >= 0.0
    assert moments[-1] <= duration_s
    assert [(word.text, word.tokens) for word in found] == [(word.text, word.tokens) for word in given_words]
